package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/audit"
	"github.com/sluiceproxy/sluice/internal/cli"
)

// diffOutput is what "sluice acl diff --json" prints: docs/schema/acl-diff.json.
type diffOutput struct {
	Equivalent bool           `json:"equivalent"`
	Implies    bool           `json:"implies"`
	Complete   bool           `json:"complete"`
	Why        string         `json:"why,omitempty"`
	Opened     int            `json:"opened"`
	Closed     int            `json:"closed"`
	Changes    []diffChange   `json:"changes"`
	Protocols  []diffProtocol `json:"protocols,omitempty"`
	Other      []string       `json:"other,omitempty"`
	Requests   []loggedChange `json:"requests,omitempty"`
}

type diffChange struct {
	Change string  `json:"change"`         // opened or closed
	From   string  `json:"from,omitempty"` // the first day on which it is so; "": the day that was asked about
	Old    decided `json:"old"`
	New    decided `json:"new"`
	Others string  `json:"others,omitempty"` // old or new: where other names are decided by other lines
	Ports  string  `json:"ports"`            // any, or 80,443-445
	Target string  `json:"target"`
	Own    string  `json:"own,omitempty"` // on a gateway that has this address
}

// decided is what decides, with who wanted it.
type decided struct {
	Verdict string `json:"verdict"`
	Reason  string `json:"reason"`
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Owner   string `json:"owner,omitempty"`
	Ticket  string `json:"ticket,omitempty"`
}

func decidedBy(d acl.Decision, p *acl.Policy) decided {
	r := p.Rule(d.Rule)
	return decided{d.Verdict.String(), d.Reason(), d.Source, d.Line, r.Owner, r.Ticket}
}

// diffProtocol is a difference between what tunnels have to carry.
type diffProtocol struct {
	Change      string  `json:"change"` // loosened or tightened
	From        string  `json:"from,omitempty"`
	Old         decided `json:"old"`
	New         decided `json:"new"`
	OldProtocol string  `json:"old_protocol"` // tls, http, ssh, any; "": whatever a client likes, but a ClientHello names the target
	NewProtocol string  `json:"new_protocol"`
	Others      string  `json:"others,omitempty"`
	Ports       string  `json:"ports"`
	Target      string  `json:"target"`
}

var sideNames = map[audit.Side]string{audit.OldSide: "old", audit.NewSide: "new"}

func protocolChangeOf(c *audit.ProtocolChange, from string, old, now *acl.Policy) diffProtocol {
	out := diffProtocol{Change: "tightened", From: from, Old: decidedBy(c.Old, old), New: decidedBy(c.New, now), OldProtocol: c.OldWants,
		NewProtocol: c.NewWants, Others: sideNames[c.Others], Ports: portText(c.Ports), Target: c.Target.String()}
	if c.Loosened() {
		out.Change = "loosened"
	}
	return out
}

// print is one line.
func (p *diffProtocol) print(w io.Writer, paint func(meaning, text string) string) {
	others := map[string]string{"old": " (and of others before)", "new": " (and others)"}[p.Others]
	fmt.Fprintf(w, "%s%s by %s%s%s: tunnels carry %s instead of %s\tport %s\t%s\n", paint(map[string]string{"loosened": "opened", "tightened": "closed"}[p.Change], p.Change),
		since(p.From), p.New.Reason, p.New.wanted(), others, carried(p.NewProtocol), carried(p.OldProtocol), p.Ports, p.Target)
}

// carried says what goes through a tunnel that is to carry a protocol.
func carried(protocol string) string {
	switch protocol {
	case "":
		return "anything, TLS by its name only"
	case "any":
		return "anything"
	}
	return protocol
}

// since says from which day on something is.
func since(from string) string {
	if from == "" {
		return ""
	}
	return " from " + from + " on"
}

func changeOf(c *audit.Change, from string, old, now *acl.Policy) diffChange {
	out := diffChange{Change: "closed", From: from, Old: decidedBy(c.Old, old), New: decidedBy(c.New, now), Ports: portText(c.Ports), Target: c.Target.String()}
	if c.Opened() {
		out.Change = "opened"
	}
	out.Others = sideNames[c.Others]
	if c.Target.Own.IsValid() {
		out.Own = c.Target.Own.String()
	}
	return out
}

