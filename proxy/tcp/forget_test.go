package tcp

import (
	"strings"
	"testing"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// Nothing is left in a session of the client that it has had. Beside its life it has what
// begins anew by itself (socket, tunnel), what counts lives, when bytes moved last, and its place
// at the door.
func TestReuseForgets(t *testing.T) {
	s := New(Options{})
	defer s.Shutdown(t.Context())
	x := new(session)
	nettest.Dirty(t, &x.sessionLife)
	x.upstream.Store(new(sock.Conn))
	x.srv, x.client = s, &x.socket
	x.forget()
	for _, name := range nettest.Left(x, s.free.New()) {
		if !strings.HasPrefix(name, "socket.") && // begins anew by Init
			name != "client" { // its own
			t.Errorf("%s is left", name)
		}
	}
}
