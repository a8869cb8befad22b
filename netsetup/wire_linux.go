package netsetup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// How an address is asked for and announced. RFC 5227 would have a pod wait for
// seven seconds before it may start; on a switched network an answer comes within
// milliseconds or not at all.
const (
	probeCount    = 3
	probeInterval = 250 * time.Millisecond
	probeWait     = 500 * time.Millisecond // after the last question

	// AnnounceAgain is the time between the two announcements of [Announce], as in
	// the original.
	AnnounceAgain = 2 * time.Second
)

// DuplicateError is that another host has an address.
type DuplicateError struct {
	Addr netip.Addr
	Link string
	MAC  net.HardwareAddr // the other host's
}

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("EGRESS_SOURCE %s is in use: the host with MAC address %s has it too, seen on %s; stop that host or pod, or choose another address; if it is the pod before this one, give the Deployment strategy Recreate and one replica", e.Addr, e.MAC, e.Link)
}

// Wire is a packet socket for one address on its interface: what the neighbours say of the
// address, and what they are told. It may be used by one goroutine that hears and others
// that speak.
type Wire struct {
	addr      netip.Addr
	link      string
	mac       net.HardwareAddr
	linkLocal netip.Addr // of the interface, for questions; not valid: it has none
	conn      *packet.Conn
}

// OpenWire opens a wire. The socket is of the calling thread's namespace, whoever
// uses it later. Who opens it calls Close.
func OpenWire(link string, addr netip.Addr) (*Wire, error) {
	ifi, err := net.InterfaceByName(link)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", link, err)
	}
	if len(ifi.HardwareAddr) != hardwareSize {
		return nil, fmt.Errorf("interface %s has no Ethernet address", link)
	}
	w := &Wire{addr: addr, link: link, mac: ifi.HardwareAddr}
	kind, filter := unix.ETH_P_ARP, &packet.Config{}
	if addr.Is6() {
		kind, filter.Filter = unix.ETH_P_IPV6, neighbourFilter
		w.linkLocal = linkLocal(ifi)
	}
	if w.conn, err = packet.Listen(ifi, packet.Raw, kind, filter); err != nil {
		return nil, fmt.Errorf("open a packet socket on %s: %w", link, err)
	}
	if addr.Is6() {
		// An answer goes to all nodes, and somebody else's question to the group of
		// the address, which nobody here has joined yet.
		for _, group := range []netip.Addr{allNodes, solicitedNode(addr)} {
			if err := w.conn.JoinGroup(groupMAC(group)); err != nil {
				w.Close()
				return nil, fmt.Errorf("join group %s on %s: %w", group, link, err)
			}
		}
	}
	return w, nil
}

// Close closes the wire. Who hears then hears no more.
func (w *Wire) Close() { _ = w.conn.Close() }

// neighbourFilter lets solicitations and advertisements of neighbours in, and nothing of
// all the other traffic.
var neighbourFilter = func() []bpf.RawInstruction {
	filter, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: etherHead + 6, Size: 1}, // the next header
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: icmp6, SkipTrue: 4},
		bpf.LoadAbsolute{Off: etherHead + ipv6Head, Size: 1}, // the type
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: icmp6Solicit, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: icmp6Advertise, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 11},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		panic(err) // it is what stands above
	}
	return filter
}()

// linkLocal is an address of the interface that is good on its link only.
func linkLocal(ifi *net.Interface) netip.Addr {
	addrs, err := ifi.Addrs()
	if err != nil {
		return netip.Addr{} // questions are asked without
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if p := toPrefix(n); p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
				return p.Addr()
			}
		}
	}
	return netip.Addr{}
}

func (w *Wire) send(frame []byte) error {
	if _, err := w.conn.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:hardwareSize])}); err != nil {
		return fmt.Errorf("send on %s: %w", w.link, err)
	}
	return nil
}

// open opens a wire for each address, or none.
func open(addrs []Addr) ([]*Wire, error) {
	var all []*Wire
	for _, a := range addrs {
		w, err := OpenWire(a.Link, a.Prefix.Addr())
		if err != nil {
			closeAll(all)
			return nil, err
		}
		all = append(all, w)
	}
	return all, nil
}

func closeAll(wires []*Wire) {
	for _, w := range wires {
		w.Close()
	}
}

// probe asks for all addresses side by side, for about a second. The error is
// [*DuplicateError] when somebody has one.
func probe(ctx context.Context, addrs []Addr) error {
	wires, err := open(addrs)
	if err != nil {
		return err
	}
	defer closeAll(wires)
	errs := make([]error, len(wires))
	var wg sync.WaitGroup
	for i, w := range wires {
		wg.Go(func() { errs[i] = w.probe(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (w *Wire) probe(ctx context.Context) error {
	for i := range probeCount {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.Ask(); err != nil {
			return err
		}
		wait := probeInterval
		if i == probeCount-1 {
			wait = probeWait
		}
		if err := w.hear(time.Now().Add(wait)); err != nil {
			return err
		}
	}
	return nil
}

// hear reads frames until the deadline, or until somebody claims the address.
func (w *Wire) hear(deadline time.Time) (found error) {
	err := w.Hear(deadline, func(h Heard) bool {
		if h.Addr == w.addr {
			found = &DuplicateError{Addr: w.addr, Link: w.link, MAC: h.MAC}
		}
		return found == nil
	})
	if found == nil {
		found = err
	}
	return found
}

// Heard is that another host has an address.
type Heard struct {
	Addr netip.Addr
	MAC  net.HardwareAddr
	// Asks says that it does not have the address yet: it asks who does, before it takes it.
	Asks bool
}

// Hear calls f with what other hosts say of addresses of the wire's family, until f returns
// false, or the deadline (zero: none), or the wire is closed: that is no error.
func (w *Wire) Hear(deadline time.Time, f func(Heard) bool) error {
	if err := w.conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	buf := make([]byte, 1<<11)
	for {
		n, _, err := w.conn.ReadFrom(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, os.ErrClosed), errors.Is(err, net.ErrClosed):
			return nil
		case errors.Is(err, unix.ENETDOWN): // it says so once, and goes on when the interface is up again
			continue
		case err != nil:
			return fmt.Errorf("receive on %s: %w", w.link, err)
		}
		if c, ok := readClaim(buf[:n], w.mac); ok && !f(Heard{c.addr, slices.Clone(c.mac), c.asks}) {
			return nil
		}
	}
}

// Ask asks whether another host has the address, without saying that it is wanted.
func (w *Wire) Ask() error { return w.send(probeFrame(w.mac, w.addr)) }

// AskFor asks for another host's Ethernet address, without use of the wire's own address.
func (w *Wire) AskFor(host netip.Addr) error {
	return w.send(questionFrame(w.mac, w.linkLocal, host))
}

// Announce tells the neighbours that the address is here.
func (w *Wire) Announce() error {
	for _, frame := range announceFrames(w.mac, w.addr) {
		if err := w.send(frame); err != nil {
			return err
		}
	}
	return nil
}

// Announce tells the neighbours where the addresses are, at once and again after
// a while (see [AnnounceAgain]), and returns then, or when ctx ends.
func Announce(ctx context.Context, addrs []Addr, again time.Duration) error {
	wires, err := open(addrs)
	if err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	defer closeAll(wires)
	if err := announce(wires); err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	select {
	case <-time.After(again):
	case <-ctx.Done():
		return nil
	}
	if err := announce(wires); err != nil {
		return fmt.Errorf("announce again: %w", err)
	}
	return nil
}

func announce(wires []*Wire) error {
	for _, w := range wires {
		if err := w.Announce(); err != nil {
			return err
		}
	}
	return nil
}
