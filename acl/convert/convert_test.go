package convert_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/convert"
	"github.com/sluiceproxy/sluice/internal/config"
	"github.com/sluiceproxy/sluice/internal/settings"
)

var update = flag.Bool("update", false, "write the golden files")

// in are the files of a folder.
func in(dir string) convert.Files {
	return convert.Files{
		Read: func(path string) ([]byte, error) { return os.ReadFile(filepath.Join(dir, path)) },
		Glob: func(pattern string) ([]string, error) {
			found, err := filepath.Glob(filepath.Join(dir, pattern))
			for i := range found {
				found[i], _ = filepath.Rel(dir, found[i])
			}
			return found, err
		},
	}
}

func TestGolden(t *testing.T) {
	squid, others := in("testdata/squid"), in("testdata/others")
	of := func(path string) func() (*convert.Result, error) {
		return func() (*convert.Result, error) { return convert.Squid{Files: squid}.Convert(path) }
	}
	for name, run := range map[string]func() (*convert.Result, error){
		"squid/debian": of("debian.conf"), "squid/allowlist": of("allowlist.conf"), "squid/denylist": of("denylist.conf"), "squid/order": of("order.conf"),
		"squid/unsaid": of("unsaid.conf"), "squid/sources": of("sources.conf"), "squid/old": of("old.conf"),
		"squid/debian-443": func() (*convert.Result, error) {
			return convert.Squid{Files: squid, ConnectPorts: "443"}.Convert("debian.conf")
		},
		"squid/unsaid-ignored": func() (*convert.Result, error) {
			return convert.Squid{Files: squid, Ignore: []string{"unsaid.conf:16"}}.Convert("unsaid.conf")
		},
		"others/smokescreen": func() (*convert.Result, error) {
			return convert.Smokescreen{Files: others}.Convert("acl.smokescreen.yaml")
		},
		"others/smokescreen-payments": func() (*convert.Result, error) {
			return convert.Smokescreen{Files: others, Service: "payments"}.Convert("acl.smokescreen.yaml")
		},
		"others/tinyproxy": func() (*convert.Result, error) { return convert.Tinyproxy{Files: others}.Convert("tinyproxy.conf") },
		"others/tinyproxy-deny": func() (*convert.Result, error) {
			return convert.Tinyproxy{Files: others}.Convert("tinyproxy-deny.conf")
		},
		"others/haproxy": func() (*convert.Result, error) {
			return convert.HAProxy{Files: others, Env: map[string]string{"SERVICE_TCP_PORT": "13443"}}.Convert("haproxy.cfg")
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := run()
			require.NoError(t, err)
			text, err := r.Text()
			require.NoError(t, err)
			var b strings.Builder
			for _, f := range r.Left {
				fmt.Fprintln(&b, f)
			}
			fmt.Fprintf(&b, "---\n%s", text)
			path := "testdata/" + name + ".golden"
			if *update {
				require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o644))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.Equal(t, string(want), b.String())
			requireLoads(t, r)
		})
	}
}

// requireLoads: each list passes "sluice acl check", and a configuration file is one.
func requireLoads(t testing.TB, r *convert.Result) {
	t.Helper()
	for _, text := range lists(r) {
		_, err := acl.Parse(text)
		require.NoError(t, err, text)
	}
	text, err := r.Text()
	require.NoError(t, err)
	if r.Plain() {
		_, err := acl.Parse(text)
		require.NoError(t, err, text)
		return
	}
	flags := func(all []settings.Setting) *pflag.FlagSet {
		f := pflag.NewFlagSet("", pflag.ContinueOnError)
		settings.AddFlags(f, all)
		require.NoError(t, f.Parse([]string{"--config=/c"}))
		return f
	}
	read := func(string) ([]byte, error) { return []byte(text), nil }
	if len(r.Listeners) > 0 {
		_, err = config.LoadTCP(settings.Input{Flags: flags(config.TCPSettings()), ReadFile: read})
	} else {
		_, err = config.LoadProxy(settings.Input{Flags: flags(config.ProxySettings()), ReadFile: read})
	}
	require.NoError(t, err, text)
}

func lists(r *convert.Result) []string {
	all := []string{r.Rules}
	for _, tenant := range r.Tenants {
		all = append(all, tenant.Rules)
	}
	return all
}

func TestWrongConfigurations(t *testing.T) {
	for text, want := range map[string]string{
		"http_access allow nobody\n":                       "c:1: there is no acl nobody before this line",
		"acl a dst\nacl a src 10.0.0.1\n":                  "c:2: the acl a is of type dst",
		"http_access permit all\n":                         `c:1: "permit" is neither allow nor deny`,
		"acl p port http\n":                                `c:1: "http" is no port, nor a range of ports`,
		"if true\n":                                        `c:1: conditions are not read: keep the lines that hold, and take the others and "if" out`,
		"acl a dstdomain \"absent\"\ninclude gone\n":       "c:2: open testdata/gone: no such file or directory\nc:1: open testdata/absent: no such file or directory",
		"acl a\\\n dstdomain \"x":                          `c:1: "x: a file's name ends in a quote, and has no space`,
		"tcp_outgoing_address eth0\n":                      `c:1: "eth0" is no address`,
		"configuration_includes_quoted_values on\nacl x\n": "c:1: quoted values are not read: write them without, and take this line out\nc:2: an acl has a name, a type and values",
	} {
		files := in("testdata")
		files.Read = func(path string) ([]byte, error) {
			if path == "c" {
				return []byte(text), nil
			}
			return os.ReadFile(filepath.Join("testdata", path))
		}
		r, err := convert.Squid{Files: files}.Convert("c")
		require.EqualError(t, err, want, text)
		require.Nil(t, r)
	}
}

