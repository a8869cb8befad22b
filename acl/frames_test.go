package acl_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sluiceproxy/sluice/acl"
)

func framesOf(p *acl.Policy) (all []string) {
	var b []byte
	p.Frames(func(some []byte) { b = append(b, some...) })
	for len(b) > 0 {
		n := binary.BigEndian.Uint64(b)
		all, b = append(all, string(b[8:8+n])), b[8+n:]
	}
	return all
}

func sum(p *acl.Policy) string {
	h := sha256.New()
	p.Frames(func(b []byte) { h.Write(b) })
	return hex.EncodeToString(h.Sum(nil))
}

func TestFrames(t *testing.T) {
	p := parsed(t, "# ours\nAPI.Example.com.:443,80 #@ expires=2027-03-01 owner=net\n!10.0.0.1/8\n*.test #@ protocol=tls\nb.test #@ protocol=any")
	want := []string{"default", "4", "api.example.com:80,443", "2027-03-01", "", "!10.0.0.0/8", "", "", "*.test", "", "tls", "b.test", "", "any"}
	assert.Equal(t, want, framesOf(p))
	assert.Equal(t, want, framesOf(p.At(time.Date(2028, 1, 1, 0, 0, 0, 0, time.UTC))), "whatever the time")
	want[0] = "strict"
	assert.Equal(t, want, framesOf(p.WithGuard(acl.Guard{Mode: acl.GuardStrict})))
	assert.Equal(t, []string{"default", "0"}, framesOf(nil))
	assert.Equal(t, []string{"default", "0"}, framesOf(parsed(t, "# nothing")))
}

// Vectors, for who makes the same elsewhere: SHA-256 over the frames of a text, guard default.
func TestFrameVectors(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "3d411ffd0a46b2316a27420eb46782ce3101833d40831d33b95527b8a967ec61",
		"*":                       "159da2519617a33707e8771968fdf3229ec3b8d620a1120bbcc3c75dc95c8917",
		"!10.0.0.0/8\n*.test:443": "110b41f27aaf9f97ea4ec66ae05ef71513531f4d550b0f85f89ed5008d93be6f",
	} {
		assert.Equal(t, want, sum(parsed(t, text)), "%q", text)
	}
}

// Texts that are spelt otherwise are the same; texts that Canonical tells apart are not.
func TestFramesTellPoliciesApart(t *testing.T) {
	rule := rapid.SampledFrom([]string{"a.test", "A.TEST.", "!a.test", "*.test", "10.0.0.0/8", "10.1.2.3/8", "a.test:443", "a.test:80,443", "a.test:443,80", "a.*"})
	rapid.Check(t, func(t *rapid.T) {
		one, other := rapid.SliceOfN(rule, 0, 4).Draw(t, "one"), rapid.SliceOfN(rule, 0, 4).Draw(t, "other")
		p, q := joined(t, one), joined(t, other)
		require.Equal(t, p.String() == q.String(), sum(p) == sum(q))
	})
}

func joined(t require.TestingT, rules []string) *acl.Policy {
	text := ""
	for _, r := range rules {
		text += r + "\n"
	}
	return parsed(t, text)
}

func parsed(t require.TestingT, text string) *acl.Policy {
	p, err := acl.Parse(text)
	require.NoError(t, err)
	return p
}
