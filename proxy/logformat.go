package proxy

import (
	"strconv"

	"github.com/sluiceproxy/sluice/proxy/logline"
)

// appendJSON is the format "json": one object a line.
func appendJSON(b []byte, r *Record) []byte {
	b = append(b, `{"time":"`...)
	b = logline.Time(b, r.Start, 6)
	b = append(b, `","id":"`...)
	b = appendID(b, r.ID)
	b = append(b, `","client":`...)
	b = logline.AddrPort(b, r.Client)
	b = append(b, `,"method":`...)
	b = logline.String(b, r.get(r.method))
	b = append(b, `,"target":`...)
	b = logline.String(b, r.get(r.target))
	b = append(b, `,"verdict":"`...)
	switch {
	case !r.Judged:
		b = append(b, `none"`...)
	case r.denied():
		b = append(b, `deny"`...)
	default:
		b = append(b, `allow"`...)
	}
	if r.Judged {
		b = append(b, `,"reason":`...)
		var room [320]byte
		b = logline.String(b, r.Decision.AppendReason(room[:0]))
		if r.Decision.Source != "" {
			b = append(b, `,"file":`...)
			b = logline.String(b, r.Decision.Source)
		}
		b = append(b, `,"line":`...)
		b = strconv.AppendInt(b, int64(r.Decision.Line), 10)
	}
	if r.Addr.IsValid() {
		b = append(b, `,"address":`...)
		b = logline.AddrPort(b, r.Addr)
		b = append(b, `,"source":`...)
		b = logline.Addr(b, r.Source)
	}
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(r.Status), 10)
	b = append(b, `,"received":`...)
	b = strconv.AppendInt(b, r.Received, 10)
	b = append(b, `,"sent":`...)
	b = strconv.AppendInt(b, r.Sent, 10)
	b = logline.Millis(append(b, `,"resolve_ms":`...), r.Resolve)
	b = logline.Millis(append(b, `,"connect_ms":`...), r.Connect)
	b = logline.Millis(append(b, `,"first_byte_ms":`...), r.FirstByte)
	b = logline.Millis(append(b, `,"total_ms":`...), r.Total)
	if r.Error != "" {
		b = append(b, `,"error":"`...)
		b = append(b, r.Error...)
		b = append(b, '"')
	}
	if r.Details != "" {
		b = logline.String(append(b, `,"details":`...), r.Details)
	}
	return append(b, "}\n"...)
}

// appendSquid is squid's native format, as the replaced image wrote it:
// time, elapsed ms, client, result/status, bytes, method, URL, user,
// hierarchy/address, content type.
func appendSquid(b []byte, r *Record) []byte {
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
	case r.denied():
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
	b = append(b, " - "...)
	if r.Addr.IsValid() {
		b = append(b, "HIER_DIRECT/"...)
		b = r.Addr.Addr().AppendTo(b)
	} else {
		b = append(b, "HIER_NONE/-"...)
	}
	b = append(b, ' ')
	b = appendWord(b, firstWord(r.get(r.contentType)))
	return append(b, '\n')
}

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

// appendCombined is the combined log format of Apache httpd.
func appendCombined(b []byte, r *Record) []byte {
	b = r.Client.Addr().AppendTo(b)
	b = append(b, " - - ["...)
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
