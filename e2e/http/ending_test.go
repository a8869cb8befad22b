//go:build linux

package http

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// At SIGTERM it says that it is not ready, takes no new connection, lets what is
// open go on, and exits 0 when that has ended.
func TestDrain(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			g := start(t, program.Setup{Rules: loopback, Args: []string{"--drain-timeout", "10m"}})
			open, idle := g.tunnel(echo(t)), g.Connect()
			status, _ := g.Ask("/readyz")
			require.Equal(t, 200, status)
			g.Signal(sig)
			nettest.Eventually(t, "it is not ready", func() bool {
				status, _ := g.Ask("/readyz")
				return status == http.StatusServiceUnavailable
			})
			nettest.Eventually(t, "new connections are refused", func() bool {
				c, err := net.Dial("tcp", g.Addr)
				if err == nil {
					_ = c.Close()
				}
				return err != nil
			})
			_, err := idle.Read(make([]byte, 1))
			assert.Equal(t, io.EOF, err, "a connection without a request is closed")
			for range 3 {
				program.Echoes(t, open, "still here")
			}
			assert.False(t, g.Ended())
			status, _ = g.Ask("/healthz")
			assert.Equal(t, 200, status)
			_ = open.Close()
			assert.Equal(t, 0, g.Exit())
		})
	}
}

func TestDrainEnds(t *testing.T) {
	t.Run("by a second signal", func(t *testing.T) {
		g := start(t, program.Setup{Rules: loopback, Args: []string{"--drain-timeout", "10m"}})
		open := g.tunnel(echo(t))
		g.Signal(syscall.SIGTERM)
		nettest.Eventually(t, "it drains", func() bool { return strings.Contains(g.Stderr(), `"msg":"draining"`) })
		g.Signal(syscall.SIGTERM)
		assert.Equal(t, 0, g.Exit())
		_, err := open.Read(make([]byte, 1))
		assert.Error(t, err)
	})
	t.Run("by --drain-timeout", func(t *testing.T) {
		g := start(t, program.Setup{Rules: loopback, Args: []string{"--drain-timeout", "100ms"}})
		open := g.tunnel(echo(t))
		g.Signal(syscall.SIGTERM)
		assert.Equal(t, 0, g.Exit())
		_, err := open.Read(make([]byte, 1))
		assert.Error(t, err)
	})
}

// A request that is under way at SIGTERM gets its answer whole.
func TestDrainAnswersWhatIsUnderWay(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	addr := origin(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "first ")
		_ = http.NewResponseController(w).Flush()
		close(begun)
		<-finish
		_, _ = io.WriteString(w, "last")
	}))
	g := start(t, program.Setup{Rules: loopback})
	got := make(chan string, 1)
	go func() {
		resp, err := g.Client().Get("http://" + addr + "/")
		if err != nil {
			got <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		got <- fmt.Sprintf("%s %v", body, err)
	}()
	select {
	case <-begun:
	case failure := <-got:
		t.Fatal(failure)
	}
	g.Signal(syscall.SIGTERM)
	nettest.Eventually(t, "it drains", func() bool { return strings.Contains(g.Stderr(), `"msg":"draining"`) })
	close(finish)
	assert.Equal(t, "first last <nil>", <-got)
	assert.Equal(t, 0, g.Exit())
}

// What is wrong is said at once and whole, and nothing listens meanwhile: the
// ports given are taken, which would be the first thing to go wrong.
func TestWrongSettings(t *testing.T) {
	taken := listen(t).Addr().String()
	g := program.Launch(t, program.Setup{
		Rules: "10.0.0.300\n*\nwww.example.com\n",
		Env:   []string{"EGRESS_SOURCE=203.0.113.300", "SLUICE_DNS_TIMEOUT=5"},
		Args: []string{
			"--listen", taken, "--listen", "localhost:80", "--resolver", "dns.test",
			"--guard", "none", "--max-head", "1GiB", "--access-log-format", "xml",
		},
	})
	assert.Equal(t, 2, g.Exit())
	want := []string{
		`--listen: "localhost:80" is no address to listen at; write :PORT, ADDR:PORT or [ADDR]:PORT, ADDR without a name`,
		`--guard: bad guard 'none': write default, strict or off`,
		`EGRESS_SOURCE: EGRESS_SOURCE unspecified or invalid: "203.0.113.300" is not ADDR or ADDR/LEN`,
		`--resolver: "dns.test" is no DNS server; write ADDR or ADDR:PORT`,
		`--max-head: 1GiB is out of range: from 1024 to 1048576 bytes`,
		`SLUICE_DNS_TIMEOUT: "5" is no duration; write 30s, 5m or 1h30m`,
		`--access-log-format: "xml" is none of json, squid, combined`,
		g.Rules + `:1: Bad destination '10.0.0.300'`,
		g.Rules + `:2: Wildcard must be last rule, if present`,
	}
	lines := strings.Split(strings.TrimSpace(g.Stderr()), "\n")
	require.Len(t, lines, len(want), "%s", g.Stderr())
	for i, line := range lines {
		assert.True(t, strings.HasPrefix(line, want[i]), "%s\nwant %s", line, want[i])
	}
	assert.Empty(t, g.Stdout())
}

