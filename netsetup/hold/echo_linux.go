package hold

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// How long replies are waited for, and how often they are asked for.
const (
	replyTime  = 3 * time.Second
	replyEvery = 100 * time.Millisecond
)

// Probe reports whether replies come back to all addresses of a group, which are held: each
// sends echo requests to a host, or its gateway. It returns with the last first reply.
func (h *Holder) Probe(ctx context.Context, name string) (bool, error) {
	g, err := h.group(name)
	if err != nil {
		return false, err
	}
	if h.o.SkipReply {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, replyTime)
	defer cancel()
	errs := make([]error, len(g.members))
	var asked sync.WaitGroup
	for i, m := range g.members {
		host := m.gateway
		if n := slices.IndexFunc(h.o.ReplyFrom, func(a netip.Addr) bool { return a.Is4() == host.Is4() }); n >= 0 {
			host = h.o.ReplyFrom[n]
		}
		asked.Go(func() { errs[i] = echo(ctx, m, host) })
	}
	asked.Wait()
	if err := errors.Join(errs...); err != nil {
		g.counts.unanswered.Add(1)
		h.o.Log.Error("no reply comes back to the held addresses: a neighbour may have kept another MAC address for them, or the host does not answer an echo request (see --hold-reply-from)", "group", g.name, "error", err)
		return false, nil
	}
	return true, nil
}

// echo returns when host has replied to the address, or ctx ends: an error.
func echo(ctx context.Context, m member, host netip.Addr) error {
	network, request, reply, proto := "ip4:icmp", icmp.Type(ipv4.ICMPTypeEcho), icmp.Type(ipv4.ICMPTypeEchoReply), 1
	if host.Is6() {
		network, request, reply, proto = "ip6:ipv6-icmp", ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply, 58
	}
	c, err := icmp.ListenPacket(network, m.addr.String())
	if err != nil {
		return fmt.Errorf("echo from %s: %w", m.addr, err)
	}
	defer c.Close()
	to := &net.IPAddr{IP: host.AsSlice()}
	if host.Is6() && host.IsLinkLocalUnicast() {
		to.Zone = m.link
	}
	word := make([]byte, 16)
	_, _ = rand.Read(word) // it does not fail
	packet, err := (&icmp.Message{Type: request, Body: &icmp.Echo{ID: int(word[0])<<8 | int(word[1]), Data: word}}).Marshal(nil)
	if err != nil {
		return err
	}
	buf := make([]byte, 1500)
	for ctx.Err() == nil {
		_, _ = c.WriteTo(packet, to) // what does not leave has no reply
		if err := c.SetReadDeadline(time.Now().Add(replyEvery)); err != nil {
			return err
		}
		for {
			n, _, err := c.ReadFrom(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return fmt.Errorf("echo from %s: %w", m.addr, err)
			}
			got, err := icmp.ParseMessage(proto, buf[:n])
			if err != nil || got.Type != reply {
				continue
			}
			if e, ok := got.Body.(*icmp.Echo); ok && bytes.Equal(e.Data, word) {
				return nil
			}
		}
	}
	return fmt.Errorf("no reply of %s has come back to %s", host, m.addr)
}
