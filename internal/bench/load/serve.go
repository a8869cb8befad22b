//go:build linux

package load

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"runtime/debug"
)

// Serve does the jobs that come in on in, one JSON object a line. To each it
// answers "ready" when it has warmed up, goes on when a line comes, and writes the
// result. (Hold says "ready" again and holds until the next line.)
func Serve(in io.Reader, out io.Writer) error {
	debug.SetGCPercent(-1) // it allocates for heads of jobs only
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		var job Job
		if err := json.Unmarshal(line, &job); err != nil {
			return err
		}
		res, err := Run(job, func() error {
			fmt.Fprintln(out, "ready")
			_, err := lines.ReadBytes('\n')
			return err
		})
		if err == io.EOF {
			return nil // nobody waits for the rest
		}
		if err != nil {
			return err
		}
		b, err := json.Marshal(res)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s\n", b)
	}
}
