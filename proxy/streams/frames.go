package streams

// frameMost is the payload of a frame that servers are sent at most, and the least that each must
// take (RFC 9113 section 6.5.2).
const frameMost = 16 << 10

// smallFrames hides from x/net that a server takes larger frames: it has a buffer of that size, up to
// 512 KiB, for each body of unknown length, for as long as that is on its way.
type smallFrames struct {
	head     [9]byte // of the frame that begins
	got      int     // bytes of it
	left     int     // bytes of the payload that are to come
	settings bool
	at       int    // within a setting: a name of two bytes, a value of four
	name     uint16 // of the setting
}

// see looks at what comes next from the server.
func (f *smallFrames) see(b []byte) {
	for len(b) > 0 {
		if f.left == 0 {
			n := copy(f.head[f.got:], b)
			if f.got, b = f.got+n, b[n:]; f.got < len(f.head) {
				return
			}
			f.got, f.at = 0, 0
			f.left = int(f.head[0])<<16 | int(f.head[1])<<8 | int(f.head[2])
			f.settings = f.head[3] == 4
			continue
		}
		n := min(f.left, len(b))
		if f.settings {
			f.lower(b[:n])
		}
		f.left, b = f.left-n, b[n:]
	}
}

// lower makes the value of SETTINGS_MAX_FRAME_SIZE the least that there is.
func (f *smallFrames) lower(b []byte) {
	for i := range b {
		switch {
		case f.at < 2:
			f.name = f.name<<8 | uint16(b[i])
		case f.name == 5:
			b[i] = byte(uint32(frameMost) >> (8 * (5 - f.at)))
		}
		f.at = (f.at + 1) % 6
	}
}
