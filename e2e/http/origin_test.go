//go:build linux

package http

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// authority is a CA that lives as long as the test.
type authority struct {
	File string // of its certificate, PEM

	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, File: filepath.Join(t.TempDir(), "ca.pem")}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der := a.sign(template, nil)
	var err error
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(a.File, text, 0o644)) //nolint:gosec // apt reads it as another user
	return a
}

// sign makes a certificate for the CA itself, which makes its key, or for key.
func (a *authority) sign(template *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	a.t.Helper()
	var err error
	if key == nil {
		a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(a.t, err)
		key, a.cert = a.key, template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	require.NoError(a.t, err)
	return der
}

// serverConfig has a certificate for the names and addresses.
func (a *authority) serverConfig(hosts ...string) *tls.Config {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Test server"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{a.sign(template, key)}, PrivateKey: key}}}
}

// serve runs a web server on l until the test ends; config is nil for http.
func serve(t testing.TB, l net.Listener, config *tls.Config, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	require.NoError(t, s.Listener.Close())
	s.Listener, s.TLS, s.EnableHTTP2 = l, config, true
	if config != nil {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

// witness answers with its name and the address that it sees.
func witness(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s saw %s\n", name, netip.MustParseAddrPort(r.RemoteAddr).Addr())
	})
}

// outside is a topology with web servers on ports 80 and 443 of all the servers'
// addresses, and DNS.
type outside struct {
	*nettest.Topology
	CA  *authority
	DNS *nettest.DNS

	names atomic.Int32 // given out by newName
}

// proxyURL is where clients in the client pod find the proxy.
const proxyURL = "http://" + nettest.PodV4 + ":8080"

var sources = []string{"--source", nettest.SourceV4, "--source", nettest.SourceV6}

func newOutside(t testing.TB) *outside {
	t.Helper()
	o := &outside{Topology: nettest.NewTopology(t), CA: newAuthority(t)}
	o.DNS = o.Topology.DNS(t)
	o.serveAt(t, o.ServerA, witness("server-a"), nettest.ServerAV4, nettest.ServerAV6)
	o.serveAt(t, o.ServerB, witness("server-b"), nettest.ServerBV4, nettest.ServerBV6,
		nettest.FarV4, nettest.FarV6)
	return o
}

// serveAt serves h on ports 80 and 443 of addrs, with a certificate for those and
// for all names of example.com.
func (o *outside) serveAt(t testing.TB, ns *nettest.Netns, h http.Handler, addrs ...string) {
	t.Helper()
	config := o.CA.serverConfig(append(addrs, "*.example.com", "example.com")...)
	for _, a := range addrs {
		serve(t, ns.Listen(net.JoinHostPort(a, "80")), nil, h)
		serve(t, ns.Listen(net.JoinHostPort(a, "443")), config, h)
	}
}

// gateway runs the program in the egress pod, with both sources and the scripted
// DNS server, unless args say otherwise.
func (o *outside) gateway(t testing.TB, rules string, args ...string) *gateway {
	t.Helper()
	args = append([]string{"--resolver", nettest.NodeV4, "--connect-timeout", "5s"}, args...)
	if !hasFlag(args, "--source") {
		args = append(args, sources...)
	}
	return start(t, program.Setup{Netns: o.Egress, Rules: rules, Args: args})
}

func hasFlag(args []string, flag string) bool {
	for _, a := range args {
		if a == flag {
			return true
		}
	}
	return false
}

// curl runs curl in the client pod. Out holds the heads of all answers, those to
// CONNECT too, and the body.
func (o *outside) curl(t testing.TB, args ...string) program.Output {
	t.Helper()
	return program.Command(t, o.Client, nil, "curl",
		append([]string{"--silent", "--show-error", "--include", "--max-time", "60",
			"--proxy", proxyURL, "--cacert", o.CA.File}, args...)...)
}
