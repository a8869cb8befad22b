// Package fencetime says which times the fence of a held address takes: one rule for who sets
// them, who decides by them, and the fence itself.
package fencetime

import (
	"fmt"
	"time"
)

// Least is the shortest time that the kernel is given: a tick of the slowest clock that
// Linux is built with. What is shorter would be rounded to nothing, which means for ever.
const Least = 10 * time.Millisecond

// Most is the longest: nobody holds an address for an hour by a slip of the pen.
const Most = time.Minute

// Check reports a time that the kernel is not given; of says what for.
func Check(of string, d time.Duration) error {
	switch {
	case d < Least:
		return fmt.Errorf("%s %s: the shortest time that the fence takes is %s", of, d, Least)
	case d > Most:
		return fmt.Errorf("%s %s: the longest time that the fence takes is %s", of, d, Most)
	}
	return nil
}
