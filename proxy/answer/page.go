package answer

import (
	"bytes"
	"encoding/json"
	"html"
	"strconv"
	"strings"

	"github.com/sluiceproxy/sluice/proxy/http1"
	"github.com/sluiceproxy/sluice/proxy/logline"
)

// page writes the body for a person in the form that Accept prefers.
func (o *Own) page(to To) (kind string, body []byte) {
	if o.Status == 200 {
		return "text/plain; charset=utf-8", nil
	}
	if to.Stream && isGRPC(to.Req) {
		return grpcKind, nil
	}
	p := pageData{
		Status: o.Status, Title: statusText(o.Status), Error: o.Class, Details: o.details(), Advice: o.Advice,
		ID: string(logline.ID(nil, to.ID)), Tenant: to.Tenant, Contact: to.Contact,
	}
	if to.Policy != nil {
		p.Generation, p.Policy = to.Policy.Number, to.Policy.Short()
	}
	if len(to.Req.Method) > 0 {
		p.Request = string(to.Req.Method) + " " + string(to.Req.Target)
	}
	if o.DecidedBy != "" {
		p.Title, p.Details, p.DecidedBy = "Egress denied", "", o.DecidedBy
	}
	switch preferred(to.Req.Get(http1.Accept)) {
	case "text/html":
		return "text/html; charset=utf-8", p.html()
	case "application/json":
		return "application/json", p.json()
	}
	return "text/plain; charset=utf-8", p.text()
}

// pageData is what an answer tells a person.
type pageData struct {
	Status     int    `json:"status"`
	Title      string `json:"title"`
	Error      string `json:"error,omitempty"`
	Request    string `json:"request,omitempty"`
	DecidedBy  string `json:"decided_by,omitempty"`
	Details    string `json:"details,omitempty"`
	Advice     string `json:"advice,omitempty"`
	ID         string `json:"request_id"`
	Tenant     string `json:"tenant,omitempty"`
	Contact    string `json:"contact,omitempty"`
	Generation uint64 `json:"generation,omitempty"`
	Policy     string `json:"policy,omitempty"`
}

func (p *pageData) rows() [][2]string {
	var rows [][2]string
	for _, r := range [][2]string{{"Asked for", p.Request}, {"Decided by", p.DecidedBy}, {"Because", p.Details},
		{"Advice", p.Advice}, {"Tenant", p.Tenant}, {"Whom to ask", p.Contact}, {"Policy", p.policy()}, {"Request id", p.ID}} {
		if r[1] != "" {
			rows = append(rows, r)
		}
	}
	return rows
}

// policy is what the request was judged by, as it is called.
func (p *pageData) policy() string {
	if p.Generation == 0 {
		return ""
	}
	return strings.TrimRight("generation "+strconv.FormatUint(p.Generation, 10)+", "+p.Policy, ", ")
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
