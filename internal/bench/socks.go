//go:build linux

package main

import (
	"encoding/binary"
	"net/netip"

	"github.com/sluiceproxy/sluice/internal/bench/load"
	"github.com/sluiceproxy/sluice/internal/bench/peers"
	"github.com/sluiceproxy/sluice/internal/bench/report"
)

// socksRow measures row 4 by CONNECT and by SOCKS 5: as clients speak that, who wait for the
// answer to their greeting, and as those that do not.
func (b *bench) socksRow(number int) ([]*report.Table, error) {
	one := b.sluices[0]
	w := workOf("4")
	w.round = 3 // since a few per cent count here
	w.row, w.key, w.name = number, "16", "row 4 by CONNECT and by SOCKS 5"
	return b.runWorks([]work{w}, []variant{
		{name: report.ByConnect, peer: one, scale: 1},
		{name: report.BySOCKS, peer: one, setup: peers.Setup{SOCKS: true}, scale: 1},
		{name: report.BySOCKSAtOnce, peer: one, setup: peers.Setup{SOCKS: true, AtOnce: true}, scale: 1},
		{name: direct, scale: 1},
	})
}

// What a client of SOCKS 5 says and hears (RFC 1928).
const (
	socksGreeting = "\x05\x01\x00"
	socksGreeted  = "\x05\x00"
	socksAnswered = "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
)

// overSOCKS has the job's tunnels made by SOCKS 5; atOnce: the request goes with the greeting.
func overSOCKS(j load.Job, target string, atOnce bool) load.Job {
	to := netip.MustParseAddrPort(target)
	for i := range addresses {
		a := to.Addr().As4()
		a[3] = byte(2 + i)
		ask := append([]byte("\x05\x01\x00\x01"), a[:]...)
		j.Heads = append(j.Heads, binary.BigEndian.AppendUint16(ask, to.Port()))
	}
	if !atOnce {
		j.Greeting, j.Greeted, j.Answered = []byte(socksGreeting), []byte(socksGreeted), []byte(socksAnswered)
		return j
	}
	for i, ask := range j.Heads {
		j.Heads[i] = append([]byte(socksGreeting), ask...)
	}
	j.Answered = []byte(socksGreeted + socksAnswered)
	return j
}
