package hold

import (
	"bytes"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/sluiceproxy/sluice/internal/holding"
)

// counts are what has happened to a group.
type counts struct {
	taken, renewed, refused, expired, foreign, unanswered, restored atomic.Uint64
	noLink, noGateway, duplicate                                    atomic.Uint64
}

// checked counts what a check has found wrong.
func (c *counts) checked(f holding.Checked) {
	if !f.Up {
		c.noLink.Add(1)
	} else if !f.Gateway {
		c.noGateway.Add(1)
	}
	if f.By != "" {
		c.duplicate.Add(1)
	}
}

// metric is one of a group's counters.
type metric struct {
	name, help string
	value      func(*counts) *atomic.Uint64
}

var metrics = []metric{
	{"sluice_hold_taken_total", "Times that the group was held after it had not been.", func(c *counts) *atomic.Uint64 { return &c.taken }},
	{"sluice_hold_renewed_total", "Times that the group was held for longer.", func(c *counts) *atomic.Uint64 { return &c.renewed }},
	{"sluice_hold_refused_total", "Attempts that the kernel has refused, since they came too late.", func(c *counts) *atomic.Uint64 { return &c.refused }},
	{"sluice_hold_expired_total", "Times that the group was fenced since it was not renewed in time.", func(c *counts) *atomic.Uint64 { return &c.expired }},
	{"sluice_hold_foreign_total", "Times that the group was let go since another host spoke for an address of it.", func(c *counts) *atomic.Uint64 { return &c.foreign }},
	{"sluice_hold_unanswered_total", "Times that no reply came back to the group.", func(c *counts) *atomic.Uint64 { return &c.unanswered }},
	{"sluice_hold_fence_restored_total", "Times that something of the fence was gone, and put up again.", func(c *counts) *atomic.Uint64 { return &c.restored }},
	{"sluice_hold_checks_without_link_total", "Checks that found an interface of the group down.", func(c *counts) *atomic.Uint64 { return &c.noLink }},
	{"sluice_hold_checks_without_gateway_total", "Checks that had no answer of a gateway.", func(c *counts) *atomic.Uint64 { return &c.noGateway }},
	{"sluice_hold_checks_with_duplicate_total", "Checks that found an address of the group with another host.", func(c *counts) *atomic.Uint64 { return &c.duplicate }},
}

// WriteMetrics writes what is measured in the Prometheus text format.
func (h *Holder) WriteMetrics(w io.Writer) error {
	var b bytes.Buffer
	head := func(name, help, kind string) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
	}
	head("sluice_hold_held", "Whether the group is held.", "gauge")
	for _, g := range h.groups {
		left, err := g.fence.Held()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "sluice_hold_held{group=%q} %d\n", g.name, number(left > 0))
	}
	head("sluice_hold_fence_weak", "Whether the kernel has no egress hook, so that raw frames are not fenced.", "gauge")
	fmt.Fprintf(&b, "sluice_hold_fence_weak %d\n", number(h.groups[0].fence.Weak))
	head("sluice_hold_fence_dropped_packets_total", "Packets of the group that the fence has dropped.", "counter")
	for _, g := range h.groups {
		n, err := g.fence.Dropped()
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "sluice_hold_fence_dropped_packets_total{group=%q} %d\n", g.name, n)
	}
	for _, m := range metrics {
		head(m.name, m.help, "counter")
		for _, g := range h.groups {
			fmt.Fprintf(&b, "%s{group=%q} %d\n", m.name, g.name, m.value(&g.counts).Load())
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}