func TestPortTaken(t *testing.T) {
	taken := listen(t).Addr().String()
	for flag, want := range map[string]string{
		"--listen": "sluice: --listen: listen on " + taken + ": another program has the port; end that, or choose another port: bind: address already in use\n",
		"--admin":  "sluice: --admin: listen on " + taken + ": another program has the port; end that, or choose another port: bind: address already in use\n",
	} {
		g := program.Launch(t, program.Setup{Rules: "*\n", Args: []string{flag, taken}})
		assert.Equal(t, 2, g.Exit())
		assert.Equal(t, want, g.Stderr())
	}
}

// One line for each request, and nothing lost at the end.
func TestAccessLogIsComplete(t *testing.T) {
	const requests, clients = 2000, 8
	for _, file := range []string{"-", filepath.Join(t.TempDir(), "access.log")} {
		g := start(t, program.Setup{Rules: loopback, Args: []string{"--access-log", file}})
		url := "http://" + origin(t, witness("server")) + "/"
		var all sync.WaitGroup
		for range clients {
			all.Go(func() {
				c := g.Client()
				for range requests / clients {
					resp, err := c.Get(url)
					if assert.NoError(t, err) {
						_, _ = io.Copy(io.Discard, resp.Body)
						_ = resp.Body.Close()
					}
				}
			})
		}
		all.Wait()
		assert.Equal(t, "2000", g.Metric(`sluice_requests_total{mode="forward",reason="rule",verdict="allow"}`))
		g.Signal(syscall.SIGTERM)
		require.Equal(t, 0, g.Exit())
		lines := g.AccessLog()
		if file != "-" {
			b, err := os.ReadFile(file)
			require.NoError(t, err)
			lines = strings.Split(strings.TrimSpace(string(b)), "\n")
		}
		assert.Len(t, lines, requests)
		ids := map[any]bool{}
		for _, line := range lines {
			var rec map[string]any
			require.NoError(t, json.Unmarshal([]byte(line), &rec), line)
			ids[rec["id"]] = true
			assert.Equal(t, url, rec["target"])
			assert.Equal(t, "line 1 127.0.0.0/8", rec["reason"])
			assert.EqualValues(t, 200, rec["status"])
		}
		assert.Len(t, ids, requests)
	}
}

func TestAccessLogFormats(t *testing.T) {
	for format, want := range map[string][3]string{
		"squid": {
			`^\d+\.\d{3} +\d+ 127\.0\.0\.1 TCP_MISS/200 21 GET http://127\.0\.0\.1:\d+/ - HIER_DIRECT/127\.0\.0\.1 text/plain$`,
			`^\d+\.\d{3} +\d+ 127\.0\.0\.1 TCP_DENIED/403 \d+ GET http://192\.0\.2\.1/ - HIER_NONE/- `,
			`^\d+\.\d{3} +\d+ 127\.0\.0\.1 TCP_TUNNEL/200 4 CONNECT 127\.0\.0\.1:\d+ - HIER_DIRECT/127\.0\.0\.1 -$`,
		},
		"combined": {
			`^127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET http://127\.0\.0\.1:\d+/ HTTP/1\.1" 200 21 "-" "Go-http-client/1\.1"$`,
			`^127\.0\.0\.1 - - \[.*\] "GET http://192\.0\.2\.1/ HTTP/1\.1" 403 \d+ "-" "Go-http-client/1\.1"$`,
			`^127\.0\.0\.1 - - \[.*\] "CONNECT 127\.0\.0\.1:\d+ HTTP/1\.1" 200 4 "-" "-"$`,
		},
		"json": {
			`^\{"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z","id":"[0-9a-f]{16}","client":"127\.0\.0\.1:\d+","method":"GET","target":"http://127\.0\.0\.1:\d+/","verdict":"allow","reason":"line 1 127\.0\.0\.0/8","line":1,"generation":1,"policy":"[0-9a-f]{12}","address":"127\.0\.0\.1:\d+","source":"127\.0\.0\.1","status":200,"received":0,"sent":21,"resolve_ms":0\.000,"connect_ms":\d+\.\d{3},"first_byte_ms":\d+\.\d{3},"total_ms":\d+\.\d{3}\}$`,
			`"method":"GET","target":"http://192\.0\.2\.1/","verdict":"deny","reason":"default","line":0,"generation":1,"policy":"[0-9a-f]{12}","status":403,.*,"error":"http_request_denied"\}$`,
			`"method":"CONNECT","target":"127\.0\.0\.1:\d+","verdict":"allow",.*,"status":200,"received":4,"sent":4,`,
		},
	} {
		t.Run(format, func(t *testing.T) {
			g := start(t, program.Setup{Rules: loopback, Args: []string{"--access-log-format", format}})
			c := g.Client()
			get(t, c, "http://"+origin(t, witness("server"))+"/")
			get(t, c, "http://192.0.2.1/")
			open := g.tunnel(echo(t))
			program.Echoes(t, open, "word")
			_ = open.Close()
			nettest.Eventually(t, "all is logged", func() bool { return len(g.AccessLog()) == 3 })
			all := strings.Join(g.AccessLog(), "\n") // in the order of their ends, on each loop
			for _, line := range want {
				assert.Regexp(t, regexp.MustCompile("(?m)"+line), all)
			}
		})
	}
}
