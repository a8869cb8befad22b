// Package contain keeps a panic to the connection in whose service it came about: that one
// ends, and all others go on. It is for faults of the program, which a client may have found;
// those that the runtime does not let anybody recover (a map written by two) end the process
// all the same.
package contain

import (
	"fmt"
	"log/slog"
	"runtime/debug"
)

// Reporter is told of each panic that was contained: to log it with its stack, and to count
// it. It may be called concurrently. nil: nobody is told.
type Reporter func(cause any, stack []byte)

// Log returns a Reporter that writes to log, and calls count.
func Log(log *slog.Logger, count func()) Reporter {
	return func(cause any, stack []byte) {
		count()
		log.Error("a fault of the program has ended a connection; please report it", "panic", fmt.Sprint(cause), "stack", string(stack))
	}
}

// Recover is to be deferred by whoever serves a connection. In a panic it tells r, and calls
// then, which ends the connection and must expect any state of it; a panic of that is
// contained too. Locks must be unlocked by deferred calls beneath it.
func (r Reporter) Recover(then func()) {
	if cause := recover(); cause != nil {
		r.report(cause)
		r.Do(then)
	}
}

// Do calls f, and contains its panic.
func (r Reporter) Do(f func()) {
	defer func() {
		if cause := recover(); cause != nil {
			r.report(cause)
		}
	}()
	f()
}

func (r Reporter) report(cause any) {
	if r != nil {
		r(cause, debug.Stack())
	}
}
