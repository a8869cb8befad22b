package report

import (
	"bufio"
	"fmt"
	"hash/fnv"
	"html"
	"io"
	"slices"
	"strings"
)

// Stacks are samples: frames, the outermost first, joined by semicolons, with their
// weight.
type Stacks map[string]float64

// Traces reads what `go tool pprof -traces` prints: blocks of a weight and the
// innermost frame, then the frames that called it, a line each.
func Traces(r io.Reader) (Stacks, error) {
	all := Stacks{}
	var frames []string
	var weight float64
	add := func() {
		slices.Reverse(frames)
		if len(frames) > 0 {
			all[strings.Join(frames, ";")] += weight
		}
		frames = nil
	}
	lines := bufio.NewScanner(r)
	for begun := false; lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "-----------+") {
			add()
			begun = true
			continue
		}
		f := strings.Fields(line)
		if !begun || len(f) == 0 || strings.HasSuffix(f[0], ":") {
			continue
		}
		if frames == nil {
			if len(f) < 2 {
				continue
			}
			v, err := seconds(f[0])
			if err != nil {
				return nil, err
			}
			weight, f = v, f[1:]
		}
		frames = append(frames, f[0])
	}
	add()
	return all, lines.Err()
}

// seconds reads a duration as pprof writes it.
func seconds(s string) (v float64, err error) {
	unit := strings.TrimLeft(s, "0123456789.")
	factor := map[string]float64{"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1, "mins": 60}[unit]
	if factor == 0 {
		return 0, fmt.Errorf("%q is no duration", s)
	}
	_, err = fmt.Sscanf(strings.TrimSuffix(s, unit), "%g", &v)
	return v * factor, err
}

// Script reads what `perf script -F ip,sym` prints: blocks of lines with address and
// symbol, the innermost first, with an empty line between them.
func Script(r io.Reader) (Stacks, error) {
	all := Stacks{}
	var frames []string
	add := func() {
		slices.Reverse(frames)
		if len(frames) > 0 {
			all[strings.Join(frames, ";")]++
		}
		frames = nil
	}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) == 0 {
			add()
			continue
		}
		if len(f) > 1 {
			frames = append(frames, strings.Join(f[1:], " "))
		}
	}
	add()
	return all, lines.Err()
}

// frame is one box.
type frame struct {
	name   string
	weight float64
	below  map[string]*frame // what it calls
}

func (f *frame) add(stack []string, weight float64) {
	f.weight += weight
	if len(stack) == 0 {
		return
	}
	next := f.below[stack[0]]
	if next == nil {
		next = &frame{name: stack[0], below: map[string]*frame{}}
		f.below[stack[0]] = next
	}
	next.add(stack[1:], weight)
}

func (f *frame) depth() int {
	d := 0
	for _, b := range f.below {
		d = max(d, b.depth())
	}
	return d + 1
}

const (
	flameWidth = 1400
	flameLine  = 17
)

// Flame draws stacks as a flame graph, an SVG: callers below, the share of each
// function as its width. The pointer over a box tells its name and share.
func (s Stacks) Flame(w io.Writer, title string) error {
	root := &frame{name: "all", below: map[string]*frame{}}
	for stack, weight := range s {
		root.add(strings.Split(stack, ";"), weight)
	}
	height := (root.depth()+2)*flameLine + 10
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">`+"\n", flameWidth, height)
	fmt.Fprintf(out, `<rect width="100%%" height="100%%" fill="white"/><text x="6" y="15" font-size="14">%s</text>`+"\n", html.EscapeString(title))
	root.draw(out, 0, height-flameLine-4, flameWidth/max(root.weight, 1e-12), root.weight)
	fmt.Fprintln(out, `</svg>`)
	return out.Flush()
}

func (f *frame) draw(w io.Writer, x float64, y int, scale, total float64) {
	width := f.weight * scale
	if width < 0.3 {
		return
	}
	h := fnv.New32a()
	io.WriteString(h, f.name)
	name := html.EscapeString(f.name)
	fmt.Fprintf(w, `<g><title>%s: %.2f %%</title><rect x="%.1f" y="%d" width="%.1f" height="%d" fill="hsl(%d,75%%,68%%)" stroke="white" stroke-width="0.4"/>`,
		name, 100*f.weight/total, x, y, width, flameLine-1, 10+h.Sum32()%45)
	if room := int(width/6.3) - 1; room >= 3 {
		short := []rune(f.name)
		if len(short) > room {
			short = append(short[:room-1], '…')
		}
		fmt.Fprintf(w, `<text x="%.1f" y="%d">%s</text>`, x+3, y+flameLine-5, html.EscapeString(string(short)))
	}
	fmt.Fprintln(w, `</g>`)
	names := make([]string, 0, len(f.below))
	for n := range f.below {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		f.below[n].draw(w, x, y-flameLine, scale, total)
		x += f.below[n].weight * scale
	}
}
