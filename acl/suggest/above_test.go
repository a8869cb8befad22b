package suggest

import (
	"encoding/binary"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/publicsuffix"
)

var update = flag.Bool("update", false, "write above.txt anew")

// suffixes reads the table of golang.org/x/net/publicsuffix, which has no way to go through it.
type suffixes struct {
	text            string
	nodes, children []byte
	constant        map[string]uint64
	above           []string
}

func readSuffixes(t *testing.T) *suffixes {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", "{{.Dir}}", "golang.org/x/net/publicsuffix").Output()
	require.NoError(t, err)
	dir := strings.TrimSpace(string(out))
	read := func(path ...string) []byte {
		b, err := os.ReadFile(filepath.Join(append([]string{dir}, path...)...))
		require.NoError(t, err)
		return b
	}
	s := &suffixes{text: string(read("data", "text")), nodes: read("data", "nodes"), children: read("data", "children"), constant: map[string]uint64{}}
	for _, m := range regexp.MustCompile(`(?m)^(?:const )?\s*(\w+)\s*= (\d+)$`).FindAllStringSubmatch(string(read("table.go")), -1) {
		s.constant[m[1]], err = strconv.ParseUint(m[2], 10, 64)
		require.NoError(t, err)
	}
	return s
}

// bits takes the lowest of u.
func (s *suffixes) bits(u *uint64, constant string) uint64 {
	n := s.constant[constant]
	low := *u & (1<<n - 1)
	*u >>= n
	return low
}

// walk goes through nodes lo to hi, below a name, and reports whether some suffix is among them.
func (s *suffixes) walk(lo, hi uint64, below string) (some bool) {
	for i := lo; i < hi; i++ {
		u := uint64(s.nodes[5*i])<<32 | uint64(binary.BigEndian.Uint32(s.nodes[5*i+1:]))
		length := s.bits(&u, "nodesBitsTextLength")
		offset := s.bits(&u, "nodesBitsTextOffset")
		s.bits(&u, "nodesBitsICANN")
		name := s.text[offset:offset+length] + below
		c := uint64(binary.BigEndian.Uint32(s.children[4*s.bits(&u, "nodesBitsChildren"):]))
		first, last := s.bits(&c, "childrenBitsLo"), s.bits(&c, "childrenBitsHi")
		kind, wildcard := s.bits(&c, "childrenBitsNodeType"), s.bits(&c, "childrenBitsWildcard") == 1
		inside := s.walk(first, last, "."+name) || wildcard
		own := kind == s.constant["nodeTypeNormal"]
		if suffix, _ := publicsuffix.PublicSuffix(name); inside && suffix != name {
			s.above = append(s.above, name)
		}
		some = some || own || inside
	}
	return some
}

// above.txt has the names that lie above a public suffix, by the table of the package that is linked.
func TestAbove(t *testing.T) {
	s := readSuffixes(t)
	require.Equal(t, uint64(40), s.constant["nodesBits"])
	require.True(t, s.walk(0, s.constant["numTLD"], ""))
	slices.Sort(s.above)
	want := strings.Join(s.above, "\n") + "\n"
	if *update {
		require.NoError(t, os.WriteFile("above.txt", []byte(want), 0o644)) //nolint:gosec // source
		return
	}
	assert.Equal(t, want, aboveText, "run go test ./acl/suggest -update")
}

func TestFoldable(t *testing.T) {
	for name, want := range map[string]bool{
		"example.com": true, "a.example.com": true, "example.co.uk": true, "github.com": true, "example.github.io": true,
		"corp.internal": true, "mybucket.s3.amazonaws.com": true,
		"com": false, "co.uk": false, "github.io": false, "internal": false, "s3.amazonaws.com": false,
		"amazonaws.com": false, "compute.amazonaws.com": false, "kawasaki.jp": false, "anything.kawasaki.jp": false, "city.kawasaki.jp": true,
	} {
		assert.Equal(t, want, foldable(name), name)
	}
}
