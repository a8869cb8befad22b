//go:build linux

package squid

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

const ptrType = dns.TypePTR

// Pools small enough that rules and requests meet.
var (
	// hostNames are what requests ask for; rules take theirs from ruleNames.
	hostNames = []string{
		"example.com", "www.example.com", "a.www.example.com", "api.example.com", "notexample.com",
		"example.net", "cdn.example.net", "registry", "intranet.test", "db.intranet.test", "x_y.intranet.test",
		"xn--bcher-kva.test", "com", "unrelated.test", "other.test", "www", "none",
		"cafe.de", "www.cafe.de", "abc.be",
	}
	ruleNames = []string{
		"example.com", "www.example.com", "api.example.com", "example.net", "cdn.example.net", "registry",
		"intranet.test", "db.intranet.test", "xn--bcher-kva.test", "com", "test", "net", "absent.test",
	}
	// hexNames are taken for addresses by the script.
	hexNames = []string{"cafe.de", "abc.be"}

	plainAddrs = parseAddrs("10.0.0.1", "10.0.0.5", "10.1.2.3", "192.168.1.7", "192.168.1.200", "192.168.2.1",
		"192.168.0.255", "192.168.1.127", "192.168.1.128", "10.0.0.4", "10.255.255.255", "11.0.0.0",
		"203.0.113.5", "198.51.100.3", "8.8.8.8", "2001:db8::1", "2001:db8:1::5", "2001:db8:2::",
		"2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::", "fd00::7", "2600::1")
	// ownAddrs are told to Sluice as those of its host.
	ownAddrs     = parseAddrs("192.0.2.10", "2001:db8:5::10")
	guardedAddrs = append(parseAddrs("127.0.0.1", "127.3.2.1", "169.254.169.254", "::1"), ownAddrs...)
	// embeddingAddrs carry 10.0.0.1, 203.0.113.5, 127.0.0.1.
	embeddingAddrs = parseAddrs("64:ff9b::a00:1", "2002:cb00:7105::1", "::10.0.0.1", "64:ff9b::7f00:1")
	addrPool       = slices.Concat(plainAddrs, guardedAddrs, embeddingAddrs)

	rulePrefixes = []string{
		"10.0.0.0/8", "10.0.0.0/16", "10.0.0.0/30", "10.1.0.0/16", "192.168.0.0/16", "192.168.1.0/24", "192.168.1.0/25",
		"203.0.113.0/24", "198.51.100.0/24", "8.0.0.0/7", "0.0.0.0/1", "128.0.0.0/1", "192.0.0.0/2",
		"2001:db8::/32", "2001:db8:1::/48", "fd00::/8", "fc00::/7", "2000::/3", "8000::/1",
		"127.0.0.0/8", "169.254.0.0/16", "169.254.169.254", "127.0.0.1", "::1", "192.0.2.0/24",
		"64:ff9b::/96", "2002::/16", "10.0.0.5/8", "192.168.1.7/24", "2001:DB8::/32", "2001:0db8:0::1", "::ffff:10.0.0.1",
	}
	zeroPrefixes   = []string{"0.0.0.0/0", "::/0", "10.0.0.1/0", "2001:db8::1/0"}
	shortPrefixes  = []string{"::/8", "::/80"}
	mappedPrefixes = []string{"::ffff:10.0.0.0/104", "::ffff:192.168.1.7/128"}

	// oddHosts are no hosts to Sluice; squid takes each for the other.
	oddHosts = map[string]string{
		"127.1": "127.0.0.1", "10.1": "10.0.0.1", "0x7f000001": "127.0.0.1", "2130706433": "127.0.0.1",
		"012.0.0.1": "10.0.0.1", "192.168.263": "192.168.1.7", "10.0.0.256": "10.0.0.256", "1.2.3.4.5": "1.2.3.4.5",
		"example.com..": "example.com",
	}
)

func parseAddrs(list ...string) (addrs []netip.Addr) {
	for _, s := range list {
		addrs = append(addrs, netip.MustParseAddr(s))
	}
	return addrs
}

// world is what names and addresses resolve to. It does not change while a squid
// runs, which caches.
type world struct {
	addrs map[string][]netip.Addr // without an entry, the name does not exist
	empty map[string]bool         // the name exists, and has no address
	ptr   map[netip.Addr]string
}

func newWorld(r *rand.Rand) *world {
	w := &world{addrs: map[string][]netip.Addr{}, empty: map[string]bool{}, ptr: map[netip.Addr]string{}}
	for _, name := range hostNames {
		n := []int{0, 1, 1, 1, 1, 1, 1, 1, 2, 3}[r.IntN(10)]
		if n == 0 && slices.Contains(hexNames, name) {
			n = 1 // squid would not start
		}
		for len(w.addrs[name]) < n {
			if a := pickAddr(r); !slices.Contains(w.addrs[name], a) {
				w.addrs[name] = append(w.addrs[name], a)
			}
		}
		w.empty[name] = n == 0 && r.IntN(3) == 0
	}
	for _, a := range addrPool {
		if r.IntN(3) == 0 {
			w.ptr[a] = hostNames[r.IntN(len(hostNames))]
		}
	}
	return w
}

func pickAddr(r *rand.Rand) netip.Addr {
	pool := plainAddrs
	switch r.IntN(20) {
	case 0:
		pool = guardedAddrs
	case 1:
		pool = embeddingAddrs
	}
	return pool[r.IntN(len(pool))]
}

// answer is what the DNS server says to A and AAAA questions.
func (w *world) answer(name string) nettest.Answer {
	var text []string
	for _, a := range w.addrs[name] {
		text = append(text, a.String())
	}
	switch {
	case text != nil:
		return nettest.Addrs(text...)
	case w.empty[name]:
		return nettest.NoData()
	}
	return nettest.NXDomain()
}

// pointer is what the DNS server says to the question who has a.
func (w *world) pointer(a netip.Addr) nettest.Answer {
	name, ok := w.ptr[a]
	if !ok {
		return nettest.NXDomain()
	}
	return nettest.Func(func(q *dns.Msg) *dns.Msg {
		m := new(dns.Msg).SetReply(q)
		m.Answer = []dns.RR{&dns.PTR{
			Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: ptrType, Class: dns.ClassINET, Ttl: 60},
			Ptr: dns.Fqdn(name),
		}}
		return m
	})
}

// lookup returns the addresses of a name in any spelling, nil for none.
func (w *world) lookup(host string) []netip.Addr {
	return w.addrs[strings.TrimSuffix(strings.ToLower(host), ".")]
}

// reverseName is the name of a's PTR record.
func reverseName(a netip.Addr) string {
	name, err := dns.ReverseAddr(a.String())
	if err != nil {
		panic(err) // the pool holds addresses only
	}
	return name
}
