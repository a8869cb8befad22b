package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/admin"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

// announce tells a person what runs and how to try it.
func (g *gateway) announce(s streams) {
	c := g.config
	var listen []string
	for _, l := range g.proxies {
		listen = append(listen, l.Addr().String())
	}
	fmt.Fprintf(s.err, "sluice %s listens on %s", version, strings.Join(listen, ", "))
	if g.console != nil {
		fmt.Fprintf(s.err, ", admin on http://%s/", g.console.l.Addr())
	}
	fmt.Fprintf(s.err, "\nrules in force: %d from %s\n", c.Policy.Len(), c.Rules.Source)
	shown := 0
	for r := range c.Policy.Rules() {
		if shown++; shown > 20 {
			fmt.Fprintf(s.err, "  … and %d more\n", c.Policy.Len()-20)
			break
		}
		fmt.Fprintf(s.err, "  %s\n", r.Text)
	}
	if allowsNothing(c.Policy) {
		fmt.Fprintf(s.err, "  no rule allows anything: every request is denied\n")
		defer g.log.Warn("the rules deny everything: none of them allows a destination; add one, such as example.com, or * for all", "from", c.Rules.Source)
	}
	fmt.Fprintf(s.err, "source address: %s\n", policy.NewSources(c.Sources))
	if url := tryURL(c.Policy.WithGuard(acl.Guard{Mode: c.Guard})); url != "" {
		fmt.Fprintf(s.err, "try: curl -x http://%s %s\n", tryAddr(g.proxies[0].Addr()), url)
	}
	if c.Guard.String() == "off" {
		g.log.Warn("the guard is off: loopback, link-local and this host's own addresses can be reached if a rule allows them")
	}
}

// tryAddr is where a client on this host reaches the listener.
func tryAddr(a netip.AddrPort) string {
	if a.Addr().IsUnspecified() {
		return fmt.Sprintf("127.0.0.1:%d", a.Port())
	}
	return a.String()
}

// status is what the status page shows.
func (g *gateway) status() admin.Status {
	st := admin.Status{Version: version, Started: g.started}
	g.reload.status(&st)
	for _, l := range g.proxies {
		st.Listen = append(st.Listen, l.Addr().String())
	}
	return st
}
