//go:build linux

package http

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/docs"
	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// newRecipe is a gateway with the file that stands beneath a heading of docs/inspect.md, in front of
// a server that is host. The credential that the file names is the secret.
func newRecipe(t testing.TB, heading, host, credential string) *inspected {
	t.Helper()
	o := &inspected{}
	o.outside, o.mux = newServers(t, o.note)
	o.DNS.Set(host, nettest.Addrs(nettest.ServerBV4))
	serve(t, o.ServerB.Listen(nettest.ServerBV4+":443"), o.outside.CA.serverConfig(host), o.note(o.mux))
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "ca"), 0o700))
	o.CA = filepath.Join(dir, "ca", "tls.crt")
	succeed(t, nil, program.Racy(t), "inspect", "ca", host, "--cert", o.CA, "--key", filepath.Join(dir, "ca", "tls.key"))
	if credential != "" {
		o.write(t, filepath.Join(dir, credential), secret+"\n")
	}
	config := docs.Blocks(docs.Section(t, "../../docs/inspect.md", heading), "yaml")
	require.Len(t, config, 1)
	o.g = start(t, program.Setup{Netns: o.Egress, Config: strings.ReplaceAll(config[0], "/etc/sluice/", dir+"/"),
		Args: append([]string{"--resolver", nettest.NodeV4, "--upstream-ca", o.outside.CA.File}, sources...)})
	return o
}

// requests asks for each of them, METHOD URL, and wants its status, with what is said behind it.
func (o *inspected) requests(t *testing.T, want map[string]string, args ...string) {
	t.Helper()
	for request, status := range want {
		method, url, _ := strings.Cut(request, " ")
		args := append([]string{"-X", method, url}, args...)
		if method == "HEAD" {
			args[0], args[1] = "--head", "--silent"
		}
		o.got()
		out := o.ask(t, args...)
		assert.Contains(t, lastStatus(out.Out), status, "%s: %s", request, out.Err)
		assert.NotContains(t, out.Out+out.Err, secret, request)
		if !strings.HasPrefix(status, "200") {
			assert.Empty(t, o.got(), request)
		}
		if strings.HasPrefix(status, "403 ") {
			assert.Contains(t, out.Out, "\r\n\r\nsluice: 403 Egress denied\n\nAsked for:    "+method+" ", "who reads it knows what to ask for")
		}
	}
}

const none = "403 Egress denied: no request rule allows it"

func TestRecipeGitHub(t *testing.T) {
	const at = "https://api.github.com"
	o := newRecipe(t, "### GitHub, read-only, by a token that the client never has", "api.github.com", "github")
	o.requests(t, map[string]string{
		"GET " + at + "/repos/acme/app/issues?state=open": "200", "HEAD " + at + "/repos/acme/app": "200", "GET " + at + "/orgs/acme/repos": "200", "GET " + at + "/rate_limit": "200",
		"GET " + at + "/repos/other/app": none, "GET " + at + "/user": none, "GET " + at + "/user/repos": none, "GET " + at + "/repos/acme-evil/app": none,
		"POST " + at + "/graphql": none, "POST " + at + "/repos/acme/app/issues": none, "PATCH " + at + "/repos/acme/app": none, "PUT " + at + "/repos/acme/app/contents/x": none,
		"DELETE " + at + "/repos/acme/app": none, "OPTIONS " + at + "/repos/acme/app": none,
		"GET " + at + "/repos/acme/../other/app": "400 Bad Request: malformed path: a dot segment", "GET " + at + "/repos/acme/..%2f..%2fuser": "400 ",
		"GET http://api.github.com/repos/acme/app": "403 Egress denied: credentials are put in for this host, which go by TLS only",
	}, "-H", "Authorization: Bearer none")
	o.got()
	o.ask(t, at+"/repos/acme/app") // none of its own
	o.ask(t, "-H", "Authorization: Bearer none", at+"/repos/acme/app")
	got := o.got()
	require.Len(t, got, 2)
	for _, r := range got {
		assert.Equal(t, []string{"Bearer " + secret}, r.Header["Authorization"])
	}
	_, page := o.g.Ask("/")
	assert.NotContains(t, page+o.g.Stdout()+o.g.Stderr(), secret)
}

