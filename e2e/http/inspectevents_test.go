//go:build linux

package http

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

const eventHosts = `
  - host: api.example.com
    requests: GET /events/**
  - host: api.example.com:8443-8444
    requests: GET /events/**
`

// events starts a gateway in front of a server of server-sent events, by HTTP/2 alone at port 443, by
// HTTP/1.1 alone at 8443, and by both at 8444. It sends an event for each that comes out of more.
func events(t *testing.T, more <-chan struct{}, args ...string) (o *inspected, gone chan struct{}) {
	gone = make(chan struct{}, 10)
	o = newInspected(t, eventHosts, args...)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { gone <- struct{}{} }()
		w.Header().Set("Content-Type", "text/event-stream")
		for i := 0; ; i++ {
			fmt.Fprintf(w, "data: %d %s\n\n", i, r.Proto)
			http.NewResponseController(w).Flush()
			select {
			case <-more:
			case <-r.Context().Done():
				return
			}
		}
	})
	o.mux.Handle("/events/", h)
	for port, protos := range map[string][]string{"8443": {"http/1.1"}, "8444": {"h2", "http/1.1"}} {
		config := o.outside.CA.serverConfig("*.example.com")
		config.NextProtos = protos
		serve(t, o.ServerA.Listen(net.JoinHostPort(nettest.ServerAV4, port)), config, h)
	}
	return o, gone
}

// stream is a curl that shows what comes as it comes.
func (o *inspected) stream(t *testing.T, version, url string) (lines *bufio.Scanner, curl *exec.Cmd) {
	t.Helper()
	nettest.Need(t, "curl")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	curl = exec.CommandContext(ctx, "curl", "--no-buffer", "--silent", version, "--proxy", proxyURL, "--cacert", o.CA, url)
	out, err := curl.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, o.Client.Start(curl))
	return bufio.NewScanner(out), curl
}

// Each event is there before the next is sent, whatever either side speaks.
func TestInspectEvents(t *testing.T) {
	more := make(chan struct{})
	o, gone := events(t, more)
	for _, c := range []struct{ version, url, proto string }{
		{"--http2", "https://api.example.com/events/", "HTTP/2.0"},
		{"--http2", "https://api.example.com:8443/events/", "HTTP/1.1"},
		{"--http2", "https://api.example.com:8444/events/", "HTTP/2.0"},
		{"--http1.1", "https://api.example.com/events/", "HTTP/2.0"},
		{"--http1.1", "https://api.example.com:8443/events/", "HTTP/1.1"},
		{"--http1.1", "https://api.example.com:8444/events/", "HTTP/1.1"}, // though there is a connection of HTTP/2
	} {
		t.Run(c.version+" "+c.url, func(t *testing.T) {
			lines, curl := o.stream(t, c.version, c.url)
			for i := range 20 {
				if i > 0 {
					more <- struct{}{}
				}
				require.True(t, lines.Scan(), "event %d", i)
				require.Equal(t, fmt.Sprintf("data: %d %s", i, c.proto), lines.Text())
				require.True(t, lines.Scan())
				require.Empty(t, lines.Text())
			}
			require.NoError(t, curl.Process.Kill())
			_ = curl.Wait()
			for over := false; !over; { // by HTTP/1.1 it may have ended no more than its half
				select {
				case more <- struct{}{}:
				case <-gone: // a client that goes ends the stream at the server
					over = true
				}
			}
		})
	}
}

// A stream that is silent for --idle-timeout is cut, and the client can tell; one that is not goes
// on for longer than that.
func TestInspectEventsIdle(t *testing.T) {
	const limit = time.Second
	more := make(chan struct{})
	o, gone := events(t, more, "--idle-timeout", limit.String())
	for _, c := range []struct {
		version, url string
		status       int // of curl
	}{
		{"--http2", "https://api.example.com/events/", 92},
		{"--http2", "https://api.example.com:8443/events/", 92},
		{"--http1.1", "https://api.example.com/events/", 18},
		{"--http1.1", "https://api.example.com:8443/events/", 18},
	} {
		t.Run(c.version+" "+c.url, func(t *testing.T) {
			lines, curl := o.stream(t, c.version, c.url)
			require.True(t, lines.Scan())
			every := time.NewTicker(limit / 5)
			defer every.Stop()
			begun := time.Now()
			for time.Since(begun) < 2*limit {
				<-every.C
				more <- struct{}{}
				require.True(t, lines.Scan(), "the stream goes on")
				require.True(t, lines.Scan())
			}
			silent := time.Now()
			for lines.Scan() {
			}
			_ = curl.Wait()
			assert.Equal(t, c.status, curl.ProcessState.ExitCode())
			assert.Greater(t, time.Since(silent), limit/2)
			<-gone
		})
	}
}
