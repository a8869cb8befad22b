//go:build race

package proxy

import (
	"fmt"
	"slices"
	"sync/atomic"
)

const checkStages = true

// follows are the stages that may come next.
var follows = [numStages][]stage{
	stageNew:        {stageDial, stageConnecting, stageConnected, stageRequest, stageFailed},
	stageConnecting: {stageConnected, stageRequest, stageFailed},
	stageRequest:    {stageSent},
	stageSent:       {stageAnswer},
	stageAnswer:     {stageBody},
	stageFailed:     {stageRefusing},
}

// walked says which arrows of the diagram have been walked.
var walked [numStages][numStages]atomic.Bool

func checkStage(from, to stage) {
	if !slices.Contains(follows[from], to) {
		panic(fmt.Sprintf("an exchange goes from stage %d to %d", from, to))
	}
	walked[from][to].Store(true)
}
