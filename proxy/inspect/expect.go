package inspect

import (
	"io"
	"reflect"
	"time"
)

// expectWait is for how long the body of a client that asks is not read, unless the server wants
// it: one that knows nothing of Expect waits for the body, too.
const expectWait = time.Second

// expects reports whether a client waits to be told to send that body (RFC 9110 section 10.1.1).
// x/net/http2 takes the field out of the request, keeps to itself that it was there, and says 100
// when the body is first read. Where it is not found, the body is read at once.
func expects(body io.ReadCloser) bool {
	v := reflect.Indirect(reflect.ValueOf(body))
	if v.Kind() != reflect.Struct {
		return false
	}
	f := v.FieldByName("needsContinue")
	return f.Kind() == reflect.Bool && f.Bool()
}

// mayRead waits until the body may be read, and reports whether it is wanted still.
func (x *exchange) mayRead() bool {
	if x.wanted == nil {
		return true
	}
	late := time.NewTimer(expectWait)
	defer late.Stop()
	select {
	case <-x.wanted:
	case <-late.C:
	case <-x.unwanted:
		return false
	}
	return true
}
