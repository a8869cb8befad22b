//go:build linux

package kube

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authzv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluiceproxy/sluice/internal/directory"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

func TestTokens(t *testing.T) {
	c := use(t)
	ns := c.namespace(t, "tokens")
	for _, name := range []string{"builder", "fleeting"} {
		_, err := c.CoreV1().ServiceAccounts(ns).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	r := c.both(t)
	p := c.pod(t, ns, "job", "10.8.0.1")

	good := c.token(t, ns, "builder", nil, "sluice")
	id, err := r.Review(t.Context(), good)
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now().Add(time.Hour), id.Expires, 2*time.Minute)
	id.Expires = time.Time{}
	assert.Equal(t, directory.Identity{Namespace: ns, ServiceAccount: "builder"}, id)

	bound := c.token(t, ns, "builder", p, "other", "sluice")
	id, err = r.Review(t.Context(), bound)
	require.NoError(t, err)
	assert.Equal(t, []string{"job", string(p.UID)}, []string{id.Pod, id.PodUID})

	head, rest, _ := strings.Cut(good, ".")
	claims, signature, _ := strings.Cut(rest, ".")
	_, otherRest, _ := strings.Cut(bound, ".")
	otherClaims, _, _ := strings.Cut(otherRest, ".")
	fleeting := c.token(t, ns, "fleeting", nil, "sluice")
	_, err = r.Review(t.Context(), fleeting)
	require.NoError(t, err)
	require.NoError(t, c.CoreV1().ServiceAccounts(ns).Delete(t.Context(), "fleeting", metav1.DeleteOptions{}))
	c.remove(t, p)
	soon := c.resign(t, good, time.Now().Add(time.Minute))
	id, err = r.Review(t.Context(), soon)
	require.NoError(t, err, "what the tests sign is good")
	assert.WithinDuration(t, time.Now().Add(time.Minute), id.Expires, 5*time.Second)
	for name, token := range map[string]string{
		"expired":                 c.resign(t, good, time.Now().Add(-time.Minute)),
		"another audience":        c.token(t, ns, "builder", nil, "other"),
		"the API's own audience":  c.token(t, ns, "builder", nil),
		"no token":                "x",
		"no signature":            head + "." + claims + ".",
		"another token's claims":  head + "." + otherClaims + "." + signature,
		"a token of no account":   "admin-token",
		"of an account that went": fleeting,
		"of a pod that went":      bound,
	} {
		// The API server remembers a good token for ten seconds.
		nettest.Eventually(t, name+" is refused", func() bool {
			_, err := r.Review(t.Context(), token)
			require.NotErrorIs(t, err, directory.ErrUnavailable, name)
			return err != nil
		})
		_, err := r.Review(t.Context(), token)
		require.ErrorIs(t, err, directory.ErrRefused, name)
		assert.NotContains(t, err.Error(), token, name)
	}
}

// resign is a token that is as another one, and ends at another time: the TokenRequest API
// gives none that ends within ten minutes.
func (c *cluster) resign(t testing.TB, token string, ends time.Time) string {
	t.Helper()
	text, err := os.ReadFile(c.path("sa.key"))
	require.NoError(t, err)
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	require.NoError(t, err)
	parts := strings.Split(token, ".")
	require.Len(t, parts, 3)
	text, err = base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	var claims map[string]any
	require.NoError(t, json.Unmarshal(text, &claims))
	claims["iat"], claims["nbf"], claims["exp"] = ends.Add(-time.Hour).Unix(), ends.Add(-time.Hour).Unix(), ends.Unix()
	text, err = json.Marshal(claims)
	require.NoError(t, err)
	signed := parts[0] + "." + base64.RawURLEncoding.EncodeToString(text)
	digest := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
	require.NoError(t, err)
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// The role in deploy has what is needed, as every other test here shows, and no more: with
// one verb less something fails.
func TestRoleIsJustSufficient(t *testing.T) {
	c := use(t)
	ns := c.namespace(t, "role")
	_, err := c.CoreV1().ServiceAccounts(ns).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "builder"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	token := c.token(t, ns, "builder", nil, "sluice")
	verbs := 0
	for i, rule := range c.role.Rules {
		for j, verb := range rule.Verbs {
			verbs++
			t.Run(verb+" "+rule.Resources[0], func(t *testing.T) {
				less := c.role.DeepCopy()
				less.Rules[i].Verbs = append(less.Rules[i].Verbs[:j], less.Rules[i].Verbs[j+1:]...)
				less.Rules = slices.DeleteFunc(less.Rules, func(r rbacv1.PolicyRule) bool { return len(r.Verbs) == 0 })
				c.setRole(t, less)
				defer c.setRole(t, &c.role)
				socket := filepath.Join(t.TempDir(), "s")
				var env []string
				if verb == "list" { // as with an API server that cannot stream a list
					env = []string{"KUBE_FEATURE_WatchListClient=false"}
				}
				k := c.run(t, socket, env)
				r := read(t, directory.Options{Socket: socket})
				if rule.Resources[0] == "tokenreviews" {
					synced(t, r)
					_, err := r.Review(t.Context(), token)
					require.ErrorIs(t, err, directory.ErrUnavailable)
					require.ErrorContains(t, err, "forbidden")
					return
				}
				nettest.Eventually(t, "it is told what is missing", func() bool { return lines(k.said(), "cannot "+verb+" resource") > 0 })
				assert.False(t, r.Status().Known)
			})
		}
	}
	assert.Equal(t, 3, verbs)
}

// setRole puts a role in force, and waits until the API server heeds it.
func (c *cluster) setRole(t *testing.T, role *rbacv1.ClusterRole) {
	t.Helper()
	_, err := c.RbacV1().ClusterRoles().Update(context.Background(), role.DeepCopy(), metav1.UpdateOptions{})
	require.NoError(t, err)
	for _, rule := range c.role.Rules {
		for _, verb := range rule.Verbs {
			want := slices.ContainsFunc(role.Rules, func(r rbacv1.PolicyRule) bool {
				return slices.Equal(r.Resources, rule.Resources) && slices.Contains(r.Verbs, verb)
			})
			nettest.Eventually(t, "the role is in force", func() bool {
				r, err := c.AuthorizationV1().SubjectAccessReviews().Create(context.Background(), &authzv1.SubjectAccessReview{Spec: authzv1.SubjectAccessReviewSpec{
					User:               "system:serviceaccount:egress:sluice",
					ResourceAttributes: &authzv1.ResourceAttributes{Verb: verb, Group: rule.APIGroups[0], Resource: rule.Resources[0]},
				}}, metav1.CreateOptions{})
				require.NoError(t, err)
				return r.Status.Allowed == want
			})
		}
	}
}