// What the original would not start with opens nothing: a misspelt line that denies is no line that says
// nothing. What is told of it is text.
func TestUnknownWords(t *testing.T) {
	of := func(text string) convert.Files {
		return convert.Files{Read: func(path string) ([]byte, error) {
			if path != "f" {
				return []byte("root:x:0:0::/root:/bin/sh\n"), nil
			}
			return []byte(text), nil
		}}
	}
	squid := func(text string) (*convert.Result, error) { return convert.Squid{Files: of(text)}.Convert("f") }
	tinyproxy := func(text string) (*convert.Result, error) {
		return convert.Tinyproxy{Files: of(text)}.Convert("f")
	}
	haproxy := func(text string) (*convert.Result, error) { return convert.HAProxy{Files: of(text)}.Convert("f") }
	for _, tt := range []struct {
		want    string
		convert func(string) (*convert.Result, error)
		text    string
	}{
		{`f:1: squid does not know "http_acces", and would not start: mend the line, or take it out`, squid, "http_acces deny all\nhttp_access allow all\n"},
		{`f:1: squid does not know "adapted_access", and would not start: mend the line, or take it out`, squid, "adapted_access deny all\n"},
		{`f:1: squid does not know "\x1b[31m\xff", and would not start: mend the line, or take it out`, squid, "\x1b[31m\xff x\n"},
		{`/etc/passwd:1: squid does not know "root:x:0:0::/root:/bin/sh", and would not start: mend the line, or take it out`, squid, "include /etc/passwd\n"},
		{`f:1: there is no acl \x1b[31m before this line`, squid, "http_access deny \x1b[31m\n"},
		{`f:1: tinyproxy does not know "Filte", and would not start: mend the line, or take it out`, tinyproxy, "Filte \"/x\"\n"},
		{`f:1: "Yess" is none of yes, on, no and off`, tinyproxy, "FilterDefaultDeny Yess\n"},
		{`f:1: "glob" is none of bre, ere and fnmatch`, tinyproxy, "FilterType glob\n"},
		{`f:2: haproxy does not know "tcp-reques", and would not start: mend the line, or take it out`, haproxy, "listen a\n tcp-reques connection reject\n mode tcp\n bind :1\n server a 192.0.2.1:1\n"},
	} {
		r, err := tt.convert(tt.text)
		assert.EqualError(t, err, tt.want, tt.text)
		assert.Nil(t, r)
	}
	r, err := squid("cache_mem 1\x1b[31m\u009b\n")
	require.NoError(t, err)
	require.Len(t, r.Left, 1)
	assert.Equal(t, `f:1: none: it says nothing of who may reach what: cache_mem 1\x1b[31m\u009b`, r.Left[0].String())
}

// What the servers of a port have of their own is what all of its destinations have, and it is told where they differ:
// a PROXY header that a server does not want is a broken connection.
func TestServersOfOnePort(t *testing.T) {
	for _, tt := range []struct {
		servers string
		want    []convert.Listener
		told    []string
	}{
		{"server a a.test:1 check inter 5s send-proxy\n server b b.test:1 send-proxy inter 5000 check\n", []convert.Listener{
			{Listen: "80", Name: "l", Destinations: []string{"a.test:1", "b.test:1"}, Check: "5s", SendProxy: "v1"}}, []string{
			"f:5: differs: the servers of a port are checked alike, each 5s: server b b.test:1 send-proxy inter 5000 check"}},
		{"server a a.test:1 inter 5s check\n server b b.test:1\n", []convert.Listener{
			{Listen: "80", Name: "l", Destinations: []string{"a.test:1", "b.test:1"}, Check: "5s"}}, []string{
			"f:5: differs: the servers of a port are checked alike, each 5s: server b b.test:1"}},
		{"server a a.test:1 inter 5s\n", []convert.Listener{{Listen: "80", Name: "l", Destinations: []string{"a.test:1"}}}, nil},
		{"server a a.test:1\n server b b.test:1 send-proxy-v2\n", nil, []string{
			"f:2: closes: some of its servers get PROXY headers and others do not, or of another version: all do, or none does, and so the port is left out: listen l"}},
	} {
		text := "defaults\nlisten l\n mode tcp\n " + tt.servers + " bind :80\n"
		r, err := convert.HAProxy{Files: convert.Files{Read: func(string) ([]byte, error) { return []byte(text), nil }}}.Convert("f")
		require.NoError(t, err, text)
		assert.Equal(t, tt.want, r.Listeners, text)
		var told []string
		for _, l := range r.Left {
			told = append(told, l.String())
		}
		assert.Equal(t, tt.told, told, text)
	}
}
