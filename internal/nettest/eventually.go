package nettest

import (
	"testing"
	"time"
)

// Eventually waits until ok, which it asks again and again on the caller's goroutine.
// When that takes more than 30 s it ends the test, at the caller's line, with what was
// waited for ("the pool is empty"). As [testing.TB.Fatalf], it is for the test's own
// goroutine; others use [Within].
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if !Within(30*time.Second, ok) {
		t.Fatalf("waited in vain until %s", what)
	}
}

// Within asks again and again, on the caller's goroutine, and reports whether ok came
// true before the limit. It asks once at least, and first in short turns, then in turns
// of up to 10 ms.
func Within(limit time.Duration, ok func() bool) bool {
	end := time.Now().Add(limit)
	for turn := 50 * time.Microsecond; !ok(); turn = min(turn+turn/4, 10*time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
		time.Sleep(turn)
	}
	return true
}
