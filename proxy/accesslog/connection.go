package accesslog

import (
	"strconv"

	"github.com/sluiceproxy/sluice/proxy/logline"
)

// ConnectionJSON is the one format of connections: one JSON object a line.
func ConnectionJSON(b []byte, r *Connection) []byte {
	b = append(b, `{"time":"`...)
	b = logline.Time(b, r.Start, 3)
	b = append(b, '"')
	b = logline.String(append(b, `,"listener":`...), r.Listener)
	b = appendText(b, `,"name":`, r.Name)
	b = logline.AddrPort(append(b, `,"client":`...), r.Client)
	if r.Peer != r.Client {
		b = logline.AddrPort(append(b, `,"peer":`...), r.Peer)
	}
	b = appendText(b, `,"server_name":`, r.ServerName)
	b = appendText(b, `,"destination":`, r.Destination)
	b = r.appendPolicy(b)
	b = r.appendServer(b)
	b = appendInt(b, `,"attempts":`, int64(r.Attempts))
	b = logline.Millis(append(b, `,"connect_ms":`...), r.Connect)
	b = logline.Millis(append(b, `,"total_ms":`...), r.Total)
	b = appendInt(b, `,"received":`, r.Received)
	b = appendInt(b, `,"sent":`, r.Sent)
	b = logline.String(append(b, `,"end":`...), r.End)
	b = appendText(b, `,"refused":`, r.Refused)
	b = appendText(b, `,"error":`, r.Error)
	b = r.appendRevoked(b)
	return append(b, "}\n"...)
}

// appendServer appends what JSON lines say of the server, if there was one.
func (r *Common) appendServer(b []byte) []byte {
	if r.Addr.Addr().IsValid() {
		b = logline.AddrPort(append(b, `,"address":`...), r.Addr)
	}
	if r.Source.IsValid() {
		b = logline.Addr(append(b, `,"source":`...), r.Source)
	}
	if r.Parent != nil {
		b = appendText(b, `,"parent":`, r.Parent.URL)
	}
	return b
}

// appendPolicy appends what JSON lines say of what a request was judged by.
func (r *Common) appendPolicy(b []byte) []byte {
	if r.Policy == nil {
		return b
	}
	b = strconv.AppendUint(append(b, `,"generation":`...), r.Policy.Number, 10)
	return appendText(b, `,"policy":`, r.Policy.Short())
}

// appendRevoked appends what JSON lines say of what was revoked.
func (r *Common) appendRevoked(b []byte) []byte {
	why := r.Revoked
	if why == nil {
		return b
	}
	b = logline.String(append(b, `,"revoked":`...), why.Reason())
	b = appendText(b, `,"revoked_file":`, why.Decision.Source)
	if why.Decision.Line > 0 {
		b = appendInt(b, `,"revoked_line":`, int64(why.Decision.Line))
	}
	if why.By == nil {
		return b
	}
	b = strconv.AppendUint(append(b, `,"revoked_generation":`...), why.By.Number, 10)
	return appendText(b, `,"revoked_policy":`, why.By.Short())
}

func appendInt(b []byte, key string, n int64) []byte {
	return strconv.AppendInt(append(b, key...), n, 10)
}

// appendText appends key and s, unless s is "".
func appendText(b []byte, key, s string) []byte {
	if s == "" {
		return b
	}
	return logline.String(append(b, key...), s)
}
