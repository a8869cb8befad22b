package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// jwt has the form of a token of a service account.
var jwt = "eyJhbGciOiJSUzI1NiJ9." + strings.Repeat("cGF5bG9hZA", 60) + "." + strings.Repeat("c2ln_-", 57)

func TestParse(t *testing.T) {
	tests := []struct {
		want   Outcome
		kind   Kind
		fields []string
	}{
		{Missing, None, nil},
		{Good, Password, []string{"Basic " + b64("deploy:secret")}},
		{Good, Password, []string{"bAsIc   " + b64("deploy:secret")}}, // RFC 9110, 11.4: 1*SP
		{Good, Password, []string{" \tBasic " + b64("deploy:secret") + "\t "}},
		{Good, Password, []string{"Basic " + b64("deploy:")}},
		{Good, Password, []string{"Basic " + b64(":secret")}},
		{Good, Password, []string{"Basic " + b64("deploy:a:b")}},          // the first colon counts
		{Good, Password, []string{"Basic " + b64("d\xe9ploy:sécret")}},    // any charset
		{Good, Password, []string{"Basic " + b64("deploy:first.last.1")}}, // short, so no token
		{Good, Password, []string{"Basic " + b64("a:"+strings.Repeat("x", 5000))}},
		{Good, Password, []string{"Basic " + b64("a:"+strings.Repeat("x.", 50)+"x")}},
		{Good, PasswordToken, []string{"Basic " + b64("token:"+jwt)}},
		{Good, PasswordToken, []string{"Basic " + b64(":"+jwt)}},
		{Good, PasswordToken, []string{"Basic " + b64("a.b.c.d:"+jwt)}},
		{Good, Password, []string{"Basic " + b64("token:"+jwt+".")}},
		{Good, Password, []string{"Basic " + b64("token:."+jwt[1:])}},
		{Good, Password, []string{"Basic " + b64("token:"+strings.Replace(jwt, ".", "..", 1))}},
		{Good, Password, []string{"Basic " + b64("token:"+jwt+"+")}},
		{Good, Token, []string{"Bearer " + jwt}},
		{Good, Token, []string{"BEARER a=="}},
		{Unsupported, None, []string{"Digest username=\"x\""}},
		{Unsupported, None, []string{"Negotiate abcd"}},
		{Unsupported, None, []string{"Basic2 " + b64("a:b")}},
		{Malformed, None, []string{""}},
		{Malformed, None, []string{" "}},
		{Malformed, None, []string{"Basic"}},
		{Malformed, None, []string{"Basic "}},
		{Malformed, None, []string{"Basic\t" + b64("a:b")}},
		{Malformed, None, []string{"Basic " + b64("a:b"), "Basic " + b64("a:b")}},
		{Malformed, None, []string{"Basic " + b64("a:b"), ""}},
		{Malformed, None, []string{"Basic " + b64("a:b") + ", Bearer x"}},
		{Malformed, None, []string{"Basic YTpi\nYTpi"}},
		{Malformed, None, []string{"Basic " + strings.TrimRight(b64("a:bc"), "=")}}, // without padding
		{Malformed, None, []string{"Basic YTpiYx=="}},                               // unused bits
		{Malformed, None, []string{"Basic YTpiYw==YTpi"}},
		{Malformed, None, []string{"Basic " + b64("a:"+strings.Repeat("x", 381)) + b64("zz")}}, // padding between pieces
		{Malformed, None, []string{"Basic YTr_"}},                                              // base64url
		{Malformed, None, []string{"Basic " + b64("nocolon")}},
		{Malformed, None, []string{"Basic " + b64("a:b\x00b")}}, // bcrypt: "b\x00b" is "b"
		{Malformed, None, []string{"Basic " + b64("a\n:b")}},
		{Malformed, None, []string{"Basic " + b64("a:b\x7f")}},
		{Malformed, None, []string{"Bearer"}},
		{Malformed, None, []string{"Bearer =="}},
		{Malformed, None, []string{"Bearer a b"}},
		{Malformed, None, []string{"Bearer a=b"}},
		{Malformed, None, []string{"Bearer \"a\""}},
		{Malformed, None, []string{"B(sic YTpi"}},
	}
	for _, tt := range tests {
		var fields [][]byte
		for _, f := range tt.fields {
			fields = append(fields, []byte(f))
		}
		c, got := Parse(fields...)
		require.Equal(t, tt.want, got, "%q", tt.fields)
		require.Equal(t, tt.kind, c.Kind(), "%q", tt.fields)
		require.Equal(t, tt.kind == None, c.IsZero(), "%q", tt.fields)
	}
}

// What was put in comes out, for every length around the pieces that are decoded.
func TestParseRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		user := rapid.StringMatching(`[a-z.]{0,400}`).Draw(t, "user")
		password := rapid.StringMatching(`[ -~é:.]{0,1000}`).Draw(t, "password")
		c, outcome := Parse([]byte("Basic " + b64(user+":"+password)))
		require.Equal(t, Good, outcome)
		u, p := c.Clone().userPassword()
		require.Equal(t, user, string(u))
		require.Equal(t, password, string(p))
		if c.Kind() == Password {
			require.Equal(t, len(password), passwordLen(c))
		}
	})
}

func TestCredentialHidesItself(t *testing.T) {
	for _, field := range []string{"Basic " + b64("deploy:secret"), "Basic " + b64("deploy:"+jwt), "Bearer " + jwt} {
		c, outcome := Parse([]byte(field))
		require.Equal(t, Good, outcome)
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "c", c, "claim", Claim{Credential: c})
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "c", c, "claim", Claim{Credential: c})
		js, err := json.Marshal(map[string]any{"c": c, "p": &c})
		require.NoError(t, err)
		var hidden any = struct{ c Credential }{c} // fmt asks no methods here
		out := log.String() + string(js) + c.String() + fmt.Sprintf("%v %+v %#v %s %q %x %d %v %+v %#v %x", c, c, c, c, c, c, c, hidden, hidden, hidden, hidden) +
			fmt.Sprintf("%v %+v %#v", &c, &hidden, Claim{Credential: c}) + fmt.Sprint(c, []Credential{c})
		text := string(c.text())
		for _, secret := range []string{"deploy", "secret", jwt, text, fmt.Sprintf("%x", text[:8]), strings.Trim(fmt.Sprint([]byte(text)[:4]), "[]")} {
			require.NotContains(t, out, secret)
		}
		require.Contains(t, out, "hidden")
	}
}

func TestOutcome(t *testing.T) {
	require.Equal(t, "Proxy-Authenticate: Basic realm=\"sluice\"\r\nProxy-Authenticate: Bearer realm=\"sluice\"\r\n", Challenge)
	require.Equal(t, Missing, Verdict{}.Outcome)
	status := map[Outcome]int{Missing: 407, Malformed: 407, Unsupported: 407, Wrong: 407, TooLong: 407, Flood: 407, Unverifiable: 503, Busy: 503, Good: 0, 99: 407}
	for o, want := range status {
		require.Equal(t, want, o.Status(), o)
		require.NotEmpty(t, o.String())
	}
}
