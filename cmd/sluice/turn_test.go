package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/internal/peer"
	"github.com/sluiceproxy/sluice/internal/serving"
	"github.com/sluiceproxy/sluice/internal/settings"
)

// holder is the end of sluice-kube hold.
func holder(t *testing.T) (s *serving.Server, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	l, err := peer.Listen(path)
	require.NoError(t, err)
	s = &serving.Server{Log: slog.New(slog.DiscardHandler), Changed: func(bool) {}, Leaving: func() {}, Drained: func() {}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() { cancel(); assert.NoError(t, <-done) })
	return s, path
}

func told(addrs ...string) serving.Told {
	h := &serving.Held{Group: "g"}
	for _, a := range addrs {
		h.Addrs = append(h.Addrs, netip.MustParseAddr(a))
	}
	return serving.Told{Held: h}
}

// inProcess runs a command until the test ends.
func inProcess[C configuration](t *testing.T, m modeCommand[C], environ []string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var said bytes.Buffer
	cmd := newModeCommand(m, environ, streams{in: strings.NewReader(""), out: io.Discard, err: &said})
	cmd.SetArgs(args)
	done := make(chan error)
	go func() { done <- cmd.ExecuteContext(ctx) }()
	t.Cleanup(func() { cancel(); assert.NoError(t, <-done, said.String()) })
}

// page is what an admin port answers.
func page(t *testing.T, url string) (status int, text string) {
	t.Helper()
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}).Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(b)
}

// Whose turn it is comes in force at once, while new rules are being made; and when they are, they
// come in force with whose turn it is by then. All can see it.
func TestTurnWaitsForNoReload(t *testing.T) {
	s, socket := holder(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		io.WriteString(w, host)
	}))
	t.Cleanup(server.Close)
	rules, listen, admin := write(t, "rules", "127.0.0.0/8\n"), freeAddr(t), freeAddr(t)
	slow := proxyCommand
	begun, goOn := make(chan struct{}), make(chan struct{})
	var loads atomic.Int64
	slow.load = func(in settings.Input) (*config.Proxy, error) {
		c, err := config.LoadProxy(in)
		if loads.Add(1) > 1 {
			begun <- struct{}{}
			<-goOn
		}
		return c, err
	}
	inProcess(t, slow, []string{"EGRESS_SOURCE=127.0.0.2,127.0.0.3"}, "--listen", listen, "--admin", admin, "--rules", rules, "--holder", socket, "--access-log", "off")
	sees := func(status int, text string) {
		t.Helper()
		nettest.Eventually(t, text, func() bool {
			tr := &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: listen})}
			resp, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second}).Get(server.URL)
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			b, _ := io.ReadAll(resp.Body)
			return resp.StatusCode == status && strings.Contains(string(b), text)
		})
	}
	reload := func(n int) {
		require.NoError(t, os.WriteFile(rules, fmt.Appendf(nil, "127.0.0.0/8\n# %d\n", n), 0o600))
		<-begun
	}
	const nobody = "this replica holds no source address for now"
	sees(502, nobody)
	nettest.Eventually(t, "all is told", func() bool {
		status, text := page(t, "http://"+admin+"/readyz?verbose")
		return status == 200 && strings.HasPrefix(text, "ready\nsource 127.0.0.2: standby: this replica waits for its turn\nsource 127.0.0.3: standby: this replica waits for its turn\n")
	})

	reload(1)
	s.Tell(told("127.0.0.3"))
	sees(200, "127.0.0.3")
	_, text := page(t, "http://"+admin+"/readyz?verbose")
	assert.Contains(t, text, "ready\nsource 127.0.0.2: not held: this replica has other addresses\nsource 127.0.0.3: held\n")
	_, text = page(t, "http://"+admin+"/metrics")
	assert.Contains(t, text, "sluice_source_held{source=\"127.0.0.2\"} 0\nsluice_source_held{source=\"127.0.0.3\"} 1\n")
	goOn <- struct{}{}
	nettest.Eventually(t, "the rules come in force", func() bool {
		_, text := page(t, "http://"+admin+"/metrics")
		return strings.Contains(text, reloaded+" 2\n")
	})
	sees(200, "127.0.0.3")

	reload(2)
	fenced := told("127.0.0.3")
	fenced.Held.Fenced = true
	s.Tell(fenced)
	nettest.Eventually(t, "that it is fenced", func() bool {
		_, text := page(t, "http://"+admin+"/readyz?verbose")
		return strings.Contains(text, "source 127.0.0.3: held, and fenced: ")
	})
	s.Tell(told())
	sees(502, nobody)
	goOn <- struct{}{}
	nettest.Eventually(t, "the rules come in force", func() bool {
		_, text := page(t, "http://"+admin+"/metrics")
		return strings.Contains(text, reloaded+" 3\n")
	})
	sees(502, nobody)
}

// Who has been told nothing yet does not say that he waits for a turn, but where to look.
func TestTurnThatNobodyHasSaid(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	tt := newTurn(socket, slog.New(slog.DiscardHandler))
	said := func() (lines []string) {
		tt.each([]netip.Addr{netip.MustParseAddr("127.0.0.2")}, func(a netip.Addr, s standing) { lines = append(lines, a.String()+": "+s.String()) })
		return append(lines, tt.waits().String(), tt.linkText())
	}
	const mend = "it has said nothing yet, and no source address is used; does it run in this pod, with this path as its --socket? Else see its log"
	nobody := "not held: whose turn it is has not been said yet"
	assert.Equal(t, []string{"127.0.0.2: " + nobody, nobody, "sluice-kube hold at " + socket + ": not reached (it was not tried yet): " + mend}, said())
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() { defer close(over); tt.follow(ctx, func(serving.Told) {}) }()
	nettest.Eventually(t, "it was tried", func() bool { return strings.Contains(tt.linkText(), "no such file or directory): "+mend) })
	cancel()
	<-over

	tt.connect(new(serving.Proxy))
	assert.Equal(t, []string{"127.0.0.2: " + nobody, nobody, "sluice-kube hold at " + socket + ": reached, and it has said nothing yet"}, said())
	tt.hold(&serving.Held{})
	assert.Equal(t, []string{"127.0.0.2: " + string(standingBy), string(standingBy), ""}, said())
	tt.connect(nil)
	assert.Equal(t, []string{"127.0.0.2: " + string(standingBy), string(standingBy),
		"sluice-kube hold at " + socket + ": not reached (the connection has ended): what it has said last holds; see its log"}, said())
}

// A standby of sluice tcp is ready, and its destinations are not left out for what it cannot
// reach; while it holds, it is ready when one of them is.
func TestTCPStandbyIsReady(t *testing.T) {
	s, socket := holder(t)
	admin, port, dead := freeAddr(t), freeAddr(t), freeAddr(t)
	inProcess(t, tcpCommand, []string{"EGRESS_SOURCE=127.0.0.2", "EGRESS_DNS_PROXY_DESTINATION=" + portOf(port) + " 127.0.0.1 " + portOf(dead)},
		"--bind", "127.0.0.1", "--admin", admin, "--guard", "off", "--check-interval", "100ms", "--check-fall", "1", "--holder", socket, "--access-log", "off")
	ready := func(want int, text string) {
		t.Helper()
		nettest.Eventually(t, text, func() bool {
			status, got := page(t, "http://"+admin+"/readyz?verbose")
			return status == want && strings.Contains(got, text)
		})
	}
	ready(200, "source 127.0.0.2: standby")
	s.Tell(told("127.0.0.2"))
	ready(503, "source 127.0.0.2: held")
	s.Tell(told())
	ready(200, "source 127.0.0.2: standby")
}
