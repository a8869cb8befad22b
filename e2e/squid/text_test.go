//go:build linux

package squid

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/sluiceproxy/sluice/acl"
)

const defaultTexts = 600

// spelledTexts are texts that a generator would not find, at least one for each
// textRow, by who accepts them: squid, Sluice.
var spelledTexts = map[[2]bool][]string{
	{true, true}: {
		"example.com", "!example.com\n*", "*", "# only a comment", " \t\n", "*\n\n# end\n*", "registry",
		"*.example.com", "EXAMPLE.com", "10.0.0.1", "!10.0.0.0/8", "2001:db8::/32", "::1", "2001:DB8::1", "::ffff:10.0.0.1",
		"::/0", "0.0.0.0/0", "10.0.0.5/8", "fe80::1/10", "a-.test", "example.com.", "*.example.com.", "xn--bcher-kva.test",
		"::1.2.3.4", "# \xff", "1.2.3.4.test", "12ab", "cafe.de", "www", "a.test\na.test", "*.a.test\nx.a.test",
		"::ffff:10.0.0.0/104", "64:ff9b::10.0.0.0/104", "0x.test", "w", "2001:db8:0:0:0:0:0:1", "*.cafe.de", "a--b.test", "10.0.0.1-9",
	},
	{false, false}: {
		"*\nexample.com", "!*", "!", "!!example.com", "http://example.com", "example.com/path", "a b", "fe80::1%eth0",
		".example.com", "user@example.com", "10.0.0.0/33", "10.0.0.256", "999.1.1.1", "a:b", "...", "10.0.0.0/99",
		"2001:db8::1::2", "**", "example.com:0", "[10.0.0.1]", "example.com,example.net", ":", "1.2.3.4.5",
		"bücher*.test", "::ffff:1.2.3.4:80", "2001:db8:::1", "10.0.0.0/", "/8", "exam?le.com", "example.com#x", "\uFEFF!",
	},
	{true, false}: {
		"1.2", "10.1", "010.0.0.1", "192.168.263", "10.0.0.0/08", "2001:db8::/129", "010.0.0.0/8",
		"*\nwww", "*\nw", `exa\mple.com`, "a\\\nb.test", "# joins \\\nno rule!", `lost.test\`, `\*`, "foo..test", "123456",
		"10.0.0.1-10.0.0.9", "0x7f.1", "a.0x", "*.1.2", "zz.1", "0x1f", "z.0x1f",
		strings.Repeat("a", 64) + ".test", strings.Repeat("abcdefg.", 32) + "test",
		"*.foo..test", "::ffff:10.0.0.0/24", "# \ra comment", "z.test..",
	},
	{false, true}: {
		"facade.cc", "!dead.beef", "a.test\r\nb.test\r\n", "*\r", "10.0.0.1.", "x_y.test", "_dmarc.test", "-a.test", "-",
		"*.-a.test", "bücher.test", "x", "*.x", "!w", "api-*.test", "*example", "*.s3.*.test", "*.*", "example.com:443", "*:443",
		"10.0.0.1:80", "10.0.0.0/8:80,443", "cafe.de:443", "!example.com:8000-8999", "[2001:db8::1]", "[2001:db8::/32]:443",
		"example.com # why", "10.0.0.1\t#", "! example.com", "!\t10.0.0.1", "\uFEFFexample.com", "\uFEFF# x", "",
	},
}

// newText generates a text of a few lines that both accept, and spoils it at one
// place or two, most times.
func newText(r *rand.Rand) string {
	text := newList(r).text
	if r.IntN(3) > 0 {
		text = newRule(r).text // so that the spoiled line is all there is
	}
	alphabet := []rune("....::--__**//!![] #\r\\0123456789abcdefwxyzWé,%\n")
	for range r.IntN(3) {
		runes := []rune(text)
		i := r.IntN(len(runes) + 1)
		j := min(i+r.IntN(2), len(runes)) // insert, or replace
		c := alphabet[r.IntN(len(alphabet))]
		text = string(runes[:i]) + string(c) + string(runes[j:])
	}
	return text
}

// verdicts on a text.
type textVerdicts struct {
	squid, sluice bool // accepted
	why           string
}

// read asks both sides.
func (n *network) read(t testing.TB, text string) (v textVerdicts) {
	t.Helper()
	_, err := acl.Parse(text)
	v.sluice = err == nil
	if err != nil {
		v.why = fmt.Sprintf("Sluice: %v", err)
	}
	rules, star, err := translate(text)
	if err != nil {
		v.why += fmt.Sprintf("\nscript: %v", err)
		return v
	}
	var said string
	if v.squid, said = n.parses(t, rules, star); !v.squid {
		v.why += "\nsquid: " + said
	}
	return v
}

func TestTextsAreReadAsTheScriptReadsThem(t *testing.T) {
	n := newNetwork(t)
	n.publish(&world{addrs: map[string][]netip.Addr{"cafe.de": plainAddrs[:1]}})
	var texts []string
	for want, list := range spelledTexts {
		for _, text := range list {
			v := n.read(t, text)
			assert.Equal(t, want, [2]bool{v.squid, v.sluice}, "who accepts %q: squid, Sluice\n%s", text, v.why)
		}
		texts = append(texts, list...)
	}
	r := rand.New(rand.NewPCG(uint64(setting(t, "SLUICE_SQUID_SEED", defaultSeed)), 1)) //nolint:gosec // for repetition
	count := setting(t, "SLUICE_SQUID_TEXTS", defaultTexts)
	for range count {
		texts = append(texts, newText(r))
	}

	seen := map[string]int{}
	var accepted, refusedByBoth, plain int
	for _, text := range texts {
		v := n.read(t, text)
		var rows []string
		excused := false
		for _, row := range textRows {
			if !row.holds(text) {
				continue
			}
			rows = append(rows, row.name)
			if v.squid != v.sluice && v.sluice == bool(row.who) {
				excused = true
				seen[row.name]++
			}
		}
		switch {
		case v.squid != v.sluice && !excused:
			t.Errorf("%q\nsquid accepts: %t, Sluice accepts: %t, rows: %q\n%s", text, v.squid, v.sluice, rows, v.why)
		case v.squid && v.sluice:
			accepted++
		case !v.squid && !v.sluice:
			refusedByBoth++
		}
		if rows == nil {
			plain++
		}
	}
	t.Logf("%d texts: both accept %d, both refuse %d; %d in no row", len(texts), accepted, refusedByBoth, plain)
	for _, row := range textRows {
		t.Logf("%6d differ: %s", seen[row.name], row.name)
		assert.NotZero(t, seen[row.name], "never seen: %s", row.name)
	}
	if count < defaultTexts {
		return
	}
	// The rows must not excuse everything.
	assert.GreaterOrEqual(t, accepted*3, len(texts), "too few texts that both accept")
	assert.GreaterOrEqual(t, plain*2, len(texts), "too many texts lie in some row")
}
