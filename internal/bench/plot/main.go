// Command plot draws panels of bars, which come in as JSON, to the files named: SVG
// or PNG, by their ends. It is a module of its own, to keep what it needs out of
// Sluice's.
package main

import (
	"encoding/json"
	"fmt"
	"image/color"
	"log"
	"math"
	"os"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// panel is internal/bench/report's Panel.
type panel struct {
	Title, Unit string
	Bars        []bar
}

type bar struct {
	Name                   string
	Value, Least, Greatest float64
	Emphasised             bool
}

const (
	columns = 3
	width   = 12 * vg.Inch
	height  = 2.7 * vg.Inch // of a panel
)

var (
	own   = color.RGBA{0x0b, 0x6e, 0x4f, 0xff}
	other = color.RGBA{0x9a, 0xa5, 0xb1, 0xff}
	ink   = color.RGBA{0x22, 0x22, 0x22, 0xff}
)

func main() {
	log.SetFlags(0)
	var panels []panel
	if err := json.NewDecoder(os.Stdin).Decode(&panels); err != nil {
		log.Fatal(err)
	}
	for _, path := range os.Args[1:] {
		if err := drawTo(path, panels); err != nil {
			log.Fatal(err)
		}
	}
}

// drawTo draws all panels into a file.
func drawTo(path string, panels []panel) error {
	rows := (len(panels) + columns - 1) / columns
	h := height * vg.Length(max(rows, 1))
	var c vg.CanvasWriterTo
	switch filepath.Ext(path) {
	case ".svg":
		c = vgsvg.New(width, h)
	case ".png":
		c = vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(width, h), vgimg.UseDPI(110))}
	default:
		return fmt.Errorf("%s is neither SVG nor PNG", path)
	}
	tiles := draw.Tiles{Rows: rows, Cols: columns, PadX: 14, PadY: 16, PadTop: 6, PadBottom: 6, PadLeft: 6, PadRight: 10}
	page := draw.New(c)
	page.SetColor(color.White)
	page.Fill(page.Rectangle.Path())
	for i, p := range panels {
		plot, err := p.plot()
		if err != nil {
			return err
		}
		plot.Draw(tiles.At(page, i%columns, i/columns))
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := c.WriteTo(f); err != nil {
		return err
	}
	return f.Close()
}

// plot draws a panel: the first bar on top, each with its value behind it.
func (p panel) plot() (*plot.Plot, error) {
	pl := plot.New()
	pl.Title.Text = p.Title
	pl.Title.TextStyle.Font.Size = 11
	pl.Title.Padding = 4
	pl.X.Label.Text = p.Unit + ", less is better"
	pl.X.Label.TextStyle.Font.Size = 8
	pl.X.Tick.Label.Font.Size = 7
	pl.Y.Tick.Label.Font.Size = 8
	pl.X.Min = 0
	n := len(p.Bars)
	names := make([]string, n)
	most := 0.0
	for i, b := range p.Bars {
		names[n-1-i] = b.Name
		most = math.Max(most, b.Greatest)
	}
	// One bar that dwarfs the rest is cut off, and its value says so.
	cut := most
	if second := p.second(); most > 6*second && second > 0 {
		cut = 2 * second
	}
	labels := plotter.XYLabels{}
	for i, b := range p.Bars {
		at := float64(n - 1 - i)
		bars, err := plotter.NewBarChart(plotter.Values{math.Min(b.Value, cut)}, vg.Points(9))
		if err != nil {
			return nil, err
		}
		bars.Horizontal, bars.XMin, bars.LineStyle.Width = true, at, 0
		bars.Color = other
		if b.Emphasised {
			bars.Color = own
		}
		text := " " + figure(b.Value)
		if b.Value > cut {
			text += " »"
		}
		labels.XYs = append(labels.XYs, plotter.XY{X: math.Min(b.Value, cut), Y: at})
		labels.Labels = append(labels.Labels, text)
		pl.Add(bars)
	}
	values, err := plotter.NewLabels(labels)
	if err != nil {
		return nil, err
	}
	for i := range values.TextStyle {
		values.TextStyle[i].Font.Size, values.TextStyle[i].YAlign, values.TextStyle[i].Color = 7, draw.YCenter, ink
	}
	pl.Add(values)
	pl.NominalY(names...)
	pl.X.Max = cut * 1.18
	pl.Y.Min, pl.Y.Max = min(-0.5, float64(n)-8.5), float64(n)-0.5 // bars as far apart in all panels
	return pl, nil
}

// second is the second greatest value.
func (p panel) second() (second float64) {
	var first float64
	for _, b := range p.Bars {
		switch {
		case b.Value > first:
			first, second = b.Value, first
		case b.Value > second:
			second = b.Value
		}
	}
	return second
}

// figure is a value with three digits.
func figure(v float64) string {
	if v >= 100 {
		return fmt.Sprintf("%.0f", v)
	}
	return strings.TrimSuffix(fmt.Sprintf("%.3g", v), ".0")
}
