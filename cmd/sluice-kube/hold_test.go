package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/holding"
)

// Who has one group and who has several mean the same Lease for the same addresses: in a rolling
// update from the one to the other both are there.
func TestLeasesAreNamedByGroup(t *testing.T) {
	leasesOf := func(groups ...string) (names []string) {
		h := &holder{c: &holdConfiguration{Lease: "sluice"}, known: make(chan struct{}), driver: &driver{}}
		var s holding.Status
		for _, g := range groups {
			s.Groups = append(s.Groups, holding.Group{Name: g})
		}
		require.NoError(t, h.take(s))
		for _, g := range h.driver.groups {
			names = append(names, g.lease)
		}
		return names
	}
	assert.Equal(t, []string{"sluice-192-0-2-10"}, leasesOf("192-0-2-10"))
	assert.Equal(t, []string{"sluice-192-0-2-10", "sluice-192-0-2-11"}, leasesOf("192-0-2-10", "192-0-2-11"))
}
