//go:build linux

package kube

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// ask is a client at that address, with a token as the password if there is one: what the
// server saw, or the status.
func ask(t testing.TB, g *program.Program, from, token, target string) string {
	t.Helper()
	proxy := &url.URL{Scheme: "http", Host: g.Addr}
	if token != "" {
		proxy.User = url.UserPassword("token", token)
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), DialContext: dialer.DialContext}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get(target)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	if resp.StatusCode != 200 {
		return fmt.Sprint(resp.StatusCode)
	}
	return string(body)
}

// The gateway takes a client for a tenant's by the namespace of the pod that has its address,
// and by a token of a service account that it shows, wherever it comes from; what it knew
// stays while sluice-kube is away.
func TestGatewayKnowsPodsAndTokens(t *testing.T) {
	c := use(t)
	shop, ci := c.namespace(t, "shop"), c.namespace(t, "ci")
	for _, name := range []string{"builder", "other"} {
		_, err := c.CoreV1().ServiceAccounts(ci).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	const ofShop, ofCI, nobody = "127.0.0.31", "127.0.0.32", "127.0.0.33"
	web := c.pod(t, shop, "web", ofShop)
	c.pod(t, ci, "job", ofCI)

	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprint(w, "saw "+host+" "+r.Header.Get("Proxy-Authorization"))
	}))
	defer server.Close()
	socket := filepath.Join(t.TempDir(), "s")
	k := c.run(t, socket, nil)
	g := program.Start(t, program.Setup{Config: `source: [127.0.1.31, 127.0.1.32]
directory: ` + socket + `
authenticate: optional
tenants:
- {name: shop, namespaces: ` + shop + `, source: 127.0.1.31, rules: "127.0.0.1"}
- {name: builders, serviceAccounts: ` + ci + `/builder, source: 127.0.1.32, rules: "127.0.0.1"}
`})
	nettest.Eventually(t, "the pods are known", func() bool { return ask(t, g, ofShop, "", server.URL) == "saw 127.0.1.31 " })
	assert.Equal(t, "saw 127.0.1.32 ", ask(t, g, ofCI, "", server.URL), "by its pod's service account")
	assert.Equal(t, "407", ask(t, g, nobody, "", server.URL), "a token might lift that")
	good := c.token(t, ci, "builder", nil, "sluice")
	assert.Equal(t, "saw 127.0.1.32 ", ask(t, g, nobody, good, server.URL))
	assert.Equal(t, "saw 127.0.1.31 ", ask(t, g, ofShop, good, server.URL), "the first tenant that either fits")
	assert.Equal(t, "407", ask(t, g, nobody, c.token(t, ci, "builder", nil, "other"), server.URL), "made for somebody else")
	assert.Equal(t, "403", ask(t, g, nobody, c.token(t, ci, "other", nil, "sluice"), server.URL), "no tenant's account")
	assert.Equal(t, "407", ask(t, g, nobody, good[:len(good)-4]+"AAAA", server.URL), "a forged one")

	nettest.Eventually(t, "the log has it", func() bool {
		all := strings.Join(g.AccessLog(), "\n")
		return strings.Contains(all, `"tenant":"shop","namespace":"`+shop+`","pod":"web",`) && strings.Contains(all, `"tenant":"builders","user":"`+ci+`/builder",`)
	})
	assert.NotContains(t, strings.Join(g.AccessLog(), "")+g.Stderr(), good)

	c.remove(t, web)
	nettest.Eventually(t, "whose pod is gone is nobody", func() bool { return ask(t, g, ofShop, "", server.URL) == "407" })
	c.pod(t, shop, "web-2", ofShop)
	nettest.Eventually(t, "the pod is back", func() bool { return ask(t, g, ofShop, "", server.URL) == "saw 127.0.1.31 " })
	k.end()
	nettest.Eventually(t, "the page says so", func() bool { _, page := g.Ask("/"); return strings.Contains(page, "not connected for ") })
	assert.Equal(t, "saw 127.0.1.31 ", ask(t, g, ofShop, "", server.URL), "the last known state stays")
	assert.Equal(t, "saw 127.0.1.32 ", ask(t, g, nobody, good, server.URL), "and so does a verdict, for a minute")
	assert.Equal(t, "503", ask(t, g, nobody, c.token(t, ci, "builder", nil, "sluice", "more"), server.URL), "one that is new cannot be verified")
	status, _ := g.Ask("/readyz")
	assert.Equal(t, 200, status)
	c.run(t, socket, nil)
	nettest.Eventually(t, "it is asked again", func() bool {
		return ask(t, g, "127.0.0.34", c.token(t, ci, "builder", nil, "sluice", "again"), server.URL) == "saw 127.0.1.32 "
	})
}

