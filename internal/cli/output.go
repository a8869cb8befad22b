package cli

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/spf13/cobra"
)

// Output is a standard output that remembers what could not be written to it. It is safe for
// concurrent use.
type Output struct {
	To io.Writer

	mu  sync.Mutex
	err error
}

// Write writes to To.
func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.To.Write(b)
	if o.err == nil {
		o.err = err
	}
	return n, err
}

// Whole has cmd and all that is below it fail with StatusWrong when something of o could not be written:
// what is half printed may be taken for a whole list. StatusFailed is an answer in many commands, so
// that it is not this.
func (o *Output) Whole(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		o.Whole(sub)
	}
	run := cmd.RunE
	if run == nil {
		return
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		err := run(cmd, args)
		o.mu.Lock()
		defer o.mu.Unlock()
		said, ok := errors.AsType[*Exit](err)
		if o.err == nil || err != nil && (!ok || said.Status != StatusFailed || said.Cause != nil) {
			return err
		}
		return Wrong(fmt.Errorf("standard output: %w: what is printed is not whole", o.err))
	}
}
