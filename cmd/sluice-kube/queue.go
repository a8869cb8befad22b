package main

import (
	"sync"

	"github.com/sluiceproxy/sluice/internal/hold"
)

// groupEvent is a hold.Event of a group, or hold.Every.
type groupEvent struct {
	group int
	what  hold.Happening
}

// queue is what waits for the pool, in its order: answers, of which there are no more than
// questions, and what was seen. Nobody waits to put something there, not even who has the pool.
type queue struct {
	mu   sync.Mutex
	all  []groupEvent
	more chan struct{} // of one place: there is something
}

func (q *queue) put(e groupEvent) {
	q.mu.Lock()
	q.all = append(q.all, e)
	q.mu.Unlock()
	select {
	case q.more <- struct{}{}:
	default: // it will be seen
	}
}

func (q *queue) take() (all []groupEvent) {
	q.mu.Lock()
	defer q.mu.Unlock()
	all, q.all = q.all, nil
	return all
}
