package netsetup

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
)

// WriteCounters writes counters for people, a line each.
func WriteCounters(w io.Writer, all []Counter) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PACKETS\tBYTES\tFAMILY\tCHAIN\tRULE")
	for _, c := range all {
		fmt.Fprintf(t, "%d\t%d\t%s\t%s\t%s\n", c.Packets, c.Bytes, familyWord(c.V6), c.Chain, c.Rule)
	}
	return t.Flush()
}

// metric is a metric of the text file, and which counters are its samples.
type metric struct {
	name, help, chain, label string
	value                    func(Counter) uint64
}

var metricsOfRules = []metric{
	{"sluice_redirect_connections_total", "Connections that a line of EGRESS_DESTINATION redirected.", chainPrerouting, "rule",
		func(c Counter) uint64 { return c.Packets }},
	{"sluice_redirect_translated_connections_total", "Connections that left, by the rule for their source address.", chainPostrouting, "rule",
		func(c Counter) uint64 { return c.Packets }},
	{"sluice_redirect_packets_total", "Packets of redirected connections, and packets that were refused since nothing redirects them.", chainForward, "verdict",
		func(c Counter) uint64 { return c.Packets }},
	{"sluice_redirect_bytes_total", "Bytes of those packets, with their IP headers.", chainForward, "verdict",
		func(c Counter) uint64 { return c.Bytes }},
}

// WriteMetrics writes counters in the Prometheus text format. reloaded says
// whether the last change of the settings could be put in force.
func WriteMetrics(w io.Writer, all []Counter, reloaded bool) error {
	var b bytes.Buffer
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	for _, m := range metricsOfRules {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s counter\n", m.name, m.help, m.name)
		for _, c := range all {
			if c.Chain == m.chain {
				fmt.Fprintf(&b, "%s{family=%q,%s=\"%s\"} %d\n", m.name, familyWord(c.V6), m.label, escape.Replace(c.Rule), m.value(c))
			}
		}
	}
	const name = "sluice_redirect_last_reload_successful"
	fmt.Fprintf(&b, "# HELP %s Whether the last change of the settings is in force.\n# TYPE %s gauge\n", name, name)
	if reloaded {
		fmt.Fprintf(&b, "%s 1\n", name)
	} else {
		fmt.Fprintf(&b, "%s 0\n", name)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// WriteMetricsFile puts what [WriteMetrics] writes into a file: see [WriteFile].
func WriteMetricsFile(path string, all []Counter, reloaded bool) error {
	return WriteFile(path, func(w io.Writer) error { return WriteMetrics(w, all, reloaded) })
}

// WriteFile puts metrics into a file, which a collector may read at any time: it sees the
// old text or the new one.
func WriteFile(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	err = write(f)
	if err == nil {
		err = f.Chmod(0o644) // a collector runs as somebody else
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write metrics: %w", err)
	}
	return nil
}
