//go:build man

package cli

import (
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// addMan adds the command with which tools/release has a program write its manual pages and
// shell completions. It is not in programs that ship, since what it needs is a Markdown
// parser. Pages carry the time of SOURCE_DATE_EPOCH.
func addMan(root *cobra.Command) {
	root.AddCommand(&cobra.Command{
		Use:    "man DIR VERSION",
		Hidden: true,
		Args:   cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			dir, name := args[0], root.Name()
			root.DisableAutoGenTag = true
			header := &doc.GenManHeader{Title: name, Section: "1", Source: "sluice " + args[1], Manual: "Sluice"}
			if err := doc.GenManTree(root, header, dir); err != nil {
				return err
			}
			for file, write := range map[string]func(string) error{
				name + ".bash": func(p string) error { return root.GenBashCompletionFileV2(p, true) },
				name + ".fish": func(p string) error { return root.GenFishCompletionFile(p, true) },
				"_" + name:     root.GenZshCompletionFile,
			} {
				if err := write(filepath.Join(dir, file)); err != nil {
					return err
				}
			}
			return nil
		},
	})
}
