package nettest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Query is one question that reached a [DNS] server.
type Query struct {
	Name      string // lower case, without the trailing dot
	Type      string // "A", "AAAA"
	Transport string // "udp" or "tcp"
}

// DNS is a DNS server that answers as its script says, over UDP and TCP on one
// port. A name without a script does not exist. All methods may be called
// while it runs, from any goroutine.
type DNS struct {
	addr netip.AddrPort
	done chan struct{}
	once sync.Once
	stop func()

	mu      sync.Mutex
	scripts map[question]*script
	queries []Query
}

type question struct {
	name  string
	qtype uint16
}

type script struct {
	answers []Answer
	next    int
}

// NewDNS starts a server on a free port of 127.0.0.1; the test's Cleanup closes it.
func NewDNS(t testing.TB) *DNS {
	t.Helper()
	return NewDNSAt(t, netip.MustParseAddr("127.0.0.1"))
}

// NewDNSAt starts a server on a free port of addr, which must be an address of
// this machine.
func NewDNSAt(t testing.TB, addr netip.Addr) *DNS {
	t.Helper()
	// The port that TCP got may be taken on UDP: then another is tried.
	var failed error
	for range 16 {
		ln, err := net.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
		if err != nil {
			t.Fatalf("listen for DNS over TCP: %v", err)
		}
		pc, err := net.ListenPacket("udp", ln.Addr().String())
		if err == nil {
			return NewDNSOn(t, pc, ln)
		}
		failed = err
		_ = ln.Close()
	}
	t.Fatalf("listen for DNS over UDP: %v", failed)
	return nil
}

// NewDNSOn serves on pc and ln, which it then owns: they may come from another
// network namespace. Either may be nil, for a server without that transport.
// With both, they should share their port.
func NewDNSOn(t testing.TB, pc net.PacketConn, ln net.Listener) *DNS {
	t.Helper()
	s := &DNS{done: make(chan struct{}), scripts: map[question]*script{}}
	var servers []*dns.Server
	if ln != nil {
		servers = append(servers, &dns.Server{Listener: ln, Handler: s.handler("tcp")})
		s.addr = ln.Addr().(*net.TCPAddr).AddrPort()
	}
	if pc != nil {
		servers = append(servers, &dns.Server{PacketConn: pc, Handler: s.handler("udp")})
		s.addr = pc.LocalAddr().(*net.UDPAddr).AddrPort()
	}
	s.addr = netip.AddrPortFrom(s.addr.Addr().Unmap(), s.addr.Port())

	var running sync.WaitGroup
	for _, srv := range servers {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		running.Go(func() {
			if err := srv.ActivateAndServe(); err != nil {
				t.Errorf("serve DNS: %v", err)
			}
		})
		<-started
	}
	s.stop = func() {
		// An idle TCP client may keep Shutdown waiting; the sockets are closed all the same.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		for _, srv := range servers {
			_ = srv.ShutdownContext(ctx)
		}
		running.Wait()
	}
	t.Cleanup(s.Close)
	return s
}

// Close stops the server: its port answers no more. A second call does nothing.
func (s *DNS) Close() {
	s.once.Do(func() {
		close(s.done)
		s.stop()
	})
}

// Addr is where the server listens.
func (s *DNS) Addr() netip.AddrPort { return s.addr }

// Set replaces the script of name for A and for AAAA questions. The n-th
// question of each type gets the n-th answer; the last repeats for ever. Without
// answers the name ceases to exist.
func (s *DNS) Set(name string, answers ...Answer) {
	s.SetType(name, dns.TypeA, answers...)
	s.SetType(name, dns.TypeAAAA, answers...)
}

// SetType replaces the script of name for one record type.
func (s *DNS) SetType(name string, qtype uint16, answers ...Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := question{canonical(name), qtype}
	if len(answers) == 0 {
		delete(s.scripts, q)
		return
	}
	s.scripts[q] = &script{answers: answers}
}

// Queries are the questions so far, in the order of their arrival.
func (s *DNS) Queries() []Query {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Query(nil), s.queries...)
}

// Asked reports how many questions about name arrived, of any type and transport.
func (s *DNS) Asked(name string) int {
	n := 0
	for _, q := range s.Queries() {
		if q.Name+"." == canonical(name) {
			n++
		}
	}
	return n
}

// Forget empties the log of questions.
func (s *DNS) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queries = nil
}

// String is the log as text, one question a line, for a test's failure message.
func (s *DNS) String() string {
	text := ""
	for _, q := range s.Queries() {
		text += fmt.Sprintf("%s %s %s\n", q.Name, q.Type, q.Transport)
	}
	return text
}

// next logs the question and takes the answer that is due.
func (s *DNS) next(q dns.Question, transport string) Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := canonical(q.Name)
	s.queries = append(s.queries, Query{
		Name: name[:len(name)-1], Type: dns.TypeToString[q.Qtype], Transport: transport,
	})
	sc := s.scripts[question{name, q.Qtype}]
	if sc == nil {
		return NXDomain()
	}
	a := sc.answers[sc.next]
	// A truncated answer over UDP is one half of a step: TCP carries the other.
	if sc.next < len(sc.answers)-1 && (!a.trunc || transport == "tcp") {
		sc.next++
	}
	return a
}

func (s *DNS) handler(transport string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		a := s.next(q.Question[0], transport)
		udp := transport == "udp"
		if udp {
			for _, stray := range a.strays {
				_, _ = w.Write(stray.datagram(q.Copy()))
			}
		}
		if a.gate != nil {
			select {
			case <-a.gate:
			case <-s.done:
				return
			}
		}
		// The client may be gone; that is its business.
		if m := a.message(q, udp); m != nil {
			_ = w.WriteMsg(m)
		}
	}
}

// canonical is name in lower case with its trailing dot.
func canonical(name string) string { return dns.CanonicalName(name) }
