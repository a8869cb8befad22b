package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/settings"
)

const rulesVariable = "EGRESS_HTTP_PROXY_DESTINATION"

// RuleText is the text of the rules with where it comes from.
type RuleText struct {
	Source string // the variable, or the paths of the files, with commas between them
	// Texts are one list, in their order. Their lines count as in their Source.
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
// There must be some if they are required; without them there is no policy.
func rules(l *settings.Loader, fromFile, inline settings.Setting, required bool) (RuleText, *acl.Policy) {
	rt, ok := findRules(l, fromFile, inline, required)
	if !ok {
		return RuleText{}, nil
	}
	policy, err := acl.ParseTexts(rt.Texts...)
	if err != nil {
		l.Problems = append(l.Problems, ofRules(rt.Source, err)...)
		return RuleText{}, nil
	}
	return rt, policy
}

func findRules(l *settings.Loader, fromFile, inline settings.Setting, required bool) (RuleText, bool) {
	if vs := l.FlagValues(fromFile); len(vs) > 0 {
		return ruleFiles(l, vs)
	}
	before := len(l.Problems)
	switch v, ok := l.Variable(fromFile); {
	case len(l.Problems) > before:
		return RuleText{}, false
	case ok && v.Source == fromFile.Egress:
		return ruleText(acl.Text{Source: v.Source, Text: v.Text}), true
	case ok:
		return ruleFiles(l, settings.Words([]settings.Value{v}))
	}
	files, texts := l.FileValues(fromFile), l.FileValues(inline)
	switch {
	case len(files) > 0 && len(texts) > 0:
		l.Report(files[0].Problem(fmt.Sprintf("%q and %q are both given; keep one of them", fromFile.Key, inline.Key)))
		return RuleText{}, false
	case len(files) > 0:
		return ruleFiles(l, files)
	case len(texts) > 0:
		v := texts[0]
		return ruleText(acl.Text{Source: l.Path, Text: v.Text, Line: v.Line}), true
	}
	if !required || l.Unread || l.Broken(fromFile) || l.Broken(inline) {
		return RuleText{}, false // the file may hold the rules, or does; its own problem says enough
	}
	l.Report(settings.Problem{Source: fromFile.Egress, Msg: "No " + fromFile.Egress +
		` specified: set it to the rules, one a line, or name a file of rules with --rules; to allow everything, write "*"`})
	return RuleText{}, false
}

// ruleFiles reads the files that vs name. One that is named twice is refused: the
// second time it could decide nothing.
func ruleFiles(l *settings.Loader, vs []settings.Value) (RuleText, bool) {
	var texts []acl.Text
	all := true
	for _, v := range vs {
		path, text, ok := l.ReadFile(v)
		if slices.ContainsFunc(texts, func(t acl.Text) bool { return t.Source == path }) {
			l.Report(v.Problem(path + " is named twice; each file of rules is read once, in the order given"))
			ok = false
		}
		texts = append(texts, acl.Text{Source: path, Text: string(text)})
		all = all && ok
	}
	return ruleText(texts...), all
}
