//go:build linux

package http

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// writeOver replaces a file as a whole.
func writeOver(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// field is the value of a field of a head; "": there is none.
func field(head, name string) string {
	if m := regexp.MustCompile("\r\n" + name + ": ([^\r]*)\r\n").FindStringSubmatch(head); m != nil {
		return m[1]
	}
	return ""
}

// A token that is changed is shown from the next connection on, and none that was made with another is used;
// while there is none its parent is not asked, and nothing goes without.
func TestParentToken(t *testing.T) {
	o := newOutside(t)
	o.toA("name.example.com", "address.example.com")
	p := o.scripted(t, "4000", nil, serves)
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("one\n"), 0o600))
	g := o.withParents(t, fmt.Sprintf("rules: '*.example.com'\nparents:\n- {for: name.example.com, via: {url: %[1]q, token: {file: %[2]s}}, connect: name}\n- {via: {url: %[1]q, token: {file: %[2]s}}}\n", p.URL, token))
	assert.Contains(t, g.Stderr(), "the credential for "+p.URL+" goes over the network in plain; have the parent speak TLS (https://)")
	byName := func() string { return lastLine(o.curl(t, "http://name.example.com/").Out) }
	byAddress := func() string { return statusLine(o.curl(t, "http://address.example.com/").Out) }
	for range 2 {
		assert.Equal(t, "the parent saw Bearer one", byName())
		assert.Equal(t, "HTTP/1.1 200 OK", byAddress())
	}
	require.Len(t, p.got(), 2, "connections are used again")
	require.NoError(t, writeOver(token, "two\n"))
	nettest.Eventually(t, "the new token is shown", func() bool { return byName() == "the parent saw Bearer two" })
	assert.Equal(t, "HTTP/1.1 200 OK", byAddress())
	shown := map[string]int{}
	for _, heads := range p.got() {
		first := field(heads[0], "Proxy-Authorization")
		shown[strings.Fields(heads[0])[0]+" "+first]++
		for _, head := range heads[1:] {
			if strings.HasPrefix(heads[0], "CONNECT ") {
				assert.Empty(t, field(head, "Proxy-Authorization"), "it is not the server's")
			} else {
				assert.Equal(t, first, field(head, "Proxy-Authorization"), "no connection has two")
			}
		}
	}
	assert.Equal(t, map[string]int{"GET Bearer one": 1, "GET Bearer two": 1, "CONNECT Bearer one": 1, "CONNECT Bearer two": 1}, shown)

	before, wire := len(p.got()), o.ServerA.Capture(t)
	require.NoError(t, os.Remove(token))
	const unread = ": the gateway's credential for it cannot be read now"
	nettest.Eventually(t, "it cannot be read", func() bool { return strings.Contains(byAddress(), unread) })
	for _, url := range []string{"http://name.example.com/", "https://name.example.com/", "https://address.example.com/"} {
		assert.Equal(t, "HTTP/1.1 502 Bad Gateway: parent proxy "+p.URL+unread, statusLine(o.curl(t, url).Out), url)
	}
	assert.Len(t, p.got(), before)
	assert.Empty(t, o.Seen(t, wire, nettest.ServerAV4))
	require.NoError(t, writeOver(token, "three\n"))
	nettest.Eventually(t, "the third token is shown", func() bool { return byName() == "the parent saw Bearer three" })
	assert.NotRegexp(t, "one|two|three", strings.Join(g.AccessLog(), "\n"))
}

