// Package http1 reads and writes HTTP/1.1 message heads and frames message
// bodies (RFC 9112), strictly and without allocation: a parsed head is a set of
// slices into the caller's buffer, and field lines that may travel are copied
// through as the bytes they are.
//
// Of what frames and routes a message it accepts less than net/http does, never more. A
// message that two readers could take differently (two Content-Length fields,
// Content-Length beside Transfer-Encoding, a bare LF, a folded field, white space before
// a colon, a second Host, an unknown transfer coding …) is an [*Error], and the connection
// that carried it is not to be used again: nothing is repaired and sent on.
//
// An answer is held to what is safe, not to what is neat. White space before a colon or
// behind a chunk size is passed over and does not travel, and a 204 or 1xx ends at its
// empty line: what is written on has one reading only.
//
// The package opens no socket and knows no policy. A head or a [Chunked] is
// used by one goroutine at a time; what Parse returned is valid until the
// buffer given to it is written to.
package http1
