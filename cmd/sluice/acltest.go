package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/cli"
	"github.com/sluiceproxy/sluice/proxy/resolve"
)

// aclTest is one call of "sluice acl test".
type aclTest struct {
	rules     []string
	resolvers []string
	guard     string
	json      bool
	config    string
	from      string
	own       []string
	explain   bool

	whose
	resolver *resolve.Resolver // nil: names are not resolved
}

func newACLTest(environ []string, s streams) *cobra.Command {
	var a aclTest
	cmd := &cobra.Command{
		Use:   "test [--rules FILE]… [--config FILE [--from CLIENT]] TARGET…",
		Short: "Say what the rules decide for each target, and why",
		Long: `Say what the rules decide for each TARGET: HOST, HOST:PORT (443 when left out)
or a URL; HOST=ADDR,ADDR gives the addresses instead of a resolver. One line a
target, tab-separated: allow, deny or depends; the target; the reason; and, for a
name whose addresses are known, each address with its verdict.

With --config the rules, the guard and the tenants are those that "sluice proxy" has with that
configuration in this environment, whose variables win; and --from says who asks: the address of a client, the NAMESPACE/SERVICEACCOUNT of a
pod or token, or a user. Its tenant's rules
decide, and stand in front of the reason; without --from it is a client of no tenant.

"depends" says that the answer depends on the addresses, which were not given.
Status 0: all are allowed, 1: one is not, 2: the rules or a target are wrong.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := guardTwice(cmd, "config"); err != nil {
				return err
			}
			if err := a.prepare(environ, s); err != nil {
				return cli.Wrong(err)
			}
			return a.run(cmd.Context(), args, s)
		},
	}
	a.flags(cmd)
	return cmd
}

// flags adds what acl test and acl explain have in common.
func (a *aclTest) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&a.rules, "rules", nil, "file of rules, - for standard input (default: "+rulesVariable+"); repeatable, one list in the order given")
	f.StringArrayVar(&a.resolvers, "resolver", nil, "resolve names by this DNS server, ADDR:PORT; repeatable")
	f.StringVar(&a.guard, "guard", "default", "default, strict or off")
	f.StringVar(&a.config, "config", "", "configuration file of sluice proxy, whose rules and tenants are asked")
	f.StringVar(&a.from, "from", "", "client that asks: an address, NAMESPACE/SERVICEACCOUNT, or a user (with --config)")
	f.StringSliceVar(&a.own, "own", nil, "addresses of the gateway, which the guard denies")
	if a.explain {
		f.BoolVar(&a.json, "json", false, "JSON, as docs/schema has it")
		return
	}
	f.BoolVar(&a.json, "json", false, "one JSON object a line, with every address")
}

func (a *aclTest) prepare(environ []string, s streams) error {
	if err := a.findPolicy(environ, s); err != nil {
		return err
	}
	return a.openResolver()
}

// openResolver makes the resolver, if there is to be one.
func (a *aclTest) openResolver() error {
	var servers []netip.AddrPort
	for _, r := range a.resolvers {
		ap, err := netip.ParseAddrPort(r)
		if err != nil {
			addr, err := netip.ParseAddr(r)
			if err != nil {
				return fmt.Errorf("--resolver: %q is no ADDR:PORT", r)
			}
			ap = netip.AddrPortFrom(addr, 53)
		}
		servers = append(servers, ap)
	}
	if len(servers) > 0 {
		var err error
		if a.resolver, err = resolve.New(resolve.Options{Servers: servers}); err != nil {
			return fmt.Errorf("--resolver: %w", err)
		}
	}
	return nil
}

// findPolicy finds the rules that are asked, with their guard.
func (a *aclTest) findPolicy(environ []string, s streams) error {
	switch {
	case a.config != "" && len(a.rules) > 0:
		return errors.New("--rules and --config are both given; keep one of them")
	case a.config != "":
		return a.findTenant(environ, s)
	case a.from != "":
		return errors.New("--from asks for a tenant's rules: name the file that has the tenants with --config")
	}
	mode, err := acl.ParseGuardMode(a.guard)
	if err != nil {
		return fmt.Errorf("--guard: %w", err)
	}
	p, err := readPolicy(a.rules, environ, s)
	if err != nil {
		return err
	}
	own, err := parseAddrs("--own", a.own)
	if err != nil {
		return err
	}
	a.policy = p.At(time.Now()).WithGuard(acl.Guard{Mode: mode, Own: own})
	return nil
}

// findTenant finds whose the client is.
func (a *aclTest) findTenant(environ []string, s streams) error {
	c, err := loadHere(a.config, environ, s)
	if err != nil {
		return err
	}
	own, err := parseAddrs("--own", a.own)
	if err != nil {
		return err
	}
	set := setOf(c.Shared(), own, time.Now())
	(&proxyMode{usages: new(tenantUsages)}).tenants(c, &set, time.Now())
	who, err := parseAsker(a.from, c.Users)
	if err != nil {
		return err
	}
	t := set.Generation().TenantOf(who.addr, who.pod, who.shown)
	a.whose = whose{t.Rules, t.Name, t.Sources.String(), t.Parents, t.Inspect}
	return nil
}

// answer is what is said of one target; its JSON is the output of --json.
type answer struct {
	Target    string       `json:"target"`
	Tenant    string       `json:"tenant,omitempty"`
	Verdict   string       `json:"verdict"`
	Reason    string       `json:"reason"`
	File      string       `json:"file,omitempty"` // that the line is of, where there are several
	Line      int          `json:"line,omitempty"`
	Addresses []addrAnswer `json:"addresses,omitempty"`
	Error     string       `json:"error,omitempty"`
}

type addrAnswer struct {
	Address string `json:"address"`
	Verdict string `json:"verdict"`
	Reason  string `json:"reason"`
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
}

// run answers every target, whatever is wrong with the others.
func (a *aclTest) run(ctx context.Context, args []string, s streams) error {
	if a.resolver != nil {
		defer a.resolver.Close()
	}
	var problems []error
	status := 0
	for _, arg := range args {
		t, addrs, err := parseTestTarget(arg)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		ans := a.decide(ctx, t, addrs)
		if ans.Verdict != acl.Allow.String() {
			status = cli.StatusFailed
		}
		ans.print(s, a.json)
	}
	if len(problems) > 0 {
		return cli.Wrong(errors.Join(problems...))
	}
	if status != 0 {
		return &cli.Exit{Status: status}
	}
	return nil
}

func (a *aclTest) decide(ctx context.Context, t acl.Target, addrs []netip.Addr) answer {
	ans := a.whose.decide(t, addrs)
	if a.resolver == nil || len(addrs) > 0 || t.Host.IsAddr() || a.parents.ByName(t) != nil || ans.Verdict == acl.Deny.String() {
		return ans
	}
	addrs, err := a.resolver.Lookup(ctx, t.Host.Name())
	if err != nil {
		return ans.unresolved(err)
	}
	return a.whose.decide(t, addrs)
}

// unresolved is ans of a name that cannot be resolved.
func (ans answer) unresolved(err error) answer {
	ans.Verdict, ans.Reason, ans.File, ans.Line, ans.Error = acl.Deny.String(), err.Error(), "", 0, err.Error()
	return ans
}

func (ans *answer) print(s streams, asJSON bool) {
	if asJSON {
		b, err := json.Marshal(ans)
		if err != nil {
			fmt.Fprintln(s.err, err)
			return
		}
		fmt.Fprintf(s.out, "%s\n", b)
		return
	}
	whose := ""
	if ans.Tenant != "" {
		whose = "tenant " + ans.Tenant + ": "
	}
	fmt.Fprintf(s.out, "%s\t%s\t%s%s", ans.Verdict, ans.Target, whose, ans.Reason)
	for i, a := range ans.Addresses {
		sep := ", "
		if i == 0 {
			sep = "\t"
		}
		fmt.Fprintf(s.out, "%s%s %s (%s)", sep, a.Address, a.Verdict, a.Reason)
	}
	fmt.Fprintln(s.out)
}

// parseTestTarget reads HOST[:PORT][=ADDR,ADDR] or a URL.
func parseTestTarget(arg string) (t acl.Target, addrs []netip.Addr, err error) {
	fail := func(err error) (acl.Target, []netip.Addr, error) {
		return acl.Target{}, nil, fmt.Errorf("target %q: %w", arg, err)
	}
	if scheme, _, ok := strings.Cut(arg, "://"); ok {
		u, err := url.Parse(arg)
		if err != nil {
			return fail(err)
		}
		port := map[string]uint16{"http": 80, "https": 443, "ws": 80, "wss": 443}[strings.ToLower(scheme)]
		if port == 0 {
			return fail(fmt.Errorf("scheme %q: want http or https", scheme))
		}
		if u.User != nil {
			return fail(errors.New("user information in a URL: leave it out"))
		}
		if t, err = acl.ParseTargetDefault(u.Host, port); err != nil {
			return fail(err)
		}
		return t, nil, nil
	}
	host, list, given := strings.Cut(arg, "=")
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() && a.Zone() == "" {
		host = "[" + host + "]"
	}
	if t, err = acl.ParseTargetDefault(host, 443); err != nil {
		return fail(err)
	}
	if !given {
		return t, nil, nil
	}
	for _, s := range strings.Split(list, ",") {
		a, err := netip.ParseAddr(strings.TrimSpace(s))
		if err != nil || a.Zone() != "" {
			return fail(fmt.Errorf("%q is no IP address", s))
		}
		addrs = append(addrs, a.Unmap())
	}
	return t, addrs, nil
}
