package report

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMedian(t *testing.T) {
	nan := math.NaN()
	for _, test := range []struct {
		want float64
		in   []float64
	}{
		{nan, nil}, {nan, []float64{nan}}, {3, []float64{3}}, {2.5, []float64{4, 1, 2, 3}}, {2, []float64{9, 2, nan, 1}},
	} {
		got := Median(test.in)
		assert.True(t, got == test.want || math.IsNaN(got) && math.IsNaN(test.want), "%v: %v", test.in, got)
	}
}

// testRun is a run of two rows.
func testRun() Run {
	one := &Table{Row: 1, Key: "1", Title: "GET", Columns: []Column{{Name: "CPU s/10k", Decimals: 3}, {Name: "1/s"}, {Name: "p50 ms", Decimals: 2}, {Name: "p99 ms", Decimals: 2}}}
	s := one.Add("sluice")
	s.Own = true
	s.Put(0.1, 50000, 1, 2)
	s.Put(0.2, 40000, 1, 3) // in a bad moment, for squid too
	q := one.Add("squid")
	q.Peer = true
	q.Put(1, 5000, 5, 9)
	q.Put(2, 2500, 5, 9)
	h := one.Add("haproxy")
	h.Peer, h.None = true, true
	g := one.Add("goproxy")
	g.Peer, g.Failed = true, "status 500, not 200: \"a|b\" (3 times)"
	d := one.Add("direct")
	d.Put(math.NaN(), 90000, 0.5, 1)
	six := &Table{Row: 6, Key: "6", Title: "idle", Columns: []Column{{Name: "RSS KiB each"}, {Name: "PSS"}, {Name: "descriptors"}}, Notes: []string{"a note"}}
	six.Add("sluice").Put(0.9, 0.9, 2.001)
	return Run{
		When: time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC), Took: 20 * time.Minute, Machine: "2 × processor", Method: "clock", Reps: 2,
		Versions: [][2]string{{"squid", "5.7"}}, Notes: []string{"Missing: nginx"}, Tables: []*Table{one, six},
	}
}

func TestText(t *testing.T) {
	text := testRun().Tables[0].Text()
	for _, want := range []string{"0.150", "0.100–0.200", "10.00", "45,000", "goproxy failed: status 500", "haproxy", "–"} {
		assert.Contains(t, text, want)
	}
}

func TestMarkdown(t *testing.T) {
	text := testRun().Markdown()
	for _, want := range []string{
		"21 November 2026", "squid 5.7.", "\nMissing: nginx\n", "- a note\n",
		"| sluice | 0.150 | 0.100–0.200 | 1.00 | 45,000 | 1.00 | 2.50 |",
		"| squid | 1.500 | 1.000–2.000 | 10.00 | 3750 | 5.00 | 9.00 |",
		`| goproxy | failed: status 500, not 200: "a\|b" (3 times) |`,
		"| direct |  |  |  | 90,000 |",
		"| 1 | CPU against squid ≤ 0.15 | 0.1 | met |",
		"| 1 | CPU against haproxy ≤ 0.7 | not measured | – |",
		"| 6 | descriptors of a tunnel ≤ 2 | 2 | met |",
	} {
		assert.Contains(t, text, want)
	}
	assert.NotContains(t, text, "\n| 2 |", "a row that was not measured")

	doc, err := Insert("before\n"+From+"old"+To+"\nafter", text)
	require.NoError(t, err)
	again, err := Insert(doc, text)
	require.NoError(t, err)
	assert.Equal(t, doc, again)
	assert.True(t, strings.HasPrefix(doc, "before\n") && strings.HasSuffix(doc, "\nafter"))
	_, err = Insert("no markers", text)
	assert.Error(t, err)
}

func TestPanels(t *testing.T) {
	p := testRun().Panels()
	require.NotEmpty(t, p)
	assert.Equal(t, []Bar{{"sluice", 0.15, 0.1, 0.2, true}, {"squid", 1.5, 1, 2, false}}, rounded(p[0].Bars))
}

func rounded(bars []Bar) []Bar {
	for i := range bars {
		bars[i].Value = math.Round(bars[i].Value*1e6) / 1e6
	}
	return bars
}

func TestFromPerf(t *testing.T) {
	p, err := FromPerf(strings.NewReader("   ffff inner\n   eeee outer call\n\n   ffff inner\n   eeee outer call\n\n   dddd outer call\n"))
	require.NoError(t, err)
	require.Len(t, p.Sample, 2)
	var out bytes.Buffer
	require.NoError(t, p.Write(&out))
	back, err := profile.Parse(&out)
	require.NoError(t, err)
	stacks := map[string]int64{}
	for _, s := range back.Sample {
		var names []string
		for _, l := range s.Location {
			names = append(names, l.Line[0].Function.Name)
		}
		stacks[strings.Join(names, " < ")] = s.Value[0]
	}
	assert.Equal(t, map[string]int64{"inner < outer call": 2, "outer call": 1}, stacks)
}
