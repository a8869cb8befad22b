package fuzz

import (
	"fmt"
	"io/fs"
	"net"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/internal/settings"
)

// loadTCP loads a list of destinations from the variable, and a file.
func loadTCP(t *testing.T, lines, file string) (*config.TCP, error) {
	flags := pflag.NewFlagSet("tcp", pflag.ContinueOnError)
	settings.AddFlags(flags, config.TCPSettings())
	in := settings.Input{Flags: flags, Environ: []string{"EGRESS_DNS_PROXY_DESTINATION=" + lines}, ReadFile: func(path string) ([]byte, error) {
		if path == "/c" {
			return []byte(file), nil
		}
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}}
	if file != "" {
		require.NoError(t, flags.Parse([]string{"--config=/c"}))
	}
	return config.LoadTCP(in)
}

// FuzzTCPDestinations reads arbitrary lists of destinations:
//   - there is a configuration, or there are problems; every problem has a line
//     that the text has;
//   - what was read, written down again and read, is the same;
//   - the policy allows what is listed, and nothing else.
func FuzzTCPDestinations(f *testing.F) {
	f.Add("80 11.12.13.14\n8080 www.example.com 80 # comment\n\n443 2001:db8::1")
	f.Add("80 a\r\n81\tb\t82\r\n")
	f.Add("\ufeff80 [::1]\n0 x\n80 y\n65536 z 0")
	f.Add("80 127.1\n81 *.x\n 82 ::ffff:1.2.3.4 ")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ContainsRune(text, 0) || text == "" {
			t.Skip("no environment holds it")
		}
		c, err := loadTCP(t, text, "")
		if err != nil {
			require.Nil(t, c)
			var ps settings.Problems
			require.ErrorAs(t, err, &ps)
			for _, p := range ps {
				require.NotEmpty(t, p.Source)
				require.LessOrEqual(t, p.Line, strings.Count(text, "\n")+1)
			}
			return
		}
		var again strings.Builder
		for _, l := range c.Listeners {
			_, port, err := net.SplitHostPort(l.Listen)
			require.NoError(t, err)
			to := l.Destinations[0]
			fmt.Fprintf(&again, "%s %s %d\n", port, to.Host, to.Port)
			if to.Host.IsAddr() {
				require.Equal(t, acl.Allow, c.Policy.DecideHost(to).Verdict)
			} else {
				require.Equal(t, acl.NeedAddr, c.Policy.DecideHost(to).Verdict, "the guard still has a say")
			}
			to.Port ^= 0x5555
			listed := false
			for _, other := range c.Listeners {
				listed = listed || other.Destinations[0] == to
			}
			if !listed {
				require.Equal(t, acl.Deny, c.Policy.DecideHost(to).Verdict)
			}
		}
		d, err := loadTCP(t, again.String(), "")
		require.NoError(t, err)
		require.Equal(t, len(c.Listeners), len(d.Listeners))
		for i := range c.Listeners {
			require.Equal(t, c.Listeners[i].Listen, d.Listeners[i].Listen)
			require.Equal(t, c.Listeners[i].Destinations, d.Listeners[i].Destinations)
		}
	})
}

// FuzzTCPFile reads arbitrary files: a configuration or problems with lines that
// the file has, and the same when read again.
func FuzzTCPFile(f *testing.F) {
	f.Add("tcp:\n- listen: 80\n  destinations: [a.test, '[::1]:8080']\n  check: {interval: 1s}\n")
	f.Add("tcp:\n- listen: 127.0.0.1:0\n  sni:\n  - names: '*.a.test'\n    destinations: b.test:1\n  acceptProxy: [10.0.0.0/8]\n")
	f.Add("destinations: |\n  80 a.test\n  x\ntcp: &a [*a]\n")
	f.Add("tcp:\n- &x {listen: 80, destinations: a}\n- *x\n- ~\n- {<<: *x}\n")
	f.Fuzz(func(t *testing.T, file string) {
		c, err := loadTCP(t, "", file)
		again, errAgain := loadTCP(t, "", file)
		require.Equal(t, err, errAgain)
		if err != nil {
			require.Nil(t, c)
			if file != "" {
				checkProblems(t, err, file)
			}
			return
		}
		require.NotEmpty(t, c.Listeners)
		for _, l := range c.Listeners {
			require.NotEmpty(t, len(l.Destinations)+len(l.Routes))
			for _, r := range l.Routes {
				require.NotEmpty(t, r.Names)
				require.NotEmpty(t, r.Destinations)
			}
		}
		require.Equal(t, c.Policy.String(), again.Policy.String())
		c.Policy, again.Policy = nil, nil
		require.Equal(t, c, again)
	})
}