// A gateway that asks for passwords, by TLS, as the parent of another.
func TestParentWithPassword(t *testing.T) {
	o := newOutside(t)
	o.toA("api.example.com")
	dir := t.TempDir()
	hash, err := bcrypt.GenerateFromPassword([]byte("s3cr3t-of-b"), bcrypt.MinCost)
	require.NoError(t, err)
	login := filepath.Join(dir, "login")
	for file, text := range map[string]string{filepath.Join(dir, "users"): "gate:" + string(hash) + "\n", login: "gate:wrong\n"} {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
	cert, key := nettest.WriteFiles(t, dir, "parent", o.CA.serverConfig(beside).Certificates[0])
	parent := o.real(t, "3128", fmt.Sprintf("rules: '*'\nlistenTLS: %s:3129\ntlsCert: %s\ntlsKey: %s\nauthenticate: required\nusersFile: %s/users\n", beside, cert, key, dir))
	const url = "https://" + beside + ":3129"
	for _, connect := range []string{"address", "name"} {
		t.Run(connect, func(t *testing.T) {
			require.NoError(t, writeOver(login, "gate:wrong\n"))
			g := o.withParents(t, fmt.Sprintf("rules: api.example.com\nparents: [{via: {url: %q, ca: %s, basic: {file: %s}}, connect: %s}]\n", url, o.CA.File, login, connect))
			assert.Equal(t, connect == "name", strings.Contains(g.Stderr(), "connect: name has parents resolve the names of every destination: nobody judges addresses there, so the guard and rules for addresses do not hold for them"), g.Stderr())
			for _, scheme := range []string{"https://", "http://"} {
				got := o.curl(t, scheme+"api.example.com/")
				assert.Equal(t, "HTTP/1.1 502 Bad Gateway: parent proxy "+url+": it does not take the gateway's credential (407)", statusLine(got.Out), got.Err)
				assert.NotContains(t, got.Out, "Proxy-Authenticate")
			}
			require.NoError(t, writeOver(login, "gate:s3cr3t-of-b\n"))
			nettest.Eventually(t, "the new password is shown", func() bool { return lastLine(o.curl(t, "https://api.example.com/").Out) == viaParent })
			for _, args := range [][]string{{"http://api.example.com/"}, {"https://api.example.com/"}, {"--proxy-user", "client:own", "http://api.example.com/"}} {
				got := o.curl(t, args...)
				assert.Equal(t, viaParent, lastLine(got.Out), got.Err)
			}
			for _, said := range []string{strings.Join(g.AccessLog(), "\n"), g.Stderr()} {
				assert.NotContains(t, said, "s3cr3t")
			}
		})
	}
	assert.NotContains(t, strings.Join(parent.AccessLog(), "\n"), `"user":"client"`, "what a client shows is the gateway's alone")
}

// Tenants with the same parent, and even the same token, have no connection in common; the gateway's own
// parents are not theirs.
func TestParentsOfTenants(t *testing.T) {
	o := newOutside(t)
	o.toA("name.example.com", "address.example.com", "other.example.com")
	p := o.scripted(t, "4000", nil, serves)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "same"), []byte("same\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "own"), []byte("own\n"), 0o600))
	pods := map[string]*nettest.Netns{}
	config := "rules: '*.example.com'\nparents: [{via: 'http://" + beside + ":9'}]\ntenants:\n"
	for i, name := range []string{"a", "b", "c", "d", "e"} {
		pods[name] = o.Pod(t, name, fmt.Sprintf("10.128.0.%d/24", 33+i), fmt.Sprintf("fd00:128::%d/64", 33+i))
		parents := fmt.Sprintf("parents: [{for: name.example.com, via: {url: %[1]q, token: {file: %[2]s/%[3]s}}, connect: name}, {for: address.example.com, via: {url: %[1]q, token: {file: %[2]s/%[3]s}}}]", p.URL, dir, map[bool]string{true: "own", false: "same"}[name == "c"])
		switch name {
		case "d":
			parents = "parents: []"
		case "e":
			parents = "contact: e@example.com"
		}
		config += fmt.Sprintf("- {name: %s, clients: 10.128.0.%d, rules: '*.example.com', %s}\n", name, 33+i, parents)
	}
	g := o.withParents(t, config)
	assert.Contains(t, g.Stderr(), `tenant e has no \"parents\" and goes directly: those of the gateway are not a tenant's`)
	assert.NotContains(t, g.Stderr(), "tenant d has no")
	for range 3 {
		for name, pod := range pods {
			for _, host := range []string{"name", "address"} {
				got := o.as(t, pod, "-H", "X-Of: "+name, "http://"+host+".example.com/")
				want := "the parent saw none" // inside the tunnel
				switch {
				case name >= "d":
					want = directly
				case host == "name":
					want = "the parent saw Bearer " + map[bool]string{true: "own", false: "same"}[name == "c"]
				}
				assert.Equal(t, want, lastLine(got.Out), name+" "+host+got.Err)
			}
		}
	}
	assert.Equal(t, directly, lastLine(o.as(t, pods["a"], "https://other.example.com/").Out), "no entry of its own is for that")
	assert.Contains(t, statusLine(o.curl(t, "https://other.example.com/").Out), ":9: connection refused", "who is nobody's goes by the gateway's")
	of := map[string]int{}
	for _, heads := range p.got() {
		who := ""
		for _, head := range heads {
			if strings.HasPrefix(head, "CONNECT ") {
				continue
			}
			if who == "" {
				who = field(head, "X-Of")
			}
			assert.Equal(t, who, field(head, "X-Of"), "a connection of two tenants")
		}
		of[who]++
	}
	assert.Equal(t, map[string]int{"a": 2, "b": 2, "c": 2}, of, "and each is used again")
	assert.Equal(t, "1", g.Metric(`sluice_parent_up{parent="`+p.URL+`",tenant="a"}`))
}

// Destinations by name, by address and by port each have their parent, the first that is for them.
func TestParentsByDestination(t *testing.T) {
	o := newOutside(t)
	o.toA("a.example.com", "deep.z.example.com", "own.example.com", "rest.example.com")
	o.DNS.Set("b.example.com", nettest.Addrs(nettest.ServerBV4))
	one, two := "http://"+beside+":3128", "http://"+nettest.FarV4+":3129"
	o.real(t, "3128", "")
	start(t, program.Setup{Netns: o.ServerB, Config: "rules: '*'\n", Args: []string{"--listen", nettest.FarV4 + ":3129", "--admin", nettest.FarV4 + ":13129", "--resolver", nettest.NodeV4, "--guard", "off"}})
	g := o.withParents(t, fmt.Sprintf(`rules: |
  *.example.com
  203.0.113.0/24
parents:
- {for: own.example.com, via: direct}
- {for: ["*.z.example.com", "a.example.com:443"], via: %[1]s}
- {for: [203.0.113.20, "203.0.113.10:80"], via: %[2]s}
- {for: "203.0.113.0/24:443", via: %[1]s}
`, one, two))
	for i, c := range []struct{ url, parent string }{
		{"https://a.example.com/", one},
		{"http://a.example.com/", two}, // its address, at that port
		{"http://deep.z.example.com/", one},
		{"https://b.example.com/", two},
		{"https://own.example.com/", ""},
		{"http://own.example.com/", ""},
		{"https://rest.example.com/", one},
		{"https://203.0.113.10/", one},
		{"http://203.0.113.10/", two},
		{"https://203.0.113.20/", two},
	} {
		got := o.curl(t, "--insecure", c.url)
		assert.Contains(t, lastLine(got.Out), " saw ", c.url+got.Err)
		assert.Equal(t, c.parent, g.lastParent(i+1), c.url)
	}
}

// A reload that takes the parents away, or changes them, leaves open tunnels alone, and no new request goes
// by them; what the rules deny by then is cut there as elsewhere. A parent that dies cuts its tunnels.
func TestParentsReload(t *testing.T) {
	o := newOutside(t)
	o.toA("api.example.com")
	echo := o.ServerA.Listen(nettest.ServerAV4 + ":7")
	t.Cleanup(func() { echo.Close() })
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	parent := o.real(t, "3128", "")
	const rules = "rules: api.example.com\n"
	g := o.withParents(t, rules+"parents: [{via: 'http://"+beside+":3128'}]\n")
	tunnel := func() net.Conn {
		c := dialClient(t, o)
		fmt.Fprintf(c, "CONNECT api.example.com:7 HTTP/1.1\r\n\r\n")
		require.Contains(t, readHead(t, c), " 200 ")
		program.Echoes(t, c, "first")
		return c
	}
	first, second := tunnel(), tunnel()
	for range 2 {
		assert.Equal(t, viaParent, lastLine(o.curl(t, "http://api.example.com/").Out))
	}
	change := func(text string) {
		require.NoError(t, writeOver(g.File, text))
		g.reload()
	}
	change(rules)
	for _, scheme := range []string{"http://", "https://"} {
		assert.Equal(t, directly, lastLine(o.curl(t, scheme+"api.example.com/").Out), "and not by a connection of before")
	}
	program.Echoes(t, first, "by the parent still")
	third := tunnel()
	change("rules: api.example.com:80\nparents: [{via: 'http://" + beside + ":3128'}]\n")
	for _, c := range []net.Conn{first, second, third} {
		_, err := io.ReadAll(c)
		_ = err // an end or a reset
	}
	assert.Equal(t, viaParent, lastLine(o.curl(t, "http://api.example.com/").Out))
	nettest.Eventually(t, "it is logged", func() bool { return strings.Count(strings.Join(g.AccessLog(), "\n"), `"revoked":`) == 3 })
	change(rules + "parents: [{via: 'http://" + beside + ":3128'}]\n")
	fourth := tunnel()
	parent.Signal(syscall.SIGKILL)
	_, err := io.ReadAll(fourth)
	_ = err
	status := ""
	refused := nettest.Within(30*time.Second, func() bool { // its listener may go after its connections
		status = statusLine(o.curl(t, "https://api.example.com/").Out)
		return strings.Contains(status, "HTTP/1.1 502 Bad Gateway: parent proxy http://"+beside+":3128: connect to "+beside+":3128: connection refused")
	})
	assert.True(t, refused, status)
}

// What comes behind a parent's 200 is the server's, whatever its head says, and interim answers are passed over.
func TestParentBehindTheHead(t *testing.T) {
	o := newOutside(t)
	o.toA("api.example.com")
	const greeting = "220 a.example.com ready\r\nand more"
	const head = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
	play := func(c net.Conn, _ string, _ func() string) {
		io.WriteString(c, head+greeting)
		io.Copy(c, c)
	}
	plain, secure := o.scripted(t, "4000", nil, play), o.scripted(t, "4001", o.CA.serverConfig(beside), play)
	pieces := o.scripted(t, "4002", nil, func(c net.Conn, _ string, _ func() string) {
		for _, b := range []byte(head + greeting) {
			c.Write([]byte{b})
		}
		io.Copy(c, c)
	})
	for _, p := range []*scripted{plain, secure, pieces} {
		t.Run(p.URL, func(t *testing.T) {
			ca := ""
			if p == secure {
				ca = ", ca: " + o.CA.File
			}
			o.withParents(t, fmt.Sprintf("rules: api.example.com\nlistenSOCKS: ':1080'\nparents: [{via: {url: %q%s}}]\n", p.URL, ca))
			c := dialClient(t, o)
			fmt.Fprintf(c, "CONNECT api.example.com:25 HTTP/1.1\r\n\r\nEHLO ")
			program.Hears(t, c, "HTTP/1.1 200 Connection established\r\n\r\n"+greeting+"EHLO ")
			program.Echoes(t, c, "more")
			s, err := o.Client.DialContext(t.Context(), "tcp", socksAddr)
			require.NoError(t, err)
			defer s.Close()
			io.WriteString(s, "\x05\x01\x00\x05\x01\x00\x03\x0fapi.example.com\x00\x19")
			program.Hears(t, s, "\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"+greeting)
			program.Echoes(t, s, "more")
		})
	}
}

// Clients of SOCKS go by parents, and by nobody else where those fail.
func TestParentsOfSOCKS(t *testing.T) {
	o := newOutside(t)
	o.toA("api.example.com", "dead.example.com", "last.example.com")
	o.real(t, "3128", "")
	for _, connect := range []string{"address", "name"} {
		t.Run(connect, func(t *testing.T) {
			last := ""
			if connect == "address" {
				last = "- {for: last.example.com, via: ['http://" + beside + ":9', direct]}\n"
			}
			g := o.withParents(t, "rules: '*.example.com'\nlistenSOCKS: ':1080'\nparents:\n- {for: dead.example.com, via: 'http://"+beside+":9', connect: "+connect+"}\n"+last+"- {via: 'http://"+beside+":3128', connect: "+connect+"}\n")
			ask := func(url string) program.Output {
				return program.Command(t, o.Client, nil, "curl", "-sS", "--cacert", o.CA.File, "--socks5-hostname", socksAddr, url)
			}
			wire := o.ServerA.Capture(t)
			for i, scheme := range []string{"http://", "https://"} {
				assert.Equal(t, viaParent, lastLine(ask(scheme+"api.example.com/").Out))
				assert.Equal(t, "http://"+beside+":3128", g.lastParent(i+1))
			}
			got := ask("https://dead.example.com/")
			assert.Equal(t, 97, got.Status, got.Err)
			assert.Contains(t, got.Err, "(5)", "connection refused")
			for _, p := range o.Seen(t, wire, nettest.ServerAV4) {
				assert.NotContains(t, p.String(), nettest.SourceV4, "nothing goes directly")
			}
			if last != "" {
				assert.Equal(t, directly, lastLine(ask("https://last.example.com/").Out))
			}
		})
	}
}

// Requests inside opened tunnels go by the parent, in plain or by TLS, who sees TLS and no request; where it
// fails they are told so inside.
func TestParentsOfInspected(t *testing.T) {
	authority := newAuthority(t)
	dir := t.TempDir()
	cert, key := nettest.WriteFiles(t, dir, "parent", authority.serverConfig(beside).Certificates[0])
	for _, url := range []string{"http://" + beside + ":3128", "https://" + beside + ":3129"} {
		t.Run(url, func(t *testing.T) {
			ca := ""
			if strings.HasPrefix(url, "https:") {
				ca = ", ca: " + authority.File
			}
			o := newInspected(t, apiHosts+fmt.Sprintf("parents: [{for: api.example.com, via: {url: %q%s}}]\n", url, ca))
			// In its tunnels connections lie idle.
			parent := o.real(t, "3128", fmt.Sprintf("rules: '*'\nlistenTLS: %s:3129\ntlsCert: %s\ntlsKey: %s\n", beside, cert, key), "--drain-timeout", "1s")
			o.insideParent(t, url, parent)
		})
	}
}

func (o *inspected) insideParent(t *testing.T, url string, parent *gateway) {
	for range 2 {
		for _, version := range []string{"--http1.1", "--http2"} {
			got := o.askBy(t, version, "https://api.example.com/repos/acme/x")
			assert.Contains(t, got.Out, " 200", got.Err)
			got = o.askBy(t, version, "https://api.example.com/other")
			assert.Contains(t, got.Out, " 403", got.Err)
		}
	}
	seen := o.got()
	require.Len(t, seen, 4)
	for _, r := range seen {
		assert.True(t, strings.HasPrefix(r.RemoteAddr, beside+":"), r.RemoteAddr)
		assert.Equal(t, "Bearer "+secret, r.Header.Get("Authorization"))
		assert.Empty(t, r.Header.Get("Proxy-Authorization"))
	}
	parent.Signal(syscall.SIGTERM)
	parent.Exit()
	lines := strings.Join(parent.AccessLog(), "\n")
	assert.Equal(t, 2, strings.Count(lines, `"method":"CONNECT","target":"203.0.113.10:443"`), "one for each version: %s", lines)
	assert.NotContains(t, lines, "repos")
	for _, version := range []string{"--http1.1", "--http2"} {
		nettest.Eventually(t, "what was open is gone", func() bool {
			got := o.askBy(t, version, "https://api.example.com/repos/acme/x")
			return strings.Contains(got.Out, " 502") && strings.Contains(got.Out, "parent proxy "+url+": connect to "+strings.SplitN(url, "//", 2)[1]+": connection refused")
		})
	}
	assert.Empty(t, o.got(), "nothing went directly")
}

// sluice tcp goes directly, and says so to who thinks otherwise.
func TestParentsOfTCP(t *testing.T) {
	for config, want := range map[string]string{
		"destinations: 80 127.0.0.1\nparents: [{via: 'http://127.0.0.1:1'}]\n":                                                       `unknown key "parents"`,
		"destinations: 80 127.0.0.1\ntenants: [{name: a, clients: 192.0.2.1, rules: '*', parents: [{via: 'http://127.0.0.1:1'}]}]\n": `tenant a has "parents", which are for sluice proxy: sluice tcp goes to its destinations directly; leave them out`,
	} {
		p := program.Launch(t, program.Setup{Command: "tcp", Config: config})
		assert.Equal(t, 2, p.Exit())
		assert.Contains(t, p.Stderr(), want)
	}
}
