package admin

import (
	"fmt"
	"html"
	"io"
	"strings"
	"time"
)

// writePage writes the status page. It does without html/template, whose reflection
// keeps the linker from leaving out what nobody calls: a quarter of the program, and
// so of its memory at rest. All that it fills in stands between tags, where
// html.EscapeString is enough.
func writePage(w io.Writer, st Status) error {
	text := html.EscapeString
	at := func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }
	var b strings.Builder
	b.WriteString(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>sluice</title>
<style>body{font:15px/1.5 sans-serif;margin:2em;max-width:60em}dt{font-weight:bold}pre{background:#f4f4f4;padding:1em}td,th{text-align:left;vertical-align:top;padding-right:1em}.bad{color:#b00020}</style></head>
`)
	fmt.Fprintf(&b, "<body><h1>sluice %s</h1>\n", text(st.Version))
	if st.Problem != "" {
		fmt.Fprintf(&b, "<p class=\"bad\">The last reload was refused; the rules below stay in force.</p><pre class=\"bad\">%s</pre>\n", text(st.Problem))
	}
	fmt.Fprintf(&b, "<dl><dt>Listens on</dt><dd>%s</dd>\n", text(strings.Join(st.Listen, " ")))
	fmt.Fprintf(&b, "<dt>Source address</dt><dd>%s</dd>\n", text(st.Source))
	fmt.Fprintf(&b, "<dt>Guard</dt><dd>%s</dd>\n", text(st.Guard))
	if st.Directory != "" {
		fmt.Fprintf(&b, "<dt>Directory of pods</dt><dd>%s</dd>\n", text(st.Directory))
	}
	fmt.Fprintf(&b, "<dt>Up since</dt><dd>%s</dd>\n", at(st.Started))
	fmt.Fprintf(&b, "<dt>Rules</dt><dd>%d from %s, loaded %s</dd></dl>\n", len(st.Rules), text(st.Origin), at(st.Loaded))
	if st.Learning {
		b.WriteString("<p class=\"bad\">Learning: what no rule denies is allowed, and recorded in the access log.</p>\n")
	}
	if st.Policy != "" {
		fmt.Fprintf(&b, "<p>Policy: %s</p>\n", text(st.Policy))
	}
	b.WriteString(pageRules(st.Rules, st.Learning))
	b.WriteString(pageChange(st.Change))
	b.WriteString(pageInspected(st.Inspected))
	b.WriteString(pageParents(st.Parents))
	b.WriteString(pageShadows(st.Shadows))
	b.WriteString(pageTenants(st.Tenants))
	b.WriteString(`<p><a href="/metrics">metrics</a> <a href="/healthz">health</a> <a href="/readyz">readiness</a></p>
</body></html>
`)
	_, err := io.WriteString(w, b.String())
	return err
}

// pageRules is the rules, line by line.
func pageRules(rules []Rule, learning bool) string {
	var b strings.Builder
	b.WriteString("<pre>")
	file := ""
	for _, r := range rules {
		if r.File != file {
			file = r.File
			fmt.Fprintf(&b, "%s:\n", html.EscapeString(file))
		}
		fmt.Fprintf(&b, "%4d  %s\n", r.Line, html.EscapeString(r.Text))
	}
	if len(rules) == 0 && !learning {
		b.WriteString("no rule: everything is denied\n")
	}
	b.WriteString("</pre>\n")
	return b.String()
}

// pageInspected is a row for each inspected host; nothing if there are none.
func pageInspected(hosts []Inspected) string {
	if len(hosts) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("<h2>Inspected hosts</h2>\n<table><tr><th>Host</th><th>Request rules</th><th>Sets</th><th>Tunnels</th></tr>\n")
	for _, h := range hosts {
		rules, tunnels := strings.Join(h.Rules, "\n"), "denied: there is no CA"
		switch {
		case h.Passed:
			tunnels = "passed through"
		case h.Opened:
			tunnels = "opened"
		}
		if len(h.Rules) == 0 && !h.Passed {
			rules = "no request is allowed"
		}
		fmt.Fprintf(&b, "<tr><td>%s</td><td><pre>%s</pre></td><td>%s</td><td>%s</td></tr>\n", html.EscapeString(h.Host+of(h.Tenant)),
			html.EscapeString(rules), html.EscapeString(strings.Join(h.Headers, ", ")), tunnels)
	}
	b.WriteString("</table>\n")
	return b.String()
}

// pageParents is a row for each entry of parents; nothing if there are none.
func pageParents(parents []Parents) string {
	if len(parents) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("<h2>Parents</h2>\n<table><tr><th>For</th><th>Via</th><th>Asked by</th></tr>\n")
	for _, p := range parents {
		by := "address"
		if p.ByName {
			by = "name: no address is judged"
		}
		fmt.Fprintf(&b, "<tr><td>%s</td><td><pre>%s</pre></td><td>%s</td></tr>\n", html.EscapeString(p.For+of(p.Tenant)),
			html.EscapeString(strings.Join(p.Via, "\n")), by)
	}
	b.WriteString("</table>\n")
	return b.String()
}

// pageShadows is what shadow rules would change; nothing if there are none.
func pageShadows(shadows []Shadow) string {
	var b strings.Builder
	for _, s := range shadows {
		b.WriteString("<h2>Shadow rules" + html.EscapeString(of(s.Tenant)) + "</h2>\n")
		fmt.Fprintf(&b, "<p>%d rules, which change nothing. Requests that they would decide otherwise:</p>\n", s.Rules)
		b.WriteString("<table><tr><th>Line</th><th>Would deny</th><th>Would allow</th></tr>\n")
		for _, l := range s.Lines {
			at := "no rule"
			if l.Line > 0 {
				at = strings.TrimLeft(fmt.Sprintf("%s %d  %s", l.File, l.Line, l.Text), " ")
			}
			fmt.Fprintf(&b, "<tr><td>%s</td><td>%d</td><td>%d</td></tr>\n", html.EscapeString(at), l.WouldDeny, l.WouldAllow)
		}
		b.WriteString("</table>\n")
	}
	return b.String()
}

// pageTenants is a row for each tenant; nothing if there are none.
func pageTenants(tenants []Tenant) string {
	if len(tenants) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("<h2>Tenants</h2>\n<table><tr><th>Name</th><th>Clients</th><th>Source address</th><th>Guard</th><th>Rules</th><th>Under way</th></tr>\n")
	for _, t := range tenants {
		b.WriteString("<tr>")
		for _, cell := range []string{t.Name, t.Clients, t.Source, t.Guard, fmt.Sprintf("%d from %s", t.Rules, t.Origin), fmt.Sprint(t.Open)} {
			b.WriteString("<td>" + html.EscapeString(cell) + "</td>")
		}
		b.WriteString("</tr>\n")
	}
	b.WriteString("</table>\n")
	return b.String()
}

// of says whose something is.
func of(tenant string) string {
	if tenant == "" {
		return ""
	}
	return " of " + tenant
}
