package poll

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is two ends of a connection; far can be written to at will.
func pair(t testing.TB) (near, far int) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() {
		unix.Close(fds[0])
		unix.Close(fds[1])
	})
	return fds[0], fds[1]
}

func loops(t testing.TB) *Loops {
	ls := new(Loops)
	t.Cleanup(ls.Close)
	return ls
}

func next(t testing.TB, ls *Loops) *Loop {
	l, err := ls.Next()
	require.NoError(t, err)
	return l
}

type event struct {
	who    string
	fd     int
	events uint32
}

// listener tells a channel of events.
type listener struct {
	name string
	told chan event
}

func (h listener) Ready(_ *Loop, fd int, events uint32) { h.told <- event{h.name, fd, events} }

func (h listener) next(t testing.TB) event {
	t.Helper()
	select {
	case e := <-h.told:
		return e
	case <-time.After(10 * time.Second):
		t.Fatal("no event")
		return event{}
	}
}

func send(t testing.TB, fd int) {
	_, err := unix.Write(fd, []byte("x"))
	require.NoError(t, err)
}

// What holds already is told, each new byte is, and after SetHandler somebody else is told.
func TestTellsWhoIsSet(t *testing.T) {
	l := next(t, loops(t))
	near, far := pair(t)
	a := listener{"a", make(chan event, 10)}
	b := listener{"b", a.told}
	send(t, far)
	require.NoError(t, l.Register(near, a, Readable))
	e := a.next(t)
	assert.Equal(t, event{"a", near, unix.EPOLLIN}, e)
	send(t, far)
	assert.Equal(t, e, a.next(t), "though nothing was read")
	l.SetHandler(near, b)
	send(t, far)
	assert.Equal(t, event{"b", near, unix.EPOLLIN}, a.next(t))
	require.NoError(t, l.Adopt(near, a))
	assert.Equal(t, e, a.next(t), "told again")

	l.Deregister(near, a)
	send(t, far)
	other, otherFar := pair(t)
	require.NoError(t, l.Register(other, b, Readable))
	send(t, otherFar)
	assert.Equal(t, other, a.next(t).fd, "and nothing of the one that was removed")
	unix.Shutdown(otherFar, unix.SHUT_WR)
	assert.Equal(t, event{"b", other, unix.EPOLLIN | unix.EPOLLRDHUP}, a.next(t))
}

// A number that was closed and is another's now is not taken from that one.
func TestDeregisterLeavesOthers(t *testing.T) {
	for name, end := range map[string]func(*Loop, int, Handler){"Deregister": (*Loop).Deregister, "DropHandler": (*Loop).DropHandler} {
		t.Run(name, func(t *testing.T) {
			l := next(t, loops(t))
			near, _ := pair(t)
			before := listener{"before", make(chan event, 10)}
			now := listener{"now", before.told}
			require.NoError(t, l.Register(near, before, Readable))
			other, otherFar := pair(t)
			require.NoError(t, unix.Dup2(other, near)) // near is closed, and is another
			require.NoError(t, l.Register(near, now, Readable))
			end(l, near, before)
			send(t, otherFar)
			assert.Equal(t, event{"now", near, unix.EPOLLIN}, before.next(t))
			end(l, near, now)
			end(l, near, now)
			end(l, 1<<20, now)
		})
	}
}

// That there is room to write is told only to whose interest it is; that there are bytes, too.
func TestInterest(t *testing.T) {
	l := next(t, loops(t))
	near, far := pair(t)
	h := listener{"", make(chan event, 10)}
	require.NoError(t, l.Register(near, h, Readable))
	for err := error(nil); err == nil; {
		_, err = unix.Write(near, make([]byte, 64<<10))
	}
	require.NoError(t, l.Rearm(near, Readable|Writable))
	for n := 1; n > 0; {
		n, _ = unix.Read(far, make([]byte, 1<<20))
	}
	assert.EqualValues(t, unix.EPOLLOUT, h.next(t).events)
	muted, mutedFar := pair(t)
	m := listener{"", make(chan event, 10)}
	require.NoError(t, l.Register(muted, m, Readable))
	require.NoError(t, l.Rearm(muted, 0))
	send(t, mutedFar)
	unix.Shutdown(mutedFar, unix.SHUT_WR)
	assert.Equal(t, event{"", muted, unix.EPOLLRDHUP}, m.next(t), "no bytes, but the end")
	require.NoError(t, l.Rearm(muted, Readable))
	assert.Equal(t, event{"", muted, unix.EPOLLIN | unix.EPOLLRDHUP}, m.next(t), "what holds already is told again")
	connecting, _ := pair(t)
	other := listener{"", make(chan event, 10)} // h may be told more than once
	require.NoError(t, l.Register(connecting, other, Readable|Writable))
	assert.Equal(t, event{"", connecting, unix.EPOLLOUT}, other.next(t))
}

