package settings

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// groupAnnotation is the flag's annotation that holds its heading.
const groupAnnotation = "sluice_group"

// flagText is a flag's text, as given. It is judged together with everything
// else, so that one wrong flag does not hide another.
type flagText struct {
	texts []string
	kind  string
	list  bool
	once  bool
}

// String is the text as given; pflag shows that of a new flag as its default.
func (f *flagText) String() string { return strings.Join(f.texts, ",") }

// Type is the word for the value in the help.
func (f *flagText) Type() string { return f.kind }

// Set takes the text; of a flag that is no list, the last one counts, but what the
// first file of settings holds would be lost without a word.
func (f *flagText) Set(text string) error {
	if !f.list {
		if f.once && len(f.texts) > 0 && f.texts[0] != text {
			return fmt.Errorf("%s was given already, and there can be one", f.texts[0])
		}
		f.texts = nil
	}
	f.texts = append(f.texts, text)
	return nil
}

// AddFlags registers the flags of all settings that have one; [Usages] makes their help.
// They hold text only: it is judged when it is loaded.
func AddFlags(fs *pflag.FlagSet, all []Setting) {
	for _, s := range all {
		if s.Flag == "" {
			continue
		}
		kind := s.Value
		if kind == "" {
			kind = "bool"
		}
		f := fs.VarPF(&flagText{kind: kind, list: s.List, once: s.Once}, s.Flag, "", s.Help)
		f.DefValue = s.Default
		if s.Value == "" {
			f.NoOptDefVal = "true"
		}
		f.Annotations = map[string][]string{groupAnnotation: {s.Group}}
	}
}

// Usage is the help of the flags under one heading.
type Usage struct {
	Title string
	Flags string // as pflag.FlagSet.FlagUsages writes it
}

// Usages is the help of the flags of fs, heading by heading in the order of the
// settings; what has no heading comes last, under "Other".
func Usages(fs *pflag.FlagSet) []Usage {
	const other = "Other"
	var titles []string
	sets := map[string]*pflag.FlagSet{}
	add := func(title string, f *pflag.Flag) {
		if sets[title] == nil {
			titles = append(titles, title)
			sets[title] = pflag.NewFlagSet(title, pflag.ContinueOnError)
			sets[title].SortFlags = false
		}
		sets[title].AddFlag(f)
	}
	sorted := fs.SortFlags
	fs.SortFlags = false
	defer func() { fs.SortFlags = sorted }()
	fs.VisitAll(func(f *pflag.Flag) {
		if g := f.Annotations[groupAnnotation]; len(g) == 1 {
			add(g[0], f)
		}
	})
	fs.VisitAll(func(f *pflag.Flag) {
		if len(f.Annotations[groupAnnotation]) != 1 {
			add(other, f)
		}
	})
	var groups []Usage
	for _, title := range titles {
		groups = append(groups, Usage{Title: title, Flags: sets[title].FlagUsages()})
	}
	return groups
}
