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
