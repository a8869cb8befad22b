//go:build linux

package squid

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// baseConfig is the script's own squid.conf without its http_port, and with what
// keeps squid off this machine's files and processes. None of it decides on a
// request.
const baseConfig = `cache deny all
access_log none all
debug_options ALL,0
shutdown_lifetime 0
pid_filename none
cache_log /dev/null
netdb_filename none
coredump_dir none
hosts_file none
pinger_enable off
server_persistent_connections off
max_filedescriptors 1024
`

const firstPort = 3001

// squid is a running squid with one port for each list of rules.
type squid struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	done   chan struct{}
}

// startSquid runs squid over lists, the i-th on port firstPort+i, and waits until
// it listens. For a single list the rules are word for word as the script writes
// them.
func startSquid(t testing.TB, n *network, lists []list) *squid {
	t.Helper()
	var conf strings.Builder
	for i := range lists {
		fmt.Fprintf(&conf, "http_port 127.0.0.1:%d name=list%d\n", firstPort+i, i)
	}
	conf.WriteString(baseConfig)
	for i, l := range lists {
		rules, star, err := translate(l.text)
		require.NoError(t, err, "the script refuses\n%s", l.text)
		on := fmt.Sprintf("list%d", i)
		if len(lists) == 1 {
			on = ""
		}
		conf.WriteString(accessLines(on, rules, star))
	}
	path := filepath.Join(t.TempDir(), "squid.conf")
	require.NoError(t, os.WriteFile(path, []byte(conf.String()), 0o600))

	s := &squid{cmd: exec.Command(squidPath, "-N", "-d", "1", "-f", path), done: make(chan struct{})}
	s.cmd.Stderr = &s.stderr
	require.NoError(t, n.start(s.cmd))
	go func() {
		defer close(s.done)
		_ = s.cmd.Wait()
	}()
	t.Cleanup(s.stop)
	s.awaitPort(t, n, firstPort+len(lists)-1)
	return s
}

// stop ends squid; a second call does nothing.
func (s *squid) stop() {
	_ = s.cmd.Process.Kill() // it has nothing to save
	<-s.done
}

func (s *squid) awaitPort(t testing.TB, n *network, port int) {
	t.Helper()
	nettest.Eventually(t, "squid listens", func() bool {
		select {
		case <-s.done:
			t.Fatalf("squid ended (%v):\n%s", s.cmd.ProcessState, s.stderr.String())
		default:
		}
		c, err := n.ns.DialContext(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// parses reports whether squid accepts a configuration with the rules, and what it
// says.
func (n *network) parses(t testing.TB, rules []squidRule, star bool) (bool, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "squid.conf")
	conf := "http_port 127.0.0.1:8080\n" + baseConfig + accessLines("", rules, star)
	require.NoError(t, os.WriteFile(path, []byte(conf), 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, squidPath, "-k", "parse", "-f", path)
	cmd.Stderr = &out
	require.NoError(t, n.start(cmd))
	err := cmd.Wait()
	require.NoError(t, ctx.Err(), "squid -k parse does not end")
	return err == nil, out.String()
}

// ask asks the squid on a port of 127.0.0.1. It must run in the namespace. An
// error means an answer that none of the rules can explain.
func ask(port int, q question) (reply, error) {
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), 10*time.Second)
	if err != nil {
		return reply{}, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return reply{}, err
	}
	r := bufio.NewReader(c)
	if q.connect {
		fmt.Fprintf(c, "CONNECT %s:80 HTTP/1.1\r\nHost: %[1]s:80\r\n\r\n", q.host)
		resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
		if err != nil {
			return reply{}, err
		}
		if resp.StatusCode != http.StatusOK {
			return readReply(resp)
		}
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", q.host)
	} else {
		fmt.Fprintf(c, "GET http://%s/ HTTP/1.1\r\nHost: %[1]s\r\nConnection: close\r\n\r\n", q.host)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return reply{}, err
	}
	return readReply(resp)
}

// reply is what squid did with a request.
type reply struct {
	verdict verdict
	dialled netip.Addr // when it was allowed
}

func (r reply) String() string {
	if r.verdict == allowed {
		return "allowed, dialled " + r.dialled.String()
	}
	return r.verdict.String()
}

// readReply tells squid's own answers from the origin's.
func readReply(resp *http.Response) (reply, error) {
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return reply{}, err
	}
	code, _, _ := strings.Cut(resp.Header.Get("X-Squid-Error"), " ")
	switch {
	case code == "ERR_ACCESS_DENIED" && resp.StatusCode == http.StatusForbidden:
		return reply{verdict: denied}, nil
	case code == "ERR_DNS_FAIL" && resp.StatusCode == http.StatusServiceUnavailable,
		// So squid 5.7 calls a destination without any address, for GET and CONNECT.
		code == "ERR_READ_ERROR" && resp.StatusCode == http.StatusBadGateway,
		code == "ERR_CANNOT_FORWARD" && resp.StatusCode == http.StatusInternalServerError:
		return reply{verdict: unresolved}, nil
	case code == "ERR_INVALID_URL" && resp.StatusCode == http.StatusBadRequest:
		return reply{verdict: refused}, nil
	case code == "" && resp.StatusCode == http.StatusOK:
		a, err := netip.ParseAddr(string(body))
		return reply{allowed, a}, err
	}
	return reply{}, fmt.Errorf("status %s, X-Squid-Error %q", resp.Status, resp.Header.Get("X-Squid-Error"))
}
