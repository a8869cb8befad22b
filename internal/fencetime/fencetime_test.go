package fencetime

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestCheck(t *testing.T) {
	for d, want := range map[time.Duration]string{
		Least: "", Most: "",
		0:                      "held 0s: the shortest time that the fence takes is 10ms",
		-time.Hour:             "held -1h0m0s: the shortest time that the fence takes is 10ms",
		Least - 1:              "held 9.999999ms: the shortest time that the fence takes is 10ms",
		Most + time.Nanosecond: "held 1m0.000000001s: the longest time that the fence takes is 1m0s",
	} {
		if err := Check("held", d); want == "" {
			assert.NoError(t, err)
		} else {
			assert.EqualError(t, err, want)
		}
	}
}
