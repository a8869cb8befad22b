package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/admin"
	"github.com/sluiceproxy/sluice/internal/cli"
	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/proxy/ca"
	"github.com/sluiceproxy/sluice/proxy/outbound"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

func newInspectCommand(environ []string, s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect",
		Short: "Make the CA of inspected hosts, and ask what requests may do there",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newInspectCA(s), newInspectTest(environ, s))
	return cmd
}

// inspectCA is one call of "sluice inspect ca".
type inspectCA struct {
	cert, key, name string
	days            int
}

func newInspectCA(s streams) *cobra.Command {
	var a inspectCA
	cmd := &cobra.Command{
		Use:   "ca HOST…",
		Short: "Make a CA that can sign for these hosts, and for nothing else",
		Long: `Make the CA whose certificates clients of inspected hosts are shown. Its name
constraints let it sign for each HOST, a name (and those below it), *.name, an address or a
prefix, and for nothing else, whoever has its key. Clients are to trust the certificate; the
key is the gateway's alone, readable by nobody else. Files that are there are not written over.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, hosts []string) error {
			if err := a.run(hosts, s); err != nil {
				return cli.Wrong(err)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&a.cert, "cert", "ca.crt", "write the certificate to this file, as PEM")
	f.StringVar(&a.key, "key", "ca.key", "write its private key to this file, as PEM")
	f.StringVar(&a.name, "name", "Sluice inspection CA", "what the CA is called where clients list it")
	f.IntVar(&a.days, "days", 365, "for how many days it is valid")
	return cmd
}

func (a *inspectCA) run(hosts []string, s streams) error {
	if a.days < 1 || a.days > 3650 {
		return fmt.Errorf("--days: %d is out of range: from 1 to 3650", a.days)
	}
	names, prefixes, err := constraints(hosts)
	if err != nil {
		return err
	}
	cert, key, err := ca.Make(a.name, names, prefixes, time.Now().AddDate(0, 0, a.days))
	if err != nil {
		return err
	}
	if err := writeNew(a.key, key, 0o600); err != nil {
		return err
	}
	if err := writeNew(a.cert, cert, 0o644); err != nil {
		return errors.Join(err, os.Remove(a.key)) // nobody has its certificate
	}
	fmt.Fprintf(s.out, "%s: clients of %s trust it from now on, if you have them\n%s: keep it secret; the gateway alone reads it\n", a.cert, strings.Join(hosts, ", "), a.key)
	return nil
}

// constraints are the names and addresses that hosts are.
func constraints(hosts []string) (names []string, prefixes []netip.Prefix, err error) {
	for _, h := range hosts {
		p, err := acl.Parse(h)
		rule := p.Rule(1)
		switch {
		case err != nil || p.Len() != 1 || rule.Deny || rule.Form == acl.FormStar || rule.Form == acl.FormGlob || rule.Ports != nil:
			return nil, nil, fmt.Errorf("%q is no host that a CA can be bound to: write a name, *.name, an address or a prefix, without ports", h)
		case rule.Form == acl.FormAddr:
			prefixes = append(prefixes, rule.Prefix)
		default:
			names = append(names, rule.Name)
		}
	}
	return names, prefixes, nil
}

// writeNew writes a file that is not there yet.
func writeNew(path string, text []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// inspectTest is one call of "sluice inspect test".
type inspectTest struct {
	json   bool
	tenant string
}

func newInspectTest(environ []string, s streams) *cobra.Command {
	var a inspectTest
	cmd := &cobra.Command{
		Use:   "test FILE 'METHOD URL'…",
		Short: "Say what the request rules decide for each request, and why",
		Long: `Say what the request rules in FILE, a configuration of "sluice proxy" that is read as that
reads it, environment included, decide for each request, as in 'GET https://api.example.com/v1/models'. One line a request,
tab-separated: allow, deny or "not asked" where nothing is said of the host; the request; the reason. The rules of
hosts (sluice acl test) come first, and are not asked here.
Status 0: all are allowed, 1: one is not, 2: the file or a request is wrong.`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error { return a.run(args[0], args[1:], environ, s) },
	}
	f := cmd.Flags()
	f.BoolVar(&a.json, "json", false, "one JSON object a line")
	f.StringVar(&a.tenant, "tenant", "", "ask the rules of this tenant, not those of the gateway")
	return cmd
}

// requestAnswer is what is said of one request; its JSON is the output of --json.
type requestAnswer struct {
	Request string `json:"request"`
	Host    string `json:"host,omitempty"` // of the list, whose rules those are
	Verdict string `json:"verdict"`
	Reason  string `json:"reason"`
	Line    int    `json:"line,omitempty"`
}

func (a *inspectTest) run(file string, requests, environ []string, s streams) error {
	c, err := loadHere(file, environ, s)
	if err != nil {
		return cli.Wrong(err)
	}
	in, err := inspectOf(c, a.tenant)
	if err != nil {
		return cli.Wrong(err)
	}
	var all []requestAnswer
	for _, r := range requests {
		answer, err := askRequest(in, r)
		if err != nil {
			return cli.Wrong(err)
		}
		all = append(all, answer)
	}
	denied := false
	for _, r := range all {
		denied = denied || r.Verdict == "deny"
		if a.json {
			line, err := json.Marshal(r)
			if err != nil {
				return err
			}
			fmt.Fprintf(s.out, "%s\n", line)
			continue
		}
		fmt.Fprintf(s.out, "%s\t%s\t%s\n", r.Verdict, r.Request, r.Reason)
	}
	if denied {
		return &cli.Exit{Status: cli.StatusFailed}
	}
	return nil
}

// inspectOf is what a tenant's requests are asked, "" for those of the gateway.
func inspectOf(c *config.Proxy, tenant string) (*policy.Inspect, error) {
	if tenant == "" {
		return c.Inspect, nil
	}
	for _, t := range c.Tenants {
		if t.Name == tenant {
			return t.Inspect, nil
		}
	}
	return nil, fmt.Errorf("--tenant: there is no tenant %q in the file", tenant)
}

// askRequest judges 'METHOD URL'.
func askRequest(in *policy.Inspect, text string) (requestAnswer, error) {
	method, address, ok := strings.Cut(text, " ")
	u, err := url.Parse(address)
	if !ok || err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return requestAnswer{}, fmt.Errorf("%q is no request: write it as 'GET https://api.example.com/v1/models'", text)
	}
	hostport := u.Host
	if u.Port() == "" {
		hostport += map[string]string{"https": ":443", "http": ":80"}[u.Scheme]
	}
	to, err := acl.ParseTarget(hostport)
	if err != nil {
		return requestAnswer{}, fmt.Errorf("%q: %w", text, err)
	}
	host := in.Of(to, u.Scheme == "https")
	switch {
	case host == nil && u.Scheme == "https" && in.Elsewhere(to):
		return requestAnswer{Request: text, Verdict: acl.Deny.String(), Reason: outbound.ErrElsewhere.Error()}, nil
	case host == nil:
		return requestAnswer{Request: text, Verdict: "not asked", Reason: "nothing is said of requests to this host"}, nil
	}
	// As it is written: url.Parse would mend what is judged.
	target := address[len(u.Scheme+"://"):]
	if i := strings.IndexAny(target, "/?#"); i >= 0 {
		target = target[i:]
	} else {
		target = ""
	}
	target, _, _ = strings.Cut(target, "#") // which clients do not send
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	d := host.Requests.Decide(method, target)
	a := requestAnswer{Request: text, Host: host.Host, Verdict: d.Verdict.String(), Reason: d.String(), Line: d.Line}
	if d.Verdict == acl.Allow && u.Scheme == "http" && len(host.Headers) > 0 {
		a.Verdict, a.Reason = acl.Deny.String(), "credentials are put in for this host, which go by TLS only; ask for https"
	}
	return a, nil
}

// showInspected has the status page tell of the hosts whose requests are asked what they may do.
func showInspected(tenant string, in *policy.Inspect, st *admin.Status) {
	for i := range in.All() {
		h := &in.All()[i]
		row := admin.Inspected{Tenant: tenant, Host: h.Host, Rules: slices.Collect(h.Requests.Canonical()), Passed: h.Passthrough, Opened: in.Certificate != nil}
		for i := range h.Headers {
			row.Headers = append(row.Headers, h.Headers[i].Name)
		}
		st.Inspected = append(st.Inspected, row)
	}
}
