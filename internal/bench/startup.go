//go:build linux

package main

import (
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/internal/bench/load"
	"github.com/sluiceproxy/sluice/internal/bench/origin"
	"github.com/sluiceproxy/sluice/internal/bench/peers"
	"github.com/sluiceproxy/sluice/internal/bench/proc"
	"github.com/sluiceproxy/sluice/internal/bench/report"
)

// startRow measures how long it takes from the start of a program to its first
// answer, and what memory it has at rest.
func (b *bench) startRow(number int) ([]*report.Table, error) {
	t := &report.Table{Row: number, Key: "9", Title: "start to first answer, and memory at rest after it", Columns: []report.Column{
		{Name: "start ms", Decimals: 1}, {Name: "RSS MiB", Decimals: 1}, {Name: "PSS MiB", Decimals: 1},
	}}
	o, err := b.startOrigin()
	if err != nil {
		return nil, err
	}
	defer o.stop()
	variants := b.variants(work{kind: peers.Gets})
	variants = variants[:len(variants)-1] // no proxy, no start
	for _, v := range variants {
		v.cell(t)
	}
	req := getRequest(true, o.addr(origin.HTTP), "/1k")
	for i := range b.starts {
		for j, v := range variants {
			if c := t.Cells[j]; c.Failed == "" {
				if err := b.firstAnswer(v, req, i < 3, c); err != nil {
					c.Failed = err.Error()
				}
			}
		}
	}
	return []*report.Table{t}, nil
}

// firstAnswer starts a proxy and asks until it answers.
func (b *bench) firstAnswer(v variant, req load.Request, rest bool, c *report.Cell) error {
	in, err := b.launch(v.peer, v.setup)
	if err != nil {
		return err
	}
	defer in.stop()
	for {
		if err = ask(in.setup.Addr(), req.Head); err == nil {
			break
		}
		if err := in.alive(); err != nil {
			return err
		}
		if proc.Now()-in.began > startTimeout {
			return fmt.Errorf("no answer: %w", err)
		}
		time.Sleep(100 * time.Microsecond)
	}
	took := ms(proc.Now() - in.began)
	if !rest {
		c.Put(took, math.NaN(), math.NaN())
		return nil
	}
	time.Sleep(time.Second)
	m, err := in.group.Memory()
	c.Put(took, float64(m.RSS)/(1<<20), float64(m.PSS)/(1<<20))
	return err
}

// ask sends one request and wants a 200.
func ask(addr, head string) error {
	c, err := net.Dial("tcp4", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, head); err != nil {
		return err
	}
	b := make([]byte, 64)
	n, err := io.ReadAtLeast(c, b, len("HTTP/1.1 200"))
	if err != nil {
		return err
	}
	if line := string(b[:n]); !strings.HasPrefix(line[len("HTTP/1.1"):], " 200") {
		return fmt.Errorf("it answers %q", line)
	}
	return nil
}
