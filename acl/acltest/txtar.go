package acltest

import (
	"bytes"
	"strings"
)

// A File is one file of a txtar archive.
type File struct {
	Name string
	Data string
}

// ParseTxtar reads the txtar format of golang.org/x/tools/txtar: a comment, then
// files, each behind a line `-- name --`. Whatever it is given is an archive.
func ParseTxtar(data []byte) (comment string, files []File) {
	text := &comment
	for line := range bytes.Lines(data) {
		s := strings.TrimRight(string(line), "\n")
		name, ok := strings.CutPrefix(s, "-- ")
		if name, found := strings.CutSuffix(name, " --"); ok && found && name != "" {
			files = append(files, File{Name: name})
			text = &files[len(files)-1].Data
			continue
		}
		*text += string(line)
	}
	return comment, files
}

// FormatTxtar is the reverse of ParseTxtar, for texts that end in a line end.
func FormatTxtar(comment string, files []File) []byte {
	b := []byte(comment)
	for _, f := range files {
		b = append(b, "-- "+f.Name+" --\n"+f.Data...)
	}
	return b
}
