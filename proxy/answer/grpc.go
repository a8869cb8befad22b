package answer

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/logline"
)

// grpcKind is the media type of a gRPC message.
const grpcKind = "application/grpc"

// isGRPC reports whether a request is a gRPC call, whose client looks at nothing in an answer
// but its status when that is not 200 (PROTOCOL-HTTP2.md of gRPC, "Requests").
func isGRPC(r *http1.Request) bool {
	rest, is := bytes.CutPrefix(bytes.ToLower(r.Get(http1.ContentType)), []byte(grpcKind))
	return is && (len(rest) == 0 || rest[0] == '+' || rest[0] == ';')
}

// appendGRPC appends the fields by which o is told to the client of a call: an answer that is a
// trailer section alone, as Envoy gives.
func (o *Own) appendGRPC(b []byte, to To) []byte {
	b = strconv.AppendInt(append(b, "\r\nGrpc-Status: "...), grpcStatus(o.Status), 10)
	b = append(b, "\r\nGrpc-Message: "...)
	b = appendPercent(b, o.phrase())
	for _, more := range []string{strings.TrimSuffix(o.Advice, "."), to.Contact} {
		if more != "" {
			b = appendPercent(append(b, ". "...), more)
		}
	}
	return append(logline.ID(append(b, " (request id "...), to.ID), ')')
}

// grpcStatus is the status of a call for that of HTTP (http-grpc-status-mapping.md of gRPC),
// but for a body that is too large, which has one of its own.
func grpcStatus(status int) int64 {
	switch status {
	case 400:
		return 13 // INTERNAL
	case 401:
		return 16 // UNAUTHENTICATED
	case 403:
		return 7 // PERMISSION_DENIED
	case 404:
		return 12 // UNIMPLEMENTED
	case 413:
		return 8 // RESOURCE_EXHAUSTED
	case 429, 502, 503, 504:
		return 14 // UNAVAILABLE
	}
	return 2 // UNKNOWN
}

// appendPercent appends a message as Grpc-Message has it.
func appendPercent(b []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			b = append(b, '%', hex[c>>4], hex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return b
}
