package main

import (
	"strconv"
	"strings"
)

// problem is what is wrong with one setting, in the form of internal/config.
type problem struct {
	source string
	line   int
	msg    string
}

func (p problem) Error() string {
	at := p.source
	if p.line > 0 {
		at += ":" + strconv.Itoa(p.line)
	}
	return at + ": " + p.msg
}

// problems is everything that is wrong.
type problems []problem

func (ps problems) Error() string {
	lines := make([]string, 0, len(ps))
	for _, p := range ps {
		lines = append(lines, p.Error())
	}
	return strings.Join(lines, "\n")
}
