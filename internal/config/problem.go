package config

import (
	"errors"
	"strconv"
	"strings"

	"github.com/sluiceproxy/sluice/acl"
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

// err is ps as an error: nil when there is none.
func (ps Problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

// ofRules are the problems of a rule text; err is what acl returned for it.
func ofRules(source string, err error) Problems {
	pe, ok := errors.AsType[*acl.ParseError](err)
	if !ok {
		return Problems{{Source: source, Msg: err.Error()}}
	}
	return fromACL(pe.Problems)
}

func fromACL(aps []acl.Problem) Problems {
	var ps Problems
	for _, p := range aps {
		ps = append(ps, Problem{Source: p.Source, Line: p.Line, Msg: p.Msg})
	}
	return ps
}
