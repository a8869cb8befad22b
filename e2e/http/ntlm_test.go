//go:build linux

package http

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// A real client's NTLM goes through, for GET and for POST, and its page is for nobody else:
// the server's connection is that of this client alone.
func TestCurlNTLM(t *testing.T) {
	o, _ := newSite(t)
	server := ntlmServer(t, o)
	at := fmt.Sprintf("http://%s:%s/", allowedHost, server)
	for _, method := range []string{"GET", "POST"} {
		args := []string{"--ntlm", "-u", "alice:pw", at, at}
		if method == "POST" {
			args = append([]string{"--data", "x=1"}, args...)
		}
		got := o.curl(t, args...)
		assert.Equal(t, 2, strings.Count(got.Out, method+" for an authenticated user\n"), "%s\n%s", got.Out, got.Err)
		got = o.curl(t, at)
		assert.Contains(t, got.Out, " 401", got.Err)
		assert.NotContains(t, got.Out, "authenticated user")
	}
}

// ntlmServer runs, beside the site's server, one that authenticates connections as IIS does,
// for whoever answers its challenge. It returns the port.
func ntlmServer(t testing.TB, o *outside) (port string) {
	type key struct{}
	type state struct{ challenged, authenticated bool }
	// Type 2 message: no target, NTLM and Unicode, a challenge, no target information.
	challenge := append([]byte("NTLMSSP\x00\x02\x00\x00\x00"+strings.Repeat("\x00", 4)+"\x30\x00\x00\x00"+"\x01\x82\x08\x00"+"12345678"), make([]byte, 16)...)
	s := &http.Server{
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, key{}, new(state))
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			st := r.Context().Value(key{}).(*state)
			token, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(r.Header.Get("Authorization"), "NTLM "))
			switch {
			case err == nil && len(token) > 8 && token[8] == 1:
				st.challenged = true
				w.Header().Set("WWW-Authenticate", "NTLM "+base64.StdEncoding.EncodeToString(challenge))
				w.WriteHeader(http.StatusUnauthorized)
				return
			case err == nil && len(token) > 8 && token[8] == 3 && st.challenged:
				st.authenticated = true
			}
			if !st.authenticated {
				w.Header().Set("WWW-Authenticate", "NTLM")
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			fmt.Fprintf(w, "%s for an authenticated user\n", r.Method)
		}),
	}
	l := o.ServerA.Listen("[" + nettest.ServerAV6 + "]:0")
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}
