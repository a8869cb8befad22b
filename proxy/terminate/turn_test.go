package terminate

import (
	"crypto/tls"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// A handshake waits for its turn when the hello has been read, and gives it back before it sends
// anything.
func TestTurn(t *testing.T) {
	f := start(t, func(c *sock.Conn) { io.Copy(io.Discard, c.Blocking()); c.Close() }, nil)
	f.turns = make(chan struct{}) // each step of it is the test's, too
	c, done := f.client(t), make(chan error, 1)
	go func() { done <- c.Handshake() }()
	select {
	case <-f.turns:
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	}
	assert.Empty(t, done, "it is at work")
	select {
	case f.turns <- struct{}{}:
	case err := <-done:
		t.Fatalf("it did not give it back: %v", err)
	}
	require.NoError(t, <-done)
}

// Who does not go on after the hello keeps nobody from his turn.
func TestNobodyHoldsTheTurn(t *testing.T) {
	f := start(t, func(c *sock.Conn) { io.Copy(io.Discard, c.Blocking()); c.Close() }, nil)
	for range cap(f.turns) + 1 {
		c := f.client(t)
		begun := f.client(t).NetConn()
		require.NoError(t, c.Handshake())
		_, err := begun.Write(nettest.ClientHello(t, &tls.Config{ServerName: "127.0.0.1"}))
		require.NoError(t, err)
		_, err = begun.Read(make([]byte, 1)) // the server's part, to which nobody says anything
		require.NoError(t, err)
	}
	require.NoError(t, f.client(t).Handshake())
	nettest.Eventually(t, "all are given back", func() bool { return len(f.turns) == 0 })
}

// A client that is asked for another key share waits for its turn again, with the second hello: what
// costs something comes behind that.
func TestTurnOfSecondHello(t *testing.T) {
	f := start(t, func(c *sock.Conn) { io.Copy(io.Discard, c.Blocking()); c.Close() }, nil)
	k := NewKeys(f.ca.Issue("127.0.0.1"), nil)
	k.config.CurvePreferences = []tls.CurveID{tls.CurveP384}
	f.SetKeys(k)
	f.turns = make(chan struct{}) // each step of it is the test's, too
	c, done := f.client(t), make(chan error, 1)
	c = tls.Client(c.NetConn(), &tls.Config{RootCAs: f.ca.Pool, ServerName: "127.0.0.1", CurvePreferences: []tls.CurveID{tls.CurveP256, tls.CurveP384}})
	go func() { done <- c.Handshake() }()
	steps := 0
	for over := false; !over; {
		select {
		case <-f.turns: // it has its turn from here
			steps++
			f.turns <- struct{}{}
		case err := <-done:
			require.NoError(t, err)
			over = true
		}
	}
	assert.True(t, c.ConnectionState().HelloRetryRequest)
	assert.Greater(t, steps, 1, "each hello has its turn, whatever it comes in")
}
