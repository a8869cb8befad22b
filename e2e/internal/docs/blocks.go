package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Block is a block of code in a page.
type Block struct {
	Page     string // below the top of the source
	Heading  string // under which it stands
	Language string // "": none is given
	N        int    // it is the Nth of its language under its heading, from 1
	Line     int
	Text     string
}

// Key names a block, wherever else something is added to its page.
func (b Block) Key() string {
	return fmt.Sprintf("%s | %s | %s %d", b.Page, b.Heading, b.Language, b.N)
}

// All are the blocks of a page, indented ones among them.
func All(t testing.TB, root, page string) (blocks []Block) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, page))
	require.NoError(t, err)
	var open *Block
	heading, indent, n := "", "", map[string]int{}
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		trimmed := strings.TrimLeft(line, " ")
		switch {
		case strings.HasPrefix(trimmed, "```") && open == nil:
			language := strings.TrimSpace(trimmed[3:])
			n[language]++
			open = &Block{Page: page, Heading: heading, Language: language, N: n[language], Line: number}
			indent = line[:len(line)-len(trimmed)]
		case strings.HasPrefix(trimmed, "```"):
			blocks, open = append(blocks, *open), nil
		case open != nil:
			open.Text += strings.TrimPrefix(line, indent)
		case strings.HasPrefix(line, "#"):
			heading, n = strings.TrimSpace(strings.TrimLeft(line, "#")), map[string]int{}
		}
	}
	require.Nil(t, open, "%s: a block does not end", page)
	return blocks
}

// varying is what is different each time, and what stands for it in a comparison.
var varying = []struct {
	pattern *regexp.Regexp
	word    string
}{
	{regexp.MustCompile(`\b[0-9a-f]{40}\b`), "COMMIT"},
	{regexp.MustCompile(`\b[0-9a-f]{16}\b`), "ID"},
	{regexp.MustCompile(`(?i)(policy(?:="|":"|: +generation \d+, ))[0-9a-f]{12}\b`), "${1}HASH"},
	{regexp.MustCompile(`\b\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\b`), "DATE"},
	{regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`_ms":[0-9.]+`), `_ms":N`},
	{regexp.MustCompile(`"127\.0\.0\.1:\d+"`), "CLIENT"},
	{regexp.MustCompile(`\bgo1\.\d+(\.\d+)?\b`), "GO"},
	{regexp.MustCompile(`\r`), ""},
}

// Matches reports whether output is what a page shows: but for times, ids and the like, and
// where the page has "…", which stands for anything in a line, and as a line of its own for any
// lines.
func Matches(page, output string) bool {
	for _, v := range varying {
		page, output = v.pattern.ReplaceAllString(page, v.word), v.pattern.ReplaceAllString(output, v.word)
	}
	pattern := ""
	for line := range strings.Lines(page) {
		if line == "…\n" {
			pattern += `(?:.*\n)*`
			continue
		}
		pattern += strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*")
	}
	return regexp.MustCompile(`\A` + pattern + `\z`).MatchString(output)
}
