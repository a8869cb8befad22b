package migrate

import (
	"errors"
	"io/fs"
	"net"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/internal/settings"
)

// checked is what the programs make of a gateway's settings.
type checked struct {
	rules string // of the proxy; "" where they are not known
	ports []int  // of the relay; nil where they are not known

	listeners []config.TCPListener // as ports
}

// check asks the code of the programs what they would say of the settings.
func (m *migration) check(g *gateway) (c checked) {
	if g.setup != nil {
		m.checkSetup(g)
	}
	if g.proxy == nil {
		return c
	}
	environ, whole := m.environ(g, g.proxy)
	if v := lookup(g.proxy.env, "CONFIG_FILE"); v != nil && !has(g.proxy.env, "EGRESS_HTTP_PROXY_DESTINATION", "EGRESS_DNS_PROXY_DESTINATION") {
		m.note(g.d, v.node, Breaks, "CONFIG_FILE names a configuration of haproxy's: sluice convert haproxy FILE makes a list tcp: of it, for --config")
	}
	if !whole {
		return c
	}
	in := settings.Input{Environ: environ, ReadFile: func(path string) ([]byte, error) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}}
	if g.mode == httpProxy {
		in.Flags = flagsOf(config.ProxySettings())
		p, err := config.LoadProxy(in)
		m.problems(g, g.proxy, err)
		if p != nil && p.Policy != nil {
			c.rules = lookup(g.proxy.env, "EGRESS_HTTP_PROXY_DESTINATION").value
			for _, w := range p.Policy.Warnings() {
				m.note(g.d, lookup(g.proxy.env, "EGRESS_HTTP_PROXY_DESTINATION").node, Differs, "rules, %v (warning)", w)
			}
		}
		return c
	}
	in.Flags = flagsOf(config.TCPSettings())
	t, err := config.LoadTCP(in)
	m.problems(g, g.proxy, err)
	if t != nil {
		c.listeners = t.Listeners
		for _, l := range t.Listeners {
			_, p, _ := net.SplitHostPort(l.Listen)
			n, _ := strconv.Atoi(p)
			c.ports = append(c.ports, n)
		}
	}
	return c
}

func flagsOf(all []settings.Setting) *pflag.FlagSet {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	settings.AddFlags(flags, all)
	return flags
}

// environ is what is known of a container's environment, less the variables that no program of
// Sluice's reads; whole tells whether what is left out says nothing.
func (m *migration) environ(g *gateway, r *role) (environ []string, whole bool) {
	whole = true
	for i, v := range r.env {
		switch {
		case lookup(r.env, v.name) != &r.env[i]:
		case !v.known:
			ours := strings.HasPrefix(v.name, "EGRESS_") || strings.HasPrefix(v.name, "SERVICE_")
			where := "where it comes from is not among the files"
			switch {
			case v.service && ours:
				m.note(g.d, v.node, Breaks, "%s names $(%s), which Services give their neighbours, and not Sluice's pods; write what it is", v.name, v.refers)
			case v.refers != "":
				where = "it names $(" + v.refers + "), which is not known here"
			}
			if v.keyed != "" {
				where = "the ConfigMap " + strings.Replace(v.keyed, "/", " with the key ", 1) + " is not among the files"
			}
			m.note(g.d, v.node, Differs, "%s is not checked: %s", v.name, where)
			whole = whole && !ours
		default:
			environ = append(environ, v.name+"="+v.value)
		}
	}
	return environ, whole
}

// problems notes what is wrong with the settings of a role.
func (m *migration) problems(g *gateway, r *role, err error) {
	var all settings.Problems
	if !errors.As(err, &all) {
		if err != nil {
			m.note(g.d, r.container, Breaks, "%v", err)
		}
		return
	}
	for _, p := range all {
		at := r.container
		if v := lookup(r.env, p.Source); v != nil {
			at = v.node
		}
		m.note(g.d, at, Breaks, "%v", p)
	}
}

// checkSetup asks sluice-netsetup.
func (m *migration) checkSetup(g *gateway) {
	environ, whole := m.environ(g, g.setup)
	if !whole || !has(g.setup.env, "EGRESS_SOURCE") || !has(g.setup.env, "EGRESS_GATEWAY") {
		return
	}
	if m.Netsetup == nil {
		m.note(g.d, g.setup.container, Differs, "the network's settings are not checked: there is no sluice-netsetup beside sluice")
		return
	}
	problems, asked := m.Netsetup(environ)
	if !asked {
		m.note(g.d, g.setup.container, Differs, "the network's settings are not checked: sluice-netsetup could not be asked")
	}
	for _, p := range problems {
		at := g.setup.container
		name, _, _ := strings.Cut(p, ":")
		if v := lookup(g.setup.env, name); v != nil {
			at = v.node
		}
		m.note(g.d, at, Breaks, "%s", p)
	}
}
