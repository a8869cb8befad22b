//go:build linux

package load

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestParseHead(t *testing.T) {
	for _, test := range []struct {
		in     string
		want   head
		length int
		err    error
	}{
		{"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nbody", head{200, 12, false}, 39, nil},
		{"HTTP/1.1 502 Bad Gateway\r\ncontent-LENGTH:0\r\nconnection: Close\r\n\r\n", head{502, 0, true}, 65, nil},
		{"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", head{200, -1, false}, 43, nil},
		{"HTTP/1.0 200 Connection established\r\n\r\n", head{200, -1, true}, 39, nil},
		{"HTTP/1.1 200 OK\r\nContent-Le", head{}, 0, errShort},
		{"SSH-2.0-something\r\n\r\n", head{}, 0, errHead},
	} {
		h, n, err := parseHead([]byte(test.in))
		assert.Equal(t, test.err, err, "%q", test.in)
		if err == nil {
			assert.Equal(t, test.want, h, "%q", test.in)
			assert.Equal(t, test.length, n, "%q", test.in)
		}
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	for i := range 1000 {
		h.add(int64(time.Duration(i+1) * time.Microsecond))
	}
	for q, want := range map[float64]time.Duration{0: time.Microsecond, .5: 500 * time.Microsecond, .99: 990 * time.Microsecond} {
		assert.InEpsilon(t, float64(want), float64(h.quantile(q)), 0.02, "%v", q)
	}
	assert.Equal(t, int64(time.Millisecond), h.max)
	h.add(-1)
	h.add(1 << 62)
	assert.Equal(t, 1002, h.n)
}

func TestBuckets(t *testing.T) {
	for last, ns := -1, int64(0); ns < 1<<40; ns += 1 + ns/100 {
		b := bucket(ns)
		assert.GreaterOrEqual(t, b, last)
		assert.InDelta(t, float64(ns), float64(middle(b)), float64(ns)/64+1)
		last = b
	}
}

func TestCommand(t *testing.T) {
	for _, k := range []Kind{Exchange, Hold, Up, Down} {
		assert.Len(t, Command(k, 1<<30), MessageSize)
	}
}
