//go:build linux

package http

import (
	"os"
	"strings"
	"testing"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
)

func TestMain(m *testing.M) {
	if how := strings.Split(os.Getenv(floodEnv), ","); len(how) == 5 {
		floodMain(how)
	}
	os.Exit(program.Main(m))
}

// gateway is a running "sluice proxy".
type gateway struct {
	*program.Program
	t testing.TB
}

// start runs the program and waits until it serves. It listens on port 8080 of
// all addresses in a namespace of its own, else on free ports of loopback.
func start(t testing.TB, s program.Setup) *gateway {
	t.Helper()
	return &gateway{program.Start(t, s), t}
}
