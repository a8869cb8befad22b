package report

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// Marks of what a run says of shadow rules, in a document.
const (
	shadowFrom = "<!-- shadow: make speed -->\n"
	shadowTo   = "<!-- /shadow -->"
)

// InsertShadow puts what row 17 of r has measured into a document, in place of what stands there.
func InsertShadow(doc string, r Run) (string, error) {
	before, rest, ok := strings.Cut(doc, shadowFrom)
	_, after, ok2 := strings.Cut(rest, shadowTo)
	t := r.table("17")
	cost := t.Cell(WithShadow).Ratio(0, t.Cell(NoShadow))
	switch {
	case !ok || !ok2:
		return "", fmt.Errorf("the document has lost its markers %q and %q", strings.TrimSpace(shadowFrom), shadowTo)
	case math.IsNaN(cost):
		return "", errors.New("row 17 was not measured: what shadow rules cost is not known")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "| row 1 | %s, median | range | ratio |\n| --- | --- | --- | --- |\n", t.Columns[0].Name)
	for _, name := range []string{NoShadow, WithShadow} {
		c := t.Cell(name)
		least, most := c.Range(0)
		fmt.Fprintf(&b, "| %s | %.4f | %.4f–%.4f | %.3f |\n", name, c.Median(0), least, most, c.Ratio(0, t.Cell(NoShadow)))
	}
	fmt.Fprintf(&b, "\n%d repetitions, %s.\n", r.Reps, r.Machine)
	return before + shadowFrom + b.String() + shadowTo + after, nil
}
