package settings

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/internal/spelling"
)

const (
	envPrefix    = "SLUICE_"
	egressPrefix = "EGRESS_"
)

// variables are those that the programs of the image understand: an environment is often
// shared by the containers of a pod. They are held against the tables of all commands by a
// test of sluice-netsetup's.
var variables = strings.Fields(`
	EGRESS_DESTINATION EGRESS_DNS_PROXY_DEBUG EGRESS_DNS_PROXY_DESTINATION EGRESS_GATEWAY EGRESS_HTTP_PROXY_DESTINATION
	EGRESS_INTERFACE EGRESS_MASTER EGRESS_POOL EGRESS_ROUTER_DEBUG EGRESS_ROUTER_MODE EGRESS_SOURCE SLUICE_ACCEPT_PROXY
	SLUICE_ACCESS_LOG SLUICE_ACCESS_LOG_FORMAT SLUICE_ADMIN SLUICE_ADMIN_HOST SLUICE_AUDIENCE SLUICE_AUTHENTICATE
	SLUICE_BALANCE SLUICE_BIND SLUICE_CHECK_FALL SLUICE_CHECK_INTERVAL SLUICE_CHECK_RISE SLUICE_CLIENT_CA SLUICE_CONFIG
	SLUICE_CONNECT_TIMEOUT SLUICE_CONTACT SLUICE_DESTINATION SLUICE_DESTINATIONS SLUICE_DIRECTORY
	SLUICE_DIRECTORY_MAX_AGE SLUICE_DIRECTORY_WAIT SLUICE_DNS_TIMEOUT SLUICE_DRAIN_TIMEOUT SLUICE_ENDPOINT SLUICE_EXPIRED
	SLUICE_FORWARDED_FOR SLUICE_GATEWAY SLUICE_GUARD SLUICE_HALF_CLOSE_TIMEOUT SLUICE_HEAD_TIMEOUT SLUICE_HIDE_RULES
	SLUICE_HOLDER SLUICE_HOLD_API_GRACE SLUICE_HOLD_GATEWAY_MISSES SLUICE_HOLD_HELD SLUICE_HOLD_LEASE
	SLUICE_HOLD_ON_API_LOSS SLUICE_HOLD_PENDING SLUICE_HOLD_PROXY_GONE SLUICE_HOLD_RENEW SLUICE_HOLD_REPLY_FROM
	SLUICE_HOLD_RETRY SLUICE_HOLD_SOCKET SLUICE_HOLD_SUCCESSOR_WAIT SLUICE_IDLE_TIMEOUT SLUICE_INTERFACE
	SLUICE_KEEPALIVE_TIMEOUT SLUICE_KEEP_ROUTE SLUICE_KUBECONFIG SLUICE_LEARN SLUICE_LEASE SLUICE_LISTEN SLUICE_LISTEN_SOCKS SLUICE_LISTEN_TLS
	SLUICE_LOG_LEVEL SLUICE_LOG_QUERY SLUICE_MASTER SLUICE_MAX_ANSWER_FIELDS SLUICE_MAX_ANSWER_HEAD SLUICE_MAX_CONNS
	SLUICE_MAX_CONNS_PER_CLIENT SLUICE_MAX_FIELDS SLUICE_MAX_HANDSHAKES_PER_CLIENT SLUICE_MAX_HEAD SLUICE_METRICS_FILE SLUICE_MIN_RATE SLUICE_MODE
	SLUICE_NAMESPACES SLUICE_NETSETUP SLUICE_ON_REVOKE SLUICE_POOL SLUICE_PPROF SLUICE_PROBE SLUICE_PROXY_PROTOCOL_FROM SLUICE_REQUIRE_END SLUICE_RESOLVER
	SLUICE_RULES SLUICE_SEND_PROXY SLUICE_SERVICE SLUICE_SHADOW_RULES SLUICE_SHUTDOWN_DELAY SLUICE_SOCKET SLUICE_SOURCE SLUICE_TLS_CERT
	SLUICE_TLS_KEY SLUICE_TUNNEL_CHECK SLUICE_UPSTREAM_CA SLUICE_USERS_FILE`)

// Variables are those that the programs of the image understand, in their order.
func Variables() []string { return slices.Clone(variables) }

// Environment is an environment as os.Environ has it, as a map. What is set but empty is
// left out; of a variable that is set twice the last counts, as it does for a process.
func Environment(environ []string) map[string]string {
	env := map[string]string{}
	for _, kv := range environ {
		name, text, ok := strings.Cut(kv, "=")
		if delete(env, name); ok && name != "" && text != "" {
			env[name] = text
		}
	}
	return env
}

// serviceVariable is what Kubernetes puts into every pod for a Service whose name
// begins with "sluice" or "egress": no setting, and no mistake.
var serviceVariable = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// checkVariables refuses variables with our prefix that are no setting of any command:
// a misspelt SLUICE_GUARD would leave open what it was to close. It warns of those
// of other commands, and of names of the egress router that look misspelt.
func (l *Loader) checkVariables() {
	var known []string
	for _, s := range l.all {
		known = append(known, s.Env, s.Egress)
	}
	for _, name := range slices.Sorted(maps.Keys(l.env)) {
		prefix := name[:min(len(name), len(envPrefix))] // both prefixes are as long
		switch {
		case prefix != envPrefix && prefix != egressPrefix, slices.Contains(known, name), serviceVariable.MatchString(name[len(prefix)-1:]):
		case slices.Contains(variables, name):
			if prefix == envPrefix {
				l.Warn(Problem{Source: name, Msg: "no setting of this mode, ignored"})
			}
		case prefix == envPrefix:
			l.Report(Problem{Source: name, Msg: "no such setting" + orUnset(spelling.DidYouMean(prefix, name, withPrefix(prefix, known, variables)))})
		default:
			if hint := spelling.DidYouMean(prefix, name, withPrefix(prefix, known, variables)); hint != "" {
				l.Warn(Problem{Source: name, Msg: "no such setting, ignored" + hint})
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
