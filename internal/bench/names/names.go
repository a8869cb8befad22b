//go:build linux

// Package names is a DNS server for a benchmark: n0.bench.test to n65535.bench.test
// have one IPv4 address each, of the loopback network, for a short time.
package names

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"
)

// TTL is how long an answer holds, in seconds.
const TTL = 5

// NegativeTTL is how long it holds that there is no AAAA, in seconds: what the SOA
// record says, as most zones do, is longer than the addresses of one that moves.
const NegativeTTL = 60

// Zone is where the names are.
const Zone = "bench.test."

// Name is the i-th name.
func Name(i int) string { return fmt.Sprintf("n%d.%s", i, strings.TrimSuffix(Zone, ".")) }

// Addr is its address.
func Addr(i int) string { return fmt.Sprintf("127.1.%d.%d", i>>8&0xff, i&0xff) }

// Counts is what the server was asked.
type Counts struct{ A, AAAA, Other int64 }

type server struct{ a, aaaa, other atomic.Int64 }

func (s *server) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	if len(q.Question) != 1 {
		m.Rcode = dns.RcodeFormatError
		_ = w.WriteMsg(m)
		return
	}
	name, qtype := strings.ToLower(q.Question[0].Name), q.Question[0].Qtype
	switch qtype {
	case dns.TypeA:
		s.a.Add(1)
	case dns.TypeAAAA:
		s.aaaa.Add(1)
	default:
		s.other.Add(1)
	}
	label, ok := strings.CutSuffix(name, "."+Zone)
	i, err := strconv.ParseUint(strings.TrimPrefix(label, "n"), 10, 16)
	switch {
	case !ok || err != nil || !strings.HasPrefix(label, "n"):
		m.Rcode = dns.RcodeNameError
	case qtype == dns.TypeA:
		m.Answer = []dns.RR{&dns.A{
			Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: TTL},
			A:   net.ParseIP(Addr(int(i))),
		}}
	}
	if len(m.Answer) == 0 {
		m.Ns = []dns.RR{&dns.SOA{
			Hdr: dns.RR_Header{Name: Zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: NegativeTTL},
			Ns:  "ns." + Zone, Mbox: "root." + Zone, Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: NegativeTTL,
		}}
	}
	_ = w.WriteMsg(m)
}

// Serve answers at addr over UDP and TCP. It writes the address as JSON, then
// Counts for each line that comes in, and ends with them.
func Serve(addr string, in io.Reader, out io.Writer) error {
	l, err := net.Listen("tcp4", addr)
	if err != nil {
		return err
	}
	pc, err := net.ListenPacket("udp4", l.Addr().String())
	if err != nil {
		return err
	}
	s := &server{}
	failed := make(chan error, 2)
	for _, d := range []*dns.Server{{Listener: l, Handler: s}, {PacketConn: pc, Handler: s}} {
		go func() { failed <- d.ActivateAndServe() }()
	}
	go func() {
		if err := <-failed; err != nil {
			fmt.Fprintln(os.Stderr, "bench dns:", err)
			os.Exit(1)
		}
	}()
	enc := json.NewEncoder(out)
	if err := enc.Encode(l.Addr().String()); err != nil {
		return err
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		if err := enc.Encode(Counts{s.a.Load(), s.aaaa.Load(), s.other.Load()}); err != nil {
			return err
		}
	}
	return nil
}
