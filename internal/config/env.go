package config

import (
	"regexp"
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/internal/spelling"
)

const (
	envPrefix    = "SLUICE_"
	egressPrefix = "EGRESS_"
)

// envName is the variable of a flag, or "" for what has none.
func envName(flag string) string {
	if flag == "" {
		return ""
	}
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// serviceVariable is what Kubernetes puts into every pod for a Service whose name
// begins with "sluice" or "egress": no setting, and no mistake.
var serviceVariable = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// elsewhere are the variables that other programs of the image understand: an
// environment is often shared by the containers of a pod. Those of sluice-netsetup
// are held against its settings by a test of it.
func elsewhere() []string {
	all := []string{"EGRESS_DNS_PROXY_DEBUG", "EGRESS_ROUTER_DEBUG", "EGRESS_ROUTER_MODE", "EGRESS_GATEWAY", "EGRESS_INTERFACE", "EGRESS_MASTER", "EGRESS_DESTINATION",
		"SLUICE_MODE", "SLUICE_SOURCE", "SLUICE_GATEWAY", "SLUICE_INTERFACE", "SLUICE_MASTER", "SLUICE_KEEP_ROUTE",
		"SLUICE_DESTINATIONS", "SLUICE_PROBE", "SLUICE_METRICS_FILE"}
	for _, s := range append(ProxySettings(), TCPSettings()...) {
		all = append(all, s.Env, s.Egress)
	}
	return all
}

// checkVariables refuses variables with our prefix that are no setting of any mode:
// a misspelt SLUICE_GUARD would leave open what it was to close. It warns of those
// of other modes, and of names of the egress router that look misspelt.
func (l *loader) checkVariables(all []Setting) {
	var known []string
	for _, s := range all {
		known = append(known, s.Env, s.Egress)
	}
	others := elsewhere()
	var names []string
	for name := range l.env {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		prefix := name[:min(len(name), len(envPrefix))] // both prefixes are as long
		switch {
		case prefix != envPrefix && prefix != egressPrefix, slices.Contains(known, name), serviceVariable.MatchString(name[len(prefix)-1:]):
		case slices.Contains(others, name):
			if prefix == envPrefix {
				l.warnings = append(l.warnings, Problem{Source: name, Msg: "no setting of this mode, ignored"})
			}
		case prefix == envPrefix:
			l.report(Problem{Source: name, Msg: "no such setting" + orUnset(spelling.DidYouMean(prefix, name, withPrefix(prefix, known, others)))})
		default:
			if hint := spelling.DidYouMean(prefix, name, withPrefix(prefix, known, others)); hint != "" {
				l.warnings = append(l.warnings, Problem{Source: name, Msg: "no such setting, ignored" + hint})
			}
		}
	}
}

func orUnset(hint string) string {
	if hint == "" {
		return "; unset it, the prefix " + envPrefix + " is for settings"
	}
	return hint
}

// withPrefix is the names that begin with prefix, those of first in front.
func withPrefix(prefix string, first, second []string) (all []string) {
	for _, name := range slices.Concat(first, second) {
		if strings.HasPrefix(name, prefix) {
			all = append(all, name)
		}
	}
	return all
}
