package auth

import (
	"crypto/x509"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func cert(t testing.TB, uri string) *Identity {
	t.Helper()
	u, err := url.Parse(uri)
	require.NoError(t, err)
	return NewCertificate(&x509.Certificate{URIs: []*url.URL{u}})
}

func TestFits(t *testing.T) {
	dns := NewCertificate(&x509.Certificate{DNSNames: []string{"Build.Example", "spiffe://d/a"}, EmailAddresses: []string{"A@Example.COM"}})
	tests := []struct {
		want bool
		by   By
		text string
		id   *Identity
	}{
		{true, ByUser, "deploy", NewUser("deploy")},
		{false, ByUser, "deploy", NewUser("Deploy")},
		{false, ByUser, "deploy", NewServiceAccount("deploy", "deploy", "")},
		{false, ByUser, "*", NewUser("deploy")}, // a name like others
		{true, ByServiceAccount, "shop/builder", NewServiceAccount("shop", "builder", "pod-1")},
		{true, ByServiceAccount, "shop/*", NewServiceAccount("shop", "builder", "")},
		{false, ByServiceAccount, "shop/builder", NewServiceAccount("shop", "builder2", "")},
		{false, ByServiceAccount, "shop/*", NewServiceAccount("shop-2", "builder", "")},
		{false, ByNamespace, "shop", NewServiceAccount("shop", "builder", "")}, // by the pod's address
		{true, ByCertificate, "spiffe://cluster.local/ns/shop/sa/*", cert(t, "spiffe://cluster.local/ns/shop/sa/a")},
		{true, ByCertificate, "spiffe://cluster.local/ns/shop/sa/a", cert(t, "spiffe://cluster.local/ns/shop/sa/a")},
		{false, ByCertificate, "spiffe://cluster.local/ns/shop/sa/*", cert(t, "spiffe://cluster.local/ns/shop/sa/a/b")},
		{false, ByCertificate, "spiffe://cluster.local/ns/shop/sa/*", cert(t, "spiffe://cluster.local/ns/shop/sa/")},
		{false, ByCertificate, "spiffe://cluster.local/ns/shop/sa/*", cert(t, "spiffe://cluster.local/ns/shop/sa")},
		{false, ByCertificate, "spiffe://cluster.local/ns/shop/sa/*", cert(t, "spiffe://cluster.local/ns/shop/sa/..")},
		{false, ByCertificate, "spiffe://cluster.local/ns/shop/sa/*", cert(t, "spiffe://cluster.local/ns/shop/sa/a%2fb")},
		{false, ByCertificate, "spiffe://cluster.local/ns/shop/sa/*", cert(t, "spiffe://cluster.local/ns/shop/sa/a?b")},
		{false, ByCertificate, "spiffe://cluster.local/ns/shop/sa/*", cert(t, "spiffe://cluster.local/ns/shop/sa/*")},
		{false, ByCertificate, "spiffe://cluster.local/ns/shop/sa/*", cert(t, "spiffe://evil.local/ns/shop/sa/a")},
		{true, ByCertificate, "spiffe://d/*", cert(t, "spiffe://d/a")},
		{true, ByCertificate, "spiffe://d", cert(t, "spiffe://d")},
		{false, ByCertificate, "spiffe://d/a", dns}, // a DNS name that reads like a URI
		{false, ByCertificate, "build.example", cert(t, "dns:build.example")},
		{true, ByCertificate, "build.example", dns},
		{true, ByCertificate, "BUILD.example", dns},
		{true, ByCertificate, "A@example.com", dns},
		{false, ByCertificate, "a@example.com", dns}, // the local part is its host's
		{false, ByUser, "deploy", nil},
	}
	for _, tt := range tests {
		s, err := ParseSelector(tt.by, tt.text)
		require.NoError(t, err)
		require.Equal(t, tt.want, tt.id.Fits(s), "%s %v", tt.text, tt.id)
	}
	require.False(t, NewUser("x").Fits(Selector{}))
	_, err := ParseSelector(0, "x")
	require.Error(t, err)
}

func TestParseSelectorRefuses(t *testing.T) {
	bad := map[By][]string{
		ByUser:           {"", "a:b", "a/b", "a\n"},
		ByNamespace:      {"", "*", "Shop", "a.b", "-a"},
		ByServiceAccount: {"", "*", "shop", "shop/", "/builder", "*/builder", "shop/b*", "shop/a/b", "shop/*/", "Shop/b", "*/*"},
		ByCertificate: {"", "*", "*.example", "a b", "spiffe://*", "spiffe://", "spiffe:///a", "spiffe://d/*/a", "spiffe://d/a*", "spiffe://d*/a",
			"spiffe://d/a?b", "spiffe://d/a#b", "spiffe://u@d/a", "*@example.com", "spiffe://d/**", "spiffe://d/*/*"},
	}
	for by, texts := range bad {
		for _, text := range texts {
			s, err := ParseSelector(by, text)
			require.Error(t, err, text)
			require.Zero(t, s)
		}
	}
}

func TestIdentity(t *testing.T) {
	require.Nil(t, NewServiceAccount("a/b", "c", ""))
	require.Nil(t, NewServiceAccount("a", "b/c", ""))
	require.Nil(t, NewServiceAccount("a", "*", ""))
	require.Nil(t, NewCertificate())
	require.Nil(t, NewCertificate(nil))
	leaf := &x509.Certificate{}
	leaf.Subject.CommonName = "admin"
	require.Nil(t, NewCertificate(leaf, &x509.Certificate{DNSNames: []string{"issuer.example"}})) // the issuer is not the client
	var nobody *Identity
	require.Empty(t, nobody.String()+nobody.User())
	require.Nil(t, nobody.Selectors())
	id := NewServiceAccount("shop", "builder", "pod-1")
	require.Equal(t, "shop/builder", id.String())
	ns, name, pod := id.ServiceAccount()
	require.Equal(t, []string{"shop", "builder", "pod-1"}, []string{ns, name, pod})
	require.Equal(t, "spiffe://d/a", cert(t, "spiffe://d/a").String())
	require.Equal(t, []string{"spiffe://d/a"}, cert(t, "spiffe://d/a").SANs())
}

// The index over selectors agrees with a plain comparison of segments.
func TestStarIsOneSegment(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := "spiffe://d" + rapid.StringMatching(`(/[ab]){0,3}`).Draw(t, "pattern") + "/*"
		uri := "spiffe://d" + rapid.StringMatching(`(/[ab]?){0,4}`).Draw(t, "uri")
		s, err := ParseSelector(ByCertificate, pattern)
		require.NoError(t, err)
		parent := pattern[:len(pattern)-1]
		want := len(uri) == len(parent)+1 && uri[:len(parent)] == parent && uri[len(parent)] != '/'
		u, err := url.Parse(uri)
		require.NoError(t, err)
		require.Equal(t, want, NewCertificate(&x509.Certificate{URIs: []*url.URL{u}}).Fits(s), "%s %s", pattern, uri)
	})
}
