package drill

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Directions of a stream.
const (
	up    = 'u' // what a client sends
	down  = 'd' // what a server sends
	stray = 's' // what a server sends unasked: nobody's
)

// key names an exchange: its class, number and gateway.
type key struct {
	class   byte
	gateway uint8
	id      uint32
}

func (k key) String() string { return fmt.Sprintf("%c/%d/%d", k.class, k.id, k.gateway) }

func parseKey(s string) (k key, err error) {
	_, err = fmt.Sscanf(s, "%c/%d/%d", &k.class, &k.id, &k.gateway)
	return k, err
}

// stream is the bytes that one side of an exchange sends. They are blocks that each say
// whose they are and where they stand.
type stream struct {
	key
	way byte
}

func (s stream) String() string {
	return fmt.Sprintf("%s of %s", map[byte]string{up: "upload", down: "answer", stray: "stray"}[s.way], s.key)
}

const (
	blockSize = 16
	mark      = 0xd7
)

// block writes the n-th block to b.
func (s stream) block(b []byte, n uint32) {
	b[0], b[1], b[2], b[3] = mark, s.way, s.class, s.gateway
	binary.BigEndian.PutUint32(b[4:], s.id)
	binary.BigEndian.PutUint32(b[8:], n)
	binary.BigEndian.PutUint32(b[12:], s.sum(n))
}

func (s stream) sum(n uint32) uint32 {
	h := (uint64(s.id)<<32 | uint64(n)) * 0x9e3779b97f4a7c15
	h ^= uint64(s.way)<<16 | uint64(s.class)<<8 | uint64(s.gateway)
	h *= 0xff51afd7ed558ccd
	return uint32(h >> 32)
}

// fill writes the bytes of the stream from off on to b.
func (s stream) fill(b []byte, off int64) {
	var one [blockSize]byte
	for len(b) > 0 {
		n, skip := uint32(off/blockSize), int(off%blockSize)
		if skip == 0 && len(b) >= blockSize {
			s.block(b, n)
			b, off = b[blockSize:], off+blockSize
			continue
		}
		s.block(one[:], n)
		k := copy(b, one[skip:])
		b, off = b[k:], off+int64(k)
	}
}

// check says what is wrong with b, which came as the bytes of s from off on.
func (s stream) check(b []byte, off int64) error {
	var room [8 << 10]byte
	for len(b) > 0 {
		n := min(len(b), len(room))
		want := room[:n]
		if s.fill(want, off); !bytes.Equal(b[:n], want) {
			i := 0
			for b[i] == want[i] {
				i++
			}
			return fmt.Errorf("byte %d of the %s is wrong; there stand %s", off+int64(i), s, whose(b[i:]))
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

// whose tells whose bytes b are, by the first whole block in it.
func whose(b []byte) string {
	for i := 0; i+blockSize <= len(b); i++ {
		if b[i] != mark {
			continue
		}
		s := stream{key{b[i+2], b[i+3], binary.BigEndian.Uint32(b[i+4:])}, b[i+1]}
		n := binary.BigEndian.Uint32(b[i+8:])
		if binary.BigEndian.Uint32(b[i+12:]) == s.sum(n) {
			return fmt.Sprintf("the bytes of the %s from %d on", s, int64(n)*blockSize-int64(i))
		}
	}
	return fmt.Sprintf("the bytes of nobody: %q", b[:min(len(b), 80)])
}

// letters are n bytes of the stream for a field of a head.
func (s stream) letters(n int) string {
	b := make([]byte, (n+1)/2)
	s.fill(b, 0)
	return fmt.Sprintf("%x", b)[:n]
}

func TestWhose(t *testing.T) {
	mine, other := stream{key{'g', 1, 7}, down}, stream{key{'p', 2, 8}, up}
	b := make([]byte, 1000)
	mine.fill(b, 5)
	assert.NoError(t, mine.check(b, 5))
	assert.ErrorContains(t, mine.check(b, 6), "byte 7 of the answer of g/7/1 is wrong; there stand the bytes of the answer of g/7/1 from 6 on")
	other.fill(b[501:], 1003)
	assert.EqualError(t, mine.check(b, 5), "byte 506 of the answer of g/7/1 is wrong; there stand the bytes of the upload of p/8/2 from 1003 on")
	copy(b[3:], strings.Repeat("x", 900))
	assert.ErrorContains(t, mine.check(b[:900], 5), `byte 8 of the answer of g/7/1 is wrong; there stand the bytes of nobody: "xxxx`)
	k, err := parseKey(mine.key.String())
	assert.NoError(t, err)
	assert.Equal(t, mine.key, k)
}
