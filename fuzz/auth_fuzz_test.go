package fuzz

import (
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/sluiceproxy/sluice/proxy/auth"
)

var (
	basicField  = regexp.MustCompile(`(?is)^basic +([a-z0-9+/]+={0,2})$`)
	bearerField = regexp.MustCompile(`(?is)^bearer +[a-z0-9._~+/-]+=*$`)
	jwtForm     = regexp.MustCompile(`(?s)^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$`)
)

// kindOf is what a field of Proxy-Authorization shows, read without haste.
func kindOf(field string) auth.Kind {
	field = strings.Trim(field, " \t")
	if bearerField.MatchString(field) {
		return auth.Token
	}
	m := basicField.FindStringSubmatch(field)
	if m == nil {
		return auth.None
	}
	text, err := base64.StdEncoding.Strict().DecodeString(m[1])
	_, password, ok := strings.Cut(string(text), ":")
	switch {
	case err != nil || !ok || strings.ContainsFunc(string(text), func(r rune) bool { return r < ' ' || r == 0x7f }):
		return auth.None
	case len(password) > auth.MaxPassword && jwtForm.MatchString(password):
		return auth.PasswordToken
	}
	return auth.Password
}

// FuzzProxyAuthorization: a field shows what a plain reading of the grammar says, or nothing;
// two show nothing; and no credential shows its text.
func FuzzProxyAuthorization(f *testing.F) {
	f.Add("Basic ZGVwbG95OnNlY3JldA==")
	f.Add("bearer  eyJh.eyJi.c2ln")
	f.Add("Digest username=\"x\"")
	f.Fuzz(func(t *testing.T, field string) {
		c, outcome := auth.Parse([]byte(field))
		if want := kindOf(field); c.Kind() != want || c.IsZero() != (outcome != auth.Good) || outcome == auth.Missing {
			t.Fatalf("%q: kind %d, want %d: %v", field, c.Kind(), want, outcome)
		}
		switch shown := fmt.Sprintf("%v%+v%#v", c, c, struct{ C auth.Credential }{c}); c.Kind() {
		case auth.None:
		case auth.Token:
			if strings.Count(shown, "Bearer [hidden]") != 3 {
				t.Fatal(shown)
			}
		default:
			if strings.Count(shown, "Basic [hidden") != 3 {
				t.Fatal(shown)
			}
		}
		if c, outcome := auth.Parse([]byte(field), []byte(field)); !c.IsZero() || outcome != auth.Malformed {
			t.Fatalf("two of %q: %v", field, outcome)
		}
	})
}

// FuzzUsers: of what is refused nothing is returned, every problem has a line of the text and
// can be shown; what is accepted has a user for each line that says something.
func FuzzUsers(f *testing.F) {
	hash := "$2y$10$" + strings.Repeat("a", 53)
	f.Add("# users\n\ndeploy:" + hash + "\r\nci:" + hash)
	f.Add("deploy:$apr1$x$y\ndeploy:{SHA}x\n:" + hash)
	f.Fuzz(func(t *testing.T, text string) {
		lines := strings.Split(strings.TrimPrefix(text, "\uFEFF"), "\n")
		u, err := auth.ParseUsers("users", text)
		if err != nil {
			var problems auth.Problems
			if u != nil || !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatalf("refused with %v, %v", u, err)
			}
			last := 0
			for _, p := range problems {
				if p.Line <= last || p.Line > len(lines) || strings.ContainsAny(p.Error(), "\r\n\x00\x1b") {
					t.Fatalf("problem %+v behind line %d", p, last)
				}
				last = p.Line
			}
			return
		}
		n := 0
		for _, line := range lines {
			line = strings.Trim(line, " \t\r")
			if line == "" || line[0] == '#' {
				continue
			}
			n++
			name, _, _ := strings.Cut(line, ":")
			if !u.Has(name) {
				t.Fatalf("no user %q", name)
			}
			if s, err := auth.ParseSelector(auth.ByUser, name); err != nil || !auth.NewUser(name).Fits(s) {
				t.Fatalf("user %q cannot be selected: %v", name, err)
			}
		}
		if u.Len() != n {
			t.Fatalf("%d users of %d lines", u.Len(), n)
		}
	})
}
