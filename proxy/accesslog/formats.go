package accesslog

import (
	"strconv"

	"github.com/sluiceproxy/sluice/metrics"
	"github.com/sluiceproxy/sluice/proxy/logline"
)

// JSON is one JSON object a line.
func JSON(b []byte, r *Request) []byte {
	b = append(b, `{"time":"`...)
	b = logline.Time(b, r.Start, 6)
	b = append(b, `","id":"`...)
	b = logline.ID(b, r.ID)
	b = logline.AddrPort(append(b, `","client":`...), r.Client)
	b = appendText(b, `,"tenant":`, r.Tenant)
	b = appendText(b, `,"user":`, r.Who.User())
	b = appendText(b, `,"namespace":`, r.Who.Pod.Namespace)
	b = appendText(b, `,"pod":`, r.Who.Pod.Name)
	b = logline.String(append(b, `,"method":`...), r.get(r.method))
	b = logline.String(append(b, `,"target":`...), r.get(r.target))
	if r.Mode == metrics.SOCKS {
		b = append(b, `,"protocol":"socks5"`...)
	}
	b = append(b, `,"verdict":"`...)
	switch {
	case !r.Judged:
		b = append(b, `none"`...)
	case r.Denied():
		b = append(b, `deny"`...)
	default:
		b = append(b, `allow"`...)
	}
	if r.Judged {
		b = append(b, `,"reason":`...)
		var room [320]byte
		d := r.decision()
		b = logline.String(b, d.AppendReason(room[:0]))
		b = appendText(b, `,"file":`, d.Source)
		b = appendInt(b, `,"line":`, int64(d.Line))
	}
	if r.Inspected {
		b = logline.String(append(b, `,"request":`...), r.Request.Verdict.String())
		b = logline.String(append(b, `,"request_reason":`...), r.Request.String())
		if r.Request.Line > 0 {
			b = appendInt(b, `,"request_line":`, int64(r.Request.Line))
		}
	}
	b = r.appendPolicy(b)
	if s := &r.Shadow; s.Differs {
		b = logline.String(append(b, `,"shadow":`...), s.Verdict.String())
		b = appendText(b, `,"shadow_file":`, s.Source)
		b = appendInt(b, `,"shadow_line":`, int64(s.Line))
	}
	b = r.appendServer(b)
	b = appendInt(b, `,"status":`, int64(r.Status))
	b = appendInt(b, `,"received":`, r.Received)
	b = appendInt(b, `,"sent":`, r.Sent)
	b = logline.Millis(append(b, `,"resolve_ms":`...), r.Resolve)
	b = logline.Millis(append(b, `,"connect_ms":`...), r.Connect)
	b = logline.Millis(append(b, `,"first_byte_ms":`...), r.FirstByte)
	b = logline.Millis(append(b, `,"total_ms":`...), r.Total)
	b = appendText(b, `,"error":`, r.Error)
	if r.Check > metrics.CheckPassed {
		b = appendText(b, `,"check":`, r.Check.String())
	}
	b = appendText(b, `,"details":`, r.Details)
	b = r.appendRevoked(b)
	return append(b, "}\n"...)
}

// Squid is squid's native format, as the replaced image wrote it:
// time, elapsed ms, client, result/status, bytes, method, URL, user,
// hierarchy/address, content type.
func Squid(b []byte, r *Request) []byte {
	end := r.Start.Add(r.Total)
	b = strconv.AppendInt(b, end.Unix(), 10)
	b = append(b, '.')
	b = logline.Padded(b, end.Nanosecond()/1e6, 3)
	b = append(b, ' ')
	ms := strconv.AppendInt(nil, r.Total.Milliseconds(), 10)
	for n := len(ms); n < 6; n++ {
		b = append(b, ' ')
	}
	b = append(b, ms...)
	b = append(b, ' ')
	b = r.Client.Addr().AppendTo(b)
	b = append(b, ' ')
	switch {
	case r.Denied():
		b = append(b, "TCP_DENIED/"...)
	case !r.Judged:
		b = append(b, "NONE/"...)
	case r.Tunnel:
		b = append(b, "TCP_TUNNEL/"...)
	default:
		b = append(b, "TCP_MISS/"...)
	}
	b = logline.Padded(b, r.Status, 3)
	b = append(b, ' ')
	b = strconv.AppendInt(b, r.Sent, 10)
	b = append(b, ' ')
	b = appendWord(b, r.get(r.method))
	b = append(b, ' ')
	b = appendWord(b, r.get(r.target))
	b = append(b, ' ')
	b = appendWord(b, []byte(r.Who.User()))
	b = append(b, ' ')
	switch {
	case r.Parent != nil && r.Source.IsValid():
		b = append(b, "FIRSTUP_PARENT/"...)
		b = appendWord(b, []byte(r.Parent.Host.String()))
	case r.Addr.IsValid():
		b = append(b, "HIER_DIRECT/"...)
		b = r.Addr.Addr().AppendTo(b)
	default:
		b = append(b, "HIER_NONE/-"...)
	}
	b = append(b, ' ')
	b = appendWord(b, firstWord(r.get(r.contentType)))
	return append(b, '\n')
}

const hexDigits = "0123456789abcdef"

// firstWord cuts the parameters off a media type.
func firstWord(s []byte) []byte {
	for i, c := range s {
		if c == ';' || c == ' ' {
			return s[:i]
		}
	}
	return s
}

// appendWord appends s without anything that would end a word or a line, "-" for
// nothing.
func appendWord(b, s []byte) []byte {
	if len(s) == 0 {
		return append(b, '-')
	}
	for _, c := range s {
		if c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			b = append(b, '%', "0123456789ABCDEF"[c>>4], "0123456789ABCDEF"[c&15])
			continue
		}
		b = append(b, c)
	}
	return b
}

// Combined is the combined log format of Apache httpd.
func Combined(b []byte, r *Request) []byte {
	b = r.Client.Addr().AppendTo(b)
	b = append(b, " - "...)
	b = appendWord(b, []byte(r.Who.User()))
	b = append(b, " ["...)
	b = r.Start.AppendFormat(b, "02/Jan/2006:15:04:05 -0700")
	b = append(b, `] "`...)
	b = appendWord(b, r.get(r.method))
	b = append(b, ' ')
	b = appendWord(b, r.get(r.target))
	b = append(b, " HTTP/1."...)
	b = strconv.AppendInt(b, int64(r.Minor), 10)
	b = append(b, `" `...)
	b = strconv.AppendInt(b, int64(r.Status), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, r.Sent, 10)
	b = append(b, ' ')
	b = appendQuoted(b, r.get(r.referer))
	b = append(b, ' ')
	b = appendQuoted(b, r.get(r.userAgent))
	return append(b, '\n')
}

// appendQuoted quotes s as Apache does: control bytes, quotes and back-slashes
// escaped, "-" for nothing.
func appendQuoted(b, s []byte) []byte {
	if len(s) == 0 {
		return append(b, `"-"`...)
	}
	b = append(b, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c >= 0x7f:
			b = append(b, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
