package streams

//lint:file-ignore SA1019 x/net/http2 serves connections that were accepted and secured elsewhere, which net/http does not yet.

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// session is one to a server that serve is. ended is closed when its connection is.
func session(t testing.TB, o Options, serve func(*tls.Conn)) (s *Session, ended chan struct{}) {
	t.Helper()
	if o.MaxHead == 0 {
		o.MaxHead = 64 << 10
	}
	return sessionOf(t, New(o), serve)
}

// sessionOf is one of that Transport, which is closed at the end.
func sessionOf(t testing.TB, tr *Transport, serve func(*tls.Conn)) (s *Session, ended chan struct{}) {
	t.Helper()
	authority := nettest.NewCA(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	over := make(chan struct{})
	go func() {
		defer close(over)
		c, err := l.Accept()
		if err != nil {
			return
		}
		secure := tls.Server(c, &tls.Config{NextProtos: []string{"h2"}, Certificates: []tls.Certificate{authority.Issue("api.test")}})
		defer secure.Close()
		if secure.Handshake() == nil {
			serve(secure)
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	secure := tls.Client(c, &tls.Config{ServerName: "api.test", RootCAs: authority.Pool, NextProtos: []string{"h2"}})
	require.NoError(t, secure.Handshake())
	ended = make(chan struct{})
	s, err = tr.Begin(secure, func() { close(ended) })
	require.NoError(t, err)
	t.Cleanup(func() {
		tr.Close()
		secure.Close()
		s.cc.Close()
		<-over
		<-ended
	})
	return s, ended
}

// handled is a session to a server of x/net/http2.
func handled(t testing.TB, serve http.HandlerFunc) *Session {
	t.Helper()
	s, _ := session(t, Options{}, func(c *tls.Conn) {
		new(http2.Server).ServeConn(c, &http2.ServeConnOpts{Context: context.Background(), BaseConfig: new(http.Server), Handler: serve})
	})
	return s
}

// script is a server that writes frames by hand.
type script struct {
	*http2.Framer
	t    testing.TB
	conn net.Conn
	enc  *hpack.Encoder
	buf  bytes.Buffer
	path string // of the request that has come last
}

// scripted is a session to a server that reads each request's head and then does what play says.
func scripted(t testing.TB, o Options, settings []http2.Setting, play func(s *script, id uint32)) (*Session, chan struct{}) {
	t.Helper()
	return session(t, o, playing(t, settings, play))
}

// playing is such a server.
func playing(t testing.TB, settings []http2.Setting, play func(s *script, id uint32)) func(*tls.Conn) {
	return func(c *tls.Conn) {
		if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		s := &script{Framer: http2.NewFramer(c, c), t: t, conn: c}
		s.enc = hpack.NewEncoder(&s.buf)
		s.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		s.WriteSettings(settings...)
		for {
			f := s.next()
			if f == nil {
				return
			}
			if h, ok := f.(*http2.MetaHeadersFrame); ok && h.PseudoValue("method") != "" {
				s.path = h.PseudoValue("path")
				play(s, h.StreamID)
			}
		}
	}
}

// next is the next frame that is not about the connection; nil: there is none.
func (s *script) next() http2.Frame {
	for {
		f, err := s.ReadFrame()
		switch f := f.(type) {
		case nil:
			if err != nil {
				return nil
			}
		case *http2.SettingsFrame:
			if !f.IsAck() {
				s.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				s.WritePing(true, f.Data)
			}
		default:
			return f
		}
	}
}

// head writes a head or a trailer section, as pairs of names and values.
func (s *script) head(id uint32, end bool, fields ...string) error {
	s.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		s.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	block := s.buf.Bytes()
	const most = 16 << 10
	err := s.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:min(len(block), most)], EndHeaders: len(block) <= most, EndStream: end})
	for err == nil && len(block) > most {
		block = block[most:]
		err = s.WriteContinuation(id, len(block) <= most, block[:min(len(block), most)])
	}
	return err
}

// open begins an exchange.
func open(t testing.TB, s *Session) sock.Blocking {
	t.Helper()
	near, ok := s.Open()
	require.True(t, ok)
	near.Share()
	c := near.Blocking()
	t.Cleanup(func() { c.Close() })
	return c
}

// ask sends what is a request over an exchange of its own, and returns what comes back.
func ask(t testing.TB, s *Session, request string) (string, error) {
	t.Helper()
	c := open(t, s)
	_, err := io.WriteString(c, request)
	require.NoError(t, err)
	defer c.Close()
	b, err := io.ReadAll(c)
	return string(b), err
}

const get = "GET /a?b HTTP/1.1\r\nHost: api.test\r\n\r\n"
