//go:build !man

package cli

import "github.com/spf13/cobra"

// addMan does nothing: programs that ship do not write manual pages.
func addMan(*cobra.Command) {}
