package netsetup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/mdlayher/packet"
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

// wire is a packet socket for one address on its interface.
type wire struct {
	addr netip.Addr
	link string
	mac  net.HardwareAddr
	conn *packet.Conn
}

// listen opens a wire. The socket is of the calling thread's namespace, whoever
// uses it later.
func listen(a Addr) (*wire, error) {
	ifi, err := net.InterfaceByName(a.Link)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", a.Link, err)
	}
	if len(ifi.HardwareAddr) != hardwareSize {
		return nil, fmt.Errorf("interface %s has no Ethernet address", a.Link)
	}
	w := &wire{addr: a.Prefix.Addr(), link: a.Link, mac: ifi.HardwareAddr}
	kind := unix.ETH_P_ARP
	if w.addr.Is6() {
		kind = unix.ETH_P_IPV6
	}
	if w.conn, err = packet.Listen(ifi, packet.Raw, kind, nil); err != nil {
		return nil, fmt.Errorf("open a packet socket on %s: %w", a.Link, err)
	}
	if w.addr.Is6() {
		// An answer goes to all nodes, and somebody else's question to the group of
		// the address, which nobody here has joined yet.
		for _, group := range []netip.Addr{allNodes, solicitedNode(w.addr)} {
			if err := w.conn.JoinGroup(groupMAC(group)); err != nil {
				_ = w.conn.Close()
				return nil, fmt.Errorf("join group %s on %s: %w", group, a.Link, err)
			}
		}
	}
	return w, nil
}

func (w *wire) send(frame []byte) error {
	if _, err := w.conn.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:hardwareSize])}); err != nil {
		return fmt.Errorf("send on %s: %w", w.link, err)
	}
	return nil
}

// open opens a wire for each address, or none.
func open(addrs []Addr) ([]*wire, error) {
	var all []*wire
	for _, a := range addrs {
		w, err := listen(a)
		if err != nil {
			closeAll(all)
			return nil, err
		}
		all = append(all, w)
	}
	return all, nil
}

func closeAll(wires []*wire) {
	for _, w := range wires {
		_ = w.conn.Close()
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

func (w *wire) probe(ctx context.Context) error {
	for i := range probeCount {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.send(probeFrame(w.mac, w.addr)); err != nil {
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
func (w *wire) hear(deadline time.Time) error {
	if err := w.conn.SetReadDeadline(deadline); err != nil {
		return err
	}
	buf := make([]byte, 1<<11)
	for {
		n, _, err := w.conn.ReadFrom(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return fmt.Errorf("receive on %s: %w", w.link, err)
		}
		if other, ok := claimant(buf[:n], w.mac, w.addr); ok {
			return &DuplicateError{Addr: w.addr, Link: w.link, MAC: other}
		}
	}
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

func announce(wires []*wire) error {
	for _, w := range wires {
		for _, frame := range announceFrames(w.mac, w.addr) {
			if err := w.send(frame); err != nil {
				return err
			}
		}
	}
	return nil
}
