//go:build linux

package kube

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// saidAt is when a program of the replica said something for the last time.
func (r *replica) saidAt(words string) (at time.Time) {
	for line := range strings.Lines(r.said()) {
		var said struct {
			Time time.Time
			Msg  string
		}
		if json.Unmarshal([]byte(strings.TrimSpace(line)), &said) == nil && strings.HasPrefix(said.Msg, words) {
			at = said.Time
		}
	}
	return at
}

// What connections of both front doors had to say while the address was fenced leaves within a
// second of the end of that. With -strict the loss is as long as the kernel would not live through.
//
// Source: failover.md, "Never two holders", 7.
func TestConnectionsRecover(t *testing.T) {
	loss := 3500 * time.Millisecond
	if *strict {
		loss = 30 * time.Second
	}
	f := newFailover(t, 1)
	r := f.awaitHolder(nil)
	tcp := r.run("tcp", program.Racy(t), []string{"EGRESS_SOURCE=" + nettest.HeldV4 + "," + nettest.HeldV6,
		"EGRESS_DNS_PROXY_DESTINATION=7000 " + nettest.ServerAV4 + " 7"},
		"tcp", "--admin", "off", "--holder", r.path("serving.sock"), "--access-log", "off")
	t.Cleanup(func() { tcp.cmd.Process.Kill(); <-tcp.done })
	tunnels := map[string]*echo{}
	nettest.Eventually(t, "both serve", func() bool {
		e, err := r.tunnel()
		if err != nil || !e.works(2*time.Second) {
			return false
		}
		tunnels["proxy"] = e
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		c, err := f.Client.DialContext(ctx, "tcp", nettest.PodOf(0)+":7000")
		if err != nil {
			return false
		}
		t.Cleanup(func() { c.Close() })
		tunnels["tcp"] = &echo{c, bufio.NewReader(c)}
		return tunnels["tcp"].works(2 * time.Second)
	})

	r.api.become(cut)
	nettest.Eventually(t, "it is fenced", func() bool { return !r.saidAt("the address is fenced").IsZero() })
	for _, e := range tunnels {
		e.c.SetDeadline(time.Now().Add(40 * time.Second)) // works has set one that may have passed
		_, err := io.WriteString(e.c, "word")
		require.NoError(t, err)
	}
	time.Sleep(loss) // a loss has a length
	assert.True(t, r.saidAt("the address is held again").IsZero())
	r.api.become(passes)
	for name, e := range tunnels {
		e.c.SetDeadline(time.Now().Add(40 * time.Second))
		_, err := io.ReadFull(e.r, make([]byte, 4))
		back := time.Now()
		require.NoError(t, err, name)
		lifted := r.saidAt("the address is held again")
		require.False(t, lifted.IsZero())
		t.Logf("%-5s %v behind the end of a loss of %v", name, back.Sub(lifted).Round(time.Millisecond), loss)
		atMost(t, 1100*time.Millisecond, back.Sub(lifted))
		assert.True(t, e.works(5*time.Second))
	}
}
