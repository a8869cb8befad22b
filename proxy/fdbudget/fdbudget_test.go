package fdbudget

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTakeAllOrNothing(t *testing.T) {
	b := New(3)
	assert.True(t, b.Take(2))
	assert.False(t, b.Take(2))
	assert.EqualValues(t, 1, b.Left())
	assert.True(t, b.Take(1))
	assert.False(t, b.Take(1))
	b.Give(3)
	assert.True(t, b.Take(3))
}

func TestNilKnowsNoLimit(t *testing.T) {
	var b *Budget
	assert.True(t, b.Take(1<<40))
	b.Give(1)
	assert.EqualValues(t, -1, b.Left())
}

func TestZeroGivesNothing(t *testing.T) {
	assert.False(t, new(Budget).Take(1))
}

func TestConcurrent(t *testing.T) {
	b := New(10)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if b.Take(3) {
					b.Give(3)
				}
			}
		})
	}
	wg.Wait()
	assert.EqualValues(t, 10, b.Left())
}

func TestFromLimit(t *testing.T) {
	b, err := FromLimit()
	require.NoError(t, err)
	assert.Positive(t, b.Left())
}
