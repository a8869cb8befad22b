//go:build linux

package squid

import (
	"bufio"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/convert"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

const (
	convertData    = "../../acl/convert/testdata/squid"
	convertAsked   = 1000 // questions in all
	convertPort    = 3001
	convertGateway = "192.0.2.200" // where clients reach squid; any address leads there
)

// convertNames are what requests are for. Each has one address: what squid makes of several
// is another test's.
var convertNames = map[string]string{
	"registry.test": "203.0.113.10", "api.example.net": "203.0.113.11", "example.com": "198.51.100.1", "www.example.com": "203.0.113.5",
	"docs.example.com": "198.51.100.2", "x.help.example.com": "203.0.113.6", "a.wild.test": "198.51.100.3", "bad.test": "198.51.100.9", "www.bad.test": "198.51.100.9",
	"worse.example.com": "198.51.100.4", "track.test": "198.51.100.5", "x.track.test": "198.51.100.5", "a.only.test": "198.51.100.6", "only.test": "198.51.100.6",
	"intranet.test": "10.0.0.5", "priv.test": "192.168.1.9", "ads.example.com": "198.51.100.7", "adserver.test": "198.51.100.8", "unrelated.org": "8.8.8.8",
	"x.partner.test": "203.0.113.77", "v6.test": "2001:db8:9::1", "notexample.com": "198.51.100.10",
}

var (
	convertClients  = parseAddrs("10.1.0.5", "10.1.0.7", "10.1.0.100", "10.2.1.1", "10.2.8.9", "192.168.1.5", "192.168.3.1", "127.0.0.1", "203.0.113.200")
	convertLiterals = []string{"203.0.113.5", "10.0.0.5", "198.51.100.9", "8.8.8.8", "[2001:db8:9::1]", "[fd00::7]"}
	convertPorts    = []int{80, 443, 443, 80, 5432, 8080, 22, 563}
)

// convertQuestion is a client's request.
type convertQuestion struct {
	client  netip.Addr
	connect bool
	host    string
	port    int
}

func newConvertQuestion(r *rand.Rand) convertQuestion {
	names := slices.Sorted(maps.Keys(convertNames))
	q := convertQuestion{client: convertClients[r.IntN(len(convertClients))], connect: r.IntN(2) == 0, port: convertPorts[r.IntN(len(convertPorts))], host: names[r.IntN(len(names))]}
	if r.IntN(5) == 0 {
		q.host = convertLiterals[r.IntN(len(convertLiterals))]
	}
	return q
}

// TestConvertedDecidesAsSquidDoes asks the real squid and the list that "sluice convert squid"
// makes of its configuration the same questions. Nothing is allowed that squid denies; and
// without the lines that a finding says are closed, both decide alike.
func TestConvertedDecidesAsSquidDoes(t *testing.T) {
	n := newNetwork(t)
	for name, addr := range convertNames {
		n.dns.Set(name, nettest.Addrs(addr))
	}
	configs := []string{"debian.conf", "allowlist.conf", "denylist.conf", "order.conf", "unsaid.conf", "sources.conf", "old.conf"}
	asked, told := 0, 0
	for i, conf := range configs {
		r := rand.New(rand.NewPCG(uint64(setting(t, "SLUICE_SQUID_SEED", defaultSeed)), uint64(i))) //nolint:gosec // for repetition
		var questions []convertQuestion
		for range (convertAsked + len(configs) - 1) / len(configs) {
			questions = append(questions, newConvertQuestion(r))
		}
		asked += len(questions)
		dir := convertFolder(t, conf)
		said := convertSquid(t, dir, convert.Squid{})
		closing := closes(said)
		t.Run(conf, func(t *testing.T) {
			truth := askConverted(t, n, dir, questions)
			for k, q := range questions {
				got := convertedAllows(t, said, q)
				assert.False(t, got && !truth[k], "%s opens %+v", conf, q)
				if truth[k] && !got {
					told++
					assert.NotEmpty(t, closing, "%s closes %+v, and says nothing of it", conf, q)
				}
			}
		})
		if closing == nil {
			continue
		}
		t.Run(conf+" without what is not said", func(t *testing.T) {
			said := convertSquid(t, dir, convert.Squid{Ignore: closing})
			for more := closes(said); more != nil; more = closes(said) { // by what is left
				closing = append(closing, more...)
				said = convertSquid(t, dir, convert.Squid{Ignore: closing})
			}
			blank(t, dir, closing)
			truth := askConverted(t, n, dir, questions)
			for k, q := range questions {
				assert.Equal(t, truth[k], convertedAllows(t, said, q), "%s: %+v", conf, q)
			}
		})
		if conf == "debian.conf" || conf == "old.conf" {
			t.Run(conf+" with CONNECT told by ports", func(t *testing.T) {
				dir := convertFolder(t, conf)
				said := convertSquid(t, dir, convert.Squid{ConnectPorts: "443,563"})
				for k := range questions {
					questions[k].connect = questions[k].port == 443 || questions[k].port == 563
				}
				truth := askConverted(t, n, dir, questions)
				for k, q := range questions {
					assert.Equal(t, truth[k], convertedAllows(t, said, q), "%s: %+v", conf, q)
				}
			})
		}
	}
	require.GreaterOrEqual(t, asked, convertAsked)
	t.Logf("%d questions; %d were closed, and told", asked, told)
}

// closes are the lines, FILE:LINE, that are told to close.
func closes(r *convert.Result) (all []string) {
	for _, f := range r.Left {
		if f.Effect == convert.Closes {
			all = append(all, fmt.Sprintf("%s:%d", f.File, f.Line))
		}
	}
	return all
}

// unrunnable are lines that squid has helpers or peers for, which there are not.
var unrunnable = regexp.MustCompile(`^(auth_param|acl users|cache_peer|coredump_dir|refresh_pattern|http_port|http_access .*\busers\b)`)

// convertFolder is a folder with a configuration of the test data, as squid.conf, and the files
// that it names.
func convertFolder(t *testing.T, conf string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(convertData)))
	text, err := os.ReadFile(filepath.Join(dir, conf))
	require.NoError(t, err)
	var lines []string
	for line := range strings.SplitSeq(string(text), "\n") {
		if unrunnable.MatchString(line) {
			line = "# " + line
		}
		lines = append(lines, line)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "squid.conf"), []byte(strings.Join(lines, "\n")), 0o600))
	return dir
}

