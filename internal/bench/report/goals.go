package report

import (
	"fmt"
	"math"
)

// goal is one of issue 4's: what Sluice must reach in one run with its peers.
type goal struct {
	row   int
	text  string
	limit float64
	unit  string // "" for a ratio
	// value is what was reached, or NaN if that was not measured.
	value func(r Run) float64
}

// Outcome is a goal with what came of it.
type Outcome struct {
	Row      int
	Goal     string
	Reached  string
	Met      bool
	Measured bool
}

// sluice is the name of the cell that goals are about.
const sluice = "sluice"

// goals are all.
var goals = []goal{
	{1, "CPU against squid", 0.15, "", against("1", "squid")},
	{1, "CPU against haproxy", 0.7, "", against("1", "haproxy")},
	{1, "p50 against haproxy's", 1, "", inColumn("1", 2, "haproxy")},
	{1, "p99 against haproxy's", 1, "", inColumn("1", 3, "haproxy")},
	{2, "CPU against squid", 0.2, "", against("2", "squid")},
	{2, "CPU against haproxy", 0.7, "", against("2", "haproxy")},
	{3, "CPU against squid", 0.08, "", against("3", "squid")},
	{3, "CPU against the best peer", 0.5, "", against("3", "")},
	{4, "CPU against squid", 0.45, "", against("4", "squid")},
	{4, "CPU against the best peer", 0.7, "", against("4", "")},
	{5, "down: CPU against squid", 0.35, "", against("5down", "squid")},
	{5, "down: CPU against goproxy", 1, "", against("5down", "goproxy")},
	{5, "up: CPU against squid", 0.35, "", against("5up", "squid")},
	{5, "up: CPU against goproxy", 1, "", against("5up", "goproxy")},
	{6, "memory of a tunnel", 1, " KiB", median("6", sluice, 0)},
	{6, "descriptors of a tunnel", 2.005, "", median("6", sluice, 2)}, // 2.00 as it is shown
	{7, "GET: CPU with any number of rules against 10", 1.05, "", dearest("7:1")},
	{7, "CONNECT: CPU with any number of rules against 10", 1.05, "", dearest("7:4")},
	{7, "GET, 10,000 rules: CPU against squid", 0.02, "", ratio("7:1", Ruled(sluice, 10_000), Ruled("squid", 10_000), 0)},
	{7, "start with 100,000 rules", 300, " ms", median("7start", Ruled(sluice, 100_000), 0)},
	{7, "start with 1,000,000 rules", 2000, " ms", median("7start", Ruled(sluice, 1_000_000), 0)},
	{8, "connections: CPU against haproxy", 1, "", against("8", "haproxy")},
	{8, "bulk down: CPU against haproxy", 0.35, "", against("8down", "haproxy")},
	{8, "bulk up: CPU against haproxy", 0.35, "", against("8up", "haproxy")},
	{9, "start to first answer against squid", 0.4, "", against("9", "squid")},
	{9, "memory at rest", 12, " MiB", median("9", sluice, 1)},
	{10, "DNS queries a second", 250, "", median("10", sluice, 0)},
	{10, "p99 that names add", 1, " ms", median("10", sluice, 1)},
	{11, "p99 added, beside the best peer's", 0, " ms", beside("11")},
	{12, "memory at the end against the start", 1.1, "", ratio("12", "end", "start", 0)},
	{12, "descriptors at the end against the start", 1.1, "", ratio("12", "end", "start", 1)},
	{13, "GET: CPU with 1,000 tenants against none", 1.05, "", ratio("13:1", Tenants(1000, false), NoTenants, 0)},
	{13, "CONNECT: CPU with 1,000 tenants against none", 1.05, "", ratio("13:4", Tenants(1000, false), NoTenants, 0)},
	{13, "reload of 1,000 tenants of 1,000 rules", 2000, " ms", median("13reload", "reload", 0)},
	{13, "memory at most in a reload against before", 2, "", median("13reload", "reload", 3)},
	{14, "1 KiB: CPU against squid", 0.5, "", against("14:1k", "squid-openssl")},
	{14, "1 KiB: CPU against goproxy", 0.75, "", against("14:1k", "goproxy")},
	{14, "1 MiB: CPU against squid", 0.5, "", against("14:1m", "squid-openssl")},
	{14, "1 MiB: CPU against goproxy", 1, "", against("14:1m", "goproxy")},
	{14, "new connections: CPU against the best peer", 1, "", against("14:new", "")},
	{14, "memory against squid", 0.6, "", ratio("14memory", sluice, "squid-openssl", 1)},
	{14, "what a host adds that is new", 5, " ms", median("14host", sluice, 0)},
	{15, "tunnel check: CPU against none", 1.05, "", ratio("15", "enforce", "off", 0)},
	{16, "SOCKS 5: CPU against CONNECT", 1, "", ratio("16", BySOCKS, ByConnect, 0)},
	{17, "shadow rules: CPU against none", 1.03, "", ratio("17", WithShadow, NoShadow, 0)},
}

