//go:build linux

package secure

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Job is work for the generator: GETs by TLS.
type Job struct {
	Proxy  string        // address and port; "": none
	Hosts  []string      // address and port each; a connection is to one of them
	CA     string        // file of what is trusted
	Any    bool          // any certificate will do
	Path   string        // of each request
	Length int64         // of each answer's body
	Conns  int           // connections at a time
	New    bool          // a connection, and a handshake, for each request
	Warm   int           // requests before it counts
	Count  int           // requests that count
	Limit  time.Duration // of a connection's whole life
}

// Result is what came of a job.
type Result struct {
	Done     int
	Elapsed  time.Duration
	P50, P99 time.Duration
	Error    string // the first
}

// Serve does the jobs that come in on in, as [load.Serve] of the plain generator does: it answers
// "ready" when a job has warmed up, goes on when a line comes, and writes the result.
func Serve(in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		var job Job
		if err := json.Unmarshal(line, &job); err != nil {
			return err
		}
		result, err := run(job, func() error {
			fmt.Fprintln(out, "ready")
			_, err := lines.ReadBytes('\n')
			return err
		})
		if err == io.EOF {
			return nil // nobody waits for the rest
		}
		if err == nil {
			err = write(out, result)
		}
		if err != nil {
			return err
		}
	}
}

// run does a job: each client warms up, waits for all, and goes on.
func run(job Job, ready func() error) (Result, error) {
	pool, err := trusted(job.CA)
	if err != nil {
		return Result{}, err
	}
	var warm, all sync.WaitGroup
	begin := make(chan struct{})
	clients := make([]*client, job.Conns)
	for i := range clients {
		c := &client{job: job, pool: pool, host: i}
		clients[i] = c
		warm.Add(1)
		all.Go(func() {
			defer c.close()
			c.work(job.Warm / job.Conns)
			warm.Done()
			<-begin
			c.took = nil
			c.work(job.Count / job.Conns)
		})
	}
	warm.Wait()
	err = ready()
	t0 := time.Now()
	close(begin)
	all.Wait()
	r := Result{Elapsed: time.Since(t0)}
	var took []time.Duration
	for _, c := range clients {
		took = append(took, c.took...)
		if c.err != nil && r.Error == "" {
			r.Error = c.err.Error()
		}
	}
	if r.Done = len(took); r.Done > 0 {
		slices.Sort(took)
		r.P50, r.P99 = took[r.Done/2], took[r.Done*99/100]
	}
	return r, err
}

func trusted(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New(file + " has no certificate")
	}
	return pool, nil
}

// client is one that asks for one thing after the other.
type client struct {
	job  Job
	pool *x509.CertPool
	host int // of the next connection
	c    net.Conn
	r    *bufio.Reader
	ask  []byte
	took []time.Duration
	err  error // after which it does nothing
}

func (c *client) work(n int) {
	for range n {
		t := time.Now()
		if c.err == nil && c.c == nil {
			c.err = c.open()
		}
		if c.err == nil {
			c.err = c.get()
		}
		if c.err != nil {
			return
		}
		if c.job.New {
			c.close()
		}
		c.took = append(c.took, time.Since(t))
	}
}

// Once does one request on a new connection to a host, and returns what it took.
func Once(job Job, host string) (time.Duration, error) {
	pool, err := trusted(job.CA)
	if err != nil {
		return 0, err
	}
	job.Hosts = []string{host}
	c := &client{job: job, pool: pool}
	defer c.close()
	c.work(1)
	if c.err != nil {
		return 0, c.err
	}
	return c.took[0], nil
}

func (c *client) close() {
	if c.c != nil {
		c.c.Close()
		c.c = nil
	}
}

// open makes a connection to the next host, with a full handshake.
func (c *client) open() error {
	host := c.job.Hosts[c.host%len(c.job.Hosts)]
	c.host += c.job.Conns
	c.host++
	to := host
	if c.job.Proxy != "" {
		to = c.job.Proxy
	}
	plain, err := net.Dial("tcp4", to)
	if err != nil {
		return err
	}
	c.c = plain
	if err := plain.SetDeadline(time.Now().Add(c.job.Limit)); err != nil {
		return err
	}
	if c.job.Proxy != "" {
		if err := connect(plain, host); err != nil {
			return err
		}
	}
	name, _, _ := strings.Cut(host, ":")
	s := tls.Client(plain, &tls.Config{RootCAs: c.pool, ServerName: name, InsecureSkipVerify: c.job.Any, NextProtos: []string{"http/1.1"}})
	if err := s.Handshake(); err != nil {
		return err
	}
	c.c, c.r = s, bufio.NewReaderSize(s, 64<<10)
	c.ask = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n", c.job.Path, host)
	return nil
}

// connect asks the proxy for a tunnel.
func connect(c net.Conn, host string) error {
	if _, err := fmt.Fprintf(c, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\nUser-Agent: bench\r\n\r\n", host); err != nil {
		return err
	}
	var head []byte
	b := make([]byte, 1)
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		if _, err := c.Read(b); err != nil {
			return err
		}
		head = append(head, b...)
	}
	if len(head) < 12 || string(head[8:12]) != " 200" {
		return fmt.Errorf("CONNECT is answered %q", head)
	}
	return nil
}

// get asks once, and takes the answer.
func (c *client) get() error {
	if _, err := c.c.Write(c.ask); err != nil {
		return err
	}
	length, chunked := int64(-1), false
	for first := true; ; first = false {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.Contains(line, []byte(" 200 ")) {
			return fmt.Errorf("the answer is %q", line)
		}
		if name, value, ok := bytes.Cut(line, []byte(":")); ok {
			switch value = bytes.TrimSpace(value); {
			case bytes.EqualFold(name, []byte("content-length")):
				length, _ = strconv.ParseInt(string(value), 10, 64)
			case bytes.EqualFold(name, []byte("transfer-encoding")):
				chunked = true
			}
		}
		if len(line) <= 2 {
			break
		}
	}
	if chunked {
		return c.chunks()
	}
	if length != c.job.Length {
		return fmt.Errorf("the answer has %d bytes", length)
	}
	_, err := c.r.Discard(int(length))
	return err
}

// chunks takes a body in chunks.
func (c *client) chunks() error {
	for all := int64(0); ; {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 16, 32)
		if err != nil {
			return err
		}
		if _, err := c.r.Discard(int(n) + 2); err != nil {
			return err
		}
		if all += n; n == 0 && all != c.job.Length {
			return fmt.Errorf("the answer has %d bytes", all)
		} else if n == 0 {
			return nil
		}
	}
}
