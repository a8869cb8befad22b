//go:build linux

package http

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
)

// What a path is made of, it is judged as it is sent: what servers read in different ways goes
// nowhere, and what goes through has not been touched.
func TestInspectPathTricks(t *testing.T) {
	o := newInspected(t, "\n  - host: api.example.com\n    requests: |\n      !* /v1/keys**\n      GET /v1/**\n")
	for path, want := range map[string]int{
		"/v1/../admin": 400, "/v1/./a": 400, "/v1/..": 400, "/v1/%2e%2e/admin": 400, "/v1/.%2E/admin": 400, "/v1/%2e/a": 400,
		"/v1/..;/admin": 400, "/v1/.;x=y/a": 400, "/v1/%2e%2e;/admin": 400, "/v1/..%3b/admin": 400, "/v1/..%2fadmin": 400, "/v1/..%2Fadmin": 400, "/v1/..%5cadmin": 400,
		"/v1/..%c0%afadmin": 400, "/v1/%c0%ae%c0%ae/admin": 400, "/v1/%e0%80%ae/admin": 400, "/v1/\xc0\xae\xc0\xae/admin": 400, "/v1/%ff": 400, "/v1/é": 400,
		"/v1/\x00": 400, "/v1/%00": 400, "/v1/a%00/../admin": 400, "/v1/%0d%0aX:%20y": 400, "/v1/a\tb": 400, "/v1/%7f": 400,
		"/v1\\..\\admin": 400, "/v1/a#/../admin": 400, "/v1/%zz": 400, "/v1/%": 400, "/v1/%2": 400, "/v1/%u002e%u002e/admin": 400,
		"v1/a": 400, "*": 400, "//other.example.com/v1/a": 403, "/v1//admin": 403, "//v1/a": 403, "/v1/a//": 403, "/v1/a%2fb": 403, "/v1%2fa": 403, "/v1%2F..%2Fadmin": 400,
		"/v1/keys": 403, "/v1/KEYS/1": 403, "/v1/%6beys": 403, "/v1/keys;x=y": 403, "/v1/keys%2f1": 403, "/v1/%4Beys;/1": 403, "/v1/a;/keys": 200,
		"/V1/a": 403, "/": 403, "/v1;/a": 403, "/v1/a;x=/b?q=/../..%2f": 200, "/v1/...": 200, "/v1/.well-known": 200, "/v1/a.": 200, "/v1/a/": 200, "/%76%31/a": 200, "/v1/%C3%A9": 200, "/v1/%25%32%65": 200,
	} {
		t.Run(path, func(t *testing.T) {
			o.got()
			s, r := o.inside(t, "api.example.com:443", "api.example.com")
			fmt.Fprintf(s, "GET %s HTTP/1.1\r\nHost: api.example.com\r\n\r\n", path)
			status, body := answer(t, r)
			assert.Equal(t, want, status, body)
			got := o.got()
			if want != 200 {
				assert.Empty(t, got)
				return
			}
			if assert.Len(t, got, 1) {
				assert.Equal(t, path, got[0].RequestURI, "the bytes that were judged are those that are sent")
			}
		})
	}
}
