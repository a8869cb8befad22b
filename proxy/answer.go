package proxy

import (
	"bytes"
	"encoding/json"
	"html"
	"strconv"
	"strings"
	"time"

	"github.com/sluiceproxy/sluice/proxy/http1"
)

// maxPhrase bounds a reason phrase: some clients read a status line into a small
// buffer.
const maxPhrase = 200

// answer writes x.ask to the client, and reports whether the connection can carry
// another request. It cannot when the client may still be sending a body.
func (x *exchange) answer() (keep bool) {
	a := &x.ask
	if a.details == "" {
		a.details = a.phrase
	}
	if a.phrase == "" {
		if a.phrase = statusText(a.status); a.details != "" {
			a.phrase += ": " + a.details
		}
	}
	x.c.revive()
	whole := x.skipBody() && !a.close
	keep = whole && x.req.KeepAlive && !x.c.srv.draining.Load()
	x.rec.Status, x.rec.Error = a.status, a.class
	kind, body := x.page()
	x.out = x.appendAnswerHead(x.out[:0], kind, len(body), keep)
	if string(x.req.Method) != "HEAD" {
		x.out = append(x.out, body...)
		x.rec.Sent = int64(len(body))
	}
	x.c.touch()
	x.rec.FirstByte = time.Since(x.rec.Start)
	if _, err := x.c.tcp.Write(x.out); err != nil {
		return false
	}
	if !keep {
		x.c.lastAnswer()
	}
	return keep
}

// skipBody passes over the body of a request that is not forwarded. It does so
// only for a body that is all there: waiting for the rest would let a client send
// gigabytes for nothing.
func (x *exchange) skipBody() bool {
	c := x.c
	if x.body != nil {
		return x.body.stop(x) // it was forwarded, or part of it
	}
	switch x.req.Framing {
	case http1.NoBody:
		return true
	case http1.Length:
		if x.req.Length > int64(len(c.buffered())) {
			return false
		}
		c.r += int(x.req.Length)
		return true
	}
	return false
}

func (x *exchange) appendAnswerHead(b []byte, kind string, length int, keep bool) []byte {
	a := &x.ask
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(a.status), 10)
	b = append(b, ' ')
	b = appendPrintable(b, a.phrase, maxPhrase)
	b = append(b, "\r\nDate: "...)
	b = time.Now().UTC().AppendFormat(b, "Mon, 02 Jan 2006 15:04:05 GMT")
	if a.class != "" {
		b = append(b, "\r\nProxy-Status: sluice; error="...)
		b = append(b, a.class...)
		b = append(b, `; details="`...)
		b = appendStructuredString(b, a.details)
		b = append(b, '"')
	}
	if a.allow {
		b = append(b, "\r\nAllow: CONNECT, GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE"...)
	}
	b = append(b, "\r\nX-Request-Id: "...)
	b = appendID(b, x.rec.ID)
	b = append(b, "\r\nContent-Type: "...)
	b = append(b, kind...)
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(length), 10)
	b = append(b, "\r\nCache-Control: no-store\r\nVary: Accept\r\nX-Content-Type-Options: nosniff\r\nConnection: "...)
	if keep {
		b = append(b, "keep-alive\r\n\r\n"...)
	} else {
		b = append(b, "close\r\n\r\n"...)
	}
	return b
}

// appendPrintable appends at most n bytes of s; what is not printable ASCII
// becomes '?'.
func appendPrintable(b []byte, s string, n int) []byte {
	for i := 0; i < min(len(s), n); i++ {
		c := s[i]
		if c < ' ' || c > '~' {
			c = '?'
		}
		b = append(b, c)
	}
	return b
}

// appendStructuredString appends the inside of an sf-string (RFC 8941 section
// 3.3.3).
func appendStructuredString(b []byte, s string) []byte {
	for i := 0; i < min(len(s), 4*maxPhrase); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c > '~':
			b = append(b, '?')
		default:
			b = append(b, c)
		}
	}
	return b
}

// page writes the body for a person in the form that Accept prefers.
func (x *exchange) page() (kind string, body []byte) {
	a := &x.ask
	if a.status == 200 {
		return "text/plain; charset=utf-8", nil
	}
	p := pageData{
		Status: a.status, Title: statusText(a.status), Error: a.class, Details: a.details, Advice: a.advice,
		ID: string(appendID(nil, x.rec.ID)), Contact: x.tenant().Contact,
	}
	if len(x.req.Method) > 0 {
		p.Request = string(x.req.Method) + " " + string(x.req.Target)
	}
	if x.rec.denied() && a.status == 403 {
		p.Title, p.Details, p.DecidedBy = "Egress denied", "", x.decidedBy()
	}
	switch preferred(x.req.Get(http1.Accept)) {
	case "text/html":
		return "text/html; charset=utf-8", p.html()
	case "application/json":
		return "application/json", p.json()
	}
	return "text/plain; charset=utf-8", p.text()
}

// pageData is what an answer tells a person.
type pageData struct {
	Status    int    `json:"status"`
	Title     string `json:"title"`
	Error     string `json:"error,omitempty"`
	Request   string `json:"request,omitempty"`
	DecidedBy string `json:"decided_by,omitempty"`
	Details   string `json:"details,omitempty"`
	Advice    string `json:"advice,omitempty"`
	ID        string `json:"request_id"`
	Contact   string `json:"contact,omitempty"`
}

func (p *pageData) rows() [][2]string {
	var rows [][2]string
	for _, r := range [][2]string{{"Asked for", p.Request}, {"Decided by", p.DecidedBy}, {"Because", p.Details},
		{"Advice", p.Advice}, {"Whom to ask", p.Contact}, {"Request id", p.ID}} {
		if r[1] != "" {
			rows = append(rows, r)
		}
	}
	return rows
}

func (p *pageData) text() []byte {
	var b bytes.Buffer
	b.WriteString("sluice: " + strconv.Itoa(p.Status) + " " + p.Title + "\n\n")
	for _, r := range p.rows() {
		b.WriteString(r[0] + ":" + strings.Repeat(" ", 13-len(r[0])) + r[1] + "\n")
	}
	return b.Bytes()
}

func (p *pageData) html() []byte {
	var b bytes.Buffer
	title := strconv.Itoa(p.Status) + " " + html.EscapeString(p.Title)
	b.WriteString("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>" + title + "</title></head>\n<body><h1>" + title + "</h1>\n<dl>\n")
	for _, r := range p.rows() {
		b.WriteString("<dt>" + r[0] + "</dt><dd>" + html.EscapeString(r[1]) + "</dd>\n")
	}
	b.WriteString("</dl>\n<p>sluice egress proxy</p></body></html>\n")
	return b.Bytes()
}

func (p *pageData) json() []byte {
	b, err := json.Marshal(p)
	if err != nil {
		return p.text() // strings and a number: it cannot fail
	}
	return append(b, '\n')
}

// preferred returns which of the three kinds of page Accept likes best (RFC 9110
// section 12.5.1); "" when it has no preference among them.
func preferred(accept []byte) string {
	best, bestQ := "", 0.0
	for _, item := range strings.Split(string(accept), ",") {
		kind, params, _ := strings.Cut(item, ";")
		kind = strings.ToLower(strings.TrimSpace(kind))
		if kind != "text/html" && kind != "application/json" && kind != "text/plain" {
			continue
		}
		q := 1.0
		for _, param := range strings.Split(params, ";") {
			if v, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(param)), "q="); ok {
				q, _ = strconv.ParseFloat(v, 64)
			}
		}
		if q > bestQ {
			best, bestQ = kind, q
		}
	}
	return best
}
