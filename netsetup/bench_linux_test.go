package netsetup

import (
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// BenchmarkRedirect measures redirected connections with our rules and with the
// same rules loaded by nft, in turn, in one run:
//
//	go test -run '^$' -bench Redirect ./netsetup
//
// It reports the medians of the rounds, and the median of ours in percent of nft's:
// throughput (MB/s, more is better) and connections (1/s, more is better).
func BenchmarkRedirect(b *testing.B) {
	if _, err := exec.LookPath("nft"); err != nil {
		nettest.Unavailable(b, fmt.Sprintf("%v: install nftables", err))
	}
	p := network(b)
	sink := drain(b, p.ServerA)
	defer sink()
	c := unprobed(b, Init, nettest.SourceV4, gatewayV4, "8080 tcp "+nettest.ServerAV4+" 80\n443 tcp "+nettest.ServerAV4+"\n"+nettest.ServerBV4)
	mustSetup(b, p, c)
	chains := wantChains(c, []string{"macvlan0"})
	load := map[string]func(){
		"sluice": func() {
			in(b, p.Egress, func() { require.NoError(b, loadChains(chains, nil)) })
		},
		"nft": func() {
			cmd := exec.Command("nft", "-f", "-")
			cmd.Stdin = strings.NewReader("table ip nat\ndelete table ip nat\n" + loadText(chains, nil))
			require.NoError(b, p.Egress.Do(cmd.Run))
		},
	}
	clear := func() {
		cmd := exec.Command("nft", "flush", "ruleset")
		require.NoError(b, p.Egress.Do(cmd.Run))
	}
	rate, conns := map[string][]float64{}, map[string][]float64{}
	rounds := 0
	for b.Loop() {
		order := []string{"sluice", "nft"}
		if rounds++; rounds%2 == 0 {
			slices.Reverse(order)
		}
		for _, who := range order {
			clear()
			load[who]()
			rate[who] = append(rate[who], throughput(b, p))
			conns[who] = append(conns[who], connections(b, p))
		}
	}
	for _, who := range []string{"sluice", "nft"} {
		b.ReportMetric(median(rate[who]), who+"-MB/s")
		b.ReportMetric(median(conns[who]), who+"-conn/s")
	}
	b.ReportMetric(100*ratio(rate["sluice"], rate["nft"]), "%throughput")
	b.ReportMetric(100*ratio(conns["sluice"], conns["nft"]), "%connections")
	b.ReportMetric(0, "ns/op")
}

func median(all []float64) float64 {
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}

// ratio is the median of the rounds' ratios: both of a round had the same machine.
func ratio(a, b []float64) float64 {
	all := make([]float64, len(a))
	for i := range a {
		all[i] = a[i] / b[i]
	}
	return median(all)
}

// throughput sends as much as it can for a quarter of a second.
func throughput(b *testing.B, p *nettest.Topology) float64 {
	c := dial(b, p.Client, "tcp", "", at(nettest.PodV4, 8080))
	defer c.Close()
	buf := make([]byte, 1<<17)
	sent, began := 0, time.Now()
	for time.Since(began) < 250*time.Millisecond {
		n, err := c.Write(buf)
		require.NoError(b, err)
		sent += n
	}
	return float64(sent) / 1e6 / time.Since(began).Seconds()
}

// connections counts connections in a quarter of a second.
func connections(b *testing.B, p *nettest.Topology) float64 {
	count, began := 0, time.Now()
	require.NoError(b, p.Client.Do(func() error {
		for time.Since(began) < 250*time.Millisecond {
			c, err := net.Dial("tcp", at(nettest.PodV4, 8080))
			if err != nil {
				return err
			}
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
			count++
		}
		return nil
	}))
	return float64(count) / time.Since(began).Seconds()
}

// drain serves on port 80 and throws away what comes; the result ends it.
func drain(b *testing.B, n *nettest.Netns) func() {
	l := n.Listen(at(nettest.ServerAV4, 80))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			}()
		}
	}()
	return func() {
		_ = l.Close()
		<-done
	}
}
