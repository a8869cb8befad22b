//go:build linux

package load

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/internal/bench/raw"
)

// phase is what a connection waits for.
type phase uint8

const (
	closed   phase = iota
	idle           // for work
	greeting       // the answer to Job.Greeting
	tunnel         // the answer to one of Job.Heads
	answer         // the head of an answer
	body
	echo // of a message, or of the message that ends Up
	down
	up
	held
)

// conn is one connection.
type conn struct {
	fd     int
	number int
	phase  phase
	out    []byte // still to be written
	part   []byte // the beginning of a head
	left   int64  // of a body or of bulk
	req    *Request
	start  int64 // of its piece of work
	served int   // answers
	last   bool  // the proxy closes after this answer
}

const (
	bufferSize  = 1 << 20
	holdAtATime = 32 // connections that Hold opens: no more than a listener's queue takes
)

// engine runs one job.
type engine struct {
	job      Job
	heads    [][]byte // of job.Requests
	tunnels  [][]byte // job.Heads
	to       *unix.RawSockaddrInet4
	poll     *raw.Poll
	conns    []conn
	free     []int // numbers of connections without work, closed or idle
	in, bulk []byte
	message  []byte

	counting bool
	target   int   // pieces of work in this phase; -1: without end
	begun    int   // of them
	ended    int   // of them
	t0       int64 // of this phase
	until    int64 // no end before
	hist     histogram
	res      Result
	base     time.Time
}

// Run does a job. When it has warmed up it calls ready, and goes on when that returns.
func Run(job Job, ready func() error) (Result, error) {
	to, err := raw.Sockaddr(job.Addr)
	if err != nil {
		return Result{}, err
	}
	if job.Conns < 1 {
		return Result{}, errors.New("a job without connections")
	}
	poll, err := raw.NewPoll()
	if err != nil {
		return Result{}, err
	}
	defer poll.Close()
	e := &engine{
		job: job, to: to, poll: poll, conns: make([]conn, job.Conns),
		in: make([]byte, bufferSize), bulk: make([]byte, bufferSize), base: time.Now(),
	}
	e.res.Errors = map[string]int{}
	for _, r := range job.Requests {
		e.heads = append(e.heads, []byte(r.Head))
	}
	for i := range e.conns {
		e.conns[i] = conn{fd: -1, number: i, part: make([]byte, 0, 4096)}
		e.free = append(e.free, i)
	}
	e.tunnels = job.Heads
	if e.message = []byte(Command(job.Kind, job.Bytes)); len(job.First) > 0 {
		e.message = job.First
	}
	defer e.closeAll()

	e.phase(job.Warm, 0)
	if err := ready(); err != nil {
		return Result{}, err
	}
	e.counting = true
	e.phase(job.Count, job.Duration)
	e.res.Elapsed = time.Duration(e.now() - e.t0)
	e.res.Done = e.hist.n
	e.res.P50, e.res.P99, e.res.Max = e.hist.quantile(.5), e.hist.quantile(.99), time.Duration(e.hist.max)
	if job.Kind == Hold && len(e.res.Errors) == 0 {
		return e.res, e.hold(ready)
	}
	return e.res, nil
}

// Command is the message that tells the origin's raw port what to do.
func Command(k Kind, n int64) string {
	c := byte('E')
	switch k {
	case Down:
		c = 'D'
	case Up:
		c = 'U'
	}
	return fmt.Sprintf("%c%015d", c, n)
}

// hold keeps the connections until ready returns; then all must still be open.
func (e *engine) hold(ready func() error) error {
	if err := ready(); err != nil {
		return err
	}
	for {
		events := e.poll.Wait(0)
		if len(events) == 0 {
			return nil
		}
		for _, ev := range events {
			e.advance(&e.conns[ev.Fd])
		}
	}
}

func (e *engine) now() int64 { return int64(time.Since(e.base)) }

// phase does target pieces of work, and more until d is over.
func (e *engine) phase(target int, d time.Duration) {
	e.target, e.begun, e.ended = target, 0, 0
	e.t0 = e.now()
	e.until = e.t0 + int64(d)
	limit := e.t0 + int64(e.job.Limit)
	for {
		wait := e.begin()
		if e.over() {
			return
		}
		for _, ev := range e.poll.Wait(min(wait, 100*time.Millisecond)) {
			e.advance(&e.conns[ev.Fd])
		}
		if e.now() > limit {
			e.res.Errors[fmt.Sprintf("not done after %v: %d of %d", e.job.Limit, e.ended, e.target)]++
			return
		}
		if n := e.errors(); n > 100 || n > 0 && e.job.Kind == Hold {
			return
		}
	}
}

// over reports whether the phase is.
func (e *engine) over() bool {
	return e.ended >= e.target && e.begun == e.ended && e.now() >= e.until
}

func (e *engine) errors() (n int) {
	if len(e.res.Errors) == 0 {
		return 0
	}
	for _, c := range e.res.Errors {
		n += c
	}
	return n
}

// begin begins all work that is due, and returns how long there is none.
func (e *engine) begin() time.Duration {
	const noneSoon = time.Hour
	for len(e.free) > 0 {
		now := e.now()
		if e.begun >= e.target && now >= e.until || e.job.Kind == Hold && e.begun-e.ended >= holdAtATime {
			return noneSoon
		}
		due := now
		if e.job.Rate > 0 {
			if due = e.t0 + int64(float64(e.begun)*1e9/e.job.Rate); due > now {
				return time.Duration(due - now)
			}
		}
		c := &e.conns[e.free[len(e.free)-1]]
		e.free = e.free[:len(e.free)-1]
		c.start = due
		if len(e.job.Requests) > 0 {
			i := e.begun % len(e.job.Requests)
			c.req, c.out = &e.job.Requests[i], e.heads[i]
		}
		e.begun++
		e.piece(c)
	}
	return noneSoon
}

// piece begins a piece of work.
func (e *engine) piece(c *conn) {
	if c.phase == idle {
		c.phase = answer
		e.advance(c)
		return
	}
	fd, errno := raw.Dial(e.to)
	if errno != 0 {
		e.fail(c, "connect: "+errno.Error())
		return
	}
	c.fd, c.served, c.last, c.part = fd, 0, false, c.part[:0]
	if errno := e.poll.Add(fd, c.number); errno != 0 {
		e.fail(c, "epoll: "+errno.Error())
		return
	}
	switch {
	case e.job.Kind == Up || e.job.Kind == Down:
		raw.NoDelay(fd)
		fallthrough
	case e.job.Kind == Hold || e.job.Kind == Exchange:
		if len(e.tunnels) == 0 {
			e.say(c)
			break
		}
		if c.out, c.phase = e.job.Greeting, greeting; len(c.out) == 0 {
			e.ask(c)
		}
	default:
		c.phase = answer
	}
	e.advance(c)
}

// ask sends one of Job.Heads.
func (e *engine) ask(c *conn) { c.out, c.phase = e.tunnels[e.begun%len(e.tunnels)], tunnel }

// say sends the command in a connection that reaches the origin.
func (e *engine) say(c *conn) {
	c.out = e.message
	switch e.job.Kind {
	case Down:
		c.phase, c.left = down, e.job.Bytes
	case Up:
		c.phase, c.left = up, e.job.Bytes
	default:
		c.phase, c.left = echo, MessageSize
	}
}