func TestRegisterFails(t *testing.T) {
	l := next(t, loops(t))
	near, _ := pair(t)
	unix.Close(near)
	assert.EqualError(t, l.Register(near, listener{}, Readable), "epoll_ctl: bad file descriptor")
}

// script does what it is told, in a handler and in tasks.
type script struct {
	ready func(l *Loop, fd int)
	do    func(l *Loop)
}

func (s *script) Ready(l *Loop, fd int, _ uint32) { s.ready(l, fd) }
func (s *script) Do(l *Loop)                      { s.do(l) }

// What is put off is done once, after all events at hand, and what that puts off after
// the next look at them.
func TestLater(t *testing.T) {
	ls := loops(t)
	l := next(t, ls)
	const n = 5
	var mu sync.Mutex
	var order []string
	note := func(s string) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, s)
	}
	done := make(chan struct{})
	started, release := make(chan struct{}), make(chan struct{})
	gate, gateFar := pair(t)
	require.NoError(t, l.Register(gate, &script{ready: func(*Loop, int) {
		close(started)
		<-release // so that the others come in one round
	}}, Readable))
	send(t, gateFar)
	<-started
	s := &script{}
	second := &script{do: func(*Loop) {
		note("second")
		close(done)
	}}
	first := true
	s.ready = func(l *Loop, _ int) {
		note("ready")
		l.Later(s)
	}
	s.do = func(l *Loop) {
		note("do")
		if first {
			first = false
			l.Later(second)
		}
	}
	for range n {
		near, far := pair(t)
		require.NoError(t, l.Register(near, s, Readable))
		send(t, far)
	}
	close(release)
	<-done
	mu.Lock()
	defer mu.Unlock()
	assert.Equal(t, []string{"ready", "ready", "ready", "ready", "ready", "do", "do", "do", "do", "do", "second"}, order)
}

// What is kept of the buffer stays as it is until the tasks at hand are done; there is
// always half of it for who keeps nothing.
func TestKeep(t *testing.T) {
	l := next(t, loops(t))
	near, far := pair(t)
	did, done := make(chan struct{}), make(chan struct{})
	s := &script{}
	s.ready = func(l *Loop, _ int) {
		b := l.Buf()
		assert.Len(t, b, bufferSize)
		b[0] = 'a'
		assert.True(t, l.Keep(10))
		assert.Len(t, l.Buf(), bufferSize-10)
		l.Buf()[0] = 'b'
		assert.EqualValues(t, 'a', b[0])
		assert.False(t, l.Keep(bufferSize/2-9))
		assert.True(t, l.Keep(bufferSize/2-10))
		assert.Len(t, l.Buf(), bufferSize/2)
		l.Later(s)
	}
	s.do = func(l *Loop) {
		assert.False(t, l.Keep(1), "a task has no round to wait for")
		s.ready = func(l *Loop, _ int) {
			assert.Len(t, l.Buf(), bufferSize)
			close(done)
		}
		close(did)
	}
	require.NoError(t, l.Register(near, s, Readable))
	send(t, far)
	<-did
	send(t, far)
	<-done
}

func TestClose(t *testing.T) {
	var ls Loops
	l := next(t, &ls)
	near, _ := pair(t)
	require.NoError(t, l.Register(near, listener{}, Readable))
	ls.Close()
	_, err := ls.Next()
	assert.Equal(t, net.ErrClosed, err)
	ls.Close()
}

// abandoned is a script that is told when it was abandoned.
type abandoned struct {
	*script
	told chan struct{}
}

func (a abandoned) Look() uint64 { return 7 }

func (a abandoned) Abandon(of uint64) {
	if of != 7 {
		return
	}
	close(a.told)
	panic("and once more")
}

// A panic of a handler or task ends what that serves, is reported with its stack, and holds
// up nobody else in the loop.
func TestPanicIsContained(t *testing.T) {
	var ls Loops
	reports := make(chan string, 10)
	ls.Report = func(cause any, stack []byte) {
		reports <- fmt.Sprint(cause, " ", strings.Contains(string(stack), "poll_test.go"))
	}
	l := next(t, &ls)
	t.Cleanup(ls.Close)
	for _, when := range []string{"ready", "do"} {
		near, far := pair(t)
		a := abandoned{new(script), make(chan struct{})}
		a.do = func(*Loop) { panic(when) }
		a.ready = func(l *Loop, _ int) {
			if when == "do" {
				l.Later(a)
				return
			}
			panic(when)
		}
		require.NoError(t, l.Register(near, a, Readable))
		send(t, far)
		<-a.told
		assert.Equal(t, when+" true", <-reports)
		assert.Equal(t, "and once more true", <-reports)
	}
	near, far := pair(t)
	ready := make(chan struct{})
	require.NoError(t, l.Register(near, &script{ready: func(*Loop, int) { close(ready) }}, Readable))
	send(t, far)
	<-ready
}
