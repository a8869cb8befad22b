//go:build linux

package secure

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/sluiceproxy/sluice/internal/bench/origin"
)

// ServeOrigin answers GET /1k and /1m at every address of the loopback network, each with a
// certificate of its own by the authority in dir, until in ends. It writes its port as each of the
// ports of [origin], and for each line that comes [origin.Counts].
func ServeOrigin(dir string, in io.Reader, out io.Writer) error {
	issuer, err := newIssuer(dir)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		return err
	}
	defer l.Close()
	s := &server{issuer: issuer}
	go s.accept(l)
	ports := make([]int, origin.Ports)
	for i := range ports {
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	if err := write(out, ports); err != nil {
		return err
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		if err := write(out, origin.Counts{Requests: int(s.requests.Load())}); err != nil {
			return err
		}
	}
	return nil
}

func write(out io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		_, err = fmt.Fprintf(out, "%s\n", b)
	}
	return err
}

type server struct {
	issuer   *issuer
	configs  sync.Map // by address, with the keys of its sessions
	requests atomic.Int64
}

func (s *server) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			config, err := s.config(c.LocalAddr().(*net.TCPAddr).IP)
			if err == nil {
				s.serve(tls.Server(c, config))
			}
		}()
	}
}

func (s *server) config(ip net.IP) (*tls.Config, error) {
	if c, ok := s.configs.Load(ip.String()); ok {
		return c.(*tls.Config), nil
	}
	certificate, err := s.issuer.of(ip)
	if err != nil {
		return nil, err
	}
	c, _ := s.configs.LoadOrStore(ip.String(), &tls.Config{Certificates: []tls.Certificate{*certificate}, NextProtos: []string{"http/1.1"}})
	return c.(*tls.Config), nil
}

func (s *server) serve(c net.Conn) {
	r := bufio.NewReaderSize(c, 4096)
	for {
		path := ""
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return
			}
			if path == "" {
				path = string(bytes.Fields(line)[1])
			}
			if len(line) <= 2 {
				break
			}
		}
		s.requests.Add(1)
		answer := small
		if path == "/1m" {
			answer = large
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

var small, large = answerOf(origin.SizeSmall), answerOf(origin.SizeLarge)

func answerOf(size int) []byte {
	head := "HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 08:00:00 GMT\r\nContent-Type: application/octet-stream\r\nCache-Control: no-store\r\nContent-Length: " + strconv.Itoa(size) + "\r\n\r\n"
	return append([]byte(head), bytes.Repeat([]byte("0123456789abcdef"), size/16)...)
}
