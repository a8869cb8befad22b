//go:build linux

package main

import (
	"context"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/bench/peers"
	"github.com/sluiceproxy/sluice/internal/directory"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// The directory of row 13 has the pods that it says, and the load generator's address is
// that of the benchmark's own.
func TestTheBenchmarksDirectory(t *testing.T) {
	b := testBench(t)
	h, socket, err := b.startDirectory()
	require.NoError(t, err)
	t.Cleanup(h.stop)
	c := directory.NewClient(directory.Options{Socket: socket})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	nettest.Eventually(t, "all pods are known", func() bool { return c.Table().Len() == manyPods })
	p, ok := c.Lookup(netip.MustParseAddr("127.0.0.1"))
	require.True(t, ok)
	assert.Equal(t, peers.ClientNamespace, p.Namespace)
	p, _ = c.Lookup(netip.MustParseAddr("10.1.134.158"))
	assert.Equal(t, "ns-998", p.Namespace)
}

func TestAuthorizedWork(t *testing.T) {
	in := &instance{peer: peers.Sluice("sluice", ""), setup: peers.Setup{Authorization: "Basic abc"}}
	get := workOf("1").jobFor(in, "127.0.0.2:1", 1).Requests[0].Head
	assert.Regexp(t, `^GET http://127\.0\.0\.2:1/1k HTTP/1\.1\r\n(.+\r\n)+Proxy-Authorization: Basic abc\r\n\r\n$`, get)
	for _, head := range workOf("4").jobFor(in, "127.0.0.2:1", 1).Heads {
		assert.Regexp(t, `^CONNECT \S+ HTTP/1\.1\r\n(.+\r\n)+Proxy-Authorization: Basic abc\r\n\r\n$`, string(head))
	}
}
