package http1

import "errors"

// ErrIncomplete says that the buffer does not hold the whole element yet: read
// more and call again.
var ErrIncomplete = errors.New("http1: more bytes needed")

// Error is a message that must not be processed or forwarded. Status is what a
// server answers its client (RFC 9110 section 15.5): 400, 417, 431, 501 or 505.
// The connection must be closed afterwards.
type Error struct {
	Status int
	Msg    string // lower case, printable ASCII, holds nothing of the message
}

func (e *Error) Error() string { return e.Msg }

// The head is over one of the Limits: the caller knows by which settings.
var (
	ErrHeadTooLarge  = &Error{431, "head larger than the limit"}
	ErrTooManyFields = &Error{431, "more header fields than the limit"}
)

// The errors are values, made once: refusing a hostile message allocates nothing.
var (
	errBareLF       = &Error{400, "line ends in a bare LF, not CRLF"}
	errRequestLine  = &Error{400, "malformed request line, want METHOD SP TARGET SP VERSION"}
	errTLS          = &Error{400, "the client speaks TLS, and this port speaks HTTP: name the proxy as http://, not https://"}
	errSOCKS4       = &Error{400, "the client speaks SOCKS4, and this port speaks HTTP: name the proxy as http://, not socks4://"}
	errSOCKS5       = &Error{400, "the client speaks SOCKS5, and this port speaks HTTP: name the proxy as http://, not socks5://, or have it listen for SOCKS (--listen-socks)"}
	errMethod       = &Error{400, "malformed method"}
	errTarget       = &Error{400, "control byte or space in the request target"}
	errVersion      = &Error{505, "HTTP version not supported, want HTTP/1.0 or HTTP/1.1"}
	errVersionForm  = &Error{400, "malformed HTTP version"}
	errFolded       = &Error{400, "folded header field"}
	errFieldName    = &Error{400, "malformed header field name"}
	errColonSpace   = &Error{400, "white space before the colon of a header field"}
	errFieldValue   = &Error{400, "control byte in a header field"}
	errTwoHosts     = &Error{400, "more than one Host field"}
	errNoHost       = &Error{400, "no Host field in an HTTP/1.1 request"}
	errHostValue    = &Error{400, "malformed Host field"}
	errTwoLengths   = &Error{400, "more than one Content-Length"}
	errLength       = &Error{400, "malformed Content-Length"}
	errLengthCoding = &Error{400, "both Content-Length and Transfer-Encoding"}
	errCoding       = &Error{400, "transfer coding other than chunked"}
	errCoding10     = &Error{400, "Transfer-Encoding in an HTTP/1.0 message"}
	errConnectBody  = &Error{400, "CONNECT with a body"}
	errTraceBody    = &Error{400, "TRACE with a body"}
	errExpect       = &Error{417, "expectation other than 100-continue"}
	errMaxForwards  = &Error{400, "malformed Max-Forwards"}
	errStatusLine   = &Error{400, "malformed status line"}
	errStatusCode   = &Error{400, "malformed status code"}
	errChunkSize    = &Error{400, "malformed chunk size"}
	errChunkEnd     = &Error{400, "chunk data not followed by CRLF"}
	errChunkLine    = &Error{400, "chunk size line or trailer section too long"}
	errTrailer      = &Error{400, "field that may not stand in a trailer section"}
)
