package settings

import (
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// all is a configuration of its own, and its table.
type all struct {
	word  string
	words []string
	text  []byte
}

func (c *all) table() []Setting {
	return Table(Group{"All", []Setting{
		ConfigFile(),
		{Flag: "a-word", Key: "aWord", Value: "WORD", Change: Restart, Into: One(&c.word, Line)},
		{Flag: "words", Egress: "EGRESS_WORDS", Key: "words", Default: "x y", Value: "WORD", List: true, Change: Restart, Into: Many(&c.words, Line)},
		{Key: "text", Value: "TEXT", Change: Restart, Into: Into{Place: &c.text}},
		{Flag: "live", Key: "live", Value: "WORD", Change: Reload, Into: One(new(string), Line)},
	}})
}

func load(t *testing.T, file string, environ []string, args ...string) (*all, *Loader) {
	t.Helper()
	c := &all{}
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	AddFlags(flags, c.table())
	require.NoError(t, flags.Parse(args))
	l := NewLoader(Input{Flags: flags, Environ: environ, ReadFile: func(path string) ([]byte, error) {
		if path != "/f" {
			return nil, fs.ErrNotExist
		}
		return []byte(file), nil
	}}, c.table())
	l.Load()
	return c, l
}

// A setting is called as its user wrote it.
func TestWritten(t *testing.T) {
	t.Parallel()
	_, l := load(t, "", []string{"SLUICE_A_WORD=x"}, "--words=a")
	require.Equal(t, Written{"config": "--config (SLUICE_CONFIG)", "a-word": "SLUICE_A_WORD", "words": "--words", "text": "--", "live": "--live (SLUICE_LIVE)"}, l.Written())
	_, l = load(t, "# one\naWord: x\n", []string{"EGRESS_WORDS=a"}, "--config=/f")
	require.Equal(t, Written{"config": "--config", "a-word": "aWord (/f:2)", "words": "EGRESS_WORDS", "text": "text (/f)", "live": "live (/f)"}, l.Written())
	require.Equal(t, "aWord (/f:2)", l.Written().Of("a-word"))
}

func TestNeedRestart(t *testing.T) {
	t.Parallel()
	before, _ := load(t, "aWord: x\nwords: [a, b]\nlive: x\n", nil, "--config=/f")
	for file, want := range map[string][]string{
		"aWord: x\nwords: [a, b]\nlive: x\n":      nil,
		"words: a b\nlive: other\naWord: \"x\"\n": nil, // said in another way, and a live one
		"words: [b]\naWord: y\n":                  {"aWord (/f:2)", "words (/f:1)"},
		"aWord: x\n":                              {"words (/f)"}, // the default, now
	} {
		now, l := load(t, file, nil, "--config=/f")
		require.Empty(t, l.Problems)
		require.Equal(t, want, l.Written().NeedRestart(FixedOf(before.table()), now.table()), file)
	}
	// What the command reads by itself, the text of a file say, counts by its place.
	now, l := load(t, "aWord: x\nwords: [a, b]\ntext: x\n", nil, "--config=/f")
	now.text = []byte("x")
	require.Equal(t, []string{"text (/f:3)"}, l.Written().NeedRestart(FixedOf(before.table()), now.table()))
}

// TestText: parsers of a text get one, and its lines are those of the source.
func TestText(t *testing.T) {
	t.Parallel()
	text, at := Text([]Value{{Text: "a\nb\n", Source: "/f", Line: 3}, {Text: "c", Source: "V"}, {Text: "d\ne", Source: "W"}})
	require.Equal(t, "a\nb\nc\nd\ne", text)
	var got []string
	for line := range 7 {
		got = append(got, at(line).Problem(at(line).Text).Error())
	}
	require.Equal(t, []string{"/f:3: a", "/f:3: a", "/f:4: b", "V: c", "W:1: d", "W:2: e", "W:2: e"}, got)
}

// TestEnvironment: of a variable that is set twice the last counts, as for a process; one
// that is empty is not set.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	require.Equal(t, map[string]string{"A": "2", "AB": "x", "C": "="}, Environment([]string{"AB=x", "A=1", "A=2", "B=1", "B=", "C==", "=x", "nothing"}))
}

// TestVariables: what Kubernetes sets for a Service is no setting, and the other way round.
func TestVariables(t *testing.T) {
	t.Parallel()
	require.True(t, slices.IsSorted(Variables()))
	for _, name := range Variables() {
		require.False(t, serviceVariable.MatchString(strings.TrimPrefix(strings.TrimPrefix(name, "SLUICE"), "EGRESS")), name)
	}
}
