package spelling

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestClosest(t *testing.T) {
	t.Parallel()
	known := []string{"SLUICE_RULES", "SLUICE_DNS_TIMEOUT", "SLUICE_ADMIN", "SLUICE_IDLE_TIMEOUT", "SLUICE_B"}
	for word, want := range map[string]string{
		"SLUICE_RULE":         "SLUICE_RULES",
		"SLUICE_RULSE":        "SLUICE_RULES",
		"sluice_rules":        "", // the prefix is as it is, or it is none
		"SLUICE_Rules":        "SLUICE_RULES",
		"SLUICE_DNS_TIME_OUT": "SLUICE_DNS_TIMEOUT",
		"SLUICE_IDEL_TIMEOUT": "SLUICE_IDLE_TIMEOUT",
		"SLUICE_XYZZY":        "",
		"SLUICE_FOO":          "",
		"SLUICE_":             "",
		"SLUICE_A":            "", // not a letter in common
	} {
		require.Equal(t, want, Closest("SLUICE_", word, known), word)
	}
	require.Equal(t, "; did you mean check?", DidYouMean("", "chekc", []string{"test", "check"}))
	require.Empty(t, DidYouMean("", "chekc", nil))
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"chekc", "check", 1},
		{"kitten", "sitting", 3}, {"ca", "abc", 3}, {"rules", "rule", 1},
	} {
		require.Equal(t, c.want, distance(c.a, c.b), "%s %s", c.a, c.b)
		require.Equal(t, c.want, distance(c.b, c.a), "%s %s", c.b, c.a)
	}
}
