package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"

	"github.com/sluiceproxy/sluice/internal/hold"
	"github.com/sluiceproxy/sluice/internal/settings"
)

// often is how often the API server, or the network, is asked at most.
const often = 50 * time.Millisecond

// maxLease is how long --lease may be, so that a Lease can have its name with any group behind it:
// that of an address of IPv6 is 39 letters.
const maxLease = validation.DNS1123SubdomainMaxLength - 1 - 39

// holdConfiguration is what all settings of "sluice-kube hold" say, checked.
type holdConfiguration struct {
	Lease      string // what the names of all Leases begin with
	Service    string // "": no EndpointSlice is written
	Ports      []discoveryv1.EndpointPort
	Netsetup   string
	Socket     string
	Kubeconfig string
	Admin      string
	LogLevel   slog.Level
	Hold       hold.Settings
	Pod        pod
	API        *rest.Config
	Warnings   settings.Problems
}

// settings is the table of c's settings.
func (c *holdConfiguration) settings() []settings.Setting {
	const fixed = settings.Restart
	d := hold.Defaults
	between := func(flag, key string, def, least, most time.Duration, help string, place *time.Duration) settings.Setting {
		return settings.Setting{Flag: flag, Key: key, Default: def.String(), Value: "DURATION", Change: fixed, Help: help,
			Into: settings.One(place, settings.Duration(least, most))}
	}
	span := func(flag, key string, def, most time.Duration, help string, place *time.Duration) settings.Setting {
		return between(flag, key, def, 0, most, help, place)
	}
	return settings.Table(settings.Group{Settings: []settings.Setting{
		settings.ConfigFile(),
		{Flag: "lease", Key: "lease", Default: "sluice", Value: "NAME", Change: fixed,
			Help: "hold each group of addresses by the Lease NAME-GROUP, in the pod's namespace",
			Into: settings.One(&c.Lease, parseLease)},
		{Flag: "service", Key: "service", Value: "NAME", Change: fixed,
			Help: "lead this Service, which has no selector, to the pod that holds, by EndpointSlices",
			Into: settings.One(&c.Service, parseName)},
		{Flag: "endpoint", Key: "endpoint", Default: "http=8080", Value: "NAME=PORT", List: true, Change: fixed,
			Help: "at this port of the pod for the Service's port of that name; may be given several times",
			Into: settings.Many(&c.Ports, parsePort)},
		{Flag: "netsetup", Key: "netsetup", Default: "/run/sluice/hold.sock", Value: "FILE", Change: fixed,
			Help: "reach sluice-netsetup hold at this Unix socket",
			Into: settings.One(&c.Netsetup, settings.Socket)},
		{Flag: "socket", Key: "socket", Default: "/run/sluice/serving.sock", Value: "FILE", Change: fixed,
			Help: "tell the proxies of the pod what is held on this Unix socket (their --holder)",
			Into: settings.One(&c.Socket, settings.Socket)},
		span("hold-pending", "holdPending", d.Pending, hold.MaxBound, "time for a Lease to be acknowledged (P)", &c.Hold.Pending),
		span("hold-held", "holdHeld", d.Held, hold.MaxBound, "after a renewal the kernel lets the address out for so long (V)", &c.Hold.Held),
		span("hold-lease", "holdLease", d.Lease, 10*hold.MaxBound, "a Lease that has not changed for so long may be taken (L): 1.15 times P and V together at least", &c.Hold.Lease),
		between("hold-renew", "holdRenew", d.Renew, often, hold.MaxBound, "renew that often", &c.Hold.Renew),
		between("hold-retry", "holdRetry", d.Retry, often, hold.MaxBound, "try again that long after somebody else answered for the address", &c.Hold.Retry),
		{Flag: "hold-gateway-misses", Key: "holdGatewayMisses", Default: fmt.Sprint(d.GatewayMisses), Value: "N", Change: fixed,
			Help: "renew no more when the gateway has not answered that often in a row",
			Into: settings.One(&c.Hold.GatewayMisses, settings.Number(1, 1000))},
		{Flag: "hold-on-api-loss", Key: "holdOnAPILoss", Default: "release", Value: "WHAT", Change: fixed,
			Help: "when the API server does not answer: release the address, or keep it",
			Into: settings.One(&c.Hold.Keep, parseLoss)},
		span("hold-api-grace", "holdAPIGrace", d.Grace, 24*60*hold.MaxBound, "with keep: for so long at most", &c.Hold.Grace),
		span("hold-successor-wait", "holdSuccessorWait", d.SuccessorWait, 10*hold.MaxBound, "at the end, wait for a successor for so long", &c.Hold.SuccessorWait),
		span("drain-timeout", "drainTimeout", d.DrainTimeout, 60*hold.MaxBound, "then give the proxy so long to end what it serves", &c.Hold.DrainTimeout),
		span("hold-proxy-gone", "holdProxyGone", d.ProxyGone, 10*hold.MaxBound, "let go when no proxy has served for so long", &c.Hold.ProxyGone),
		{Flag: "kubeconfig", Key: "kubeconfig", Value: "FILE", Change: fixed,
			Help: "reach the API server as this file says (default as the pod's service account)",
			Into: settings.One(&c.Kubeconfig, settings.Path)},
		{Flag: "admin", Key: "admin", Default: "127.0.0.1:9092", Value: "ADDR", Change: fixed,
			Help: "serve health and metrics at this address, or off",
			Into: settings.One(&c.Admin, settings.ListenOrOff)},
		{Flag: "log-level", Key: "logLevel", Default: "info", Value: "LEVEL", Change: fixed,
			Help: "debug, info, warn or error",
			Into: settings.One(&c.LogLevel, settings.Level)},
	}})
}