// A repository can be cloned through the gateway, and not be pushed to.
func TestRecipeGit(t *testing.T) {
	nettest.Need(t, "git")
	const at = "https://git.example.com/git/repo.git"
	o := newRecipe(t, "### git: clone yes, push no", "git.example.com", "")
	head := newRepository(t, o.mux)
	env := append(append([]string{"GIT_SSL_CAINFO=" + o.CA}, gitEnv...), proxyEnv...)
	dir := filepath.Join(t.TempDir(), "clone")
	got := program.Command(t, o.Client, env, "git", "clone", "-q", at, dir)
	require.Equal(t, 0, got.Status, got.Err)
	require.Equal(t, head, succeed(t, gitEnv, "git", "-C", dir, "rev-parse", "HEAD"))

	require.NoError(t, os.WriteFile(filepath.Join(dir, "more"), []byte("more"), 0o600))
	succeed(t, gitEnv, "git", "-C", dir, "add", "more")
	succeed(t, gitEnv, "git", "-C", dir, "commit", "-q", "-m", "more")
	got = program.Command(t, o.Client, env, "git", "-C", dir, "push", "-q", "origin", "main")
	assert.NotEqual(t, 0, got.Status)
	assert.Contains(t, got.Err, "403")
	assert.Contains(t, got.Err, "remote: Decided by:   no request rule allows it")
	assert.Equal(t, head, strings.Fields(program.Command(t, o.Client, env, "git", "ls-remote", at, "main").Out)[0])
	o.requests(t, map[string]string{
		"POST " + at + "/git-receive-pack": none, "GET " + at + "/info/refs": none, "GET " + at + "/info/refs?service=git-upload-pack&x=1": none,
		"GET " + at + "/info/refs?service=git-receive-pack": none, "GET " + at + "/info/refs?service=git-upload-pack&service=git-receive-pack": none,
		"POST " + at + "/info/lfs/objects/batch": none, "GET " + at + "/info/refs?service=git%2dupload-pack": none,
	})
}

func TestRecipeModel(t *testing.T) {
	const at = "https://api.anthropic.com/v1"
	o := newRecipe(t, "### An API of a language model: two paths, and bodies of bounded size", "api.anthropic.com", "model")
	next := make(chan struct{})
	o.mux.HandleFunc("POST /v1/messages", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if n > 1<<20 || err != nil {
			return // what is too large comes to no end
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "event: delta\ndata: %d of %s\n\n", i, r.Header["X-Api-Key"])
			http.NewResponseController(w).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
		}
	})
	o.requests(t, map[string]string{
		"GET " + at + "/models": "200", "GET " + at + "/models/one": none, "POST " + at + "/models": none, "GET " + at + "/messages": none,
		"POST " + at + "/messages/batches": none, "POST " + at + "/messages/": none, "POST " + at + "/complete": none, "GET " + at + "/organizations/api_keys": none, "GET " + at + "/files": none,
		"POST " + at + "//messages": "403", "POST " + at + "/messages%2f..%2ffiles": "400 ", "POST " + at + "/x/../messages": "400 ",
	})

	large := filepath.Join(t.TempDir(), "large")
	require.NoError(t, os.WriteFile(large, bytes.Repeat([]byte("x"), 1<<20+1), 0o600))
	for _, framing := range []string{"X-A: b", "Transfer-Encoding: chunked"} {
		out := o.ask(t, "-H", framing, "--data-binary", "@"+large, at+"/messages")
		assert.Contains(t, out.Out, "413 Request Entity Too Large: a body of more than 1048576 bytes (maxBody of api.anthropic.com)", out.Err)
	}

	// Each event is there before the next one is sent.
	cmd := exec.Command("curl", "-sSN", "--max-time", "60", "--proxy", proxyURL, "--cacert", o.CA, "-H", "x-api-key: none", "--data-binary", `{"stream":true}`, at+"/messages?beta=true")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, o.Client.Start(cmd))
	for i := range 3 {
		event := make([]byte, len("event: delta\ndata: 0 of []\n\n")+len(secret))
		_, err := io.ReadFull(out, event)
		require.NoError(t, err)
		assert.Equal(t, fmt.Sprintf("event: delta\ndata: %d of [%s]\n\n", i, secret), string(event), "a body is not searched")
		select {
		case next <- struct{}{}:
		case <-time.After(time.Minute):
			t.Fatal("the server has gone")
		}
	}
	rest, err := io.ReadAll(out)
	require.NoError(t, err)
	assert.Empty(t, rest)
	require.NoError(t, cmd.Wait())
}
