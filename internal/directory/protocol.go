package directory

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Protocol is the version of what is said on the socket. Both ends say theirs first, and
// part when they differ.
//
// Each message is one line of JSON. The server sends hello; then, once it knows all pods,
// begin, a set for each address, and end; from then on a set for each change, and a beat
// every few seconds. Verdicts come in between. The reader sends hello, and reviews.
const Protocol = 1

// Bounds of a line, in bytes.
const (
	maxAnswer   = 256 << 10 // a pod with its labels, escaped
	maxQuestion = 48 << 10  // a token of up to MaxToken
)

// MaxToken is the length of the longest token that is asked about, in bytes.
const MaxToken = 32 << 10

// Times of the protocol. The reader takes a server that is silent for quiet as gone.
const (
	beatTime  = 2 * time.Second
	quietTime = 10 * time.Second
	writeTime = 10 * time.Second
)

// message is a line of either end; one of its fields is set.
type message struct {
	Hello   *hello    `json:"hello,omitempty"`
	Begin   *struct{} `json:"begin,omitempty"`
	Set     *setting  `json:"set,omitempty"`
	End     *beat     `json:"end,omitempty"`
	Beat    *beat     `json:"beat,omitempty"`
	Review  *question `json:"review,omitempty"`
	Verdict *verdict  `json:"verdict,omitempty"`
}

type hello struct {
	Protocol int    `json:"protocol"`
	Version  string `json:"version,omitempty"` // of the program
}

// setting says who has an address; without a namespace nobody, as far as is known.
type setting struct {
	Addr      netip.Addr `json:"addr"`
	Namespace string     `json:"ns,omitempty"`
	Account   string     `json:"sa,omitempty"`
	Name      string     `json:"pod,omitempty"`
	UID       string     `json:"uid,omitempty"`
	Labels    Labels     `json:"labels,omitempty"`
}

// beat says how long ago the server last knew that it knows all. Without, it never did.
type beat struct {
	Age *int64 `json:"age,omitempty"` // in milliseconds
}

type question struct {
	ID    uint64 `json:"id"`
	Token string `json:"token"`
}

// What a verdict says.
const (
	stateValid   = "valid"
	stateRefused = "refused"
	stateUnknown = "unknown" // it cannot be verified now
)

type verdict struct {
	ID        uint64 `json:"id"`
	State     string `json:"state"`
	Why       string `json:"why,omitempty"`
	Namespace string `json:"ns,omitempty"`
	Account   string `json:"sa,omitempty"`
	Pod       string `json:"pod,omitempty"`
	PodUID    string `json:"uid,omitempty"`
	Expires   int64  `json:"exp,omitempty"` // seconds since 1970
}

func settingOf(c change) *setting {
	if c.pod == nil {
		return &setting{Addr: c.addr}
	}
	return &setting{c.addr, c.pod.Namespace, c.pod.ServiceAccount, c.pod.Name, c.pod.UID, c.pod.Labels}
}

// pod is whom s names, or nil.
func (s *setting) pod() *Pod {
	if s.Namespace == "" {
		return nil
	}
	p := Pod{s.Namespace, s.Account, s.Name, s.UID, s.Labels}.Interned()
	return &p
}

// wire is one end of a connection. One goroutine reads; any may write.
type wire struct {
	conn net.Conn
	in   *bufio.Reader
	most int // bytes of a line

	mu  sync.Mutex // guards what is below, and writes
	out *bufio.Writer
	enc *json.Encoder
}

func newWire(c net.Conn, most int) *wire {
	w := &wire{conn: c, in: bufio.NewReaderSize(c, 16<<10), most: most, out: bufio.NewWriterSize(c, 16<<10)}
	w.enc = json.NewEncoder(w.out)
	w.enc.SetEscapeHTML(false)
	return w
}

// send writes messages. After an error the connection is of no use.
func (w *wire) send(ms ...message) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range ms {
		if err := w.put(m); err != nil {
			return err
		}
	}
	return w.out.Flush()
}

// put is for who holds the lock, and flushes.
func (w *wire) put(m message) error {
	if w.out.Buffered() == 0 || w.out.Available() < 4<<10 { // a write may be due
		if err := w.conn.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
			return err
		}
	}
	return w.enc.Encode(m)
}

var errLong = errors.New("a line is too long")

// receive reads a message.
func (w *wire) receive(m *message) error {
	line, err := w.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		line, err = w.long(line)
	}
	if err != nil {
		return err
	}
	*m = message{}
	if err := json.Unmarshal(line, m); err != nil {
		return fmt.Errorf("a line is no message: %w", hidden(err))
	}
	return nil
}

// long reads the rest of a line that is longer than the buffer.
func (w *wire) long(begun []byte) ([]byte, error) {
	line := append([]byte(nil), begun...)
	for {
		part, err := w.in.ReadSlice('\n')
		if len(line)+len(part) > w.most {
			return nil, errLong
		}
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// hidden is err without words of the line, which may have a token in it.
func hidden(err error) error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("wrong JSON at byte %d", syntax.Offset)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return errors.New("wrong types in it")
}

// greet says hello, and reads that of the other end, who is called by what it is.
func (w *wire) greet(version, other string) (hello, error) {
	if err := w.conn.SetReadDeadline(time.Now().Add(quietTime)); err != nil {
		return hello{}, err
	}
	if err := w.send(message{Hello: &hello{Protocol, version}}); err != nil {
		return hello{}, err
	}
	var m message
	if err := w.receive(&m); err != nil {
		return hello{}, fmt.Errorf("%s said no hello: %w", other, err)
	}
	if m.Hello == nil {
		return hello{}, fmt.Errorf("%s said something else than hello", other)
	}
	if m.Hello.Protocol != Protocol {
		return *m.Hello, fmt.Errorf("%s %s speaks version %d of the directory's protocol, and this program version %d: run both from one image",
			other, m.Hello.Version, m.Hello.Protocol, Protocol)
	}
	return *m.Hello, nil
}
