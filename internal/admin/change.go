package admin

import (
	"fmt"
	"html"
	"strings"
	"time"
)

// Change is what a reload has changed of what requests are judged by.
type Change struct {
	Generation uint64 // that came in force by it
	At         time.Time
	Tenants    []TenantChange // those whose rules are others now
	Other      Lines          // what is judged by otherwise besides rules: clients, sources, request rules
}

// TenantChange is what has changed of one tenant.
type TenantChange struct {
	Tenant         string // "" where there are none
	Added, Removed Lines  // rules
	Opened, Closed Lines  // targets, each for all that are decided alike
	Tunnels        Lines  // targets of tunnels that have to carry something else
	Note           string // what is not known of that; "": all is
}

// Lines are how many lines there are, and the first of them.
type Lines struct {
	Count int
	First []string
}

// Add adds a line; the text of no more than most is kept.
func (l *Lines) Add(line string, most int) {
	if l.Count++; l.Count <= most {
		l.First = append(l.First, line)
	}
}

// pageChange is what the last reload has changed; nothing if it is nil.
func pageChange(c *Change) string {
	if c == nil {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "<h2>The last change of the policy</h2>\n<p>Generation %d, %s</p>\n", c.Generation, c.At.UTC().Format("2006-01-02 15:04:05Z"))
	for _, t := range c.Tenants {
		fmt.Fprintf(&b, "<p>Rules%s: %d added, %d removed. Decided otherwise: %d opened, %d closed.%s", html.EscapeString(of(t.Tenant)),
			t.Added.Count, t.Removed.Count, t.Opened.Count, t.Closed.Count, tunnelText(t.Tunnels.Count))
		if t.Note != "" {
			b.WriteString(" " + html.EscapeString(t.Note) + ".")
		}
		b.WriteString("</p>\n<pre>")
		t.Added.write(&b, "+ ")
		t.Removed.write(&b, "- ")
		t.Opened.write(&b, "opened  ")
		t.Closed.write(&b, "closed  ")
		t.Tunnels.write(&b, "tunnel  ")
		b.WriteString("</pre>\n")
	}
	if c.Other.Count > 0 {
		fmt.Fprintf(&b, "<p>Judged by otherwise besides rules: %d.</p>\n<pre>", c.Other.Count)
		c.Other.write(&b, "")
		b.WriteString("</pre>\n")
	}
	return b.String()
}

func tunnelText(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" Tunnels have to carry something else: %d.", n)
}

func (l *Lines) write(b *strings.Builder, before string) {
	for _, line := range l.First {
		b.WriteString(html.EscapeString(before+line) + "\n")
	}
	if more := l.Count - len(l.First); more > 0 {
		fmt.Fprintf(b, "%sand %d more\n", before, more)
	}
}
