package main

import (
	"log/slog"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// memoryShare of the container's memory limit is for the Go heap and stacks. The
// rest is for what the kernel holds for the container: socket buffers and pipes.
const memoryShare = 0.8

// limitMemory has the garbage collector work harder when the container's limit comes
// near, instead of the kernel ending the process at it. It is for safety alone: a
// request leaves so little garbage that how often it is collected (GOGC) cannot be
// measured. GOMEMLIMIT in the environment wins.
func limitMemory(log *slog.Logger) {
	if _, err := memlimit.Set(memlimit.WithRatio(memoryShare)); err != nil {
		log.Warn("the container's memory limit is not known to the garbage collector", "error", err)
	}
}
