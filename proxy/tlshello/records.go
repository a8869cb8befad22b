package tlshello

import "golang.org/x/crypto/cryptobyte"

// message is the body of the ClientHello in the records that b begins with. It is a part
// of b when the first record has all of it, else it is copied together.
func message(b []byte) (cryptobyte.String, error) {
	var got []byte
	for {
		if len(got) > 0 && got[0] != messageClientHello {
			return nil, ErrNotTLS
		}
		var length uint32
		s := cryptobyte.String(got)
		if s.Skip(1) && s.ReadUint24(&length) {
			if length > messageMax {
				return nil, ErrNotTLS
			}
			var body []byte
			if s.ReadBytes(&body, int(length)) {
				return body, nil
			}
		}
		part, rest, err := record(b)
		if err != nil {
			return nil, err
		}
		if b = rest; got == nil {
			got = part[:len(part):len(part)] // so that what is appended does not land in b
		} else {
			got = append(got, part...)
		}
	}
}

// record is what is there of the body of the first handshake record in b, and what comes
// behind the record. As soon as something of its header cannot be one, it is refused.
func record(b []byte) (part, rest []byte, err error) {
	if len(b) > 0 && b[0] != recordHandshake || len(b) > 1 && b[1] != 3 {
		return nil, nil, ErrNotTLS
	}
	var size uint16
	s := cryptobyte.String(b)
	if !s.Skip(recordHeader-2) || !s.ReadUint16(&size) {
		return nil, nil, ErrMore
	}
	if size == 0 || size > recordMax {
		return nil, nil, ErrNotTLS
	}
	n := min(len(s), int(size))
	return s[:n], s[n:], nil
}

// Missing is how many bytes must come behind b, at least, before Parse can find a whole
// ClientHello; 0 when it can say by now what b is. Who asks Parse only then reads one that comes
// byte by byte in a time that does not grow with the square of its length. As long as b may
// still turn out to be something else it is 1.
func Missing(b []byte) int {
	const header = 4 // of the message: its type, its length
	var start []byte // of the message
	got, want := 0, header
	for {
		part, rest, err := record(b)
		switch {
		case err == ErrMore && len(start) < header:
			return 1
		case err == ErrMore: // within a record's header, or before it
			return recordHeader - len(b) + want - got
		case err != nil:
			return 0 // it is no ClientHello
		}
		if got += len(part); len(start) < header {
			start = append(start, part[:min(len(part), header-len(start))]...)
		}
		if len(start) > 0 && start[0] != messageClientHello {
			return 0
		}
		if len(start) == header {
			if want = header + int(start[1])<<16 + int(start[2])<<8 + int(start[3]); want > header+messageMax {
				return 0
			}
		}
		if got >= want {
			return 0
		}
		if size := int(b[3])<<8 + int(b[4]); len(part) < size { // more of this record is to come
			if len(start) < header {
				return 1
			}
			return missing(want-got, size-len(part))
		}
		b = rest
	}
}

// missing is how many bytes n more of the message take, of which so many may be of the record
// that has begun.
func missing(n, inRecord int) int {
	if n <= inRecord {
		return n
	}
	return n + recordHeader
}
