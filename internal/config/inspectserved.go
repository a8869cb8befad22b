package config

import (
	"fmt"

	"go.yaml.in/yaml/v3"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/settings"
	"github.com/sluiceproxy/sluice/proxy/ca"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// served warns of hosts for which the CA may not sign: every tunnel to them fails. That there is no
// other host is wrong.
func (r inspectReader) served(by *ca.Authority, in *policy.Inspect, list *yaml.Node) {
	var doubts settings.Problems
	opened, any := 0, false
	for i := range in.All() {
		h := &in.All()[i]
		if h.Passthrough {
			continue
		}
		opened++
		doubt := ""
		switch serves(by, h.Host) {
		case ca.Every:
			any = true
		case ca.Some:
			any = true
			doubt = "the name constraints of the CA let it sign for a part of %s only: tunnels to the rest fail"
		case ca.None:
			doubt = "the name constraints of the CA do not let it sign for %s: tunnels to it fail"
		}
		if doubt != "" {
			doubts = append(doubts, settings.Problem{Source: r.Path, Line: h.Line, Msg: fmt.Sprintf(doubt+"; make one that may, with sluice inspect ca", h.Host)})
		}
	}
	if opened > 0 && !any {
		r.FileProblem(list.Line, "the name constraints of the CA do not let it sign for any of these hosts: every tunnel to them would fail; make one that may, with sluice inspect ca")
		return
	}
	for _, d := range doubts {
		r.Warn(d)
	}
}

// serves is for how many of the hosts of a form, which was parsed before, a CA may sign; of names with
// `*` in their midst that is not known.
func serves(by *ca.Authority, host string) ca.Serves {
	p, _ := acl.Parse(host)
	switch r := p.Rule(1); r.Form {
	case acl.FormName:
		return by.ServesName(r.Name)
	case acl.FormDomain:
		return by.ServesBelow(r.Name)
	case acl.FormAddr:
		return by.ServesIn(r.Prefix)
	}
	return ca.Every
}
