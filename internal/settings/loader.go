package settings

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluiceproxy/sluice/internal/files"
)

// Loader gathers what the sources say. It is for one goroutine.
type Loader struct {
	Path     string   // of the configuration file, or ""
	Unread   bool     // there is a configuration file, and nobody knows what it says
	Watch    []string // the files that were read
	Problems Problems // what is wrong
	Warnings Problems // what is doubtful

	in     Input
	all    []Setting
	env    map[string]string
	file   map[string][]Value
	blocks map[string]*yaml.Node
}

// NewLoader looks at the variables, and reads the configuration file.
func NewLoader(in Input, all []Setting) *Loader {
	if in.ReadFile == nil {
		in.ReadFile = files.Read
	}
	l := &Loader{in: in, all: all, env: Environment(in.Environ)}
	l.checkVariables()
	if vs := l.Values(Pick(all, configFlag)); len(vs) > 0 {
		path, text, ok := l.ReadFile(vs[0])
		l.Path = path
		l.Unread = !ok || !l.parseFile(text)
	}
	return l
}

// Load fills the places of all settings that are read into one: each from the source that
// wins, or with its default.
func (l *Loader) Load() {
	for _, s := range l.all {
		if s.Into.Read == nil {
			continue
		}
		vs := l.Values(s)
		if len(vs) == 0 && s.Default != "" {
			vs = []Value{{Text: s.Default, Source: "default"}}
		}
		if len(vs) > 0 {
			s.Into.Read(vs, l.Report)
		}
	}
}

// Report adds a problem.
func (l *Loader) Report(p Problem) { l.Problems = append(l.Problems, p) }

// Warn adds a warning.
func (l *Loader) Warn(p Problem) { l.Warnings = append(l.Warnings, p) }

// Err is the problems as an error: nil when there is none.
func (l *Loader) Err() error {
	if len(l.Problems) == 0 {
		return nil
	}
	return l.Problems
}

// Values are what the winning source says of s; none when no source does.
func (l *Loader) Values(s Setting) []Value {
	if vs := l.FlagValues(s); len(vs) > 0 {
		return vs
	}
	if v, ok := l.Variable(s); ok {
		return []Value{v}
	}
	return l.FileValues(s)
}

// At is where s stands, or else the variable in which it could.
func (l *Loader) At(s Setting) Value {
	if vs := l.Values(s); len(vs) > 0 {
		return vs[0]
	}
	if s.Egress != "" {
		return Value{Source: s.Egress}
	}
	return Value{Source: s.Env}
}

// FlagValues are what the command line says of s.
func (l *Loader) FlagValues(s Setting) []Value {
	if l.in.Flags == nil || s.Flag == "" || !l.in.Flags.Changed(s.Flag) {
		return nil
	}
	f, ok := l.in.Flags.Lookup(s.Flag).Value.(*flagText)
	if !ok {
		return nil // some one else's flag of that name
	}
	var vs []Value
	for _, text := range f.texts {
		vs = append(vs, Value{Text: text, Source: "--" + s.Flag})
	}
	return vs
}

// Variable is what the environment says of s. Two variables for one setting contradict
// each other sooner or later, and are refused at once.
func (l *Loader) Variable(s Setting) (Value, bool) {
	own, isOwn := l.env[s.Env]
	egress, isEgress := l.env[s.Egress]
	if isOwn && isEgress {
		p := Problem{Source: s.Env, Msg: s.Egress + " is set as well; keep one of them"}
		if !slices.Contains(l.Problems, p) {
			l.Report(p)
		}
	}
	if isOwn {
		return Value{Text: own, Source: s.Env}, true
	}
	return Value{Text: egress, Source: s.Egress}, isEgress
}

// Env is a variable that may be no setting's; "" when it is not set.
func (l *Loader) Env(name string) string { return l.env[name] }

// FileValues are what the configuration file says of s.
func (l *Loader) FileValues(s Setting) []Value { return l.file[s.Key] }

// Block is the node of a setting that is a structure in the file; nil: it is not there.
func (l *Loader) Block(s Setting) *yaml.Node { return l.blocks[s.Key] }

// Broken reports whether the file has the key of s, and nothing that could be read.
func (l *Loader) Broken(s Setting) bool {
	vs, ok := l.file[s.Key]
	return ok && len(vs) == 0
}

// ReadFile reads the file that v names, and marks it to be watched. A relative path
// in the configuration file is relative to that file. What it can't read it reports.
func (l *Loader) ReadFile(v Value) (path string, text []byte, ok bool) {
	path, text, err := l.readFile(v)
	if err != nil {
		l.Report(v.Problem(err.Error()))
		return path, nil, false
	}
	l.watch(path)
	return path, text, true
}

// TryFile is ReadFile for a file that may not be there yet: that is no problem, and it is watched
// all the same.
func (l *Loader) TryFile(v Value) (path string, text []byte, err error) {
	path, text, err = l.readFile(v)
	l.watch(path)
	return path, text, err
}

func (l *Loader) readFile(v Value) (path string, text []byte, err error) {
	path = v.Text
	if v.Source == l.Path && !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(l.Path), path)
	}
	text, err = l.in.ReadFile(path)
	return path, text, err
}

func (l *Loader) watch(path string) {
	if !slices.Contains(l.Watch, path) {
		l.Watch = append(l.Watch, path)
	}
}

// Written is how the user wrote the settings.
func (l *Loader) Written() Written {
	w := Written{}
	for _, s := range l.all {
		w[s.Name()] = l.written(s)
	}
	return w
}

func (l *Loader) written(s Setting) string {
	vs := l.Values(s)
	switch {
	case len(vs) > 0 && vs[0].Source != l.Path:
		return vs[0].Source
	case len(vs) > 0:
		return s.Key + " (" + l.Path + ":" + strconv.Itoa(vs[0].Line) + ")"
	case l.Path != "" && s.Key != "":
		return s.Key + " (" + l.Path + ")"
	}
	return strings.TrimSuffix("--"+s.Flag+" ("+s.Env+")", " ()")
}
