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
<style>body{font:15px/1.5 sans-serif;margin:2em;max-width:60em}dt{font-weight:bold}pre{background:#f4f4f4;padding:1em}.bad{color:#b00020}</style></head>
`)
	fmt.Fprintf(&b, "<body><h1>sluice %s</h1>\n", text(st.Version))
	if st.Problem != "" {
		fmt.Fprintf(&b, "<p class=\"bad\">The last reload was refused; the rules below stay in force.</p><pre class=\"bad\">%s</pre>\n", text(st.Problem))
	}
	fmt.Fprintf(&b, "<dl><dt>Listens on</dt><dd>%s</dd>\n", text(strings.Join(st.Listen, " ")))
	fmt.Fprintf(&b, "<dt>Source address</dt><dd>%s</dd>\n", text(st.Source))
	fmt.Fprintf(&b, "<dt>Guard</dt><dd>%s</dd>\n", text(st.Guard))
	fmt.Fprintf(&b, "<dt>Up since</dt><dd>%s</dd>\n", at(st.Started))
	fmt.Fprintf(&b, "<dt>Rules</dt><dd>%d from %s, loaded %s</dd></dl>\n<pre>", len(st.Rules), text(st.Origin), at(st.Loaded))
	file := ""
	for _, r := range st.Rules {
		if r.File != file {
			file = r.File
			fmt.Fprintf(&b, "%s:\n", text(file))
		}
		fmt.Fprintf(&b, "%4d  %s\n", r.Line, text(r.Text))
	}
	if len(st.Rules) == 0 {
		b.WriteString("no rule: everything is denied\n")
	}
	b.WriteString(`</pre>
<p><a href="/metrics">metrics</a> <a href="/healthz">health</a> <a href="/readyz">readiness</a></p>
</body></html>
`)
	_, err := io.WriteString(w, b.String())
	return err
}
