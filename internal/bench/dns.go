//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/internal/bench/load"
	"github.com/sluiceproxy/sluice/internal/bench/names"
	"github.com/sluiceproxy/sluice/internal/bench/origin"
	"github.com/sluiceproxy/sluice/internal/bench/peers"
	"github.com/sluiceproxy/sluice/internal/bench/report"
)

// dnsHelper is the DNS server.
type dnsHelper struct {
	*helper
	addr string
}

// startDNS starts it on port 53, the only one that squid knows, where this run has
// the loopback network for itself.
func (b *bench) startDNS() (*dnsHelper, error) {
	addr := "127.0.0.1:0"
	if b.isolated {
		addr = "127.0.0.53:53"
	}
	h, err := b.startHelper("dns", addr)
	if err != nil {
		return nil, err
	}
	d := &dnsHelper{helper: h}
	return d, h.read(&d.addr)
}

func (d *dnsHelper) counts() (c names.Counts, err error) {
	return c, d.ask("counts", &c)
}

// resolverFor is how a peer is told of the DNS server, or empty if that cannot be.
func (d *dnsHelper) resolverFor(p *peers.Peer) string {
	host, port, _ := net.SplitHostPort(d.addr)
	switch {
	case p.IsSluice():
		return d.addr
	case port == "53":
		return host
	}
	return ""
}

const (
	dnsNames = 1000
	dnsRate  = 5000
)

// dnsRow measures what names cost: the questions upstream, and the time that they
// add to requests.
func (b *bench) dnsRow(number int) ([]*report.Table, error) {
	t := &report.Table{
		Row: number, Key: "10", NoRatio: true, Title: fmt.Sprintf("DNS: %d requests/s over %d names, TTL %d s, 64 keep-alive clients", dnsRate, dnsNames, names.TTL),
		Columns: []report.Column{
			{Name: "queries/s"}, {Name: "added p99 ms", Decimals: 2}, {Name: "p99 ms", Decimals: 2}, {Name: "p99 ms by address", Decimals: 2},
			{Name: "max ms", Decimals: 1}, {Name: "requests/s"}, {Name: "foreign CPU %"},
		},
	}
	for _, v := range b.variants(work{kind: peers.Gets}) {
		if v.peer == nil || !v.peer.Ruled() { // the others take their names from files or from libc
			continue
		}
		c := v.cell(t)
		if err := b.askNames(v, c); err != nil {
			c.Failed = err.Error()
		}
	}
	return []*report.Table{t}, nil
}

// askNames measures the same load by name and by address, in turn.
func (b *bench) askNames(v variant, c *report.Cell) error {
	s, err := b.startStage()
	if err != nil {
		return err
	}
	defer s.stop()
	d := s.names
	if d.resolverFor(v.peer) == "" {
		return errors.New("it asks port 53 only, which needs root")
	}
	in, err := b.startVariant(s, work{kind: peers.Gets}, v)
	if err != nil {
		return err
	}
	_, port, _ := strings.Cut(s.origin.addr(origin.HTTP), ":")
	byName, byAddr := namedRequests(port)
	for range min(b.reps, 3) {
		job := b.namesJob(in, byAddr)
		job.Warm = dnsNames // there is nothing to look up
		plain, err := b.measure(s, in, job)
		if err != nil {
			return err
		}
		if err := s.load.begin(b.namesJob(in, byName)); err != nil {
			return err
		}
		before, err := d.counts()
		if err != nil {
			return err
		}
		if err := s.load.proceed(); err != nil {
			return err
		}
		named, err := s.load.result()
		if err != nil {
			return err
		}
		if err := failure(named, 0); err != nil {
			return err
		}
		after, err := d.counts()
		if err != nil {
			return err
		}
		queries := float64(after.A + after.AAAA + after.Other - before.A - before.AAAA - before.Other)
		c.Put(queries/named.Elapsed.Seconds(), ms(named.P99-plain.result.P99), ms(named.P99), ms(plain.result.P99),
			ms(named.Max), float64(named.Done)/named.Elapsed.Seconds(), 100*plain.foreign)
	}
	return nil
}

func namedRequests(port string) (byName, byAddr []load.Request) {
	for i := range dnsNames {
		k := i * 7919 % dnsNames // not in the order of their numbers
		byName = append(byName, getRequest(true, names.Name(k)+":"+port, "/1k"))
		byAddr = append(byAddr, getRequest(true, names.Addr(k)+":"+port, "/1k"))
	}
	return byName, byAddr
}

// namesJob warms up for one time to live, so that all that is measured is what
// goes on for ever.
func (b *bench) namesJob(in *instance, requests []load.Request) load.Job {
	d := 2 * names.TTL * time.Second
	if b.quick {
		d = names.TTL * time.Second
	}
	return load.Job{
		Kind: load.Get, Addr: in.setup.Addr(), Requests: requests, Conns: 64, Rate: dnsRate,
		Warm: dnsRate * (names.TTL + 1), Duration: d, Limit: limit,
	}
}
