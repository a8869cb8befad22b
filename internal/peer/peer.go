// Package peer is how the programs of one pod speak with each other: by a Unix socket, in
// lines of JSON, each a message, after both have said which version of what they speak.
package peer

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Protocol is what is said on a connection. Both ends say their version first, and part when
// they differ.
type Protocol struct {
	Name    string // for messages: "the directory's protocol"
	Version int
}

// Times of a connection.
const (
	greetTime = 10 * time.Second
	writeTime = 10 * time.Second
)

// Conn is one end of a connection. One goroutine reads; any may write. Who has it closes it.
type Conn struct {
	conn net.Conn
	in   *bufio.Reader
	most int // bytes of a line

	mu  sync.Mutex // guards what is below, and writes
	out *bufio.Writer
	enc *json.Encoder
}

// New returns an end of c, that reads lines of up to most bytes.
func New(c net.Conn, most int) *Conn {
	w := &Conn{conn: c, in: bufio.NewReaderSize(c, 16<<10), most: most, out: bufio.NewWriterSize(c, 16<<10)}
	w.enc = json.NewEncoder(w.out)
	w.enc.SetEscapeHTML(false)
	return w
}

// Close closes the connection. It may be called more than once, and concurrently.
func (c *Conn) Close() { c.conn.Close() }

// Within bounds the time that what is read from now on may take; 0: nothing does.
func (c *Conn) Within(d time.Duration) error {
	if d == 0 {
		return c.conn.SetReadDeadline(time.Time{})
	}
	return c.conn.SetReadDeadline(time.Now().Add(d))
}

// Send writes messages. After an error the connection is of no use.
func (c *Conn) Send(ms ...any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range ms {
		if c.out.Buffered() == 0 || c.out.Available() < 4<<10 { // a write may be due
			if err := c.conn.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
				return err
			}
		}
		if err := c.enc.Encode(m); err != nil {
			return err
		}
	}
	return c.out.Flush()
}

var errLong = errors.New("a line is too long")

// Receive reads a message into m, a pointer to a zero value. Errors have no words of the
// line in them, which may be secret.
func (c *Conn) Receive(m any) error {
	line, err := c.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		line, err = c.long(line)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(line, m); err != nil {
		return fmt.Errorf("a line is no message: %w", hidden(err))
	}
	return nil
}

// long reads the rest of a line that is longer than the buffer.
func (c *Conn) long(begun []byte) ([]byte, error) {
	line := append([]byte(nil), begun...)
	for {
		part, err := c.in.ReadSlice('\n')
		if len(line)+len(part) > c.most {
			return nil, errLong
		}
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// hidden is err without words of the line.
func hidden(err error) error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("wrong JSON at byte %d", syntax.Offset)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return errors.New("wrong types in it")
}

// greeting is the first line of either end.
type greeting struct {
	Hello *hello `json:"hello"`
}

type hello struct {
	Protocol int    `json:"protocol"`
	Version  string `json:"version,omitempty"` // of the program
}

// Greet says hello as a program of that version, and reads that of the other end, who is
// called by what it is.
func (c *Conn) Greet(p Protocol, version, other string) error {
	if err := c.Within(greetTime); err != nil {
		return err
	}
	if err := c.Send(greeting{&hello{p.Version, version}}); err != nil {
		return fmt.Errorf("%s said no hello: %w", other, err) // it closed the connection before
	}
	var m greeting
	if err := c.Receive(&m); err != nil {
		return fmt.Errorf("%s said no hello: %w", other, err)
	}
	if m.Hello == nil {
		return fmt.Errorf("%s said something else than hello", other)
	}
	if m.Hello.Protocol != p.Version {
		return fmt.Errorf("%s %s speaks version %d of %s, and this program version %d: run both from one image",
			other, m.Hello.Version, m.Hello.Protocol, p.Name, p.Version)
	}
	return nil
}
