package proxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// The client has the last answer whole, whatever it has sent that nobody read, and however
// late it reads.
func TestLastAnswerArrives(t *testing.T) {
	web := origin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/early" {
			w.WriteHeader(413)
			io.WriteString(w, "too much")
			return
		}
		io.WriteString(w, strings.Repeat("x", 200_000))
	})
	at := web.Listener.Addr().String()
	junk := strings.Repeat("y", 100_000)
	for name, tt := range map[string]struct {
		request string
		status  int
		size    int
	}{
		"GET on a loop":          {"GET http://" + at + "/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200, 200_000},
		"GET on a goroutine":     {"OPTIONS http://" + at + "/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200, 200_000},
		"HTTP/1.0":               {"GET http://" + at + "/ HTTP/1.0\r\n\r\n", 200, 200_000},
		"early answer":           {"POST http://" + at + "/early HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n", 413, 8},
		"denied":                 {"GET http://192.0.2.1/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 403, -1},
		"denied, body not taken": {"POST http://192.0.2.1/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n", 403, -1},
		"denied CONNECT":         {"CONNECT 192.0.2.1:443 HTTP/1.1\r\nConnection: close\r\n\r\n", 403, -1},
		"bad request":            {"GET\x01 / HTTP/1.1\r\n\r\n", 400, -1},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, allowLoopback, nil, nil)
			for i := range 10 {
				c := g.dial(t)
				c.send(t, "%s", tt.request)
				fmt.Fprint(c, junk)
				g.lines(t, i+1)
				nettest.Eventually(t, "the other end has all", func() bool { return hasAll(t, c) })
				res, err := http.ReadResponse(c.r, &http.Request{Method: "GET"})
				require.NoError(t, err)
				b, err := io.ReadAll(res.Body)
				require.NoError(t, err)
				assert.Equal(t, tt.status, res.StatusCode)
				if tt.size >= 0 {
					assert.Len(t, b, tt.size)
				}
				_, err = c.r.ReadByte()
				assert.Equal(t, io.EOF, err)
				c.Close()
			}
			nettest.Eventually(t, "no client is left", func() bool { return testutil.ToFloat64(g.Metrics.Clients) == 0 })
		})
	}
}

// A client that neither closes nor takes the answer is closed all the same.
func TestLingerEnds(t *testing.T) {
	g := start(t, "", nil, nil)
	c := g.dial(t)
	c.send(t, "GET\x01 / HTTP/1.1\r\n\r\n")
	res, _ := c.response(t, "GET")
	require.Equal(t, 400, res.StatusCode)
	begin := time.Now()
	nettest.Eventually(t, "descriptors are given back", func() bool { return g.Budget.Left() == 1000 })
	assert.Greater(t, time.Since(begin), lingerTime/2, "it had its time")
}
