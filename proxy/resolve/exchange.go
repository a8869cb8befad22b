package resolve

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
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

// question is one that was put to one server. It costs little, since many may wait.
type question struct {
	s     *server
	to    *mailbox
	begin time.Time
	asked dns.Question // with the case of the name as it was sent
	edns  bool
	mixed bool // the case of the name is random (0x20), and the answer has to have it

	family, round int // of the asking that it belongs to
	id            uint16
	k             *socket // under sockets.mu
}

// pack puts the question into b as it is sent (RFC 1035 section 4.1, RFC 6891 section 6.1).
func (q *question) pack(b *[readSize]byte, id uint16) ([]byte, error) {
	edns := byte(0)
	if q.edns {
		edns = 1
	}
	const recursionDesired = 1
	head := append(b[:0], byte(id>>8), byte(id), recursionDesired, 0, 0, 1, 0, 0, 0, 0, 0, edns)
	end, err := dns.PackDomainName(q.asked.Name, b[:], len(head), nil, false)
	if err != nil {
		return nil, err
	}
	m := binary.BigEndian.AppendUint16(b[:end], q.asked.Qtype)
	m = binary.BigEndian.AppendUint16(m, q.asked.Qclass)
	if q.edns {
		m = binary.BigEndian.AppendUint16(append(m, 0), dns.TypeOPT)
		m = binary.BigEndian.AppendUint16(m, ednsSize)
		m = append(m, 0, 0, 0, 0, 0, 0)
	}
	return m, nil
}

// check is what an answer over UDP is held to.
func (q *question) check() checks {
	if q.mixed {
		return checkCase
	}
	return 0
}

// mix gives each letter of name a random case, which an answer that was guessed would
// have to have, too (draft-vixie-dnsext-dns0x20).
func mix(name string) string {
	var bits [(maxName + 8) / 8]byte
	_, _ = rand.Read(bits[:len(name)/8+1])
	b := []byte(name)
	for i, c := range b {
		if c >= 'a' && c <= 'z' && bits[i/8]>>(i%8)&1 != 0 {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}

// overTCP puts q to its server on a connection of its own, when one of those that the
// resolver may have is free. The answer need not have the case of the question: a
// connection cannot be guessed.
func (r *Resolver) overTCP(ctx context.Context, q *question) (got *dns.Msg, err error) {
	begin := time.Now()
	defer func() {
		if ctx.Err() == nil && !timedOut(err) {
			r.observe(Event{outcome(err), q.s.addr, "tcp", time.Since(begin)})
		}
	}()
	select {
	case r.tcp <- struct{}{}:
		defer func() { <-r.tcp }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	client := dns.Client{Net: "tcp", Dialer: &net.Dialer{}}
	conn, err := client.DialContext(ctx, q.s.addr.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := buffers.Get().(*[readSize]byte)
	defer buffers.Put(buf)
	id := dns.Id()
	m, err := q.pack(buf, id)
	if err == nil {
		_, err = conn.Write(m)
	}
	if err != nil {
		return nil, err
	}
	b, err := conn.ReadMsgHeader(nil)
	if err != nil {
		return nil, err
	}
	return match(id, q.asked, b, checkWhole)
}

// tcpError is why the whole of a truncated answer could not be had.
type tcpError struct{ err error }

func (e *tcpError) Error() string {
	return fmt.Sprintf("the answer did not fit into a datagram, and asking over TCP failed: %v", e.err)
}

func (e *tcpError) Unwrap() error { return e.err }

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
