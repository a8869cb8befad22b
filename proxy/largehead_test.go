package proxy

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
	"github.com/sluiceproxy/sluice/proxy/http1"
)

// headOf is the head of an answer of n bytes, whose fields besides Content-Length are
// lines of at most width bytes.
func headOf(n, width, length int) string {
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n", length)
	for left := n - len(head) - 2; left > 0; {
		k := min(left, width)
		if left-k > 0 && left-k < 8 {
			k -= 8
		}
		head += "X: " + strings.Repeat("y", k-5) + "\r\n"
		left -= k
	}
	return head + "\r\n"
}

// A head may be larger than what one read takes; behind it comes a body as ever, and over
// the same connection the next answer.
func TestLargeAnswerHead(t *testing.T) {
	const room = inRoom
	tests := map[string]struct {
		head, width, body int
		interim           int // bytes of a 103 before
	}{
		"90 KB in one field":      {90_000, 90_000, 5, 0},
		"300 fields":              {30_000, 100, 5, 0},
		"1000 fields":             {100_000, 101, 100_000, 0},
		"all that one read takes": {room, room, 5, 0},
		"one byte more":           {room + 1, room, 5, 0},
		"two reads and a byte":    {2*room + 1, room, 300_000, 0},
		"the limit":               {256 << 10, room, 100_000, 0},
		"behind a large 103":      {100_000, 90_000, 300_000, 100_000},
		"small behind a large":    {100, 90, 300_000, room + 9},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := make([]byte, tt.body)
			for i := range body {
				body[i] = 'a' + byte(i%26)
			}
			eachWay(t, func(c *rawClient) {
				for {
					if _, err := c.r.Peek(1); err != nil {
						return
					}
					c.head(t)
					interim := ""
					if tt.interim > 0 {
						interim = "HTTP/1.1 103 Hints\r\nX: " + strings.Repeat("z", tt.interim) + "\r\n\r\n"
					}
					c.send(t, "%s%s%s", interim, headOf(tt.head, tt.width, tt.body), body)
				}
			}, func(t *testing.T, g *gateway, base string) {
				c := g.dial(t)
				for range 3 {
					c.send(t, "GET %s/ HTTP/1.1\r\nHost: x\r\n\r\n", base)
					if tt.interim > 0 {
						assert.Contains(t, c.head(t), strings.Repeat("z", tt.interim))
					}
					want := strings.TrimSuffix(headOf(tt.head, tt.width, tt.body), "\r\n") + "Via: 1.1 sluice-test\r\n\r\n"
					require.True(t, want == c.head(t), "the head is another")
					got := make([]byte, len(body))
					_, err := io.ReadFull(c.r, got)
					require.NoError(t, err)
					require.True(t, string(body) == string(got), "the body is another")
				}
				nettest.Eventually(t, "the connection is pooled", func() bool { return g.Gate.Pool.Len() == 1 })
			})
		})
	}
}

// A buffer that has grown is neither used again nor held by what was parsed in it.
func TestGrownBufferGoes(t *testing.T) {
	x := new(exchange)
	x.getIn()
	x.iw = copy(x.in, headOf(inRoom+100, 300, 5))
	require.Equal(t, inRoom, x.iw)
	x.growIn()
	x.iw = copy(x.in, headOf(inRoom+100, 300, 5)+"hello")
	n, err := x.resp.Parse(x.in[:x.iw], false, http1.Limits{MaxHead: len(x.in), MaxFields: 1000})
	require.NoError(t, err)
	x.ir = n
	grown := &x.in[0]
	x.shrinkIn()
	assert.Equal(t, "hello", string(x.unreadIn()))
	assert.Len(t, x.in, inRoom)
	assert.Empty(t, x.resp.Fields)
	assert.Zero(t, cap(x.resp.Fields))
	x.dropIn()
	x.getIn()
	assert.NotSame(t, grown, &x.in[0])
	assert.Equal(t, inRoom, cap(x.in))
	x.dropIn()
}

// What is larger is refused, and the answer says by which setting.
func TestAnswerHeadTooLarge(t *testing.T) {
	tests := map[string]struct{ want, in string }{
		"a byte more":    {"head larger than 262144 bytes (--max-answer-head)", headOf(256<<10+1, 70_000, 0)},
		"without an end": {"head larger than 262144 bytes (--max-answer-head)", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 300_000)},
		"1001 fields":    {"more than 1000 header fields (--max-answer-fields)", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 1001) + "\r\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachWay(t, func(c *rawClient) {
				c.head(t)
				io.WriteString(c, tt.in) // not all of it is read
				c.r.Peek(1)
			}, func(t *testing.T, g *gateway, base string) {
				c := g.dial(t)
				c.send(t, "GET %s/ HTTP/1.1\r\nHost: x\r\n\r\n", base)
				res, _ := c.response(t, "GET")
				assert.Equal(t, "502 Bad Gateway: the server's answer: "+tt.want, res.Status)
				assert.Contains(t, g.lines(t, 1)[0], `"status":502,`)
				assert.Contains(t, g.lines(t, 1)[0], `"error":"http_protocol_error"`)
			})
		})
	}
}
