package report

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestInsertShadow(t *testing.T) {
	const doc = "before\n" + shadowFrom + "old\n" + shadowTo + "\nafter\n"
	table := &Table{Row: 17, Key: "17", Columns: []Column{{Name: "CPU s"}}}
	for _, c := range []struct {
		name   string
		values []float64
	}{{NoShadow, []float64{0.2, 0.1, 0.4}}, {WithShadow, []float64{0.202, 0.101, 0.404}}} {
		cell := &Cell{Name: c.name, Values: [][]float64{c.values}}
		table.Cells = append(table.Cells, cell)
	}
	got, err := InsertShadow(doc, Run{Tables: []*Table{table}, Reps: 3, Machine: "a machine"})
	require.NoError(t, err)
	want := "before\n" + shadowFrom + "| row 1 | CPU s, median | range | ratio |\n| --- | --- | --- | --- |\n" +
		"| no shadow rules | 0.2000 | 0.1000–0.4000 | 1.000 |\n| 1000 shadow rules | 0.2020 | 0.1010–0.4040 | 1.010 |\n\n3 repetitions, a machine.\n" + shadowTo + "\nafter\n"
	assert.Equal(t, want, got)
	again, err := InsertShadow(got, Run{Tables: []*Table{table}, Reps: 3, Machine: "a machine"})
	require.NoError(t, err)
	assert.Equal(t, want, again)
	_, err = InsertShadow(doc, Run{})
	assert.EqualError(t, err, "row 17 was not measured: what shadow rules cost is not known")
	_, err = InsertShadow("none", Run{Tables: []*Table{table}})
	assert.ErrorContains(t, err, "has lost its markers")
}
