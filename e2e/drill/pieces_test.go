package drill

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// ends is a writer that knows where each write ended.
type ends struct {
	all int
	at  []int
}

func (e *ends) Write(b []byte) (int, error) {
	e.all += len(b)
	e.at = append(e.at, e.all)
	return len(b), nil
}

// What is unasked comes with the end of the answer before it: where a piece ends with the
// answer, a gateway may well have sent the next request before there was anything to see.
func TestUnaskedIsNotApart(t *testing.T) {
	more := make([]byte, 100)
	for seed := range uint64(500) {
		p := planOf(seed, key{class: classPipe})
		e := &ends{}
		w := &piecewise{w: e, pieces: 2, r: p.rand(down), keeps: true}
		answer := make([]byte, p.downSize%500+1)
		w.Write(answer[:len(answer)/2])
		w.Write(answer[len(answer)/2:])
		assert.NoError(t, w.finish(more))
		assert.Equal(t, len(answer)+len(more), e.all)
		assert.NotContainsf(t, e.at, len(answer), "seed %d: a write ends with the answer", seed)
	}
}