// blank takes the lines, FILE:LINE, out of the configuration.
func blank(t *testing.T, dir string, places []string) {
	t.Helper()
	for _, p := range places {
		file, number, _ := strings.Cut(p, ":")
		line, err := strconv.Atoi(number)
		require.NoError(t, err)
		path := filepath.Join(dir, file)
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		lines := strings.Split(string(text), "\n")
		if !strings.HasPrefix(lines[line-1], "#") {
			lines[line-1] = "# " + lines[line-1]
		}
		require.NoError(t, os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600))
	}
}

func convertSquid(t *testing.T, dir string, c convert.Squid) *convert.Result {
	t.Helper()
	c.Files = convert.Files{
		Read: func(path string) ([]byte, error) { return os.ReadFile(filepath.Join(dir, path)) },
		Glob: func(pattern string) ([]string, error) {
			found, err := filepath.Glob(filepath.Join(dir, pattern))
			for i := range found {
				found[i], _ = filepath.Rel(dir, found[i])
			}
			return found, err
		},
	}
	r, err := c.Convert("squid.conf")
	require.NoError(t, err)
	return r
}

// convertedAllows is what the converted lists say. The guard, which squid does not have, is off.
func convertedAllows(t *testing.T, r *convert.Result, q convertQuestion) bool {
	t.Helper()
	text := r.Rules
	for _, tenant := range r.Tenants {
		if slices.ContainsFunc(tenant.Clients, func(p netip.Prefix) bool { return p.Contains(q.client) }) {
			text = tenant.Rules
			break
		}
	}
	p, err := acl.Parse(text)
	require.NoError(t, err)
	h, err := acl.ParseHost(q.host)
	require.NoError(t, err)
	addr := h.Addr()
	if h.IsName() {
		addr = netip.MustParseAddr(convertNames[q.host])
	}
	return p.WithGuard(acl.Guard{Mode: acl.GuardOff}).DecideAddr(acl.Target{Host: h, Port: uint16(q.port)}, addr).Verdict == acl.Allow //nolint:gosec // a port
}

// askConverted runs squid with the folder's squid.conf and returns whether it allowed each.
func askConverted(t *testing.T, n *network, dir string, questions []convertQuestion) []bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "squid.conf"))
	require.NoError(t, err)
	run := filepath.Join(dir, "run.conf")
	require.NoError(t, os.WriteFile(run, fmt.Appendf(nil, "http_port %d\nvisible_hostname squid.test\n%s%s", convertPort, baseConfig, text), 0o600))
	s := &squid{cmd: exec.Command(squidPath, "-N", "-d", "1", "-f", run), done: make(chan struct{})}
	s.cmd.Dir, s.cmd.Stderr = dir, &s.stderr
	require.NoError(t, n.start(s.cmd))
	go func() {
		defer close(s.done)
		_ = s.cmd.Wait()
	}()
	defer s.stop()
	s.awaitPort(t, n, convertPort)
	return n.askEach(t, questions, func(resp *http.Response) bool {
		return !strings.HasPrefix(resp.Header.Get("X-Squid-Error"), "ERR_ACCESS_DENIED")
	})
}

// askEach asks the proxy on convertPort, and returns what allowed says of each answer.
func (n *network) askEach(t *testing.T, questions []convertQuestion, allowed func(*http.Response) bool) []bool {
	t.Helper()
	truth := make([]bool, len(questions))
	require.NoError(t, n.ns.Do(func() (err error) {
		for i := 0; i < len(questions) && err == nil; i++ {
			if truth[i], err = askOne(questions[i], allowed); err != nil {
				err = fmt.Errorf("%+v: %w", questions[i], err)
			}
		}
		return err
	}))
	return truth
}

// askOne reports what allowed says of the answer to a request.
func askOne(q convertQuestion, allowed func(*http.Response) bool) (bool, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: q.client.AsSlice()}, Timeout: 10 * time.Second, FallbackDelay: -1}
	gateway := convertGateway
	if q.client.IsLoopback() {
		gateway = "127.0.0.1"
	}
	c, err := d.Dial("tcp", net.JoinHostPort(gateway, strconv.Itoa(convertPort)))
	if err != nil {
		return false, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	method, target := http.MethodGet, "http://"+q.host+":"+strconv.Itoa(q.port)+"/"
	if q.connect {
		method, target = http.MethodConnect, q.host+":"+strconv.Itoa(q.port)
	}
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: %s:%d\r\nConnection: close\r\n\r\n", method, target, q.host, q.port)
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	return allowed(resp), nil
}
