//go:build linux

package http

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// badServer is one that shows what a case makes of good certificates, and what a client is told
// of it.
type badServer struct {
	name string
	make func(*chain)
	want string // in the reason
}

// chain is what a server shows: a leaf, signed by an intermediate, signed by a root.
type chain struct {
	t                 testing.TB
	root              *authority
	leaf, middle      *x509.Certificate // templates
	leafKey           crypto.Signer
	shown             crypto.Signer // nil: leafKey
	selfSigned, alone bool          // alone: the intermediate is not sent along
}

func newChain(t testing.TB, root *authority) *chain {
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	}
	c := &chain{t: t, root: root, leaf: template("Leaf"), middle: template("Intermediate"), leafKey: newP256(t)}
	c.leaf.DNSNames, c.leaf.KeyUsage, c.leaf.ExtKeyUsage = []string{"api.example.com"}, x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	c.middle.IsCA, c.middle.BasicConstraintsValid, c.middle.KeyUsage = true, true, x509.KeyUsageCertSign
	return c
}

func newP256(t testing.TB) crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

func newRSA(t testing.TB, bits int) crypto.Signer {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	require.NoError(t, err)
	return key
}

// build signs, and is what the server shows.
func (c *chain) build() tls.Certificate {
	sign := func(template, parent *x509.Certificate, of crypto.Signer, by crypto.Signer) []byte {
		der, err := x509.CreateCertificate(rand.Reader, template, parent, of.Public(), by)
		require.NoError(c.t, err)
		return der
	}
	shown := tls.Certificate{PrivateKey: c.leafKey}
	if c.shown != nil {
		shown.PrivateKey = c.shown
	}
	if c.selfSigned {
		shown.Certificate = [][]byte{sign(c.leaf, c.leaf, c.leafKey, c.leafKey)}
		return shown
	}
	var key crypto.Signer = newP256(c.t)
	if c.leaf.SignatureAlgorithm == x509.SHA1WithRSA {
		key = newRSA(c.t, 2048)
	}
	middle := sign(c.middle, c.root.cert, key, c.root.key)
	parsed, err := x509.ParseCertificate(middle)
	require.NoError(c.t, err)
	shown.Certificate = append(shown.Certificate, sign(c.leaf, parsed, c.leafKey, key))
	if !c.alone {
		shown.Certificate = append(shown.Certificate, middle)
	}
	return shown
}

func badServers(t testing.TB) []badServer {
	past, future := time.Now().Add(-time.Minute), time.Now().Add(time.Minute)
	return []badServer{
		{"expired", func(c *chain) { c.leaf.NotAfter = past }, "certificate has expired or is not yet valid: current time "},
		{"not yet valid", func(c *chain) { c.leaf.NotBefore = future }, "certificate has expired or is not yet valid: current time "},
		{"an intermediate that has expired", func(c *chain) { c.middle.NotAfter = past }, "certificate has expired or is not yet valid"},
		{"another name", func(c *chain) { c.leaf.DNSNames = []string{"other.example.com"} }, "certificate is valid for other.example.com, not api.example.com"},
		{"a star that is too short", func(c *chain) { c.leaf.DNSNames = []string{"*.com"} }, "certificate is valid for *.com, not api.example.com"},
		{"a name as common name alone", func(c *chain) { c.leaf.DNSNames, c.leaf.Subject.CommonName = nil, "api.example.com" }, "certificate relies on legacy Common Name field, use SANs instead"},
		{"self-signed", func(c *chain) { c.selfSigned = true }, "certificate signed by unknown authority"},
		{"an unknown CA", func(c *chain) { c.root = newAuthority(t) }, "certificate signed by unknown authority"},
		{"no intermediate", func(c *chain) { c.alone = true }, "certificate signed by unknown authority"},
		{"an intermediate that is no CA", func(c *chain) { c.middle.IsCA = false }, "parent certificate cannot sign this kind of certificate"},
		{"an intermediate without basic constraints", func(c *chain) { c.middle.IsCA, c.middle.BasicConstraintsValid = false, false }, "parent certificate cannot sign this kind of certificate"},
		{"name constraints", func(c *chain) {
			c.middle.PermittedDNSDomainsCritical, c.middle.PermittedDNSDomains = true, []string{"example.net"}
		}, `a root or intermediate certificate is not authorized to sign for this name`},
		{"for clients", func(c *chain) { c.leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, "certificate specifies an incompatible key usage"},
		{"a critical extension that nobody knows", func(c *chain) {
			c.leaf.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Critical: true, Value: []byte{5, 0}}}
		}, "unhandled critical extension"},
		{"SHA-1", func(c *chain) { c.leaf.SignatureAlgorithm = x509.SHA1WithRSA }, "insecure algorithm SHA1-RSA"},
		{"RSA of 1024 bits", func(c *chain) { c.leafKey = newRSA(t, 1024) }, "the key of CN=Leaf is RSA of 1024 bits, and 2048 are wanted"},
		{"somebody else's key", func(c *chain) { c.shown = newP256(t) }, "invalid signature by the server certificate"},
	}
}

// A server whose certificate does not stand up gets nothing, least of all the credential; the client
// is told which check has failed, by a certificate that does stand up.
func TestInspectBadCertificates(t *testing.T) {
	o := newInspected(t, "\n  - host: api.example.com:9000-9099\n    requests: '*'\n    headers:\n      Authorization: {file: TOKEN}\n")
	all := append(badServers(t), badServer{"good", func(*chain) {}, ""}, badServer{"RSA of 2048 bits", func(c *chain) { c.leafKey = newRSA(t, 2048) }, ""})
	for i, c := range all {
		t.Run(c.name, func(t *testing.T) {
			shown := newChain(t, o.outside.CA)
			c.make(shown)
			port := fmt.Sprint(9000 + i)
			got := listenTo(t, o.ServerA.Listen(net.JoinHostPort(nettest.ServerAV4, port)), &tls.Config{Certificates: []tls.Certificate{shown.build()}})
			out := o.ask(t, "https://api.example.com:"+port+"/")
			status := lastStatus(out.Out)
			if c.want == "" {
				assert.Equal(t, "204 No Content", status, out.Out+out.Err)
				assert.Contains(t, got(), secret)
				return
			}
			assert.Contains(t, status, "502 Bad Gateway: TLS with api.example.com: ", out.Err)
			assert.Contains(t, out.Out, c.want)
			assert.Empty(t, got(), "of what is meant for another")
		})
	}
}

// lastStatus is the status of the last answer, without its version.
func lastStatus(heads string) (last string) {
	for line := range strings.SplitSeq(heads, "\r\n") {
		if rest, ok := strings.CutPrefix(line, "HTTP/1.1 "); ok {
			last = rest
		}
	}
	return last
}

// listenTo takes what comes inside TLS, and answers each connection with 204; got is all that has
// come up to now, of connections that have ended.
func listenTo(t testing.TB, l net.Listener, config *tls.Config) (got func() string) {
	var all strings.Builder
	var mu sync.Mutex
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s := tls.Server(c, config)
			b := make([]byte, 4096)
			n, _ := s.Read(b)
			mu.Lock()
			all.Write(b[:n])
			mu.Unlock()
			if n > 0 {
				_, _ = io.WriteString(s, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
			}
			_ = s.Close()
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return func() string {
		_ = l.Close()
		wg.Wait()
		return all.String()
	}
}
