package resolve

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"sync"
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

// buffers hold one datagram each.
var buffers = sync.Pool{New: func() any { return new([readSize]byte) }}

// question is one that was put to one server over UDP, on a socket of its own, so
// from a source port of its own. The socket is connected: the kernel drops what
// other addresses send, and tells of a port that is shut.
type question struct {
	r     *Resolver
	s     *server
	begin time.Time
	conn  *net.UDPConn

	// msg with what it is made of, so that it is one allocation.
	msg   dns.Msg
	asked [1]dns.Question
	extra [1]dns.RR
	edns  dns.OPT

	// How it ended.
	done bool
	end  time.Time
	m    *dns.Msg
	err  error
}

// put sends a question, with a random ID. When that fails, it has ended.
func (r *Resolver) put(s *server, name string, qtype uint16, edns bool) *question {
	q := &question{r: r, s: s, begin: time.Now()}
	q.asked[0] = dns.Question{Name: dns.Fqdn(name), Qtype: qtype, Qclass: dns.ClassINET}
	q.msg.Question = q.asked[:]
	q.msg.RecursionDesired = true
	if edns {
		q.edns.Hdr = dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}
		q.edns.SetUDPSize(ednsSize)
		q.extra[0] = &q.edns
		q.msg.Extra = q.extra[:]
	}
	if err := q.send(); err != nil {
		q.ended(nil, err)
	}
	return q
}

func (q *question) send() (err error) {
	if q.conn, err = net.DialUDP("udp", nil, q.s.udp); err != nil {
		q.conn = nil
		return err
	}
	buf := buffers.Get().(*[readSize]byte)
	defer buffers.Put(buf)
	_, _ = rand.Read(buf[:2])
	q.msg.Id = binary.BigEndian.Uint16(buf[:2])
	b, err := q.msg.PackBuffer(buf[:])
	if err != nil {
		return err
	}
	_, err = q.conn.Write(b)
	return err
}

// wait waits for q's end, but not longer than until.
func (q *question) wait(until time.Time) {
	if q.done {
		return
	}
	_ = q.conn.SetReadDeadline(until)
	q.read(false)
}

// waitFor waits for q's end, which is that of ctx at the latest.
func (q *question) waitFor(ctx context.Context) {
	if q.done {
		return
	}
	_ = q.conn.SetReadDeadline(time.Time{})
	// A deadline alone would not end the wait when the look-up is called off.
	stop := context.AfterFunc(ctx, func() { _ = q.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	q.read(true)
}

// read takes datagrams until one is the answer. What comes from the right address but
// is not the answer is ignored, since the true one may still come. Silence up to the
// deadline ends q only if it is final.
func (q *question) read(final bool) {
	buf := buffers.Get().(*[readSize]byte)
	defer buffers.Put(buf)
	for {
		n, err := q.conn.Read(buf[:])
		if err != nil {
			if final || !timedOut(err) {
				q.ended(nil, err)
			}
			return
		}
		m, err := match(&q.msg, buf[:n])
		if !errors.Is(err, errMismatch) {
			q.ended(m, err)
			return
		}
		q.r.observe(Event{QueryMismatch, q.s.addr, "udp", time.Since(q.begin)})
	}
}

// ended keeps how q ended, and closes its socket.
func (q *question) ended(m *dns.Msg, err error) {
	if q.conn != nil {
		_ = q.conn.Close()
	}
	q.done, q.end, q.m, q.err = true, time.Now(), m, err
	// Silence is counted where it is noticed, by asking.
	if !timedOut(err) {
		q.r.observe(Event{outcome(err), q.s.addr, "udp", q.end.Sub(q.begin)})
	}
}

// answer waits for the answer, and asks again over TCP when it was truncated, and
// without EDNS when the server does not know that (RFC 6891 section 6.2.2).
func (q *question) answer(ctx context.Context) (*dns.Msg, error) {
	q.waitFor(ctx)
	if code, ok := errors.AsType[rcodeError](q.err); ok && (code == dns.RcodeFormatError || code == dns.RcodeNotImplemented) {
		q = q.r.put(q.s, q.asked[0].Name, q.asked[0].Qtype, false)
		q.waitFor(ctx)
	}
	if errors.Is(q.err, errTruncated) {
		q.msg.Id = dns.Id()
		return q.r.overTCP(ctx, q.s, &q.msg)
	}
	return q.m, q.err
}

// overTCP puts m to s on a connection of its own.
func (r *Resolver) overTCP(ctx context.Context, s *server, m *dns.Msg) (got *dns.Msg, err error) {
	begin := time.Now()
	defer func() {
		if ctx.Err() == nil && !timedOut(err) {
			r.observe(Event{outcome(err), s.addr, "tcp", time.Since(begin)})
		}
	}()
	client := dns.Client{Net: "tcp", Dialer: &net.Dialer{}}
	conn, err := client.DialContext(ctx, s.addr.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := conn.WriteMsg(m); err != nil {
		return nil, err
	}
	b, err := conn.ReadMsgHeader(nil)
	if err != nil {
		return nil, err
	}
	return match(m, b)
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
