package resolve

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// maxSearch bounds the search list: each of its domains may cost two questions.
const maxSearch = 16

// maxServers bounds the servers of a look-up that goes badly.
const maxServers = 8

// Conf is what a resolv.conf(5) file says.
type Conf struct {
	Servers  []netip.AddrPort
	Search   []string // lower case, without the trailing dot
	Ndots    int
	Timeout  time.Duration // silence after which the next try begins
	Attempts int           // tries for each server
	Rotate   bool          // begin each look-up with another server
}

// ParseConf reads the text of a resolv.conf(5) file. As with every other reader
// of that file, unknown keywords carry no meaning; a server that is no IP address
// is an error. The text may name no server at all.
func ParseConf(text []byte) (*Conf, error) {
	cc, err := dns.ClientConfigFromReader(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	c := &Conf{
		Ndots:    cc.Ndots,
		Timeout:  min(time.Duration(cc.Timeout), 30) * time.Second,
		Attempts: min(cc.Attempts, 5),
		Rotate:   rotates(text),
	}
	for _, s := range cc.Servers {
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("nameserver %q is not an IP address", s)
		}
		if len(c.Servers) < maxServers {
			c.Servers = append(c.Servers, netip.AddrPortFrom(addr.Unmap(), 53))
		}
	}
	for _, domain := range cc.Search {
		domain = canonical(domain)
		// "." is a search list of one empty domain: the name as it is, which is asked anyway.
		if domain != "" && len(c.Search) < maxSearch {
			c.Search = append(c.Search, domain)
		}
	}
	return c, nil
}

// rotates looks for the one option that the library does not report.
func rotates(text []byte) bool {
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "options" {
			continue
		}
		for _, o := range f[1:] {
			if o == "rotate" {
				return true
			}
		}
	}
	return false
}

// canonical is name in lower case without a trailing dot, as names from acl are.
func canonical(name string) string {
	return strings.TrimRight(dns.CanonicalName(name), ".")
}

// candidates are the names to ask for, in order. A name with a dot is asked as it
// is first, whatever ndots says: nearly all are whole names, and the search list
// in front of them would cost two questions a domain for nothing. The list
// follows only for a name with fewer than ndots dots. A single label is the other
// way round. What would be longer than a name can be is left out.
func (c *Conf) candidates(name string) []string {
	dots := strings.Count(name, ".")
	var names []string
	if dots > 0 {
		names = append(names, name)
	}
	if dots < max(c.Ndots, 1) {
		for _, domain := range c.Search {
			if full := name + "." + domain; len(full) <= maxName {
				names = append(names, full)
			}
		}
	}
	if dots == 0 {
		names = append(names, name)
	}
	return names
}

// upstream is a Conf at work: its servers with what was learnt about them.
type upstream struct {
	Conf
	servers []*server
}

var errNoServer = errors.New("no nameserver is named")

// newUpstream lets servers, when there are any, stand in for those of c.
func newUpstream(c *Conf, servers []netip.AddrPort) (*upstream, error) {
	u := &upstream{Conf: *c}
	if len(servers) > 0 {
		u.Servers = servers[:min(len(servers), maxServers)]
	}
	if len(u.Servers) == 0 {
		return nil, errNoServer
	}
	for i, addr := range u.Servers {
		if !addr.IsValid() || addr.Port() == 0 {
			return nil, fmt.Errorf("server %v is not ADDR:PORT", addr)
		}
		u.servers = append(u.servers, &server{
			addr: addr, index: i, of: len(u.Servers),
		})
	}
	return u, nil
}

// order is the order in which to ask: those that lately kept us waiting last.
func (u *upstream) order(now time.Duration, turn uint32) []*server {
	n := len(u.servers)
	first := 0
	if u.Rotate {
		first = int(turn % uint32(n))
	}
	quick := make([]*server, 0, n)
	var slow []*server
	for i := range n {
		s := u.servers[(first+i)%n]
		if now < s.slowUntil.Load() {
			slow = append(slow, s)
		} else {
			quick = append(quick, s)
		}
	}
	return append(quick, slow...)
}
