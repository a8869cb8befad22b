package acl

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEnd(t *testing.T) {
	for text, whole := range map[string]bool{
		"a.test\n#@ end":            true,
		"a.test\n#@ end\n":          true,
		"a.test\n#@ end\r\n\n \t\n": true,
		"\t#@  end \n":              true,
		"*\n#@end\n":                true,
		"\ufeff#@ end":              true,
		"a.test\n":                  false,
		"":                          false,
		"# @ end\n":                 false,
	} {
		p, err := Parse(text)
		if assert.NoError(t, err, "%q", text) {
			assert.Equal(t, whole, p.Whole(), "%q", text)
			assert.Equal(t, whole, p.WithGuard(Guard{Mode: GuardStrict}).Whole(), "%q", text)
		}
	}
	for text, want := range map[string]string{
		"#@ end\na.test\n":      "line 1: '#@ end' must be the last line: line 2 follows; move it to the end",
		"a.test\n#@ end\n\n# x": "line 2: '#@ end' must be the last line: line 4 follows; move it to the end",
		"a.test #@ end\n":       "line 1: Bad directive 'a.test #@ end': end stands alone on its line",
		"a.test\n#@ en":         "line 2: Bad directive '#@ en': unknown directive 'en'; write owner=, ticket=, expires= or protocol=, and x-… for what is not Sluice's", // cut off
		"#@ end of it":          "line 1: Bad directive '#@ end of it': nothing may stand behind end",
		"#@ end\n#@ end":        "line 1: '#@ end' must be the last line: line 2 follows; move it to the end",
	} {
		_, err := Parse(text)
		assert.EqualError(t, err, want, "%q", text)
	}
	assert.False(t, (*Policy)(nil).Whole())
}

// Of several texts each is whole or not, and one that was is missed when it is not.
func TestLostEnd(t *testing.T) {
	parse := func(a, b string) *Policy {
		p, err := ParseTexts(Text{Source: "a", Text: a}, Text{Source: "b", Text: b})
		require.NoError(t, err)
		return p
	}
	const whole, cut = "x.test\n#@ end\n", "x.test\n"
	for _, tt := range []struct {
		before, now *Policy
		lost        string
	}{
		{parse(whole, whole), parse(whole, whole), ""},
		{parse(whole, whole), parse(cut, whole), "a"},
		{parse(whole, whole), parse(whole, cut), "b"},
		{parse(whole, cut), parse(whole, cut), ""},
		{parse(cut, cut), parse(whole, whole), ""},
		{parse(whole, cut), nil, ""},
		{nil, parse(cut, cut), ""},
	} {
		source, lost := tt.now.LostEnd(tt.before)
		assert.Equal(t, tt.lost, source)
		assert.Equal(t, tt.lost != "", lost)
	}
	assert.True(t, parse(whole, whole).Whole())
	assert.False(t, parse(whole, cut).Whole())
}
