package config

import (
	"slices"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/settings"
)

// learnSource is what decisions name that learning has allowed.
const learnSource = "--learn"

// Learns reports whether what no rule decides is allowed.
func (p *Proxy) Learns() bool { return p.Learn }

func (p *Proxy) learnSetting() settings.Setting {
	return settings.Setting{Flag: "learn", Key: "learn", Default: "false", Change: live,
		Help: "allow what no rule decides, as far as the guard does, so that the access log records it for sluice acl suggest",
		Into: settings.One(&p.Learn, settings.Bool)}
}

// learn makes the policies that are judged by while the rules are learned, and warns of it. It refuses
// to learn where nothing would be recorded: that is a gateway that is open, and no more.
func (p *Proxy) learn(l *settings.Loader, all []settings.Setting) {
	if !p.Learn {
		return
	}
	at := l.Values(settings.Pick(all, "learn"))[0]
	if p.AccessLog == "" || p.AccessLogFormat == "combined" {
		l.Report(at.Problem("what is learned stands in the access log: write one (--access-log), as json or squid (--access-log-format)"))
		return
	}
	l.Warn(at.Problem("what no rule denies is allowed, and recorded in the access log: sluice acl suggest makes rules of that; put them in force, and take this setting away"))
	if p.Policy != nil || len(p.Tenants) == 0 { // clients that are nobody's stay so
		p.Learned = learned(p.Rules)
	}
	for i := range p.Tenants {
		p.Tenants[i].Learned = learned(p.Tenants[i].Rules)
	}
}

// learned are those rules with one behind them for all that they don't decide. Rules that can't be
// parsed were refused before.
func learned(rules RuleText) *acl.Policy {
	texts := slices.Clone(rules.Texts)
	if len(texts) == 0 { // a decision names its text only where that is one of several
		texts = []acl.Text{{Text: "#@ end\n"}}
	}
	p, err := acl.ParseTexts(append(texts, acl.Text{Source: learnSource, Text: "*\n#@ end\n"})...)
	if err != nil {
		return nil
	}
	return p
}
