// Package config makes one checked configuration of the command line, the
// environment and a file. A flag wins over the environment, the environment over
// the file (--config, YAML); whatever one of them can say, the others can too.
//
// Loading is a pure function of its [Input]: nothing is opened but through
// Input.ReadFile, and nothing is kept, so that a reload is a second call. Every
// wrong setting is reported, each with where it stands ([Problems]); there is no
// configuration then.
//
// Each mode has its file here, with its struct and its list of settings; the rest
// is shared. The package ends at cmd: components get what they use, not this.
package config

import (
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/sluiceproxy/sluice/internal/files"
)

// Input is where settings come from.
type Input struct {
	// Flags are the parsed flags that the mode's Add…Flags registered; nil: none.
	Flags *pflag.FlagSet
	// Environ is the environment, as os.Environ has it. A variable that is set but
	// empty counts as not set.
	Environ []string
	// ReadFile reads the files that settings name; nil: files.Read, which takes regular
	// files of a sane size only.
	ReadFile func(path string) ([]byte, error)
}

// Setting describes one setting, for help and documentation.
type Setting struct {
	Flag    string // without the dashes; "" when there is none
	Env     string // SLUICE_ and the flag
	Egress  string // the egress router's variable for the same, or ""
	FileKey string // key in the configuration file; "" when it can't stand there
	Default string // as it would be written; "" for none
	Group   string // heading in the help
	Help    string // one line
	Value   string // what kind of value, for the help: ADDR, FILE, DURATION …; "" for a switch
	List    bool   // takes several values
	Block   bool   // a structure in the file, which the mode reads by itself
}

// value is a setting's text with where it stands.
type value struct {
	text   string
	source string // "--listen", "SLUICE_LISTEN", the file's path, or "default"
	line   int    // in the file, or in a variable of several lines; else 0
	file   bool   // it stands in the configuration file
}

// problem is what is wrong with v.
func (v value) problem(msg string) Problem { return Problem{Source: v.source, Line: v.line, Msg: msg} }

// setting is a Setting of the mode whose configuration is T.
type setting[T any] struct {
	Setting
	// set parses the values, of which there is at least one, into dst and reports
	// what it can't take. It is nil for what the mode handles by itself.
	set func(dst *T, vs []value, report func(Problem))
}

// describe is the public half of all settings.
func describe[T any](all []setting[T]) []Setting {
	out := make([]Setting, 0, len(all))
	for _, s := range all {
		out = append(out, s.Setting)
	}
	return out
}

// loader gathers what the three sources say.
type loader struct {
	in       Input
	env      map[string]string
	path     string // of the configuration file, or ""
	unread   bool   // there is a configuration file, and nobody knows what it says
	file     map[string][]value
	blocks   map[string]*yaml.Node // of the file: what is a Block
	watch    []string
	problems Problems
	warnings Problems
}

func newLoader(in Input, all []Setting) *loader {
	if in.ReadFile == nil {
		in.ReadFile = files.Read
	}
	l := &loader{in: in, env: map[string]string{}}
	for _, kv := range in.Environ {
		if name, text, ok := strings.Cut(kv, "="); ok && name != "" && text != "" {
			l.env[name] = text
		}
	}
	l.checkVariables(all)
	for _, s := range all {
		if s.Flag == configFlag {
			l.readConfig(s, all)
		}
	}
	return l
}

// load fills dst: each setting from the source that wins, or its default.
func load[T any](l *loader, all []setting[T], dst *T) {
	for _, s := range all {
		if s.set == nil {
			continue
		}
		vs := l.values(s.Setting)
		if len(vs) == 0 && s.Default != "" {
			vs = []value{{text: s.Default, source: "default"}}
		}
		if len(vs) > 0 {
			s.set(dst, vs, l.report)
		}
	}
}

func (l *loader) report(p Problem) { l.problems = append(l.problems, p) }

// values are what the winning source says of s; none when no source does.
func (l *loader) values(s Setting) []value {
	if vs := l.flagValues(s); len(vs) > 0 {
		return vs
	}
	if v, ok := l.variable(s); ok {
		return []value{v}
	}
	return l.fileValues(s)
}

func (l *loader) flagValues(s Setting) []value {
	if l.in.Flags == nil || s.Flag == "" || !l.in.Flags.Changed(s.Flag) {
		return nil
	}
	f, ok := l.in.Flags.Lookup(s.Flag).Value.(*flagText)
	if !ok {
		return nil // some one else's flag of that name
	}
	var vs []value
	for _, text := range f.texts {
		vs = append(vs, value{text: text, source: "--" + s.Flag})
	}
	return vs
}

// variable is what the environment says. Two variables for one setting contradict
// each other sooner or later, and are refused at once.
func (l *loader) variable(s Setting) (value, bool) {
	own, isOwn := l.env[s.Env]
	egress, isEgress := l.env[s.Egress]
	switch {
	case isOwn && isEgress:
		l.report(Problem{Source: s.Env, Msg: s.Egress + " is set as well; keep one of them"})
		return value{text: own, source: s.Env}, true
	case isOwn:
		return value{text: own, source: s.Env}, true
	default:
		return value{text: egress, source: s.Egress}, isEgress
	}
}

// read reads the file that v names, and marks it to be watched. A relative path
// in the configuration file is relative to that file.
func (l *loader) read(v value) (path string, text []byte, ok bool) {
	path = v.text
	if v.file {
		path = beside(l.path, path)
	}
	text, err := l.in.ReadFile(path)
	if err != nil {
		l.report(v.problem(err.Error()))
		return path, nil, false
	}
	l.watch = append(l.watch, path)
	return path, text, true
}
