package migrate

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// unused are variables of the old images that say nothing here, and what does instead.
var unused = []struct{ name, instead string }{
	{"STATS_PORT", "the status page and metrics are on the admin port, 9090"},
	{"STATS_USER", "the admin port has no password and changes nothing; a NetworkPolicy says who reaches it"},
	{"STATS_PASSWORD", "the admin port has no password and changes nothing; a NetworkPolicy says who reaches it"},
	{"SYSLOG_ADDRESS", "logs go to standard output and standard error"},
	{"LOGLEVEL", "SLUICE_LOG_LEVEL says it"},
	{"DEBUG", "SLUICE_ACCESS_LOG=- has a line for each connection"},
	{"TZ", "times are UTC"},
	{"DNS_SRV001", "the name servers are those of /etc/resolv.conf, or of SLUICE_RESOLVER"},
	{"DNS_SRV002", "the name servers are those of /etc/resolv.conf, or of SLUICE_RESOLVER"},
	{"MOD_HEADERS", "bytes pass as they are"},
	{"EGRESS_HTTP_PROXY_MODE", "it was for the old script's tests"},
	{"EGRESS_DNS_PROXY_MODE", "it was for the old script's tests"},
	{"EGRESS_DNS_SERVERS", "it was for the old script's tests"},
}

// differences notes what behaves differently for this gateway. docs/migrate.md has all of it.
func (m *migration) differences(g *gateway, c checked) {
	n := g.template
	if g.proxy != nil {
		n = g.proxy.container
	}
	add := func(format string, args ...any) { m.note(g.d, n, Differs, format, args...) }
	if g.proxy != nil {
		add("port 9090 is new in the pod: /metrics, /healthz, /readyz and a status page")
		if g.setup != nil {
			add("each connection is bound to EGRESS_SOURCE, where the route decided before; without the address the proxy does not start")
		}
	}
	switch g.mode {
	case httpProxy:
		add("a denied request is 403 with the rule's name (SLUICE_HIDE_RULES hides it); what cannot be resolved or reached is 502 or 504, where squid said 503")
		add("no X-Forwarded-For is added (SLUICE_FORWARDED_FOR adds it), nothing is cached, and the log is JSON (SLUICE_ACCESS_LOG_FORMAT=squid for squid's)")
		m.ruleDifferences(g, c.rules)
	case tcpProxy:
		add("an idle connection stays, where haproxy cut it after a minute (SLUICE_IDLE_TIMEOUT cuts); destinations are not probed every two seconds (SLUICE_CHECK_INTERVAL probes)")
		add("a name that does not resolve leaves its port not ready until it does, where the container died; its addresses are followed by DNS's time to live; when all are down clients are refused, not accepted and closed")
		if v := lookup(g.proxy.env, "SERVICE_DEST"); v != nil && v.known && strings.Contains(v.value, ":") && strings.Contains(v.value, ";") {
			m.note(g.d, v.node, Differs, "SERVICE_DEST_PORT counts for destinations without a port, also beside others that have one; in the old image it counted for none then")
		}
	case redirect:
		add("an address that somebody else has already is an error with his MAC address (SLUICE_PROBE=false where a router answers for all addresses); net.ipv4.ip_forward is set, or an error names it")
		add("packets for other destinations are dropped, where the pod passed them on")
	}
}

var (
	onlyW   = regexp.MustCompile(`^w+$`)
	hexName = regexp.MustCompile(`^[0-9a-fA-F.:]*[.:][0-9a-fA-F.:]+$`)
)

// ruleDifferences notes the rules that the old script or squid took for something else.
func (m *migration) ruleDifferences(g *gateway, rules string) {
	v := lookup(g.proxy.env, "EGRESS_HTTP_PROXY_DESTINATION")
	note := func(line int, level Level, format string, args ...any) {
		m.note(g.d, v.node, level, "rules, line %d: %s", line, fmt.Sprintf(format, args...))
	}
	names, addresses, star := false, false, false
	for i, line := range strings.Split(rules, "\n") {
		line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
		rule := strings.TrimSpace(strings.TrimPrefix(line, "!"))
		deny := strings.HasPrefix(line, "!")
		prefix, isPrefix := parsePrefix(rule)
		switch {
		case rule == "" || rule[0] == '#':
			continue
		case rule == "*":
			star = true
			continue
		case isPrefix:
			addresses = true
		default:
			names = true
		}
		switch {
		case onlyW.MatchString(line):
			note(i+1, Differs, "%q was dropped without a word by the old script and is a rule now: take it out if nobody is to reach it", line)
		case !isPrefix && hexName.MatchString(rule):
			note(i+1, Differs, "%s was taken for an address, and looked up once at start; it is a name now", rule)
		case isPrefix && prefix.Bits() == 0 && prefix.Addr().Is4() && deny:
			note(i+1, Breaks, "!%s denied IPv6 as well; write !::/0 beside it", rule)
		case isPrefix && prefix.Bits() == 0 && prefix.Addr().Is4():
			note(i+1, Differs, "%s allowed IPv6 as well; write ::/0 beside it if that is wanted", rule)
		case isPrefix && prefix.Bits() == 0:
			note(i+1, Differs, "%s was one address for squid; it is all of IPv6 now", line)
		case strings.HasSuffix(rule, ".") && !deny:
			note(i+1, Differs, "%s never matched, because of the dot at its end; it allows the name now", rule)
		}
	}
	if addresses {
		m.note(g.d, v.node, Differs, "a name with several addresses is judged address by address: what is denied is not dialled and the others are; squid denied or allowed the name as a whole")
	}
	if names {
		m.note(g.d, v.node, Differs, "an address in the URL never matches a rule for a name, where squid looked its name up")
	}
	if star {
		m.note(g.d, v.node, Differs, "under * the guard denies loopback, link-local addresses, metadata services of clouds and the gateway itself, unless a rule names their address")
	}
}

func parsePrefix(s string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	return p, err == nil
}
