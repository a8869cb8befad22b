//go:build linux

package http

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/acltest"
	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

var (
	counterPairs = flag.Int("pairs", 2, "how many random pairs of lists are compared, and asked of a running proxy, for each guard")
	counterSeed  = flag.Int("pairs-seed", 1, "what is random of them")
)

// A counterexample is what "sluice acl diff --json" says of one target.
type counterexample struct {
	Target string
	Own    string
	Old    counterVerdict
	New    counterVerdict
}

// counterVerdict is what the log says, too.
type counterVerdict struct {
	Verdict, Reason string
	Line            int
}

// counterWorld is a namespace in which every address leads to itself, so that a running proxy may
// be asked for any target: where nobody listens, it is told so at once.
type counterWorld struct {
	t     *testing.T
	ns    *nettest.Netns
	dns   *nettest.DNS
	bin   string
	guard string
	g     *gateway
	conn  net.Conn
	in    *bufio.Reader
	seen  int // lines of the log
	texts int // put in force
}

// counterOwn are the addresses of the namespace: the proxy looks for them, and diff is told.
var counterOwn = []string{"127.0.0.1", "::1", "10.1.2.3", "2001:db8::1"}

func newCounterWorld(t *testing.T, guard string) *counterWorld {
	w := &counterWorld{t: t, ns: nettest.NewNetns(t, "counter"), bin: program.Racy(t), guard: guard}
	w.ns.Everywhere()
	w.ns.Address("lo", "10.1.2.3/32", "2001:db8::1/128")
	w.dns = nettest.NewDNSOn(t, w.ns.ListenPacket("127.0.0.1:53"), w.ns.Listen("127.0.0.1:53"))
	w.g = start(t, program.Setup{Netns: w.ns, Rules: "# nothing yet\n", Args: []string{"--guard", guard, "--resolver", "127.0.0.1:53"}})
	w.conn = w.g.Connect()
	w.in = bufio.NewReader(w.conn)
	return w
}

// differ has diff compare two lists.
func (w *counterWorld) differ(old, now string) []counterexample {
	dir := w.t.TempDir()
	a, b := filepath.Join(dir, "old"), filepath.Join(dir, "new")
	require.NoError(w.t, os.WriteFile(a, []byte(old), 0o600))
	require.NoError(w.t, os.WriteFile(b, []byte(now), 0o600))
	got := program.Command(w.t, nil, nil, w.bin, "acl", "diff", "--json", "--guard", w.guard, "--own", strings.Join(counterOwn, ","), a, b)
	require.Contains(w.t, []int{0, 1}, got.Status, got.Err)
	var out struct{ Changes []counterexample }
	require.NoError(w.t, json.Unmarshal([]byte(got.Out), &out), got.Out)
	return out.Changes
}

// put puts a list in force.
func (w *counterWorld) put(text string) {
	generation := func() string {
		_, body := w.g.Ask("/api/policy")
		var p struct{ Generation int }
		require.NoError(w.t, json.Unmarshal([]byte(body), &p), body)
		return fmt.Sprint(p.Generation)
	}
	w.texts++
	was := generation()
	require.NoError(w.t, os.WriteFile(w.g.Rules, fmt.Appendf(nil, "%s\n# text %d\n", text, w.texts), 0o600))
	w.g.Signal(syscall.SIGHUP)
	nettest.Eventually(w.t, "the list is in force", func() bool { return generation() != was })
}

