//go:build linux

package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/docs"
	"github.com/sluiceproxy/sluice/e2e/internal/program"
)

// block is a block of the README.
func block(t *testing.T, key string) docs.Block {
	t.Helper()
	for _, b := range docs.All(t, root, "README.md") {
		if b.Key() == key {
			return b
		}
	}
	t.Fatalf("README.md has no block %q", key)
	panic("not reached")
}

// rulesOf is a script that writes the README's rules, and running one that has the proxy run
// with them.
func rulesOf(t *testing.T) string {
	t.Helper()
	return "cat > rules.txt <<'EOF'\n" + block(t, "README.md | Six lines of rules |  1").Text + "EOF\n"
}

const running = "bin/sluice proxy --rules rules.txt > access.log 2> sluice.log &\nstarted\n"

func thirtySeconds(t *testing.T, b docs.Block) {
	m := newMachine(t)
	m.replay(b, "rm -f rules.txt page")
	page, err := os.ReadFile(filepath.Join(m.dir, "page"))
	require.NoError(t, err)
	assert.Equal(t, "hello\n", string(page))
}

func sixLines(t *testing.T, _ docs.Block) {
	m := newMachine(t)
	assert.Equal(t, "0\n", m.run(rulesOf(t)+"exec 2>&1\nbin/sluice acl check rules.txt; echo $?"))
}

func makeRun(t *testing.T, b docs.Block) {
	m := newMachine(t)
	command, want, _ := strings.Cut(strings.TrimPrefix(b.Text, "$ "), "\n")
	got := m.run(command + " > said 2>&1 &\nstarted\nuntil grep -q ^try: said; do sleep 0.1; done\ncat said")
	if !docs.Matches(want, got) {
		assert.Equal(t, want, got)
	}
	_, try, ok := strings.Cut(b.Text, "try: ")
	require.True(t, ok)
	assert.Equal(t, "hello\n", m.run("make run > said 2>&1 &\nstarted\n"+strings.Replace(try, "curl", "curl -sS", 1)))
}

// makeDemo wants what is shown of the demo in what it says. It makes named namespaces.
func makeDemo(t *testing.T, b docs.Block) {
	m := newMachine(t)
	got := program.Command(t, nil, []string{"SLUICE=" + filepath.Join(m.dir, "bin", "sluice")}, "bash", filepath.Join(m.dir, "deploy", "demo.sh"))
	require.Equal(t, 0, got.Status, got.Out+got.Err)
	for _, part := range strings.Split(strings.TrimSpace(b.Text), "\n\n") {
		assert.Contains(t, got.Out, part)
	}
}

func sixLinesInForce(t *testing.T, b docs.Block) {
	newMachine(t).replay(b, rulesOf(t)+running)
}

func logLine(t *testing.T, b docs.Block) {
	got := newMachine(t).run(rulesOf(t) + running + "curl -s -x http://127.0.0.1:8080 https://www.ads.example.com/\nuntil [ -s access.log ]; do sleep 0.1; done\ncat access.log")
	if !docs.Matches(b.Text, got) {
		assert.Equal(t, b.Text, got)
	}
}

func askSixLines(t *testing.T, b docs.Block) { newMachine(t).replay(b, rulesOf(t)) }

// tree wants the folders of a picture of the source to be there.
func tree(t *testing.T, b docs.Block) {
	line := regexp.MustCompile(`^( {0,2})((?:[a-z0-9-]+/ ?)+)`)
	parent, folders := "", 0
	for text := range strings.Lines(b.Text) {
		found := line.FindStringSubmatch(text)
		if found == nil {
			continue
		}
		for _, name := range strings.Fields(found[2]) {
			if found[1] == "" {
				parent = name
			} else {
				name = filepath.Join(parent, name)
			}
			assert.DirExists(t, filepath.Join(root, name), "%s", text)
			folders++
		}
	}
	assert.Greater(t, folders, 20)
}

// goTests wants packages and tests of go test commands, and targets of make, to be there.
func goTests(t *testing.T, b docs.Block) {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	require.NoError(t, err)
	for line := range strings.Lines(b.Text) {
		command, _, _ := strings.Cut(strings.TrimSpace(line), "#")
		words := strings.Fields(command)
		if words[0] == "make" {
			assert.Contains(t, string(makefile), "\n"+words[1]+":", line)
			continue
		}
		require.Equal(t, []string{"go", "test"}, words[:2])
		run := regexp.MustCompile(`-run '?([^' ]+)'?`).FindStringSubmatch(command)
		found := run == nil
		for _, word := range words[2:] {
			if !strings.HasPrefix(word, "./") {
				continue
			}
			files, err := filepath.Glob(filepath.Join(root, strings.TrimSuffix(word, "..."), "*_test.go"))
			require.NoError(t, err)
			require.NotEmpty(t, files, word)
			for _, file := range files {
				text, err := os.ReadFile(file)
				require.NoError(t, err)
				found = found || regexp.MustCompile(`(?m)^func Test\w*(`+run[1]+`)`).Match(text)
			}
		}
		assert.True(t, found, "nothing is run by %s", line)
	}
}
