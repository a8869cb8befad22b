// Package request decides what a request may do at a host that may be reached: request rules,
// of methods and paths. Where a request may go is what package acl decides, before; request
// rules never open a way. The package opens no sockets and no files.
//
//	r, err := request.Parse("GET,HEAD /repos/acme/**\n!* /user/keys**\n", request.Options{})
//	d := r.Decide("GET", "/repos/acme/sluice?page=2")
//	d.Verdict == acl.Allow, d.Line == 1
//
// # Rules
//
// One rule a line: methods, white space, a pattern. Blank lines and comments (from a `#` at the
// start of a line or behind white space) mean nothing.
//
//	GET,HEAD /repos/acme/**      these methods, below /repos/acme, and that itself
//	POST /repos/*/*/issues       `*`: any characters of one segment, none too
//	* /v1/models                 any method
//	GET /**/info/refs?service=git-upload-pack
//	!* /user/keys**              `!`: deny; the segment may go on, and others may follow
//	*                            everything else; only as the last rule
//
// The first rule that matches decides; none denies. A text without rules denies everything.
//
// `*` stands for any characters of its segment. `**` as a whole segment stands for any number
// of segments, also none; at the end of a segment for the rest of it and any number of segments
// behind it. Escapes in a pattern are decoded as those of a request are; `%2A` is a star that is
// meant. Behind the first `?` is what the whole query must be, as bytes, with `*` for any of
// them; a pattern without `?` takes any query, and none. Methods are exact (RFC 9110 section 9.1): a rule
// for GET says nothing of HEAD.
//
// # Paths are judged as they are sent
//
// Segments are split first, and decoded for matching then. Nothing is removed on the way, so
// that what is judged is what the server gets. What servers read in different ways is
// [Malformed], whatever the rules say: dot segments in each spelling, backslashes, control
// bytes, escapes that are none or no UTF-8.
//
// An allow rule matches what is written. A deny rule matches if any reading of a careless server
// would: an encoded slash as a slash, `;` and what follows dropped, empty segments left out,
// upper case as lower case.
package request
