// Package settings is what the settings of all programs have in common. A flag wins over
// the environment, the environment over a file (--config, YAML); whatever one of them can
// say, the others can too. What the settings are is the commands' business: each has a
// table of them, bound to the configuration that they fill.
//
// Loading is a pure function of its [Input]: nothing is opened but through
// Input.ReadFile, and nothing is kept, so that a reload is a second call. Every
// wrong setting is reported, each with where it stands ([Problems]).
package settings

import (
	"reflect"
	"strings"

	"github.com/spf13/pflag"
)

// Input is where settings come from.
type Input struct {
	// Flags are the parsed flags that [AddFlags] registered; nil: none.
	Flags *pflag.FlagSet
	// Environ is the environment, as os.Environ has it. A variable that is set but
	// empty counts as not set; of one that is set twice the last counts.
	Environ []string
	// ReadFile reads the files that settings name; nil: files.Read, which takes regular
	// files of a sane size only.
	ReadFile func(path string) ([]byte, error)
}

// Setting is one setting of a command.
type Setting struct {
	Flag    string // without the dashes; "" when there is none
	Env     string // SLUICE_ and the flag; [Table] fills it in
	Egress  string // the egress router's variable for the same, or ""
	Key     string // key in the configuration file; "" when it can't stand there
	Default string // as it would be written; "" for none
	Group   string // heading in the help
	Help    string // one line
	Value   string // what kind of value, for the help: ADDR, FILE, DURATION …; "" for a switch
	List    bool   // takes several values
	Once    bool   // its flag may not be given twice: what the first file holds would be lost
	Block   bool   // a structure in the file, which the command reads by itself
	Change  Change
	Into    Into
}

// Change says what puts a changed setting in force. The zero Change is none: each setting
// says it where it is declared.
type Change uint8

const (
	_       Change = iota
	Reload         // a reload: the setting is live
	Restart        // a restart: it belongs to what is made at the start
)

func (c Change) String() string { return [...]string{"?", "reload", "restart"}[c] }

// Into is where the values of a setting go.
type Into struct {
	// Place points to what the setting fills in the configuration, to tell whether it has
	// changed. nil: it is live, or cannot change.
	Place any
	// Read parses the values, of which there is at least one, into Place, and reports what
	// it can't take. nil: the command reads them by itself.
	Read func(vs []Value, report func(Problem))
}

// Group is settings under one heading.
type Group struct {
	Title    string
	Settings []Setting
}

// Table is the settings of all groups, with their headings and variables.
func Table(groups ...Group) []Setting {
	var all []Setting
	for _, g := range groups {
		for _, s := range g.Settings {
			s.Group, s.Env = g.Title, envName(s.Flag)
			all = append(all, s)
		}
	}
	return all
}

// ConfigFile is the setting that names the configuration file.
func ConfigFile() Setting {
	return Setting{Flag: configFlag, Value: "FILE", Once: true, Change: Restart, Help: "read settings from this YAML file"}
}

const configFlag = "config"

// Pick is the setting of a flag; "" means the one that has none.
func Pick(all []Setting, flag string) Setting {
	for _, s := range all {
		if s.Flag == flag {
			return s
		}
	}
	return Setting{}
}

// Name tells the settings of a command apart: the flag, or the key of what has none.
func (s Setting) Name() string {
	if s.Flag == "" {
		return s.Key
	}
	return s.Flag
}

// Written has, for each setting, how the user wrote it: the flag, the variable, or the key
// with its place in the file. What nobody wrote is called by its key if there is a file,
// since there it can be written without a restart.
type Written map[string]string

// Of is how the setting of a flag was written.
func (w Written) Of(flag string) string { return w[flag] }

// Fixed is what a configuration says that only a restart puts in force, by setting.
type Fixed map[string]any

// FixedOf is that of the configuration to which a table is bound.
func FixedOf(all []Setting) Fixed {
	f := Fixed{}
	for _, s := range all {
		if s.Change == Restart && s.Into.Place != nil {
			f[s.Name()] = reflect.ValueOf(s.Into.Place).Elem().Interface()
		}
	}
	return f
}

// ValuesOf is what the configuration says to which a table is bound, by [Setting.Name], as far as a setting
// has a place of its own.
func ValuesOf(all []Setting) map[string]any {
	m := map[string]any{}
	for _, s := range all {
		if s.Into.Place != nil {
			m[s.Name()] = reflect.ValueOf(s.Into.Place).Elem().Interface()
		}
	}
	return m
}

// NeedRestart names the settings that differ from what a command was started with, and that
// only a restart puts in force.
func (w Written) NeedRestart(start Fixed, now []Setting) (names []string) {
	f := FixedOf(now)
	for _, s := range now {
		if name := s.Name(); !reflect.DeepEqual(start[name], f[name]) {
			names = append(names, w[name])
		}
	}
	return names
}

// envName is the variable of a flag, or "" for what has none.
func envName(flag string) string {
	if flag == "" {
		return ""
	}
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}
