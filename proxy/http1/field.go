package http1

// FieldID tells the fields that a proxy acts upon from those that it only
// passes on.
type FieldID uint8

const (
	Other FieldID = iota // passed on
	Accept
	Authorization
	Connection
	ContentLength
	ContentType
	Expect
	Host
	HTTP2Settings
	KeepAlive
	MaxForwards
	ProxyAuthenticate
	ProxyAuthenticationInfo
	ProxyAuthorization
	ProxyConnection
	Referer
	TE
	Trailer
	TransferEncoding
	Upgrade
	UserAgent
	Via
	WWWAuthenticate
	XForwardedFor
	numFieldIDs
)

var fieldNames = [numFieldIDs]string{
	Accept:                  "accept",
	Authorization:           "authorization",
	Connection:              "connection",
	ContentLength:           "content-length",
	ContentType:             "content-type",
	Expect:                  "expect",
	Host:                    "host",
	HTTP2Settings:           "http2-settings",
	KeepAlive:               "keep-alive",
	MaxForwards:             "max-forwards",
	ProxyAuthenticate:       "proxy-authenticate",
	ProxyAuthenticationInfo: "proxy-authentication-info",
	ProxyAuthorization:      "proxy-authorization",
	ProxyConnection:         "proxy-connection",
	Referer:                 "referer",
	TE:                      "te",
	Trailer:                 "trailer",
	TransferEncoding:        "transfer-encoding",
	Upgrade:                 "upgrade",
	UserAgent:               "user-agent",
	Via:                     "via",
	WWWAuthenticate:         "www-authenticate",
	XForwardedFor:           "x-forwarded-for",
}

// byLength lists the known names of each length: a name is compared with at
// most three others.
var byLength = func() (t [32][]FieldID) {
	for id := Other + 1; id < numFieldIDs; id++ {
		n := len(fieldNames[id])
		t[n] = append(t[n], id)
	}
	return t
}()

func identify(name []byte) FieldID {
	if len(name) >= len(byLength) {
		return Other
	}
	for _, id := range byLength[len(name)] {
		if equalFold(name, fieldNames[id]) {
			return id
		}
	}
	return Other
}

// hopByHop reports whether a field of this kind speaks of the connection that
// it came over and so never travels (RFC 9110 section 7.6.1), or is written anew
// by the proxy. Trailer is end-to-end: it announces what the body ends with.
func (id FieldID) hopByHop() bool {
	switch id {
	case Connection, HTTP2Settings, KeepAlive, ProxyAuthenticate, ProxyAuthenticationInfo,
		ProxyAuthorization, ProxyConnection, TE, TransferEncoding, Upgrade:
		return true
	}
	return false
}

// mayTrail reports whether a field of this kind may stand behind a body. Those
// that frame, route or authenticate a message may not come after it (RFC 9110
// section 6.5.1), nor those of the connection.
func (id FieldID) mayTrail() bool {
	switch id {
	case ContentLength, Host, Trailer, Expect, MaxForwards, Via:
		return false
	}
	return !id.hopByHop()
}

// Field is one header field line. The slices point into the parsed buffer.
type Field struct {
	ID      FieldID
	Dropped bool   // Connection names it, or it says nothing: it does not travel
	padded  bool   // there is white space before the colon
	Name    []byte // as sent, without white space
	Value   []byte // without the white space around it
	Line    []byte // the whole line with its CRLF, as sent
}

// Travels reports whether the field goes on with the message: it does not speak of the
// connection that it came over, and Connection does not name it.
func (f *Field) Travels() bool { return !f.Dropped && !f.ID.hopByHop() }
