package proxy

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/sluiceproxy/sluice/proxy/sock"
)

// What the kernel says of a connection at each look, and whether that is a slow client's. A
// stream of small events over a long way always has some that are not acknowledged yet.
func TestPace(t *testing.T) {
	const over, rate = 30 * time.Second, 500
	down, up := bodies{down: true}, bodies{up: true}
	for name, tt := range map[string]struct {
		b        bodies
		a        int // bytes that move each second
		waiting  bool
		untaken  bool
		wantSlow bool
	}{
		"takes nothing":                    {down, 0, true, true, true},
		"takes a little, and could more":   {down, 400, true, true, true},
		"takes enough":                     {down, 600, true, true, false},
		"small events, a long way":         {down, 20, false, true, false},
		"events that nobody acknowledges":  {down, 0, false, true, true},
		"a long poll":                      {down, 0, false, false, false},
		"sends nothing of what is due":     {up, 0, false, false, true},
		"sends a little":                   {up, 400, false, false, true},
		"sends enough":                     {up, 600, false, false, false},
		"nothing is due, nothing to take":  {bodies{}, 0, false, false, false},
		"nothing due, and bytes in flight": {bodies{}, 0, false, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			var p pace
			slow := false
			for second := int64(1); second < 100; second += 4 {
				info := sock.Progress{Waiting: tt.waiting, Untaken: tt.untaken}
				if tt.b.up {
					info.Received = uint64(int64(tt.a) * second)
				} else {
					info.Taken = uint64(int64(tt.a) * second)
				}
				slow = p.look(second*int64(time.Second), tt.b, info, over, rate*30) || slow
			}
			assert.Equal(t, tt.wantSlow, slow)
		})
	}
}
