package fuzz

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/proxy/socks5"
)

// socksHeard is what comes of a message: where it ends, what it says, why it is none.
type socksHeard struct {
	n    int
	text string
	err  error
}

// socksMessages reads b as each of the messages.
func socksMessages(b []byte) [3]socksHeard {
	var all [3]socksHeard
	methods, n, err := socks5.ParseGreeting(b)
	all[0] = socksHeard{n, string(methods), err}
	user, password, n, err := socks5.ParseLogin(b)
	all[1] = socksHeard{n, string(user) + "\x00" + string(password), err}
	r, n, err := socks5.ParseRequest(b)
	all[2] = socksHeard{n, "", err}
	if err == nil {
		all[2].text = string(r.Method()) + " " + string(r.AppendAuthority(nil))
	}
	return all
}

// FuzzSOCKS reads arbitrary bytes as each message of a client of SOCKS 5:
//   - more bytes never change an answer, fewer give the same or ask for more;
//   - no message is longer than Most, and all of it was there;
//   - where a request leads to is read by acl as one target, or as none: a name of a request is
//     never two.
func FuzzSOCKS(f *testing.F) {
	for _, s := range []string{"\x05\x01\x00", "\x05\x02\x00\x02", "\x01\x04user\x08password", "\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb",
		"\x05\x01\x00\x03\x06a.test\x00\x50", "\x05\x03\x00\x04" + string(make([]byte, 18)), "\x05\x01\x00\x03\x0aa.test:80@\x00\x50",
		"\x05\x01\x00\x03\x05[::1]\x00\x50", "\x05\x01\x00\x03\x08[::1]:80\x00\x50", "\x04\x01\x00\x50abcd\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		whole := socksMessages(b)
		for i := range min(len(b), socks5.Most+8) {
			for k, part := range socksMessages(b[:i]) {
				if part.err != socks5.ErrMore {
					require.Equal(t, whole[k], part)
				}
			}
		}
		for _, m := range whole {
			require.LessOrEqual(t, m.n, min(len(b), socks5.Most))
			var bad *socks5.Error
			require.True(t, m.err == nil || m.err == socks5.ErrMore || errors.As(m.err, &bad))
		}
		if r, n, err := socks5.ParseRequest(b); err == nil {
			target, err := acl.ParseTarget(string(r.AppendAuthority(nil)))
			if err != nil {
				return
			}
			require.Equal(t, r.Port, target.Port)
			switch {
			case r.Addr.IsValid():
				require.Equal(t, r.Addr.Unmap(), target.Host.Addr())
			case target.Host.IsAddr():
			default: // what acl has made of it is that name alone
				again, err := acl.ParseHost(string(r.Name))
				require.NoError(t, err, "%q", b[:n])
				require.Equal(t, again, target.Host)
			}
		}
	})
}
