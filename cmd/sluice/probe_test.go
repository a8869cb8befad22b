package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestProbe asks something that answers as a gateway does.
func TestProbe(t *testing.T) {
	gateway := serve(t, func(c net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		status := map[string]string{"yes.test:443": "200 Connection established", "no.test:443": "403 Egress denied: line 1 !no.test"}[r.Host]
		fmt.Fprintf(c, "HTTP/1.1 %s\r\n\r\n", status)
	})
	stays := serve(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) })
	ends := serve(t, func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	nobody := l.Addr().String()
	require.NoError(t, l.Close())

	for _, tt := range []struct {
		status int
		out    string // %s are the places
		err    string
		args   []string
	}{
		{0, "ok\tallowed\tyes.test:443\nok\tdenied\tno.test:443\n", "", []string{"--proxy", gateway, "--allowed", "yes.test:443", "--denied", "no.test:443"}},
		{0, "ok\topen\t" + stays + "\n", "", []string{"--open", stays}},
		{1, "FAILED\tallowed\tno.test:443\tthe answer is \"HTTP/1.1 403 Egress denied: line 1 !no.test\", and 200 was expected\n" +
			"FAILED\tdenied\tyes.test:443\tthe answer is \"HTTP/1.1 200 Connection established\", and 403 was expected\n",
			"sluice probe: 2 of 2 are not as they should be\n", []string{"--proxy", gateway, "--allowed", "no.test:443", "--denied", "yes.test:443"}},
		{1, "FAILED\tdenied\tno.test:443\tthe proxy does not answer: dial tcp " + nobody + ": connect: connection refused\n",
			"sluice probe: 1 of 1 are not as they should be\n", []string{"--proxy", nobody, "--denied", "no.test:443"}},
		{1, "FAILED\topen\t" + nobody + "\tdial tcp " + nobody + ": connect: connection refused\n",
			"sluice probe: 1 of 1 are not as they should be\n", []string{"--open", nobody}},
		{2, "", "nothing to ask: give --allowed, --denied or --open\n", nil},
		{2, "", "--proxy is missing: the HOST:PORT of the gateway that is asked for targets\n--denied: \"no.test\" is no HOST:PORT\n", []string{"--denied", "no.test"}},
		{2, "", "--proxy is asked nothing: give --allowed or --denied\n--open: \":1\" is no HOST:PORT\n", []string{"--proxy", gateway, "--open", ":1"}},
		{2, "", "--allowed: \"yes.test:443 HTTP/1.1\\r\\nX: \" is no HOST:PORT\n", []string{"--proxy", gateway, "--allowed", "yes.test:443 HTTP/1.1\r\nX: "}},
	} {
		status, out, err := sluice(t, nil, "", append([]string{"probe"}, tt.args...)...)
		assert.Equal(t, tt.status, status, tt.args)
		assert.Equal(t, tt.out, out, tt.args)
		assert.Equal(t, tt.err, err, tt.args)
	}
	status, out, _ := sluice(t, nil, "", "probe", "--open", ends)
	assert.Equal(t, 1, status)
	assert.Regexp(t, "^FAILED\topen\t"+ends+"\t.*reset by peer\n$", out)
}

// serve accepts connections and has f handle each, then ends it. It returns where.
func serve(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c)
			}()
		}
	}()
	return l.Addr().String()
}
