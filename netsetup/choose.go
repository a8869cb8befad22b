package netsetup

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// chooseLinks finds the interface of each source. The last result is an interface
// that must be made, or nil.
func chooseLinks(c Config, have State) ([]string, *Link, error) {
	names := make([]string, len(c.Sources))
	var create *Link
	for i, s := range c.Sources {
		name, err := chooseLink(s, have)
		if err == nil {
			if _, ok := have.link(name); !ok && c.Master == "" {
				err = fmt.Errorf("interface %s of EGRESS_SOURCE %s does not exist; %s; correct EGRESS_INTERFACE, or name a parent in EGRESS_MASTER to have it made", name, s.Addr(), describeLinks(have))
			}
		} else if c.Master != "" && !hasMacvlan(have) {
			name, err = DefaultInterface, nil
		}
		if err != nil {
			return nil, nil, err
		}
		if _, ok := have.link(name); !ok {
			switch _, ok := have.link(c.Master); {
			case !ok:
				return nil, nil, fmt.Errorf("make interface %s: its parent, EGRESS_MASTER %s, does not exist; %s", name, c.Master, describeLinks(have))
			case create != nil && create.Name != name:
				return nil, nil, fmt.Errorf("make interfaces: EGRESS_MASTER makes one, and %s and %s do not exist; %s", create.Name, name, describeLinks(have))
			}
			create = &Link{Name: name, Kind: "macvlan", Parent: c.Master}
		}
		names[i] = name
	}
	return names, create, nil
}

func chooseLink(s Source, have State) (string, error) {
	if s.Interface != "" {
		return s.Interface, nil
	}
	if _, ok := have.link(DefaultInterface); ok {
		return DefaultInterface, nil
	}
	if on := have.carriers(s.Addr()); len(on) == 1 {
		return on[0], nil
	} else if len(on) > 1 {
		return "", fmt.Errorf("choose the interface of EGRESS_SOURCE %s: %s carry it; %s; name one in EGRESS_INTERFACE", s.Addr(), strings.Join(on, " and "), describeLinks(have))
	}
	var macvlans []string
	for _, l := range have.Links {
		if l.Kind == "macvlan" {
			macvlans = append(macvlans, l.Name)
		}
	}
	switch len(macvlans) {
	case 1:
		return macvlans[0], nil
	case 0:
		return "", fmt.Errorf("find the interface of EGRESS_SOURCE %s: there is no %s, no interface that carries it, and no macvlan; %s; name one in EGRESS_INTERFACE, or a parent in EGRESS_MASTER to have one made", s.Addr(), DefaultInterface, describeLinks(have))
	}
	return "", fmt.Errorf("choose the interface of EGRESS_SOURCE %s: %s are macvlans; %s; name one in EGRESS_INTERFACE", s.Addr(), strings.Join(macvlans, " and "), describeLinks(have))
}

func hasMacvlan(have State) bool {
	return slices.ContainsFunc(have.Links, func(l Link) bool { return l.Kind == "macvlan" })
}

// describeLinks lists what is there, for whoever has to choose.
func describeLinks(have State) string {
	var all []string
	for _, l := range have.Links {
		if l.Name == "lo" {
			continue
		}
		words := []string{l.Kind}
		for _, a := range have.Addrs {
			if a.Link == l.Name {
				words = append(words, a.Prefix.String())
			}
		}
		all = append(all, fmt.Sprintf("%s (%s)", l.Name, strings.Join(words, " ")))
	}
	if len(all) == 0 {
		return "there are no interfaces"
	}
	return "there are: " + strings.Join(all, ", ")
}

// placeSource says what is to become of the address of s on its interface: whether
// we bring it (or brought it), and the address that must be there.
func placeSource(s Source, link string, have State) (want Addr, brought bool, err error) {
	want = Addr{Link: link, Prefix: s.Prefix}
	for _, r := range have.Rules {
		if r.From == s.Addr() && r.Brought {
			return want, true, nil // it is ours to put where and how it is wanted
		}
	}
	for _, a := range have.Addrs {
		switch {
		case a.Prefix.Addr() != s.Addr():
		case a.Link == link:
			return a, false, nil // somebody gave the interface its address, with a length of their choice
		default:
			return want, false, fmt.Errorf("bring EGRESS_SOURCE %s to %s: %s has it already; name that in EGRESS_INTERFACE, or take the address away", s.Addr(), link, a.Link)
		}
	}
	return want, true, nil
}

// globals are the addresses of an interface that a client can have connected to.
func globals(have State, link string, v4 bool) []netip.Addr {
	var all []netip.Addr
	for _, a := range have.Addrs {
		if addr := a.Prefix.Addr(); a.Link == link && addr.Is4() == v4 && !addr.IsLinkLocalUnicast() {
			all = append(all, addr)
		}
	}
	return all
}
