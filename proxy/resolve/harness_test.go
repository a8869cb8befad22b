package resolve

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a resolver with its servers' far end, its clock and its events.
type bench struct {
	*Resolver
	t      testing.TB
	events chan Event

	mu  sync.Mutex
	now time.Time
}

// start makes a resolver that knows nothing of the machine it runs on. Its clock
// stands still until the test moves it.
func start(t testing.TB, s *nettest.DNS, change ...func(*Options)) *bench {
	t.Helper()
	b := &bench{t: t, now: time.Unix(1e9, 0), events: make(chan Event, 4096)}
	o := Options{
		Servers: []netip.AddrPort{s.Addr()}, ResolvConf: os.DevNull, HostsFile: os.DevNull,
		Now: b.clockNow, Observe: func(e Event) { b.events <- e },
	}
	for _, f := range change {
		f(&o)
	}
	r, err := New(o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Close() })
	b.Resolver = r
	return b
}

func (b *bench) clockNow() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *bench) advance(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

// look is a look-up as text: the addresses with blanks between, or the error
// with the servers' ports as PORT.
func (b *bench) look(name string) string {
	b.t.Helper()
	addrs, err := b.Lookup(context.Background(), name)
	if err != nil {
		require.Empty(b.t, addrs)
		var e *Error
		require.ErrorAs(b.t, err, &e)
		text := err.Error()
		if _, port, ok := strings.Cut(e.Server, "]:"); ok || strings.Contains(e.Server, ":") {
			if !ok {
				_, port, _ = strings.Cut(e.Server, ":")
			}
			text = strings.ReplaceAll(text, ":"+port, ":PORT")
		}
		return fmt.Sprintf("%s: %s", e.Kind, text)
	}
	return strings.Trim(fmt.Sprint(addrs), "[]")
}

// await takes events until one of kind comes, and returns it.
func (b *bench) await(kind EventKind) Event {
	b.t.Helper()
	late := time.After(10 * time.Second)
	for {
		select {
		case e := <-b.events:
			if e.Kind == kind {
				return e
			}
		case <-late:
			b.t.Fatalf("no event %v", kind)
		}
	}
}

// kinds empties the queue of events and lists their kinds.
func (b *bench) kinds() []string {
	var all []string
	for {
		select {
		case e := <-b.events:
			all = append(all, e.Kind.String())
		default:
			return all
		}
	}
}

// write makes a file of the test's own.
func write(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// closedPort is an address at which nothing listens.
func closedPort(t testing.TB) netip.AddrPort {
	t.Helper()
	s := nettest.NewDNS(t)
	s.Close()
	return s.Addr()
}

func kindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ServerFailure
}
