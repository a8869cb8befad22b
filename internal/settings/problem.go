package settings

import (
	"strconv"
	"strings"
)

// Problem is one thing that is wrong, or doubtful, with one setting.
type Problem struct {
	Source string // the flag ("--listen"), the variable, or the file's path
	Line   int    // in the file or the variable, from 1; 0 when it has but one line
	Msg    string // what is wrong, and how to mend it
}

// Error reads "SOURCE:LINE: what is wrong".
func (p Problem) Error() string {
	at := p.Source
	if p.Line > 0 {
		at += ":" + strconv.Itoa(p.Line)
	}
	return at + ": " + p.Msg
}

// Problems is everything that is wrong with a configuration.
type Problems []Problem

// Error is one line a problem.
func (ps Problems) Error() string {
	lines := make([]string, 0, len(ps))
	for _, p := range ps {
		lines = append(lines, p.Error())
	}
	return strings.Join(lines, "\n")
}
