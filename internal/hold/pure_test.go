package hold

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The decision asks no clock: it has the time of its events, which is a monotonic clock's, and a
// Lease tells it no time of the day.
func TestNoClock(t *testing.T) {
	files, err := os.ReadDir(".")
	require.NoError(t, err)
	looked := 0
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, 0)
		require.NoError(t, err)
		ast.Inspect(parsed, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if of, ok := s.X.(*ast.Ident); ok && of.Name == "time" {
				looked++
				assert.Contains(t, []string{"Duration", "Millisecond", "Second", "Minute", "Hour"}, s.Sel.Name, f.Name())
			}
			return true
		})
	}
	assert.Greater(t, looked, 20)
}