// answers is what the answers to both kinds of request and their lines in the log say of a target.
func (w *counterWorld) answers(target string) []counterVerdict {
	target, addr, named := strings.Cut(target, "=")
	host, err := acl.ParseTarget(target)
	require.NoError(w.t, err)
	if named {
		w.dns.Set(host.Host.Name(), nettest.Addrs(addr).TTL(0))
	}
	var got []counterVerdict
	for _, head := range []string{"GET http://%s/ HTTP/1.1\r\nHost: %s\r\n\r\n", "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n"} {
		fmt.Fprintf(w.conn, head, target, target)
		resp, err := http.ReadResponse(w.in, nil)
		require.NoError(w.t, err, target)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(w.t, err, target)
		v := counterVerdict{Verdict: "allow"} // refused, or no way there
		if resp.StatusCode == http.StatusForbidden {
			v.Verdict = "deny"
			_, v.Reason, _ = strings.Cut(resp.Status, "Egress denied: ")
		} else {
			require.Contains(w.t, resp.Status, "502 Bad Gateway: connect to ", target)
		}
		got = append(got, v)
	}
	return got
}

// judge asks for each target of a comparison, and looks at the log then, by either list.
func (w *counterWorld) judge(text string, changes []counterexample, want func(c *counterexample) counterVerdict) {
	w.put(text)
	for i := range changes {
		for _, got := range w.answers(changes[i].Target) {
			w.same(want(&changes[i]), got, changes[i].Target, text)
		}
	}
	var lines []string
	nettest.Eventually(w.t, "each request has its line", func() bool {
		lines = w.g.AccessLog()
		return len(lines) == w.seen+2*len(changes)
	})
	for i, line := range lines[w.seen:] {
		var got struct {
			counterVerdict
			Target string
		}
		require.NoError(w.t, json.Unmarshal([]byte(line), &got), line)
		c := &changes[i/2]
		require.Equal(w.t, strings.Split(c.Target, "=")[0], strings.TrimSuffix(strings.TrimPrefix(got.Target, "http://"), "/"))
		w.same(want(c), got.counterVerdict, c.Target, text)
	}
	w.seen = len(lines)
}

// same wants the verdict that diff foretold, and of what is allowed the line that diff named. A
// name that some line denies at all of its addresses is denied by that, before any is known.
func (w *counterWorld) same(want, got counterVerdict, target, text string) {
	assert.Equal(w.t, want.Verdict, got.Verdict, "%s: diff: %+v, the proxy: %+v, of the list\n%s", target, want, got, text)
	if want.Verdict == "allow" && got.Line != 0 {
		assert.Equal(w.t, want, got, target)
	}
}

// longList is many random rules, so that one comparison finds many targets.
func longList(seed int) string {
	var all []string
	for i := range 10 {
		for line := range strings.Lines(acltest.Rules().Example(seed + i)) {
			if line = strings.TrimSpace(line); !strings.HasPrefix(line, "*:") && strings.TrimSpace(strings.Split(line, "#")[0]) != "*" {
				all = append(all, line)
			}
		}
	}
	return strings.Join(all, "\n")
}

// What "sluice acl diff" says of two lists is what a running proxy does: each target that it names
// is asked for under the old list and, after a reload, under the new one.
func TestCounterexamplesAskedOfARunningProxy(t *testing.T) {
	preset := func(name string) string {
		b, err := os.ReadFile("../../deploy/presets/" + name)
		require.NoError(t, err)
		return strings.TrimSuffix(strings.TrimSpace(string(b)), "#@ end") // more follows
	}
	for _, guard := range []string{"default", "strict", "off"} {
		t.Run(guard, func(t *testing.T) {
			t.Parallel()
			w := newCounterWorld(t, guard)
			asked := 0
			pairs := [][2]string{{preset("npm.txt"), preset("github.txt")}}
			for i := range *counterPairs {
				seed := *counterSeed*1_000_000 + 1000*i
				pairs = append(pairs, [2]string{longList(seed), longList(seed + 100)})
			}
			for _, pair := range pairs {
				changes := w.differ(pair[0], pair[1])
				require.NotEmpty(t, changes)
				w.judge(pair[0], changes, func(c *counterexample) counterVerdict { return c.Old })
				w.judge(pair[1], changes, func(c *counterexample) counterVerdict { return c.New })
				asked += len(changes)
			}
			t.Logf("%d targets, under both lists each", asked)
			assert.Greater(t, asked, 100)
		})
	}
}
