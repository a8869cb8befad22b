package config

import (
	"encoding/pem"
	"testing"
	"time"

	"crypto/tls"
	"crypto/x509"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// inPEM is a certificate and its key as their files have them.
func inPEM(t testing.TB, c tls.Certificate) (cert, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// What listens with TLS has a certificate and its key, and what is of no use is an error.
func TestKeys(t *testing.T) {
	t.Parallel()
	ca := nettest.NewCA(t)
	own, other, old := ca.Issue("127.0.0.1"), ca.Issue("127.0.0.1"), ca.IssueUntil(time.Now().Add(-time.Minute), "127.0.0.1")
	files := map[string]string{"/ca": string(ca.PEM), "/empty": ""}
	files["/own"], files["/own.key"] = inPEM(t, own)
	_, files["/other.key"] = inPEM(t, other)
	files["/old"], files["/old.key"] = inPEM(t, old)
	files["/cut"] = files["/own"] + files["/ca"][:len(files["/ca"])-60]
	load := func(file string) (*Proxy, error) {
		files["/f"] = "rules: '*'\n" + file
		return given{args: []string{"--config=/f"}, files: files}.load(t)
	}
	p, err := load("listenTLS: ':8443'\ntlsCert: /own\ntlsKey: /own.key\nclientCA: /ca\nauthenticate: required\nproxyProtocolFrom: [10.0.0.0/8, 192.0.2.1]\n")
	require.NoError(t, err)
	require.Equal(t, []string{"/f", "/own", "/own.key", "/ca"}, p.Watch)
	require.Equal(t, []string{":8443"}, p.ListenTLS)
	require.NotNil(t, p.Keys.ClientCAs)
	require.Len(t, p.ProxyProtocolFrom, 2)
	p, err = load("listenTLS: ':8443'\ntlsCert: /own\ntlsKey: /own.key\n")
	require.NoError(t, err)
	require.Nil(t, p.Keys.ClientCAs, "clients are asked for none")
	p, err = load("listenTLS: ':8443'\ntlsCert: /old\ntlsKey: /old.key\n")
	require.NoError(t, err)
	require.Equal(t, "/f:3: /old has ended on "+old.Leaf.NotAfter.UTC().Format(time.DateOnly)+": clients will not accept it", p.Warnings.Error())

	for file, want := range map[string]string{
		"listenTLS: ':8443'\n":                                                  "/f:2: there is nothing to show clients: name the files of a certificate and its key (--tls-cert, --tls-key)",
		"listenTLS: ':8443'\ntlsCert: /own\n":                                   "/f:2: there is nothing to show clients: name the files of a certificate and its key (--tls-cert, --tls-key)",
		"listenTLS: ':8443'\ntlsCert: /own\ntlsKey: /none\n":                    "/f:4: open /none: file does not exist",
		"listenTLS: ':8443'\ntlsCert: /own\ntlsKey: /other.key\n":               "/f:3: /own and /other.key are no certificate and its key: tls: private key does not match public key",
		"listenTLS: ':8443'\ntlsCert: /own\ntlsKey: /own.key\nclientCA: /empty": "/f:5: /empty holds no certificate in PEM form",
		"listenTLS: ':8080'\ntlsCert: /own\ntlsKey: /own.key\n":                 "/f:2: :8080 is where the proxy listens without TLS already",
		"listenSOCKS: [':1080', ':8080']\n":                                     "/f:2: :8080 is where the proxy listens for clients of HTTP already",
		"tlsCert: /own\nclientCA: /ca\n": "/f:2: nobody listens with it: name an address with listenTLS (--listen-tls)\n" +
			"/f:3: nobody listens with it: name an address with listenTLS (--listen-tls)",
		"listenTLS: ':8443'\ntlsCert: /own\ntlsKey: /own.key\nclientCA: /cut\n": "/f:5: /cut is cut off, or damaged, behind certificate 1",
		"listenTLS: ':8443'\ntlsCert: /cut\ntlsKey: /own.key\n":                 "/f:3: /cut is cut off, or damaged, behind certificate 1",
		"proxyProtocolFrom: lb\n":                                               `/f:2: "lb" is neither ADDR nor ADDR/LEN`,
	} {
		_, err := load(file)
		require.EqualError(t, err, want, file)
	}
}
