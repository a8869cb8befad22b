// Package docs reads what the documentation shows, so that tests run it as it stands there.
package docs

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Section is what stands beneath a heading of a page, up to the next heading of any level.
func Section(t testing.TB, path, heading string) (section string) {
	t.Helper()
	page, err := os.ReadFile(path)
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(page), "\n"+heading+"\n")
	require.True(t, ok, "%s has no heading %q", path, heading)
	inBlock := false
	for line := range strings.Lines(rest) {
		if strings.HasPrefix(line, "```") {
			inBlock = !inBlock
		}
		if strings.HasPrefix(line, "#") && !inBlock { // in a block it is a comment
			break
		}
		section += line
	}
	return section
}

// Blocks are the code blocks of a language in a section, in their order.
func Blocks(section, language string) (blocks []string) {
	for _, part := range strings.Split(section, "\n```"+language+"\n")[1:] {
		block, _, _ := strings.Cut(part, "\n```")
		blocks = append(blocks, block+"\n")
	}
	return blocks
}

// Replay runs the commands of a console block, the lines that have a "$ ", and wants of each
// the output that follows it, errors among it, as [Matches] compares them. run runs a script at
// the place that the prompt names, which is "" for a mere "$ " and "root" for "# ", and returns
// its output; commands at one place that follow each other share a shell. After a command that
// ends in "&" the script calls started, which run defines where there are such commands.
func Replay(t testing.TB, block string, run func(place, script string) (output string)) {
	t.Helper()
	type step struct{ place, command, want string }
	var steps []step
	for line := range strings.Lines(block) {
		place, command, ok := strings.Cut(line, "$ ")
		if as, isRoot := strings.CutPrefix(line, "# "); isRoot {
			place, command, ok = "root", as, true
		}
		if ok && !strings.ContainsAny(place, " ") {
			steps = append(steps, step{place: place, command: command})
			continue
		}
		require.NotEmpty(t, steps, "%q is no output of a command", line)
		steps[len(steps)-1].want += line
	}
	require.NotEmpty(t, steps)
	const mark = "-- next --\n"
	for len(steps) > 0 {
		script, n := "exec 2>&1\n", 0
		for ; n < len(steps) && steps[n].place == steps[0].place; n++ {
			script += steps[n].command
			if strings.HasSuffix(steps[n].command, "&\n") {
				script += "started\n"
			}
			script += fmt.Sprintf("printf '%%s\\n' '%s'\n", strings.TrimSpace(mark))
		}
		got := strings.Split(run(steps[0].place, script), mark)
		require.Len(t, got, n+1, "%s", got)
		for i, s := range steps[:n] {
			if !Matches(s.want, got[i]) {
				assert.Equal(t, s.want, got[i], "%s$ %s", s.place, s.command)
			}
		}
		steps = steps[n:]
	}
}
