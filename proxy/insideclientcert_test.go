package proxy

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

const (
	wantsCertificate = "the server wants a certificate of its client (passthrough: true lets an inspected host have it)"
	renegotiates     = "the server wants TLS agreed on anew, as for a certificate of its client (passthrough: true lets an inspected host have that)"
)

// getBy asks by that protocol, and returns the answer's status and what it says.
func (g *insideGate) getBy(t testing.TB, proto string) (status int, page string) {
	t.Helper()
	if proto == "h2" {
		resp := g.ask(t, g.h2(t), "GET", "/", nil)
		return resp.StatusCode, all(t, resp)
	}
	c := g.tunnel(t, proto)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+g.target+"\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	return resp.StatusCode, all(t, resp)
}

// A client is told of a server that wants a certificate of it, and what to do, whatever either side speaks
// and whether the server says so in the handshake or behind it.
func TestServerWantsCertificate(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, up := range [][]string{{"h2"}, {"h2", "http/1.1"}, {"http/1.1"}} {
			for _, down := range []string{"h2", "http/1.1"} {
				t.Run(fmt.Sprintf("%s, server %s, client %s", tls.VersionName(version), up, down), func(t *testing.T) {
					of := nettest.NewCA(t)
					config := &tls.Config{NextProtos: up, MinVersion: version, MaxVersion: version, ClientAuth: tls.RequireAnyClientCert,
						Certificates: []tls.Certificate{of.Issue("api.test")}}
					addr, _ := secureServer(t, config, func(*tls.Conn) { t.Error("the server takes a client without") })
					g := &insideGate{}
					g.use(t, of.Pool, addr, nil)
					for range 2 {
						status, page := g.getBy(t, down)
						assert.Equal(t, 502, status)
						assert.Contains(t, page, wantsCertificate)
					}
				})
			}
		}
	}
}

// So it is with a server that asks for one when it has seen the request, which TLS 1.2 lets it do.
func TestServerRenegotiates(t *testing.T) {
	nettest.Need(t, "openssl")
	for _, up := range []string{"h2", "http/1.1"} {
		for _, down := range []string{"h2", "http/1.1"} {
			t.Run("server "+up+", client "+down, func(t *testing.T) {
				of := nettest.NewCA(t)
				g := &insideGate{}
				g.use(t, of.Pool, renegotiating(t, of.Issue("api.test"), up), nil)
				status, page := g.getBy(t, down)
				assert.Equal(t, 502, status)
				assert.Contains(t, page, renegotiates)
			})
		}
	}
}

// renegotiating is a server of two connections that asks for a certificate when something has come.
func renegotiating(t testing.TB, cert tls.Certificate, proto string) (addr string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pem")
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	require.NoError(t, err)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	for _, der := range cert.Certificate {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	require.NoError(t, os.WriteFile(file, text, 0o600))
	cmd := exec.CommandContext(t.Context(), "openssl", "s_server", "-accept", "127.0.0.1:0", "-naccept", "2", "-tls1_2", "-alpn", proto, "-cert", file, "-key", file)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() && addr == "" {
		if rest, ok := strings.CutPrefix(lines.Text(), "ACCEPT "); ok {
			_, port, err := net.SplitHostPort(rest)
			require.NoError(t, err)
			addr = "127.0.0.1:" + port
			break
		}
	}
	require.NotEmpty(t, addr)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines.Scan() {
			if strings.Contains(lines.Text(), " HTTP/") { // of a request, or what HTTP/2 begins with
				io.WriteString(in, "R\n")
			}
		}
		_ = cmd.Wait()
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-done })
	return addr
}
