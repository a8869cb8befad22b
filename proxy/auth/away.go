package auth

import "time"

// Times for which a Reviewer that could not be asked is left alone.
const (
	awayFirst = 100 * time.Millisecond
	awayMost  = 3 * time.Second
)

// away is whether the Reviewer can be asked. One that could not is left alone for a while,
// and then asked one question at a time until it answers: it would have each token wait for
// a deadline, and whoever judges tokens would come back to all of them at once. Its methods
// are called under the Verifier's lock.
type away struct {
	pause time.Duration // zero: it answers
	until time.Time
	asked bool // the one question is under way
}

func (a *away) admits(now time.Time) bool {
	return a.pause == 0 || !a.asked && !now.Before(a.until)
}

// board notes that a question is asked, and reports whether it is the one.
func (a *away) board() (one bool) {
	a.asked = a.pause > 0
	return a.asked
}

// land notes what became of a question.
func (a *away) land(now time.Time, one, answered, failed bool) {
	switch {
	case answered:
		*a = away{}
		return
	case failed && (one || !now.Before(a.until)): // those that were under way together are one failure
		a.pause = min(max(2*a.pause, awayFirst), awayMost)
		a.until = now.Add(a.pause)
	}
	if one {
		a.asked = false
	}
}
