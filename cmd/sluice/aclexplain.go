package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/audit"
	"github.com/sluiceproxy/sluice/internal/cli"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

func newACLExplain(environ []string, s streams) *cobra.Command {
	a, gateway := aclTest{explain: true}, ""
	cmd := &cobra.Command{
		Use:   "explain [--rules FILE]… [--config FILE [--from CLIENT]] TARGET | explain --admin URL [--from CLIENT] TARGET",
		Short: "Say what decides on a target, who wanted that, and what came near",
		Long: `Say what the rules decide for TARGET, as "sluice acl test" takes it: the rule with its
owner and ticket, each address with its verdict, and the rules that came near, with why they do not
decide. With --config also whose rules they are, and from which address the connection would leave.
For 'METHOD URL' it also says what the request rules of an inspected host decide.
With --admin a gateway that runs is asked, at its admin address, about what it has in force; it
resolves nothing for that.

Status 0: it is allowed, 1: it is not, 2: the rules or the target are wrong, or nobody answers.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := guardTwice(cmd, "config"); err != nil {
				return err
			}
			prepare, explain := a.prepare, a.explainTarget
			if cmd.Flags().Changed("admin") {
				for _, other := range []string{"rules", "config", "guard", "own"} {
					if cmd.Flags().Changed(other) {
						return cli.Wrong(fmt.Errorf("--admin and --%s are both given: a gateway is asked about what it has in force; keep one of them", other))
					}
				}
				l := live{gateway}
				prepare, explain = func([]string, streams) error { return a.openResolver() }, l.explainer(&a)
			}
			if err := prepare(environ, s); err != nil {
				return cli.Wrong(err)
			}
			if a.resolver != nil {
				defer a.resolver.Close()
			}
			e, err := explain(cmd.Context(), args[0])
			if err != nil {
				return cli.Wrong(err)
			}
			return e.tell(s, a.json)
		},
	}
	a.flags(cmd)
	cmd.Flags().StringVar(&gateway, "admin", "", "admin address of a gateway that runs, such as http://127.0.0.1:9090: what it has in force is asked")
	return cmd
}

// explained is what "sluice acl explain --json" prints: docs/schema/acl-explain.json.
type explained struct {
	answer
	Owner  string `json:"owner,omitempty"`
	Ticket string `json:"ticket,omitempty"`
	Source string `json:"source,omitempty"` // that a connection leaves from
	Via    string `json:"via,omitempty"`    // parent proxies, in their order
	Near   []near `json:"near,omitempty"`
	// Request is what the request rules of an inspected host decide; nil: no method was given.
	Request *requestAnswer `json:"request,omitempty"`
}

type near struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line"`
	Rule string `json:"rule"`
	Why  string `json:"why"`
}

func (a *aclTest) explainTarget(ctx context.Context, arg string) (e explained, err error) {
	method, target := cutMethod(arg)
	t, addrs, err := parseTestTarget(target)
	if err != nil {
		return e, err
	}
	e = a.whose.explain(t, addrs, a.decide(ctx, t, addrs))
	return e, e.ask(a.inspect, method, target)
}

// cutMethod cuts 'METHOD URL'; the method of what is no such request is "".
func cutMethod(arg string) (method, target string) {
	if method, address, ok := strings.Cut(arg, " "); ok && strings.Contains(address, "://") {
		return method, address
	}
	return "", arg
}

// ask adds what the request rules of an inspected host decide on a request, if it is one.
func (e *explained) ask(in *policy.Inspect, method, target string) error {
	if method == "" {
		return nil
	}
	a, err := askRequest(in, method+" "+target)
	e.Request = &a
	return err
}

// explain says why it is that ans is the answer for t, at addrs and those that t was resolved to.
func (w *whose) explain(t acl.Target, addrs []netip.Addr, ans answer) explained {
	e := explained{answer: ans, Source: w.source}
	for _, x := range e.Addresses {
		addr, err := netip.ParseAddr(x.Address)
		if err == nil && !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	e.Via = way(w.parents, t, w.allowed(t, addrs))
	decides := 0
	for r := range w.policy.Rules() {
		if r.Line == e.Line && r.Source == e.File {
			decides, e.Owner, e.Ticket = r.Pos, r.Owner, r.Ticket
		}
	}
	for _, n := range audit.Near(w.policy, t, addrs, decides) {
		e.Near = append(e.Near, near{n.Rule.Source, n.Rule.Line, n.Rule.Text, n.Why})
	}
	return e
}

// allowed are those of addrs that the rules allow for t.
func (w *whose) allowed(t acl.Target, addrs []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return w.policy.DecideAddr(t, a).Verdict != acl.Allow })
}

// tell prints e, and has the status say the verdict.
func (e *explained) tell(s streams, asJSON bool) error {
	if asJSON {
		if err := printJSON(s, e); err != nil {
			return err
		}
	} else {
		e.print(s)
	}
	if e.Verdict != acl.Allow.String() || e.Request != nil && e.Request.Verdict == acl.Deny.String() {
		return &cli.Exit{Status: cli.StatusFailed}
	}
	return nil
}

func (e *explained) print(s streams) {
	paint := colours(s)
	w := tabwriter.NewWriter(s.out, 2, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s\t%s\n", paint(e.Verdict, e.Verdict), e.Target)
	fmt.Fprintf(w, "by\t%s%s\n", e.Reason, (&decided{Owner: e.Owner, Ticket: e.Ticket}).wanted())
	if e.Tenant != "" {
		fmt.Fprintf(w, "tenant\t%s\n", e.Tenant)
	}
	if e.Source != "" {
		fmt.Fprintf(w, "from\t%s\n", e.Source)
	}
	if e.Via != "" {
		fmt.Fprintf(w, "via\t%s\n", e.Via)
	}
	if r := e.Request; r != nil {
		fmt.Fprintf(w, "request\t%s: %s\n", paint(r.Verdict, r.Verdict), r.Reason)
	}
	for _, x := range e.Addresses {
		fmt.Fprintf(w, "at %s\t%s (%s)\n", x.Address, x.Verdict, x.Reason)
	}
	w.Flush()
	if len(e.Near) == 0 {
		return
	}
	fmt.Fprintln(s.out, "\nwhat came near:")
	for _, n := range e.Near {
		of := ""
		if n.File != "" {
			of = " of " + n.File
		}
		fmt.Fprintf(w, "  line %d%s\t%s\t%s\n", n.Line, of, strings.TrimSpace(n.Rule), n.Why)
	}
	w.Flush()
}
