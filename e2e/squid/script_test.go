//go:build linux

package squid

import (
	"fmt"
	"regexp"
	"strings"
)

// What the script of the egress router (openshift/images,
// egress/http-proxy/egress-http-proxy.sh) does with a text of rules, written
// anew from its description. The expressions are the script's, anchored as it
// uses them, in the C locale that a container without LANG has.
var (
	scriptAddress = regexp.MustCompile(`\A[[:xdigit:].:]*[.:][[:xdigit:].:]+(/[[:digit:]]+)?\z`)
	scriptName    = regexp.MustCompile(`\A[[:alnum:]][[:alnum:].-]+\z`)
	scriptDomain  = regexp.MustCompile(`\A\*\.[[:alnum:]][[:alnum:].-]+\z`)
	// Bash reads the \w that stands in the script as a plain w.
	scriptSkipped = regexp.MustCompile(`\Aw*\z|\A#`)
)

// A squidRule is one rule as the script hands it to squid.
type squidRule struct {
	deny bool
	kind string // of the ACL: "dst" or "dstdomain"
	arg  string
}

// translate reads a text as the script does: the rules, and whether everything
// else is allowed. The error is what the script dies of.
func translate(text string) (rules []squidRule, star bool, err error) {
	if text == "" {
		return nil, false, fmt.Errorf("No EGRESS_HTTP_PROXY_DESTINATION specified")
	}
	for _, dest := range bashRead(text + "\n") {
		if scriptSkipped.MatchString(dest) {
			continue
		}
		if dest == "*" {
			star = true
			continue
		}
		if star {
			return nil, false, fmt.Errorf("Wildcard must be last rule, if present")
		}
		var r squidRule
		dest, r.deny = strings.CutPrefix(dest, "!")
		switch {
		case scriptAddress.MatchString(dest):
			r.kind, r.arg = "dst", dest
		case scriptDomain.MatchString(dest):
			r.kind, r.arg = "dstdomain", dest[1:]
		case scriptName.MatchString(dest):
			r.kind, r.arg = "dstdomain", dest
		default:
			return nil, false, fmt.Errorf("Bad destination '%s'", dest)
		}
		rules = append(rules, r)
	}
	return rules, star, nil
}

// bashRead are the lines of text as `while read dest` sees them, without -r: a
// back-slash takes the meaning from what follows, and joins lines; white space
// around a line goes unless a back-slash stands in front. What is not ended by a
// line feed is not seen at all.
func bashRead(text string) (lines []string) {
	var line []byte
	keep := 0 // as far as trailing white space is not taken away
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\':
			if i++; i < len(text) && text[i] != '\n' {
				line = append(line, text[i])
				keep = len(line)
			}
		case c == '\n':
			end := len(line)
			for end > keep && isBlank(line[end-1]) {
				end--
			}
			lines = append(lines, string(line[:end]))
			line, keep = line[:0], 0
		case isBlank(c) && len(line) == 0:
		default:
			line = append(line, c)
		}
	}
	return lines
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// accessLines are the lines of squid.conf for the rules. With on, the name of an
// http_port, they hold for requests that came there and for no others: squid
// tries the ACLs of a line from left to right and stops at the first that does
// not match, so a line of another port costs no look-up, and each port has its
// own first match and its own last line.
func accessLines(on string, rules []squidRule, star bool) string {
	var b strings.Builder
	guard, all := "", " all"
	if on != "" {
		fmt.Fprintf(&b, "acl on_%s myportname %s\n", on, on)
		guard, all = " on_"+on, " on_"+on
	}
	for i, r := range rules {
		name := fmt.Sprintf("%sdest%d", on, i+1)
		fmt.Fprintf(&b, "acl %s %s %s\nhttp_access %s%s %s\n", name, r.kind, r.arg, verb(!r.deny), guard, name)
	}
	fmt.Fprintf(&b, "http_access %s%s\n", verb(star), all)
	return b.String()
}

func verb(allow bool) string {
	if allow {
		return "allow"
	}
	return "deny"
}
