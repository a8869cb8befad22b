package convert

import (
	"net/netip"
	"slices"
	"strings"

	_ "embed"
)

// squidText are the directives of squid 2.6 to 6, also those that it only warns of.
//
//go:embed squid.txt
var squidText string

// squidKnown is squidText by name.
var squidKnown = func() map[string]bool {
	m := map[string]bool{}
	for name := range strings.FieldsSeq(squidText) {
		m[name] = true
	}
	return m
}()

// sources are the addresses that connections of a region's clients come from: of each family
// the first whose line matches for certain.
func (s *squidReader) sources(r region) (all []netip.Addr) {
	have := map[bool]bool{}
	for _, a := range s.lists["tcp_outgoing_address"] {
		if have[a.source.Is4()] {
			continue
		}
		certain, possible := true, true
		for _, l := range a.literals {
			p := l.matches(r)
			sure := len(p.must) > 0 && slices.EqualFunc(p.must, everywhere, sameTerm)
			may := len(p.may) > 0
			if l.negated {
				sure, may = len(p.may) == 0, !(len(p.must) > 0 && slices.EqualFunc(p.must, everywhere, sameTerm))
			}
			certain, possible = certain && sure, possible && may
		}
		switch {
		case certain:
			have[a.source.Is4()] = true
			all = append(all, a.source)
		case possible:
			s.found.add(a.place, Differs, "the source address depends on clients alone here; this line is not said")
		}
	}
	if len(all) == 1 {
		s.found.add(place{file: s.first()}, Differs, "clients with a source address of one family only cannot reach the other; in squid they left by the route")
	}
	return all
}

func sameTerm(a, b term) bool {
	return a.form == b.form && slices.Equal(a.ports, b.ports) && len(a.not) == 0 && len(b.not) == 0
}

// first is the file that a finding without a line is of.
func (s *squidReader) first() string {
	for _, name := range accessLists {
		for _, a := range s.lists[name] {
			return a.file
		}
	}
	return ""
}

// general notes what differs whatever the lines are, where one uses it.
func (s *squidReader) general() {
	uses := func(of map[*squidACL]bool) bool {
		for _, a := range s.lists["http_access"] {
			if slices.ContainsFunc(a.literals, func(l literal) bool { return of[l.squidACL] }) {
				return true
			}
		}
		return false
	}
	at := place{file: s.first()}
	if uses(s.pointers) {
		s.found.add(at, Differs, "an address in a URL never matches a name, where squid looked up the name of the address: dstdomain and dstdom_regex without -n")
	}
	if uses(s.lookups) {
		s.found.add(at, Differs, "a name with several addresses is judged address by address, where squid asked whether any of them matches; what does not resolve is an error, where squid took it for no match")
	}
	if at.file != "" {
		s.found.add(at, None, "as everywhere in Sluice the guard denies loopback, link-local addresses, metadata services of clouds and the gateway itself, unless a rule names their address")
	}
	if s.ConnectPorts != "" {
		s.found.add(at, Opens, "ports %s are taken for those of CONNECT, and all others for those of other methods: what squid told apart on one port by the method is decided alike", s.ConnectPorts)
	}
}

// others are directives that decide on no request, or in a way of their own.
var others = []struct {
	prefix string
	effect Effect
	why    string
}{
	{"cache_peer", Differs, "parents says it (docs/parents.md), and is not made of this; connections go to the servers"},
	{"never_direct", Differs, "parents says it (docs/parents.md), and is not made of this; connections go to the servers"},
	{"always_direct", None, "connections go to the servers"},
	{"ssl_bump", Differs, "TLS is looked into where inspect says so (docs/inspect.md), which is not made of this"},
	{"url_rewrite_program", Differs, "URLs are not rewritten"}, {"store_id", None, "nothing is cached"}, {"redirect_program", Differs, "URLs are not rewritten"},
	{"icap_", Differs, "nothing is handed to ICAP"}, {"ecap_", Differs, "nothing is handed to eCAP"}, {"adaptation_", Differs, "nothing is handed to ICAP"},
	{"auth_param", None, "how users are told is said by authenticate and usersFile (docs/tenants.md)"},
	{"external_acl_type", None, "nothing outside is asked"},
	{"http_port", None, "--listen says it"}, {"https_port", None, "--listen-tls says it"},
	{"dns_nameservers", None, "--resolver says it"}, {"hosts_file", None, "/etc/hosts is read"},
	{"append_domain", Differs, "names are asked for as resolv.conf says"},
	{"request_body_max_size", Differs, "bodies have no limit but that of inspected hosts (docs/inspect.md) but that of inspected hosts (docs/inspect.md)"}, {"reply_body_max_size", Differs, "bodies have no limit"},
	{"delay_", None, "limits are those of tenants (docs/tenants.md)"}, {"client_delay_", None, "limits are those of tenants (docs/tenants.md)"},
	{"request_header_", None, "headers pass as they are, but for hop-by-hop ones"}, {"reply_header_", None, "headers pass as they are, but for hop-by-hop ones"},
	{"forwarded_for", None, "no X-Forwarded-For is added; --forwarded-for adds it"}, {"via", None, "Via is added to nothing"},
	{"deny_info", None, "--contact and the error page say it"}, {"error_directory", None, "--contact and the error page say it"},
	{"access_log", None, "--access-log says it"}, {"logformat", None, "--access-log-format says it"},
	{"shutdown_lifetime", None, "--drain-timeout says it"}, {"dead_peer", None, "connections go to the servers"},
}

// other notes a directive that is no access list. One that squid does not know may be meant for one.
func (s *squidReader) other(d directive) {
	if !squidKnown[d.words[0]] {
		s.problems.unknown(d.place, d.words[0], "squid")
		return
	}
	for _, o := range others {
		if strings.HasPrefix(d.words[0], o.prefix) {
			s.found.add(d.place, o.effect, "%s", o.why)
			return
		}
	}
	if strings.HasSuffix(d.words[0], "_access") {
		s.found.add(d.place, None, "it decides on no request of a client")
		return
	}
	s.found.add(d.place, None, "it says nothing of who may reach what")
}
