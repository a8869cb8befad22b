package http1

import "bytes"

// namesConnAuth reports whether one of the credentials or challenges (RFC 9110 section 11)
// in v is of a scheme that authenticates connections. It takes what only looks like one for
// one: a connection that is not shared is the smaller harm.
func namesConnAuth(v []byte) bool {
	for len(v) > 0 {
		item := v
		if i := bytes.IndexByte(v, ','); i >= 0 {
			item, v = v[:i], v[i+1:]
		} else {
			v = nil
		}
		item = trimOWS(item)
		if i := bytes.IndexAny(item, " \t"); i >= 0 {
			item = item[:i]
		}
		if equalFold(item, "ntlm") || equalFold(item, "negotiate") {
			return true
		}
	}
	return false
}