func portText(rs []acl.PortRange) string {
	if rs == nil {
		return "any"
	}
	var parts []string
	for _, r := range rs {
		if r.From == r.To {
			parts = append(parts, fmt.Sprint(r.From))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", r.From, r.To))
		}
	}
	return strings.Join(parts, ",")
}

func (o *diffOutput) print(s streams) {
	paint := colours(s)
	switch {
	case !o.Complete:
		fmt.Fprintf(s.out, "cannot tell: %s; found so far: %d opened, %d closed\n", o.Why, o.Opened, o.Closed)
	case o.Equivalent && len(o.Other) == 0:
		fmt.Fprintln(s.out, "equivalent: both lists decide alike on every target")
	default:
		fmt.Fprintf(s.out, "%d opened, %d closed\n", o.Opened, o.Closed)
	}
	for _, line := range o.Other {
		fmt.Fprintln(s.out, line)
	}
	for len(o.Changes) > 0 { // a group for each line that decides now
		first := o.Changes[0]
		n := slices.IndexFunc(o.Changes, func(c diffChange) bool {
			return c.New.Reason != first.New.Reason || c.Change != first.Change || c.From != first.From
		})
		if n < 0 {
			n = len(o.Changes)
		}
		fmt.Fprintf(s.out, "\n%s%s by %s%s\n", paint(first.Change, first.Change), since(first.From), first.New.Reason, first.New.wanted())
		if first.Others == "new" {
			fmt.Fprintln(s.out, "  (by others too, for other names)")
		}
		w := tabwriter.NewWriter(s.out, 2, 0, 2, ' ', 0)
		for _, c := range o.Changes[:n] {
			own, more := "", ""
			if c.Others == "old" {
				more = " and others"
			}
			if c.Own != "" {
				own = "  (acl test --own " + c.Own + ")"
			}
			fmt.Fprintf(w, "  was %s%s%s\tport %s\t%s%s\n", c.Old.Reason, more, c.Old.wanted(), c.Ports, c.Target, own)
		}
		w.Flush()
		o.Changes = o.Changes[n:]
	}
	if len(o.Protocols) > 0 {
		fmt.Fprintln(s.out, "\nwhat tunnels have to carry (--tunnel-check):")
		w := tabwriter.NewWriter(s.out, 2, 0, 2, ' ', 0)
		for i := range o.Protocols {
			fmt.Fprint(w, "  ")
			o.Protocols[i].print(w, paint)
		}
		w.Flush()
	}
	if len(o.Requests) > 0 {
		fmt.Fprintln(s.out, "\nrequests of the log that would be decided differently:")
		w := tabwriter.NewWriter(s.out, 2, 0, 2, ' ', 0)
		for _, r := range o.Requests {
			fmt.Fprintf(w, "  %d\t%s\t%s -> %s\t%s\n", r.Count, r.Target, r.Old.Verdict, r.New.Verdict, r.New.Reason)
		}
		w.Flush()
	}
}

// wanted is who wanted a rule, and why.
func (d *decided) wanted() string {
	switch {
	case d.Owner != "" && d.Ticket != "":
		return fmt.Sprintf(" (%s, %s)", d.Owner, d.Ticket)
	case d.Owner+d.Ticket != "":
		return fmt.Sprintf(" (%s)", d.Owner+d.Ticket)
	}
	return ""
}

func printJSON(s streams, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "%s\n", b)
	return nil
}

// colours paints words by what they mean, when standard output is a terminal and NO_COLOR is not set.
func colours(s streams) func(meaning, text string) string {
	out := s.out
	if o, ok := out.(*cli.Output); ok {
		out = o.To
	}
	f, ok := out.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" {
		return func(_, text string) string { return text }
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return func(_, text string) string { return text }
	}
	code := map[string]string{"opened": "31", "closed": "32", "allow": "32", "deny": "31", "warning": "33"}
	return func(meaning, text string) string {
		if c := code[meaning]; c != "" {
			return "\x1b[" + c + "m" + text + "\x1b[0m"
		}
		return text
	}
}
