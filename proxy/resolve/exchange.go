package resolve

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

const (
	// ednsSize is the UDP payload that passes nearly every path unfragmented
	// (DNS Flag Day 2020); fragments are what spoofers of long answers need.
	ednsSize = 1232
	// readSize also takes what a server sends that does not heed ednsSize.
	readSize = 4096
)

// newQuery is a question with a random ID (dns.Id draws it from crypto/rand).
func newQuery(name string, qtype uint16) *dns.Msg {
	return new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype).SetEdns0(ednsSize, false)
}

// ask puts one question to one server: over UDP, over TCP when the answer was
// truncated, and without EDNS when the server does not know it (RFC 6891
// section 6.2.2).
func (r *Resolver) ask(ctx context.Context, s *server, name string, qtype uint16) (*dns.Msg, error) {
	q := newQuery(name, qtype)
	m, err := r.exchange(ctx, "udp", s, q)
	if code, ok := errors.AsType[rcodeError](err); ok && (code == dns.RcodeFormatError || code == dns.RcodeNotImplemented) {
		q = newQuery(name, qtype)
		q.Extra = nil
		m, err = r.exchange(ctx, "udp", s, q)
	}
	if errors.Is(err, errTruncated) {
		q.Id = dns.Id()
		m, err = r.exchange(ctx, "tcp", s, q)
	}
	return m, err
}

// exchange sends q on a socket of its own, so from a source port of its own, and
// waits for the answer until ctx ends. The UDP socket is connected: the kernel
// drops what other addresses send. What comes from the right address but is not
// the answer is ignored, since the true one may still come.
func (r *Resolver) exchange(ctx context.Context, network string, s *server, q *dns.Msg) (m *dns.Msg, err error) {
	begin := time.Now()
	defer func() {
		// Silence is counted where it is noticed, by query.
		if ctx.Err() == nil && !timedOut(err) {
			r.observe(Event{outcome(err), s.addr, network, time.Since(begin)})
		}
	}()
	client := dns.Client{Net: network, Dialer: &net.Dialer{}}
	conn, err := client.DialContext(ctx, s.addr.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.UDPSize = readSize
	// The deadline alone would not end the wait when the look-up is called off.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()

	if err := conn.WriteMsg(q); err != nil {
		return nil, err
	}
	for {
		b, err := conn.ReadMsgHeader(nil)
		if err == nil {
			m, err = match(q, b)
		}
		stray := errors.Is(err, errMismatch) || errors.Is(err, dns.ErrShortRead)
		if !stray || network == "tcp" {
			return m, err
		}
		r.observe(Event{QueryMismatch, s.addr, network, time.Since(begin)})
	}
}

// outcome is the event that an exchange's end counts as.
func outcome(err error) EventKind {
	code, isCode := errors.AsType[rcodeError](err)
	switch {
	case err == nil:
		return QueryAnswered
	case isCode && code == dns.RcodeRefused:
		return QueryRefused
	case isCode:
		return QueryServerFailure
	case errors.Is(err, errTruncated):
		return QueryTruncated
	case isMalformed(err):
		return QueryMalformed
	default:
		return QueryError
	}
}

func isMalformed(err error) bool {
	return errors.Is(err, errMalformed) || errors.Is(err, errLame) ||
		errors.Is(err, errMismatch) || errors.Is(err, dns.ErrShortRead)
}

// isLocal reports whether err is this machine's trouble, such as a full
// descriptor table: it says nothing about the server or the name.
func isLocal(err error) bool {
	for _, errno := range []syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.EADDRNOTAVAIL, syscall.EPERM, syscall.EACCES,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