// A flood of wrong tokens from one client costs the API server a few questions, and others nothing
// but the time of the processor.
func TestWrongTokensCostLittle(t *testing.T) {
	c := use(t)
	ci := c.namespace(t, "ci")
	_, err := c.CoreV1().ServiceAccounts(ci).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "builder"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "ok") }))
	defer server.Close()
	socket := filepath.Join(t.TempDir(), "s")
	c.run(t, socket, nil)
	g := program.Start(t, program.Setup{Config: "directory: " + socket + "\nauthenticate: required\ntenants:\n- {name: ci, serviceAccounts: " + ci + "/builder, rules: \"127.0.0.1\"}\nguard: \"off\"\n"})
	good := c.token(t, ci, "builder", nil, "sluice")
	nettest.Eventually(t, "tokens are judged", func() bool { return ask(t, g, "127.0.0.41", good, server.URL) == "ok" })
	before := c.requests(t, "tokenreviews")["POST"]
	const many = 5000
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.42")}}).Dial("tcp", g.Addr)
	require.NoError(t, err)
	defer conn.Close()
	r := bufio.NewReader(conn)
	for i := range many {
		fmt.Fprintf(conn, "GET %s/ HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Bearer %s%08d\r\n\r\n", server.URL, good[:len(good)-8], i)
		res, err := http.ReadResponse(r, nil)
		require.NoError(t, err)
		io.Copy(io.Discard, res.Body)
		require.Equal(t, 407, res.StatusCode)
		if i%1000 == 0 {
			other := c.token(t, ci, "builder", nil, "sluice", fmt.Sprint(i)) // that nobody has asked about
			require.Equal(t, "ok", ask(t, g, "127.0.0.43", other, server.URL))
		}
	}
	asked := c.requests(t, "tokenreviews")["POST"] - before
	t.Logf("%d wrong tokens, and 5 good ones: %d questions", many, asked)
	assert.Less(t, asked, 100)
}

// The gateway begins anew: it knows the pods from its first clients on, also while the API
// server is away. A token is good until it ends, however long its verdict could be kept.
func TestGatewayRestarts(t *testing.T) {
	c := use(t)
	shop, ci := c.namespace(t, "shop"), c.namespace(t, "ci")
	_, err := c.CoreV1().ServiceAccounts(ci).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "builder"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	const ofShop, nobody = "127.0.0.41", "127.0.0.42"
	web := c.pod(t, shop, "web", ofShop)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	defer server.Close()
	socket := filepath.Join(t.TempDir(), "s")
	c.run(t, socket, nil)
	start := func() *program.Program {
		return program.Start(t, program.Setup{Config: "directory: " + socket + `
authenticate: optional
tenants:
- {name: shop, namespaces: ` + shop + `, rules: "127.0.0.1"}
- {name: ci, serviceAccounts: ` + ci + `/*, rules: "127.0.0.1"}
`})
	}
	g := start()
	nettest.Eventually(t, "the pod is known", func() bool { return ask(t, g, ofShop, "", server.URL) == "hello" })
	ends := time.Now().Add(4 * time.Second).Truncate(time.Second)
	token := c.resign(t, c.token(t, ci, "builder", nil, "sluice"), ends)
	require.Equal(t, "hello", ask(t, g, nobody, token, server.URL))
	nettest.Eventually(t, "the token ends", func() bool { return ask(t, g, nobody, token, server.URL) == "407" })
	assert.WithinDuration(t, ends, time.Now(), 2*time.Second)

	end := func() {
		g.Signal(syscall.SIGTERM)
		require.Zero(t, g.Exit())
	}
	end()
	c.remove(t, web)
	c.pod(t, ci, "heir", ofShop)
	g = start()
	nettest.Eventually(t, "the heir is known", func() bool { return ask(t, g, ofShop, "", server.URL) == "hello" })
	nettest.Eventually(t, "the log has it", func() bool {
		return strings.Contains(strings.Join(g.AccessLog(), ""), `"tenant":"ci","namespace":"`+ci+`","pod":"heir",`)
	})
	assert.NotContains(t, strings.Join(g.AccessLog(), ""), `"tenant":"shop"`, "what the one before knew is nothing to this")

	end()
	c.down()
	defer func() { require.NoError(t, c.up()) }()
	g = start()
	nettest.Eventually(t, "the last known state is sluice-kube's", func() bool { return ask(t, g, ofShop, "", server.URL) == "hello" })
	assert.Equal(t, "503", ask(t, g, nobody, token, server.URL), "nobody can say that it has ended")
}
