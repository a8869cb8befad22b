//go:build linux

package http

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// limited is a tenant of the client pod with limits, whose tunnels to a host are opened.
func limited(limits string) string {
	return "\n  - {host: other.example.com, requests: '*'}\ntenants:\n- name: shop\n  clients: 10.128.0.0/24\n  rules: '*.example.com'\n  limits: " + limits +
		"\n  inspect: {hosts: [{host: api.example.com, requests: '*'}]}\n"
}

// An opened tunnel has one of its tenant's places, and what is inside has that.
func TestInspectConnections(t *testing.T) {
	o := newInspected(t, limited("{connections: 1}"))
	s, r := o.inside(t, "api.example.com:443", "api.example.com")
	for range 3 {
		fmt.Fprint(s, "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n")
		status, body := answer(t, r)
		require.Equal(t, 200, status, body)
	}
	c := dialClient(t, o.outside)
	fmt.Fprint(c, "CONNECT api.example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n")
	assert.Contains(t, readHead(t, c), "HTTP/1.1 429 ")
	require.NoError(t, s.Close())
	nettest.Eventually(t, "there is a place again", func() bool {
		c := dialClient(t, o.outside)
		fmt.Fprint(c, "CONNECT api.example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n")
		return readHead(t, c)[:13] == "HTTP/1.1 200 "
	})
}

// A tunnel that is opened counts once for the rate of its tenant, whether its name is known or not.
func TestInspectRate(t *testing.T) {
	o := newInspected(t, limited("{requestsPerSecond: 0.001, burst: 4}"))
	for range 2 {
		s, r := o.inside(t, "api.example.com:443", "api.example.com")
		fmt.Fprint(s, "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n")
		status, body := answer(t, r)
		require.Equal(t, 200, status, body)
	}
	c := dialClient(t, o.outside)
	fmt.Fprint(c, "CONNECT api.example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n")
	assert.Contains(t, readHead(t, c), "HTTP/1.1 429 ")
}

// A client with as many connections as it may have can use each of them for an opened tunnel.
func TestInspectConnsPerClient(t *testing.T) {
	o := newInspected(t, "\n  - {host: api.example.com, requests: '*'}\n", "--max-conns-per-client", "2")
	for range 2 {
		s, r := o.inside(t, "api.example.com:443", "api.example.com")
		fmt.Fprint(s, "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n")
		status, body := answer(t, r)
		require.Equal(t, 200, status, body)
	}
	third := dialClient(t, o.outside)
	fmt.Fprint(third, "CONNECT api.example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n")
	assert.Contains(t, readHead(t, third), "HTTP/1.1 429 ")
}

// A tunnel that was made before its host was inspected ends when it is.
func TestInspectFromNowOn(t *testing.T) {
	o := newInspected(t, "\n  - {host: other.example.com, requests: '*'}\n")
	c := dialClient(t, o.outside)
	fmt.Fprint(c, "CONNECT api.example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n")
	require.Contains(t, readHead(t, c), "HTTP/1.1 200 ")
	config, err := os.ReadFile(o.g.File)
	require.NoError(t, err)
	o.write(t, o.g.File, string(config)+"  - {host: api.example.com, requests: '*'}\n")
	o.g.Signal(syscall.SIGHUP)
	_, err = c.Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.EOF)
}

// What a client has shown when it asked for the tunnel holds for what is inside, as long as it
// stands; then it is told so.
func TestInspectLoginEnds(t *testing.T) {
	users := htpasswd(t, t.TempDir()+"/users", "agent", sandboxPassword)
	o := newInspected(t, "\n  - {host: api.example.com, requests: '*'}\n", "--authenticate", "required", "--users-file", users)
	s, r := o.insideAs(t, "api.example.com:443", "api.example.com", "Proxy-Authorization: Basic "+basic("agent", sandboxPassword)+"\r\n")
	ask := func() (int, string) {
		fmt.Fprint(s, "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n")
		return answer(t, r)
	}
	for range 3 {
		status, body := ask()
		require.Equal(t, 200, status, body)
	}
	htpasswd(t, users, "somebody-else", sandboxPassword)
	o.g.Signal(syscall.SIGHUP)
	status, body := 0, ""
	nettest.Eventually(t, "the user is none any more", func() bool {
		status, body = ask()
		return status != 200
	})
	assert.Equal(t, 403, status)
	assert.Contains(t, body, "the user is none any more; make the tunnel anew")
	assert.Equal(t, "0", o.g.Metric("sluice_panics_total"))
}
