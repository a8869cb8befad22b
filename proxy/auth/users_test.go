package auth

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/crypto/bcrypt"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func hashOf(t testing.TB, password string, cost int) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	require.NoError(t, err)
	return string(h)
}

func users(t testing.TB, lines ...string) *Users {
	t.Helper()
	u, err := ParseUsers("users", strings.Join(lines, "\n"))
	require.NoError(t, err)
	return u
}

func TestParseUsers(t *testing.T) {
	h := hashOf(t, "secret", 4)
	u := users(t, "\uFEFF# who may", "", "deploy:"+h+"\r", "  \t", "é b:$2y"+h[3:], "c:$2b"+h[3:])
	require.Equal(t, 3, u.Len())
	require.True(t, u.Has("é b"))
	require.False(t, u.Has("d"))
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", u, u, struct{ U *Users }{u}), h[7:])
	for _, name := range []string{"deploy", "é b", "c"} {
		v := u.check([]byte(name), []byte("secret"), digest{})
		require.Equal(t, Good, v.Outcome)
		require.Equal(t, name, v.Identity.String())
		require.Equal(t, Verdict{Outcome: Wrong}, u.check([]byte(name), []byte("secreT"), digest{}))
	}
	// The hash that an unknown name is checked against lets nobody in.
	require.Equal(t, Verdict{Outcome: Wrong}, u.check([]byte("nobody"), []byte("secret"), digest{}))
	var none *Users
	require.Zero(t, none.Len())
	require.False(t, none.Has(""))
	require.Equal(t, Verdict{Outcome: Wrong}, none.check(nil, nil, digest{}))
}

func TestParseUsersProblems(t *testing.T) {
	h := "$2y$10$" + strings.Repeat("a", 53)
	tests := []struct{ want, line string }{
		{`no "name:hash": make the line with htpasswd -nB NAME`, "hunter2"},
		{`no name of a user in front of the colon`, ":" + h},
		{`user "a": an MD5 hash; only bcrypt is taken; make the line anew with htpasswd -nB NAME`, "a:$apr1$abc$def"},
		{`user "a": a SHA-1 hash; only bcrypt is taken; make the line anew with htpasswd -nB NAME`, "a:{SHA}abc"},
		{`user "a": a SHA-2 crypt hash; only bcrypt is taken; make the line anew with htpasswd -nB NAME`, "a:$6$abc$def"},
		{`user "a": not a bcrypt hash (a crypt hash, or a password in the clear?); make the line anew with htpasswd -nB NAME`, "a:hunter2"},
		{`user "a": a hash of the bcrypt whose passwords were read wrongly ($2x$); make the line anew with htpasswd -nB NAME`, "a:$2x" + h[3:]},
		{`user "a": not a whole bcrypt hash of 60 characters; make the line anew with htpasswd -nB NAME`, "a:" + h[:59]},
		{`user "a": not a whole bcrypt hash of 60 characters; make the line anew with htpasswd -nB NAME`, "a:" + h + ":more"},
		{`user "a": not a bcrypt hash (its cost is from 4 to 31); make the line anew with htpasswd -nB NAME`, "a:$2y$03" + h[6:]},
		{`user "a": a bcrypt cost of 17 is above 16: each login would take many seconds of a processor; make the line anew with htpasswd -nB -C 10 NAME`, "a:$2y$17" + h[6:]},
		{`user "a/b": a name has no colon, which ends it, and no "/", which tells a service account from a user`, "a/b:" + h},
		{`user "a\x01": a name is UTF-8 without control characters`, "a\x01:" + h},
		{`user "a\xff": a name is UTF-8 without control characters`, "a\xff:" + h},
		{`user "a ": a blank before the colon`, "a :" + h},
		{`a user's name of 256 bytes; it may have 255`, strings.Repeat("a", 256) + ":" + h},
		{`user "twice" stands in line 1 already`, "twice:" + h},
	}
	lines := []string{"twice:" + h}
	var all []string
	for i, tt := range tests {
		u, err := ParseUsers("users", "twice:"+h+"\n"+tt.line)
		require.Nil(t, u)
		require.EqualError(t, err, "users:2: "+tt.want)
		require.NotContains(t, err.Error(), "hunter2")
		lines = append(lines, tt.line)
		all = append(all, fmt.Sprintf("users:%d: %s", i+2, tt.want))
	}
	_, err := ParseUsers("users", strings.Join(lines, "\n"))
	require.EqualError(t, err, strings.Join(all, "\n")) // all at once
	require.Equal(t, 1, users(t, "a:$2y$16"+h[6:]).Len())
}

// Whatever lines there are: all of their users, or a problem and none.
func TestParseUsersWhole(t *testing.T) {
	h := "$2y$10$" + strings.Repeat("a", 53)
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOf(rapid.StringMatching(`[a-c ]{0,2}[a-c/]`)).Draw(t, "names")
		seen, bad := map[string]bool{}, 0
		var lines []string
		for _, n := range names {
			lines = append(lines, n+":"+h)
			n = strings.Trim(n, " ")
			if seen[n] || strings.Contains(n, "/") {
				bad++
			}
			seen[n] = true
		}
		u, err := ParseUsers("users", strings.Join(lines, "\n"))
		if bad > 0 {
			require.Nil(t, u)
			require.Len(t, err, bad)
			return
		}
		require.NoError(t, err)
		require.Equal(t, len(seen), u.Len())
	})
}

// Names cannot be learnt from the time that an answer takes: without bcrypt an unknown one
// would be refused ten thousand times as fast.
func TestUnknownNamesTakeAsLong(t *testing.T) {
	u := users(t, "deploy:"+hashOf(t, "secret", 10))
	fastest := func(name string) time.Duration {
		best := time.Hour
		for range 3 {
			start := time.Now()
			require.Equal(t, Wrong, u.check([]byte(name), []byte("wrong"), digest{}).Outcome)
			best = min(best, time.Since(start))
		}
		return best
	}
	require.Greater(t, fastest("nobody"), fastest("deploy")/10)
}

// With hashes of several costs, an unknown name takes the time of one user, each time the same.
func TestUnknownNamesAreSpreadOverUsers(t *testing.T) {
	u := users(t, "a:"+hashOf(t, "secret", 4), "b:"+hashOf(t, "secret", 5))
	ds := newDigests()
	picked := map[*user]int{}
	for i := range 100 {
		name := fmt.Append(nil, "nobody", i)
		pick := ds.name(name)
		require.Equal(t, pick, ds.name(name))
		picked[u.standIn(pick)]++
	}
	require.Len(t, picked, 2)
}
