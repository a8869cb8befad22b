package auth

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// fields is what kept connections show with each request.
func fields() map[string][]byte {
	return map[string][]byte{
		"password":        []byte("Basic " + b64("deploy:secret")),
		"token":           []byte("Bearer " + jwt),
		"token-as-basic":  []byte("Basic " + b64("token:"+jwt)),
		"token-of-12,000": []byte("Basic " + b64("token:"+jwt+strings.Repeat("x", 12000-len(jwt)))),
	}
}

func remembering(t testing.TB, field []byte) (*Verifier, *Users) {
	u := users(t, "deploy:"+hashOf(t, "secret", 4))
	v, _ := newVerifier(t, Options{Reviewer: &reviewer{f: byName}})
	c, _ := Parse(field)
	v.Verify(t.Context(), Claim{alice, u, c})
	return v, u
}

func TestAllocNothingForWhatIsRemembered(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for name, field := range fields() {
		v, u := remembering(t, field)
		require.Zero(t, testing.AllocsPerRun(1000, func() {
			c, _ := Parse(field)
			if _, known := v.VerifyNow(Claim{alice, u, c}); !known {
				t.Fatal("forgotten")
			}
		}), name)
	}
}

func BenchmarkRemembered(b *testing.B) {
	for name, field := range fields() {
		b.Run(name, func(b *testing.B) {
			v, u := remembering(b, field)
			b.ReportAllocs()
			for b.Loop() {
				c, _ := Parse(field)
				if _, known := v.VerifyNow(Claim{alice, u, c}); !known {
					b.Fatal("forgotten")
				}
			}
		})
	}
}

// BenchmarkFlood is wrong tokens of one client, as many as come: what one costs, and how many
// reviews a second of flood (10,000) causes.
func BenchmarkFlood(b *testing.B) {
	r := &reviewer{f: byName}
	v, c := newVerifier(b, Options{Reviewer: r})
	tokens := make([][]byte, 1<<14)
	for i := range tokens {
		tokens[i] = fmt.Appendf(nil, "Bearer bad%d%s", i, jwt)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		c.now = c.now.Add(100_000) // ns
		cred, _ := Parse(tokens[n%len(tokens)])
		n++
		claim := Claim{Client: alice, Credential: cred}
		if _, known := v.VerifyNow(claim); !known {
			v.Verify(b.Context(), claim)
		}
	}
	b.ReportMetric(float64(r.asked.Load())*10_000/float64(n), "reviews/s")
}
