package ca

import (
	"crypto/ecdsa"
	"crypto/tls"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func authority(t testing.TB, names []string, prefixes ...netip.Prefix) (*Authority, []byte) {
	t.Helper()
	cert, key, err := Make("test CA", names, prefixes, time.Now().Add(48*time.Hour))
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(cert, key)
	require.NoError(t, err)
	a, err := New(pair)
	require.NoError(t, err)
	return a, cert
}

func TestCertificate(t *testing.T) {
	a, _ := authority(t, []string{"api.example.com"}, netip.MustParsePrefix("192.0.2.0/24"))
	c, err := a.Certificate("api.example.com")
	require.NoError(t, err)
	leaf := c.Leaf
	assert.Equal(t, []string{"api.example.com"}, leaf.DNSNames)
	assert.Equal(t, "P-256", leaf.PublicKey.(*ecdsa.PublicKey).Params().Name)
	assert.WithinDuration(t, time.Now().Add(24*time.Hour), leaf.NotAfter, time.Minute)
	assert.False(t, leaf.IsCA)
	again, err := a.Certificate("api.example.com")
	require.NoError(t, err)
	assert.Same(t, c, again)

	below, err := a.Certificate("v1.api.example.com")
	require.NoError(t, err)
	assert.NotEqual(t, c.Leaf.SerialNumber, below.Leaf.SerialNumber)
	addr, err := a.Certificate("192.0.2.7")
	require.NoError(t, err)
	assert.Equal(t, "192.0.2.7", addr.Leaf.IPAddresses[0].String())

	for _, host := range []string{"example.com", "api.example.org", "api.example.com.evil.test", "192.0.3.1", "2001:db8::1"} {
		_, err := a.Certificate(host)
		assert.ErrorContains(t, err, "the CA may not sign for "+host+": ", host)
	}
}

// A CA for names is none for addresses, and the other way round.
func TestConstraintsOfEachKind(t *testing.T) {
	names, _ := authority(t, []string{"a.test"})
	_, err := names.Certificate("192.0.2.1")
	assert.Error(t, err)
	_, err = names.Certificate("2001:db8::1")
	assert.Error(t, err)
	addrs, _ := authority(t, nil, netip.MustParsePrefix("2001:db8::/64"))
	_, err = addrs.Certificate("2001:db8::1")
	assert.NoError(t, err)
	_, err = addrs.Certificate("192.0.2.1")
	assert.Error(t, err)
	_, err = addrs.Certificate("a.test")
	assert.Error(t, err)
}

// What is kept is bounded, and what is nearly over is made anew.
func TestKept(t *testing.T) {
	a, _ := authority(t, []string{"test"})
	first, err := a.Certificate("a.test")
	require.NoError(t, err)
	first.Leaf.NotBefore = first.Leaf.NotBefore.Add(-fresh)
	second, err := a.Certificate("a.test")
	require.NoError(t, err)
	assert.NotSame(t, first, second)
	for i := range most {
		a.made[string(rune('a'+i%26))+time.Duration(i).String()] = second
	}
	_, err = a.Certificate("b.test")
	require.NoError(t, err)
	assert.Len(t, a.made, 1)
}

func TestNoCA(t *testing.T) {
	a, _ := authority(t, []string{"test"})
	leaf, err := a.Certificate("a.test")
	require.NoError(t, err)
	_, err = New(*leaf)
	assert.EqualError(t, err, "the certificate is not that of a CA (basicConstraints)")
	_, err = New(tls.Certificate{})
	assert.EqualError(t, err, "there is no certificate")
	cert, key, err := Make("old", []string{"test"}, nil, time.Now().Add(-time.Minute))
	require.NoError(t, err)
	pair, err := tls.X509KeyPair(cert, key)
	require.NoError(t, err)
	_, err = New(pair)
	assert.ErrorContains(t, err, "the certificate has ended on ")
}

// OpenSSL believes what Go does, and refuses what it does.
func TestOpenSSL(t *testing.T) {
	a, root := authority(t, []string{"api.example.com"})
	dir := t.TempDir()
	rootFile := filepath.Join(dir, "root.pem")
	require.NoError(t, os.WriteFile(rootFile, root, 0o600))
	verify := func(host string, der []byte) error {
		file := filepath.Join(dir, "leaf.der")
		require.NoError(t, os.WriteFile(file, der, 0o600))
		pem, err := exec.Command("openssl", "x509", "-inform", "DER", "-in", file).Output()
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, pem, 0o600))
		return exec.Command("openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", host, "-CAfile", rootFile, file).Run()
	}
	c, err := a.Certificate("api.example.com")
	require.NoError(t, err)
	assert.NoError(t, verify("api.example.com", c.Certificate[0]))
	assert.Error(t, verify("example.com", c.Certificate[0]))
	outside := *a.cert
	outside.PermittedDNSDomains = nil
	loose := &Authority{pair: a.pair, cert: &outside, key: a.key}
	forbidden, err := loose.sign("example.org", time.Now())
	require.NoError(t, err)
	assert.Error(t, verify("example.org", forbidden.Certificate[0]), "the constraints are in what clients trust")
}
