package fuzz

import (
	"crypto/tls"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/tlshello"
)

// FuzzOpening judges arbitrary bytes that a client sends first through a tunnel, whole and in
// pieces of that size:
//   - both come to the same, and a judge that asks for more is not left waiting once all is there;
//   - what passes to a name of the list is no ClientHello for a name that is denied;
//   - where TLS is wanted nothing else passes.
func FuzzOpening(f *testing.F) {
	for _, name := range []string{"", "a.test", "x.denied.test"} {
		f.Add(nettest.ClientHello(f, &tls.Config{ServerName: name, InsecureSkipVerify: true}), uint16(7))
	}
	for _, s := range []string{"GET / HTTP/1.1\r\n", "SSH-2.0-x\r\n", "\x16\x03\x01\x00\x04\x01\x00\x00\x00", "\x16\x03\x01\x00\x01\x01"} {
		f.Add([]byte(s), uint16(1))
	}
	rules, err := acl.Parse("!*.denied.test\na.test\nssh.test #@ protocol=ssh\nhttp.test #@ protocol=http\n192.0.2.0/24")
	require.NoError(f, err)
	gen := policy.Set{Rest: policy.Tenant{Rules: rules}, Check: policy.CheckEnforce}.Generation()
	ticket := &outbound.Ticket{Tenant: gen.Tenant(netip.Addr{})}
	inUse := netip.MustParseAddr("192.0.2.1")
	targets := map[string]acl.Target{}
	for _, target := range []string{"a.test:443", "a.test:25", "ssh.test:22", "http.test:80", "192.0.2.1:443"} {
		targets[target], err = acl.ParseTarget(target)
		require.NoError(f, err)
	}
	opening := func(target string) *outbound.Opening {
		return outbound.NewOpening(gen, ticket, targets[target], inUse)
	}
	f.Fuzz(func(t *testing.T, b []byte, piece uint16) {
		for target := range targets {
			want, over, least := opening(target).Judge(b, outbound.MayCome)
			if !over {
				require.Greater(t, least, len(b))
				_, over, _ = opening(target).Judge(b, outbound.Late)
				require.True(t, over, "in the end something is said")
			}
			if over && want.Problem == 0 {
				hello, err := tlshello.Parse(b)
				if name, bad := acl.ParseHost(hello.ServerName); err == nil && bad == nil && !name.IsAddr() {
					require.NotEqual(t, acl.Deny, rules.DecideAddr(acl.Target{Host: name, Port: 443}, inUse).Verdict)
				}
				if target == "a.test:443" && len(b) > 0 && least == 0 {
					require.NoError(t, err, "it is no ClientHello, and has passed")
				}
			}
			o, asked := opening(target), 0
			for n := 0; n < len(b); {
				n = min(len(b), n+1+int(piece))
				if n < asked {
					// What is garbage behind the head of a ClientHello may be told later than it could.
					require.True(t, n < len(b) || least > 0 || !want.Hello, "a ClientHello that is there is not judged")
					continue
				}
				found, over, more := o.Judge(b[:n], outbound.MayCome)
				if over {
					require.Equal(t, want, found)
					break
				}
				asked = more
			}
		}
	})
}
