package tunnel

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/sock"
)

// direction is one body on its way, driven by the goroutine that called Copy.
type direction struct {
	pump  *Pump
	touch func()
	moved int64
	left  int64 // bytes still to move; negative: no end is known

	buf  *[bufferSize]byte // only while bytes are in it, or being read
	pipe *pipe             // only while bytes are in it, or flow without pause

	bulk bool // so much comes that splice pays
	full int  // reads in a row that were worth one

	n   int   // result of the last try
	err error // its error
}

// run moves bytes until src ends (both errors nil), all were moved, or an error.
func (d *direction) run(src, dst sock.Blocking) (readErr, writeErr error) {
	defer d.release()
	read, splice, drain := d.read, d.spliceIn, d.spliceOut // one closure each
	var err error
	for d.left != 0 {
		try := read
		if d.bulk {
			try = splice
		}
		if err = firstError(src.ReadWhenReady(try), d.err); err != nil {
			return err, nil
		}
		switch {
		case d.n == 0 && d.bulk && d.pipe == nil:
			d.bulk = false // no descriptors for a pipe
			continue
		case d.n == 0:
			return nil, nil
		}
		d.grade()
		if d.pipe != nil {
			err = firstError(dst.WriteWhenReady(drain), d.err)
		} else {
			_, err = dst.Write(d.buf[:d.n])
			d.releaseBuffer()
		}
		if err != nil {
			return nil, err
		}
		if !d.bulk {
			d.releasePipe()
		}
		d.touch()
	}
	return nil, nil
}

// grade decides by what was just read whether splice pays.
func (d *direction) grade() {
	switch {
	case d.n >= bulkStep:
		if d.full++; d.full >= bulkSteps {
			d.bulk = true
		}
	case d.left < bulkBody: // of a long body the rest is known to come
		d.full, d.bulk = 0, false
	}
}

// firstError folds the two ways in which a try can fail into one.
func firstError(pollErr, tryErr error) error {
	if pollErr != nil {
		return pollErr
	}
	return tryErr
}

// want bounds one try by what is left.
func (d *direction) want(most int) int {
	if d.left >= 0 && d.left < int64(most) {
		return int(d.left)
	}
	return most
}

// took books n bytes that were read.
func (d *direction) took(n int) {
	d.n = n
	d.moved += int64(n)
	if d.left > 0 {
		d.left -= int64(n)
	}
}

// read is a try of RawConn.Read: false asks to be called again when fd is
// readable, and then no buffer is held.
func (d *direction) read(fd uintptr) bool {
	d.buf = d.pump.buffers.Get().(*[bufferSize]byte)
	n, err := sock.TryRead(int(fd), d.buf[:d.want(bufferSize)])
	if err == unix.EAGAIN {
		d.releaseBuffer()
		return false
	}
	d.took(max(n, 0))
	d.err = sysErr("read", err)
	if d.n == 0 {
		d.releaseBuffer()
	}
	return true
}

// spliceIn is the same for a pipe, which is empty before and after every try.
// It comes back without one when there is none to be had.
func (d *direction) spliceIn(fd uintptr) bool {
	d.n, d.err = 0, nil
	if d.pipe == nil {
		if d.pipe = d.pump.pipes.get(); d.pipe == nil {
			return true
		}
	}
	n, err := sock.TrySplice(int(fd), d.pipe.w, d.want(spliceMost))
	if err == unix.EAGAIN {
		d.releasePipe()
		return false
	}
	d.took(max(n, 0))
	d.err = sysErr("splice", err)
	return true
}

// spliceOut drains the d.n bytes in the pipe into fd.
func (d *direction) spliceOut(fd uintptr) bool {
	for d.n > 0 {
		n, err := sock.TrySplice(d.pipe.r, int(fd), d.n)
		if err == unix.EAGAIN {
			return false
		}
		if err != nil {
			d.err = sysErr("splice", err)
			return true
		}
		d.n -= n
	}
	d.err = nil
	return true
}

func sysErr(op string, err error) error {
	if err == nil {
		return nil
	}
	return os.NewSyscallError(op, err)
}

func (d *direction) releaseBuffer() {
	if d.buf != nil {
		d.pump.buffers.Put(d.buf)
		d.buf = nil
	}
}

func (d *direction) releasePipe() {
	if d.pipe != nil {
		d.pump.pipes.put(d.pipe)
		d.pipe = nil
	}
}

func (d *direction) release() {
	d.releaseBuffer()
	d.releasePipe()
}
