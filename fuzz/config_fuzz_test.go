package fuzz

import (
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/internal/settings"
)

// FuzzConfig loads arbitrary configuration files, rule texts and flag values:
//   - there is a configuration or a list of problems, never both nor neither;
//   - every problem says where, with a line that the file has;
//   - what is accepted is within the limits, and a flag won over the file;
//   - loading again gives the same.
func FuzzConfig(f *testing.F) {
	f.Add("listen: [\":8080\"]\nadmin: off\nmaxFields: 9\n", "*.example.com\n*\n", ":3128")
	f.Add("rules: |\n  !10.0.0.0/8\n  *\nsource: |\n  192.0.2.1\n  x\n", "", "x")
	f.Add("rulesFile: rules\nmaxHead: 16KiB\nidleTimeout: 0\n", "", "[::1]:1, 127.0.0.1:0")
	f.Add("listen: &a [*a]\n---\n", "a b", "")
	f.Add("tenants:\nguard: strict\nguard: off\n? [a]\n: b\n", "!", ":")
	f.Fuzz(func(t *testing.T, file, rules, listen string) {
		load := func() (*config.Proxy, error) {
			flags := pflag.NewFlagSet("proxy", pflag.ContinueOnError)
			settings.AddFlags(flags, config.ProxySettings())
			require.NoError(t, flags.Parse([]string{"--config=/c", "--max-fields=7", "--listen=" + listen}))
			return config.LoadProxy(settings.Input{
				Flags: flags, Environ: []string{"EGRESS_HTTP_PROXY_DESTINATION=" + rules},
				ReadFile: func(path string) ([]byte, error) {
					if path == "/c" {
						return []byte(file), nil
					}
					return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
				},
			})
		}
		p, err := load()
		again, errAgain := load()
		require.Equal(t, err, errAgain)
		if err != nil {
			require.Nil(t, p)
			checkProblems(t, err, file)
			return
		}
		checkProxy(t, p)
		require.Equal(t, p.Policy.String(), again.Policy.String())
		p.Policy, again.Policy = nil, nil
		require.Equal(t, p, again)
	})
}

func checkProblems(t *testing.T, err error, file string) {
	var ps settings.Problems
	require.ErrorAs(t, err, &ps)
	require.NotEmpty(t, ps)
	// YAML ends a line at more characters than Go does.
	lines := 2 + strings.Count(file, "\n") + strings.Count(file, "\r") +
		strings.Count(file, "\u0085") + strings.Count(file, "\u2028") + strings.Count(file, "\u2029")
	for _, p := range ps {
		require.NotEmpty(t, p.Source)
		require.NotEmpty(t, p.Msg)
		if p.Source == "/c" {
			require.LessOrEqual(t, p.Line, lines, "%v", p)
		}
	}
}

func checkProxy(t *testing.T, p *config.Proxy) {
	require.NotNil(t, p.Policy)
	require.NotEmpty(t, p.Listen)
	require.Equal(t, 7, p.MaxFields)
	require.NotEmpty(t, p.AccessLogFormat)
	require.True(t, p.MaxHead >= 1<<10 && p.MaxHead <= 1<<20)
	require.True(t, p.MaxConns >= 0 && p.MaxConnsPerClient >= 0)
	for _, d := range []time.Duration{p.HeadTimeout, p.ConnectTimeout, p.DNSTimeout, p.KeepAliveTimeout} {
		require.Positive(t, d)
	}
	for _, a := range p.Sources {
		require.True(t, a.IsValid() && a.Zone() == "" && !a.IsUnspecified() && !a.Is4In6())
	}
	for _, r := range p.Resolvers {
		require.True(t, r.IsValid() && r.Port() > 0)
	}
	require.Contains(t, p.Watch, "/c")
}
