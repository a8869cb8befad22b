package report

// Panel is one part of the plot: bars of proxies for one table.
type Panel struct {
	Title string
	Unit  string
	Bars  []Bar
}

// Bar is one proxy's figure.
type Bar struct {
	Name       string
	Value      float64
	Least      float64
	Greatest   float64
	Emphasised bool
}

// plotted are the tables that the plot shows.
var plotted = []struct{ key, title string }{
	{"1", "1: GET 1 KiB, keep-alive"}, {"2", "2: GET 1 KiB, new connections"}, {"3", "3: GET 1 MiB"},
	{"4", "4: CONNECT, one exchange"}, {"5down", "5: CONNECT, bulk down"}, {"6", "6: tunnels at rest"},
	{"7:1", "7: GET with so many rules"}, {"8", "8: TCP mode, connections"}, {"9", "9: start to first answer"},
}

// Panels are the parts of the plot.
func (r Run) Panels() (all []Panel) {
	for _, p := range plotted {
		t := r.table(p.key)
		panel := Panel{Title: p.title}
		if len(t.Columns) > 0 {
			panel.Unit = t.Columns[0].Name
		}
		for _, c := range t.Cells {
			if !c.OK() || !c.Peer && !c.Own {
				continue
			}
			least, greatest := c.Range(0)
			panel.Bars = append(panel.Bars, Bar{c.Name, c.Median(0), least, greatest, c.Own})
		}
		if len(panel.Bars) > 0 {
			all = append(all, panel)
		}
	}
	return all
}
