package config

import (
	"fmt"
	"strings"

	"github.com/sluiceproxy/sluice/acl"
)

const rulesVariable = "EGRESS_HTTP_PROXY_DESTINATION"

// RuleText is the text of the rules with where it comes from.
type RuleText struct {
	Source string // the variable, or the file's path
	Text   string // lines count as in Source: rules inside the configuration file have blank lines before them
	Path   string // the file to watch; "" for a variable
}

// rules finds the rules and parses them. Like every setting they come from a
// flag, else from the environment, else from the file; twice from the same place
// is refused, since one of the two would be lost.
func (l *loader) rules(fromFile, inline Setting) (RuleText, *acl.Policy) {
	rt, ok := l.ruleText(fromFile, inline)
	if !ok {
		return RuleText{}, nil
	}
	policy, err := acl.ParseNamed(rt.Source, rt.Text)
	if err != nil {
		l.problems = append(l.problems, ofRules(rt.Source, err)...)
		return RuleText{}, nil
	}
	return rt, policy
}

func (l *loader) ruleText(fromFile, inline Setting) (RuleText, bool) {
	if vs := l.flagValues(fromFile); len(vs) > 0 {
		return l.ruleFile(vs[0])
	}
	path, isPath := l.env[fromFile.Env]
	text, isText := l.env[fromFile.Egress]
	switch {
	case isPath && isText:
		l.report(Problem{Source: fromFile.Env, Msg: fromFile.Egress + " is set as well; keep one of them"})
		return RuleText{}, false
	case isPath:
		return l.ruleFile(value{text: path, source: fromFile.Env})
	case isText:
		return RuleText{Source: fromFile.Egress, Text: text}, true
	}
	files, texts := l.fileValues(fromFile), l.fileValues(inline)
	switch {
	case len(files) > 0 && len(texts) > 0:
		l.report(files[0].problem(fmt.Sprintf("%q and %q are both given; keep one of them", fromFile.FileKey, inline.FileKey)))
		return RuleText{}, false
	case len(files) > 0:
		return l.ruleFile(files[0])
	case len(texts) > 0:
		// The blank lines make every line number that acl tells one of the file.
		v := texts[0]
		return RuleText{Source: l.path, Text: strings.Repeat("\n", v.line-1) + v.text, Path: l.path}, true
	}
	if l.unread {
		return RuleText{}, false // the file may hold the rules; its own problem says enough
	}
	l.report(Problem{Source: fromFile.Egress, Msg: "No " + fromFile.Egress +
		` specified: set it to the rules, one a line, or name a file of rules with --rules; to allow everything, write "*"`})
	return RuleText{}, false
}

func (l *loader) ruleFile(v value) (RuleText, bool) {
	path, text, ok := l.read(v)
	return RuleText{Source: path, Text: string(text), Path: path}, ok
}