// leaseOf is the name of a group's Lease. It has the group in it however many there are: who has
// one group and who has several must mean the same Lease for the same address.
func (c *holdConfiguration) leaseOf(group string) string { return c.Lease + "-" + group }

// loadHold makes the configuration; with check it is only judged, where there may be no API server
// to reach. The error is [settings.Problems], with everything that is
// wrong; there is no configuration then.
func loadHold(in settings.Input, check bool) (*holdConfiguration, error) {
	c := &holdConfiguration{}
	all := c.settings()
	l := settings.NewLoader(in, all)
	l.Load()
	if !l.Unread {
		if len(l.Problems) == 0 { // else some are not what was meant
			c.checkTimes(l, all)
			c.checkPorts(l, all)
			if c.Netsetup == c.Socket {
				l.Report(l.At(settings.Pick(all, "socket")).Problem(fmt.Sprintf("%s is the socket of --netsetup too: name another, this one is made here", c.Socket)))
			}
		}
		var err error
		if c.API, err = apiConfig(c.Kubeconfig); err != nil && !(check && errors.Is(err, errNoPod)) {
			l.Report(l.At(settings.Pick(all, "kubeconfig")).Problem(err.Error()))
		}
		c.findPod(l, in.Environ)
	}
	if err := l.Err(); err != nil {
		return nil, err
	}
	c.Warnings = l.Warnings
	return c, nil
}

// checkTimes reports what settings, each right by itself, make wrong together: at the first of
// those concerned that somebody has set.
func (c *holdConfiguration) checkTimes(l *settings.Loader, all []settings.Setting) {
	for _, w := range c.Hold.Check() {
		of := settings.Pick(all, w.Of[0])
		for _, flag := range w.Of {
			if s := settings.Pick(all, flag); len(l.Values(s)) > 0 {
				of = s
				break
			}
		}
		l.Report(l.At(of).Problem(w.Msg))
	}
}

// checkPorts reports a port of the Service that is named twice.
func (c *holdConfiguration) checkPorts(l *settings.Loader, all []settings.Setting) {
	seen := map[string]int32{}
	for _, p := range c.Ports {
		if first, twice := seen[*p.Name]; twice {
			l.Report(l.At(settings.Pick(all, "endpoint")).Problem(fmt.Sprintf("the Service's port %q is at %d and at %d: a name has one port", *p.Name, first, *p.Port)))
		}
		seen[*p.Name] = *p.Port
	}
}

// findPod reads which pod this is from the variables that the downward API sets.
func (c *holdConfiguration) findPod(l *settings.Loader, environ []string) {
	env := settings.Environment(environ)
	for name, place := range map[string]*string{"POD_NAME": &c.Pod.Name, "POD_NAMESPACE": &c.Pod.Namespace, "POD_UID": &c.Pod.UID} {
		if *place = env[name]; *place == "" {
			l.Report(settings.Value{Source: name}.Problem("it is not set: have the downward API say which pod this is"))
		} else if len(validation.IsDNS1123Subdomain(*place)) > 0 {
			l.Report(settings.Value{Source: name}.Problem(fmt.Sprintf("%q is no pod's: have the downward API say which pod this is", *place)))
		}
	}
	c.Pod.Node = env["NODE_NAME"]
	for _, s := range strings.FieldsFunc(env["POD_IPS"], func(r rune) bool { return r == ',' || r == ' ' }) {
		a, err := netip.ParseAddr(s)
		if err != nil {
			l.Report(settings.Value{Source: "POD_IPS"}.Problem(fmt.Sprintf("%q is no address", s)))
			continue
		}
		c.Pod.IPs = append(c.Pod.IPs, a)
	}
	if c.Service != "" && len(c.Pod.IPs) == 0 {
		l.Report(settings.Value{Source: "POD_IPS"}.Problem("it is not set: a Service cannot lead to this pod without its addresses"))
	}
}

func parseName(s string) (string, error) {
	if len(validation.IsDNS1123Subdomain(s)) > 0 {
		return "", fmt.Errorf("%q is no name of an object: lower-case letters, digits, hyphens and dots", s)
	}
	return s, nil
}

func parseLease(s string) (string, error) {
	if len(s) > maxLease {
		return "", fmt.Errorf("%d letters are too many: %d at most, so that a group has room behind them", len(s), maxLease)
	}
	return parseName(s)
}

// parsePort takes NAME=PORT, or PORT for a Service whose one port has no name.
func parsePort(s string) (discoveryv1.EndpointPort, error) {
	name, number, named := strings.Cut(s, "=")
	if !named {
		name, number = "", s
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 || named && len(validation.IsValidPortName(name)) > 0 {
		return discoveryv1.EndpointPort{}, fmt.Errorf("%q is no port: write NAME=PORT, as the Service names it", s)
	}
	port, protocol := int32(n), corev1.ProtocolTCP
	return discoveryv1.EndpointPort{Name: &name, Port: &port, Protocol: &protocol}, nil
}

func parseLoss(s string) (keep bool, err error) {
	switch s {
	case "release":
		return false, nil
	case "keep":
		return true, nil
	}
	return false, fmt.Errorf("%q is neither release nor keep", s)
}
