package audit

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/acl"
)

// A NearRule is a rule that nearly decided, and why it did not.
type NearRule struct {
	Rule acl.Rule
	Why  string
}

const someAddrs = ", for some addresses"

// maxNear is how many rules Near returns.
const maxNear = 20

// Near finds the rules that came near to deciding on a target at addrs: those that match it too, those
// that are for other ports, those of names beside it, and those that have expired. decides is the
// position of the rule that does decide, 0 if none does. They are in the order of the list, up to twenty.
func Near(p *acl.Policy, t acl.Target, addrs []netip.Addr, decides int) (out []NearRule) {
	name := t.Host.Name()
	if t.Host.IsAddr() {
		addrs = []netip.Addr{t.Host.Addr()}
	}
	guarded := decides == 0 && slices.ContainsFunc(addrs, func(a netip.Addr) bool { return p.DecideAddr(t, a).Kind == acl.ReasonGuard })
	for r := range p.Rules() {
		if len(out) == maxNear {
			break
		}
		if r.Pos == decides {
			continue
		}
		if why := nearly(&r, name, addrs, t.Port, decides); why != "" {
			if how, ok := strings.CutSuffix(why, someAddrs); ok && guarded && !r.Deny {
				why = how + ", and the guard denies that"
			}
			out = append(out, NearRule{r, why})
		}
	}
	return out
}

func nearly(r *acl.Rule, name string, addrs []netip.Addr, port uint16, decides int) string {
	how := ""
	switch r.Form {
	case acl.FormStar:
		how = "it matches everything"
	case acl.FormAddr:
		for _, a := range addrs {
			if r.Prefix.Contains(a) {
				how = "it matches " + a.String()
			} else if r.Deny && slices.ContainsFunc(acl.Embedded(a), r.Prefix.Contains) {
				how = "it matches what " + a.String() + " embeds"
			}
		}
	default:
		if name == "" {
			return ""
		}
		switch {
		case r.Form == acl.FormName && r.Name == name,
			r.Form == acl.FormDomain && (name == r.Name || strings.HasSuffix(name, "."+r.Name)),
			r.Form == acl.FormGlob && newGlob(r.Name, 0).matches(name):
			how = "it matches the name"
		case r.Form == acl.FormName && strings.HasSuffix(name, "."+r.Name):
			return "it is for that name alone; *." + r.Name + " would match"
		case r.Form == acl.FormName && strings.HasSuffix(r.Name, "."+name):
			return "it is for a name below"
		case r.Form != acl.FormGlob && strings.HasSuffix(name, r.Name) && strings.IndexByte(r.Name, '.') > 0:
			return "the name ends alike, and is another domain"
		case r.Form == acl.FormGlob && newGlob(r.Name, 0).suffix() != "" && strings.HasSuffix(name, "."+newGlob(r.Name, 0).suffix()):
			return "the pattern does not match: * stands for characters of one label"
		}
	}
	switch {
	case how == "":
		return ""
	case r.Expired:
		return how + ", and has expired"
	case !r.Wants(port):
		return how + ", on other ports"
	case decides > 0 && r.Pos > decides:
		return how + ", and comes later"
	}
	return how + someAddrs
}
