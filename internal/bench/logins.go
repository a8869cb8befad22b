//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/sluiceproxy/sluice/internal/bench/origin"
	"github.com/sluiceproxy/sluice/internal/bench/peers"
	"github.com/sluiceproxy/sluice/internal/bench/report"
)

const (
	loginClients = 100
	loginUsers   = 10_000
	loginRate    = 5000 // requests a second of row 1 beside them
)

// loginsTable measures row 1 while clients log in: each with a new user's right password
// and with wrong ones by turns, all of which bcrypt has to look at.
func (b *bench) loginsTable(number int, _ string) (*report.Table, error) {
	t := &report.Table{Row: number, Key: "13logins", NoRatio: true, Title: fmt.Sprintf("row 1 at %d requests/s, while %d clients log in", loginRate, loginClients), Columns: []report.Column{
		{Name: "p99 ms", Decimals: 2}, {Name: "p50 ms", Decimals: 2}, {Name: "max ms", Decimals: 1}, {Name: "CPU used %"},
		{Name: "logins/s"}, {Name: "wrong/s"}, {Name: "turned away/s"}, {Name: "foreign CPU %"},
	}}
	quiet, busy := t.Add("nobody logs in"), t.Add("logins")
	s, err := b.startStage()
	if err != nil {
		return nil, err
	}
	defer s.stop()
	w := workOf("1")
	in, err := b.startVariant(s, w, variant{name: b.sluices[0].Name, peer: b.sluices[0], setup: peers.Setup{Users: loginUsers}, scale: 1})
	if err != nil {
		return nil, err
	}
	for range b.reps {
		for _, c := range []*report.Cell{quiet, busy} {
			if err := b.besideLogins(s, in, w, c, c == busy); err != nil {
				c.Failed = err.Error()
			}
		}
	}
	return t, nil
}

// logins is what came of them.
type logins struct{ Good, Wrong, Away int }

func (b *bench) besideLogins(s *stage, in *instance, w work, c *report.Cell, busy bool) error {
	job := w.jobFor(in, w.target(s.origin), 1)
	job.Rate, job.Count, job.Warm, job.Duration, job.Limit = loginRate, 0, loginRate/5, 3*time.Second, 20*time.Second
	if b.quick {
		job.Duration = time.Second
	}
	if err := rested(in); err != nil {
		return err
	}
	var h *helper
	var since time.Time
	if busy {
		var err error
		if h, err = b.startHelper("logins", in.setup.Addr(), s.origin.addr(origin.HTTP)); err != nil {
			return err
		}
		defer h.stop()
		var begun logins
		if err := h.ask("counts", &begun); err != nil {
			return err
		}
		since = time.Now()
	}
	got, err := b.measure(s, in, job)
	if err != nil {
		return err
	}
	r := got.result
	var l logins
	var took time.Duration
	if busy {
		if err := h.ask("counts", &l); err != nil {
			return err
		}
		took = time.Since(since)
	}
	per := func(n int) float64 { return float64(n) / max(took, 1).Seconds() }
	c.Put(ms(r.P99), ms(r.P50), ms(r.Max), 100*got.cpu.Seconds()/r.Elapsed.Seconds(), per(l.Good), per(l.Wrong), per(l.Away), 100*got.foreign)
	return nil
}

// rested waits until a proxy has looked at the last password of those who have gone.
func rested(in *instance) error {
	last, err := in.group.Usage()
	for begin := time.Now(); err == nil && time.Since(begin) < 30*time.Second; {
		time.Sleep(200 * time.Millisecond)
		var now time.Duration
		if now, err = in.group.Usage(); now-last < 10*time.Millisecond {
			break
		}
		last = now
	}
	return err
}

// logIn has clients, each at an address of its own, log in through the proxy at addr,
// until in ends. For each line of in it says what came of it since the line before.
func logIn(addr, target string, in io.Reader, out io.Writer) error {
	var mu sync.Mutex
	var now logins
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for i := range loginClients {
		all.Go(func() {
			for n := i; ctx.Err() == nil; n += loginClients {
				status := oneLogin(ctx, i, n, addr, target)
				mu.Lock()
				switch status {
				case http.StatusOK:
					now.Good++
				case http.StatusProxyAuthRequired:
					now.Wrong++
				default:
					now.Away++
				}
				mu.Unlock()
			}
		})
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		mu.Lock()
		text, err := json.Marshal(now)
		now = logins{}
		mu.Unlock()
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s\n", text)
	}
	return nil
}

// oneLogin is one request of a client: the status, or 0.
func oneLogin(ctx context.Context, client, n int, addr, target string) int {
	password := peers.Password
	if n/loginClients%2 == 1 {
		password = fmt.Sprint("wrong ", n)
	}
	from := netip.AddrFrom4([4]byte{127, 0, 1, byte(client + 1)})
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	proxy := &url.URL{Scheme: "http", Host: addr, User: url.UserPassword(peers.UserOf(n%loginUsers), password)}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy), DialContext: dialer.DialContext, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+target+"/1k", nil)
	if err != nil {
		return 0
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		time.Sleep(10 * time.Millisecond) // the proxy is busy, or has ended
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}
