package acl

import (
	"encoding/binary"
	"strconv"
	"time"
)

// AppendFrame appends s as one frame: its length in 8 bytes, the highest first, and s. What is
// made of frames alone can be read in one way only, so a hash over it stands for it.
func AppendFrame[T string | []byte](b []byte, s T) []byte {
	return append(binary.BigEndian.AppendUint64(b, uint64(len(s))), s...)
}

// Frames calls f with what p decides by, as frames (see [AppendFrame]): the guard's mode, the
// number of rules, and of each rule its canonical spelling, the day through which it is valid
// (2006-01-02, or nothing) and the protocol that it wants (or nothing). Comments and spelling,
// owners and tickets, the time that p is for and the host's own addresses have no part in it;
// the nil Policy is one without rules. f must not keep the bytes.
func (p *Policy) Frames(f func([]byte)) {
	if p == nil {
		f(AppendFrame(AppendFrame(nil, GuardDefault.String()), "0"))
		return
	}
	var reader formReader
	b := AppendFrame(AppendFrame(nil, p.mode.String()), strconv.Itoa(len(p.set.rules)))
	var text, day []byte
	for i := range p.set.rules {
		form, _ := reader.read(p.set.rules[i].text(p.set)) // it was good
		text, day = form.appendTo(text[:0]), day[:0]
		protocol := ""
		if n := p.set.noteOf(ruleNo(i)); n != nil {
			protocol = n.Protocol
			if !n.Expires.IsZero() {
				day = n.Expires.AppendFormat(day, time.DateOnly)
			}
		}
		b = AppendFrame(AppendFrame(AppendFrame(b, text), day), protocol)
		if len(b) > 4<<10 {
			f(b)
			b = b[:0]
		}
	}
	f(b)
}
