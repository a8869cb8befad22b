package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/acl"
)

const rulesVariable = "EGRESS_HTTP_PROXY_DESTINATION"

// RuleText is the text of the rules with where it comes from.
type RuleText struct {
	Source string // the variable, or the paths of the files, with commas between them
	// Texts are one list, in their order. Their lines count as in their source: rules
	// inside the configuration file have blank lines before them.
	Texts []acl.Text
}

// ruleText is a RuleText of texts.
func ruleText(texts ...acl.Text) RuleText {
	var names []string
	for _, t := range texts {
		names = append(names, t.Source)
	}
	return RuleText{Source: strings.Join(names, ", "), Texts: texts}
}

// rules finds the rules and parses them. Like every setting they come from a
// flag, else from the environment, else from the file; twice from the same place
// is refused, since one of the two would be lost.
func (l *loader) rules(fromFile, inline Setting) (RuleText, *acl.Policy) {
	rt, ok := l.findRules(fromFile, inline)
	if !ok {
		return RuleText{}, nil
	}
	policy, err := acl.ParseTexts(rt.Texts...)
	if err != nil {
		l.problems = append(l.problems, ofRules(rt.Source, err)...)
		return RuleText{}, nil
	}
	return rt, policy
}

func (l *loader) findRules(fromFile, inline Setting) (RuleText, bool) {
	if vs := l.flagValues(fromFile); len(vs) > 0 {
		return l.ruleFiles(vs)
	}
	paths, isPath := l.env[fromFile.Env]
	text, isText := l.env[fromFile.Egress]
	switch {
	case isPath && isText:
		l.report(Problem{Source: fromFile.Env, Msg: fromFile.Egress + " is set as well; keep one of them"})
		return RuleText{}, false
	case isPath:
		return l.ruleFiles(split([]value{{text: paths, source: fromFile.Env}}))
	case isText:
		return ruleText(acl.Text{Source: fromFile.Egress, Text: text}), true
	}
	files, texts := l.fileValues(fromFile), l.fileValues(inline)
	switch {
	case len(files) > 0 && len(texts) > 0:
		l.report(files[0].problem(fmt.Sprintf("%q and %q are both given; keep one of them", fromFile.FileKey, inline.FileKey)))
		return RuleText{}, false
	case len(files) > 0:
		return l.ruleFiles(files)
	case len(texts) > 0:
		// The blank lines make every line number that acl tells one of the file.
		v := texts[0]
		return ruleText(acl.Text{Source: l.path, Text: strings.Repeat("\n", v.line-1) + v.text}), true
	}
	_, wrongFiles := l.file[fromFile.FileKey]
	_, wrongText := l.file[inline.FileKey]
	if l.unread || wrongFiles || wrongText {
		return RuleText{}, false // the file may hold the rules, or does; its own problem says enough
	}
	l.report(Problem{Source: fromFile.Egress, Msg: "No " + fromFile.Egress +
		` specified: set it to the rules, one a line, or name a file of rules with --rules; to allow everything, write "*"`})
	return RuleText{}, false
}

// ruleFiles reads the files that vs name. One that is named twice is refused: the
// second time it could decide nothing.
func (l *loader) ruleFiles(vs []value) (RuleText, bool) {
	var texts []acl.Text
	all := true
	for _, v := range vs {
		path, text, ok := l.read(v)
		if slices.ContainsFunc(texts, func(t acl.Text) bool { return t.Source == path }) {
			l.report(v.problem(path + " is named twice; each file of rules is read once, in the order given"))
			ok = false
		}
		texts = append(texts, acl.Text{Source: path, Text: string(text)})
		all = all && ok
	}
	return ruleText(texts...), all
}
