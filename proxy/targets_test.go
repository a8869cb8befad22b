package proxy

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
)

// Whatever was asked for before, by whomever: the answer is that of a parser
// without a memory.
func TestTargets(t *testing.T) {
	var ts targets
	ports := []uint16{0, 80, 443}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 20_000 {
				n := i % 2000 // more than there are slots
				authority := [...]string{"host-%d.example.com", "host-%d.example.com:8080", "10.0.0.%d:443", "a@%d"}[i%4]
				authority = fmt.Sprintf(authority, n)
				port := ports[i%3]
				want, wantErr := acl.ParseTargetDefault(authority, port)
				if port == 0 {
					want, wantErr = acl.ParseTarget(authority)
				}
				got, err := ts.read([]byte(authority), port)
				if !assert.Equal(t, want, got) || !assert.Equal(t, wantErr == nil, err == nil, "%v", err) {
					return
				}
			}
		})
	}
	wg.Wait()
	for _, port := range []uint16{80, 443, 80} { // one authority, of two schemes
		got, err := ts.read([]byte("known.example.com"), port)
		require.NoError(t, err)
		assert.Equal(t, port, got.Port)
	}
	known := []byte("known.example.com:443")
	_, err := ts.read(known, 0)
	require.NoError(t, err)
	if !raceEnabled {
		assert.Zero(t, testing.AllocsPerRun(100, func() { ts.read(known, 0) }))
	}
}