// Cells of row 16.
const (
	ByConnect     = "CONNECT"
	BySOCKS       = "SOCKS 5"
	BySOCKSAtOnce = "SOCKS 5, request with the greeting"
)

// Cells of row 17.
const (
	NoShadow   = "no shadow rules"
	WithShadow = "1000 shadow rules"
)

// NoTenants names the cell of row 13 that the others are compared with.
const NoTenants = "no tenants"

// Tenants names a cell of row 13.
func Tenants(n int, password bool) string {
	s := fmt.Sprintf("%s tenants", number(float64(n), 0))
	if n == 1 {
		s = "1 tenant"
	}
	if password {
		s += ", password"
	}
	return s
}

// Ruled names a cell of a proxy with so many rules.
func Ruled(name string, n int) string {
	return fmt.Sprintf("%s, %s rules", name, number(float64(n), 0))
}

// against is Sluice's cost in relation to a peer's, or to that of the best peer.
func against(key, peer string) func(Run) float64 { return inColumn(key, 0, peer) }

func inColumn(key string, column int, peer string) func(Run) float64 {
	return func(r Run) float64 {
		t := r.table(key)
		to := t.Cell(peer)
		if peer == "" {
			to = t.best(column)
		}
		return t.Cell(sluice).Ratio(column, to)
	}
}

func ratio(key, a, b string, column int) func(Run) float64 {
	return func(r Run) float64 {
		t := r.table(key)
		return t.Cell(a).Ratio(column, t.Cell(b))
	}
}

func median(key, cell string, column int) func(Run) float64 {
	return func(r Run) float64 { return r.table(key).Cell(cell).Median(column) }
}

// beside is how much more than the best peer's Sluice's value is.
func beside(key string) func(Run) float64 {
	return func(r Run) float64 {
		t := r.table(key)
		return t.Cell(sluice).Median(0) - t.best(0).Median(0)
	}
}

// dearest is the greatest cost with any number of rules, against 10 of them.
func dearest(key string) func(Run) float64 {
	return func(r Run) float64 {
		t := r.table(key)
		few, most := t.Cell(Ruled(sluice, 10)), math.NaN()
		for _, n := range []int{1000, 10_000, 100_000, 1_000_000} {
			v := t.Cell(Ruled(sluice, n)).Ratio(0, few)
			if math.IsNaN(v) {
				return v
			}
			most = math.Max(v, firstKnown(most, v))
		}
		return most
	}
}

func firstKnown(a, b float64) float64 {
	if math.IsNaN(a) {
		return b
	}
	return a
}

// best is the peer with the least value in a column, or nil.
func (t *Table) best(column int) (best *Cell) {
	for _, c := range t.Cells {
		if c.Peer && c.OK() && (best == nil || c.Median(column) < best.Median(column)) {
			best = c
		}
	}
	return best
}

// table finds a table, or returns an empty one.
func (r Run) table(key string) *Table {
	for _, t := range r.Tables {
		if t.Key == key {
			return t
		}
	}
	return &Table{}
}

// Outcomes are the goals of the rows that were measured.
func (r Run) Outcomes() (all []Outcome) {
	rows := map[int]bool{}
	for _, t := range r.Tables {
		rows[t.Row] = true
	}
	for _, g := range goals {
		if !rows[g.row] {
			continue
		}
		v := g.value(r)
		o := Outcome{Row: g.row, Goal: fmt.Sprintf("%s ≤ %.4g%s", g.text, math.Floor(g.limit*100)/100, g.unit), Reached: "not measured"}
		if !math.IsNaN(v) {
			o.Reached, o.Measured, o.Met = fmt.Sprintf("%.3g%s", v, g.unit), true, v <= g.limit
		}
		all = append(all, o)
	}
	return all
}
