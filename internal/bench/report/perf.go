package report

import (
	"bufio"
	"io"
	"strings"

	"github.com/google/pprof/profile"
)

// FromPerf makes a profile of what `perf script -F ip,sym` prints: blocks of lines with
// address and symbol, the innermost first, with an empty line between them.
func FromPerf(r io.Reader) (*profile.Profile, error) {
	p := &profile.Profile{SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}}}
	locations := map[string]*profile.Location{} // by symbol
	samples := map[string]*profile.Sample{}     // by stack
	var stack []*profile.Location
	var key strings.Builder
	add := func() {
		if len(stack) == 0 {
			return
		}
		s := samples[key.String()]
		if s == nil {
			s = &profile.Sample{Location: stack, Value: []int64{0}}
			samples[key.String()] = s
			p.Sample = append(p.Sample, s)
		}
		s.Value[0]++
		stack = nil
		key.Reset()
	}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) == 0 {
			add()
		}
		if len(f) < 2 {
			continue
		}
		symbol := strings.Join(f[1:], " ")
		l := locations[symbol]
		if l == nil {
			fn := &profile.Function{ID: uint64(len(p.Function) + 1), Name: symbol}
			l = &profile.Location{ID: fn.ID, Line: []profile.Line{{Function: fn}}}
			p.Function, p.Location = append(p.Function, fn), append(p.Location, l)
			locations[symbol] = l
		}
		stack = append(stack, l)
		key.WriteString(symbol + "\n")
	}
	add()
	return p, lines.Err()
}
