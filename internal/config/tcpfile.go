package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/settings"
)

// list reads the list "tcp" of the file.
func (d *destinations) list(node *yaml.Node) {
	if node == nil {
		return
	}
	n := settings.Target(node)
	if n.Kind != yaml.SequenceNode {
		d.FileProblem(n.Line, `"tcp" wants a list, each with "listen" and "destinations"`)
		return
	}
	for _, item := range n.Content {
		d.listener(item)
	}
}

// listener reads one item of the list.
func (d *destinations) listener(item *yaml.Node) {
	li := d.c.defaults
	li.at = settings.Value{Source: d.Path, Line: item.Line}
	before := len(d.Problems)
	var listen, dests, check, sni *yaml.Node
	d.keys(item, map[string]func(*yaml.Node){
		"listen":       func(n *yaml.Node) { listen = n },
		"destinations": func(n *yaml.Node) { dests = n },
		"check":        func(n *yaml.Node) { check = n },
		"sni":          func(n *yaml.Node) { sni = n },
		"name":         scalar(d.nodes, &li.Name, settings.Line),
		"balance":      scalar(d.nodes, &li.Balance, parseBalance),
		"tenant":       scalar(d.nodes, &li.Tenant, d.tenantName),
		"sendProxy":    scalar(d.nodes, &li.SendProxy, parseSendProxy),
		"acceptProxy": func(n *yaml.Node) {
			li.AcceptProxy = nil
			d.scalars(n, func(s string) (err error) {
				var p netip.Prefix
				if p, err = parsePrefix(s); err == nil {
					li.AcceptProxy = append(li.AcceptProxy, p)
				}
				return err
			})
		},
	})
	at, port := d.listenOf(item, listen)
	d.check(check, &li.Check)
	li.Destinations = d.targets(dests, port)
	d.routes(sni, port, &li)
	if len(d.Problems) > before {
		return
	}
	if len(li.Destinations) == 0 && len(li.Routes) == 0 {
		d.FileProblem(item.Line, `no "destinations": HOST or HOST:PORT, one or a list`)
		return
	}
	for _, li.Listen = range at {
		d.c.Listeners = append(d.c.Listeners, li)
	}
}

// tenantName takes the name of one of the file's tenants.
func (d *destinations) tenantName(s string) (string, error) {
	for _, t := range d.c.Tenants {
		if t.Name == s {
			return s, nil
		}
	}
	return "", fmt.Errorf("%q is none of the tenants of this file", s)
}

// listenOf reads PORT or ADDR:PORT: where to listen, and the port that
// destinations have when they name none.
func (d *destinations) listenOf(item, n *yaml.Node) (at []string, port uint16) {
	if n == nil {
		d.FileProblem(item.Line, `no "listen": PORT or ADDR:PORT`)
		return nil, 0
	}
	var text string
	before := len(d.Problems)
	scalar(d.nodes, &text, settings.Line)(n)
	if len(d.Problems) > before {
		return nil, 0
	}
	if isNumber(text) {
		p, ok := d.port(settings.Value{Source: d.Path, Line: n.Line}, text)
		if !ok {
			return nil, 0
		}
		return d.listenAt(text), p
	}
	listen, err := settings.Listen(text)
	if err != nil {
		d.FileProblem(n.Line, fmt.Sprintf("%q is no address to listen at; write PORT, ADDR:PORT or [ADDR]:PORT", text))
		return nil, 0
	}
	n16, _ := strconv.ParseUint(portOf(listen), 10, 16)
	return []string{listen}, uint16(n16)
}

// check reads interval, rise and fall.
func (d *destinations) check(n *yaml.Node, c *TCPCheck) {
	if n == nil {
		return
	}
	d.keys(n, map[string]func(*yaml.Node){
		"interval": scalar(d.nodes, &c.Interval, parseCheckInterval),
		"rise":     scalar(d.nodes, &c.Rise, settings.Number(1, 100)),
		"fall":     scalar(d.nodes, &c.Fall, settings.Number(1, 100)),
	})
}

// routes reads the list "sni".
func (d *destinations) routes(n *yaml.Node, port uint16, li *TCPListener) {
	if n == nil {
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.FileProblem(n.Line, `"sni" wants a list, each with "names" and "destinations"`)
		return
	}
	seen := map[string]bool{}
	for _, item := range n.Content {
		var r TCPRoute
		var dests *yaml.Node
		before := len(d.Problems)
		d.keys(item, map[string]func(*yaml.Node){
			"destinations": func(n *yaml.Node) { dests = n },
			"names": func(n *yaml.Node) {
				d.scalars(n, func(s string) error {
					name, err := parseServerName(s)
					switch {
					case err != nil:
						return err
					case seen[name]:
						return fmt.Errorf("%q stands in this list already", s)
					}
					seen[name] = true
					r.Names = append(r.Names, name)
					return nil
				})
			},
		})
		r.Destinations = d.targets(dests, port)
		if len(d.Problems) == before && (len(r.Names) == 0 || len(r.Destinations) == 0) {
			d.FileProblem(item.Line, `an item of "sni" wants "names" and "destinations"`)
		}
		li.Routes = append(li.Routes, r)
	}
}

// parseServerName takes a name, or "*." and a name.
func parseServerName(s string) (string, error) {
	name, wild := strings.CutPrefix(s, "*.")
	h, err := acl.ParseHost(name)
	if err != nil || !h.IsName() {
		return "", fmt.Errorf("%q is no server name; write name or *.domain", s)
	}
	if wild {
		return "*." + h.Name(), nil
	}
	return h.Name(), nil
}

// targets reads HOST or HOST:PORT, one or a list.
func (d *destinations) targets(n *yaml.Node, port uint16) (all []acl.Target) {
	if n == nil {
		return nil
	}
	d.scalars(n, func(s string) error {
		t, err := parseTarget(s, port)
		switch {
		case err != nil:
			return fmt.Errorf("Bad destination '%s': %v", s, err)
		case slices.Contains(all, t):
			return fmt.Errorf("Bad destination '%s': it stands in this list already", s)
		}
		all = append(all, t)
		return nil
	})
	return all
}
