package config

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/settings"
)

// Each setting says whether a reload puts it in force. One that needs a restart has a place
// in the configuration by which a change is seen; and every place but those of live settings
// is some setting's.
func TestEverySettingSaysHowItChanges(t *testing.T) {
	t.Parallel()
	for name, table := range map[string][]settings.Setting{"proxy": ProxySettings(), "tcp": TCPSettings()} {
		for _, s := range table {
			require.NotZero(t, s.Change, "%s: is --%s %s put in force by a reload, or by a restart?", name, s.Flag, s.Key)
			if s.Change == settings.Restart && s.Flag != "config" {
				require.NotNil(t, s.Into.Place, "%s: a change of --%s cannot be seen", name, s.Flag)
			}
		}
	}
	made := map[string]bool{"Policy": true, "Inspect": true, "Parents": true, "ShadowRules": true, "Shadow": true, "Learned": true, "KeepExpired": true, "Origin": true, "Broken": true, "Watch": true, "Warnings": true, "Written": true, "Rules": true, "Listeners": true, "Tenants": true, "Users": true, "Keys": true}
	p, c := &Proxy{}, &TCP{}
	everyPlace(t, reflect.ValueOf(p).Elem(), p.settings(), made)
	everyPlace(t, reflect.ValueOf(c).Elem(), c.settings(), made)
}

// everyPlace requires that the exported fields of v are places of settings, or made of them.
func everyPlace(t *testing.T, v reflect.Value, table []settings.Setting, made map[string]bool) {
	t.Helper()
	places := map[any]bool{}
	for _, s := range table {
		places[s.Into.Place] = true
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		switch {
		case f.Anonymous:
			everyPlace(t, v.Field(i), table, made)
		case f.IsExported() && !made[f.Name]:
			require.True(t, places[v.Field(i).Addr().Interface()], "%s of %s is nobody's place", f.Name, v.Type())
		}
	}
}

// The exact words for what only a restart puts in force.
func TestNeedRestart(t *testing.T) {
	t.Parallel()
	before, err := file("listen: :1\nadmin: off\nguard: strict\n").load(t)
	require.NoError(t, err)
	for text, want := range map[string][]string{
		"listen: [':1']\nguard: off\nadmin: off\nsource: 192.0.2.1\ndrainTimeout: 1s\n":             nil,
		"pprof: true\nlisten: :2\nadmin: off\ncontact: me\nhideRules: true\nmaxConnsPerClient: 9\n": {"listen (/etc/sluice.yaml:2)", "pprof (/etc/sluice.yaml:1)"},
		"listen: :1\n": {"admin (/etc/sluice.yaml)"},
		"listen: :1\nadmin: off\nmaxConns: 5\ndnsTimeout: 1s\nlogLevel: debug\n": {"maxConns (/etc/sluice.yaml:3)", "dnsTimeout (/etc/sluice.yaml:4)", "logLevel (/etc/sluice.yaml:5)"},
	} {
		now, err := file(text).load(t)
		require.NoError(t, err)
		require.Equal(t, want, now.NeedRestart(before.Fixed()), text)
	}

	tcp, err := tcpFile("destinations: 80 a.test\nmaxConns: 1\n").loadTCP(t)
	require.NoError(t, err)
	now, err := tcpFile("destinations: 80 b.test\nmaxConns: 5\nidleTimeout: 1h\ndnsTimeout: 1s\nbalance: source-hash\nresolver: 192.0.2.1\n").loadTCP(t)
	require.NoError(t, err)
	require.Equal(t, []string{"resolver (/c:6)", "dnsTimeout (/c:4)"}, now.NeedRestart(tcp.Fixed()))
}

// A file that a flag names is called by the flag.
func TestNeedRestartOfAFilesText(t *testing.T) {
	t.Parallel()
	g := file("")
	g.args = append(g.args, "--upstream-ca=testdata/root.pem")
	g.files["testdata/root.pem"] = rootPEM(t)
	before, err := g.load(t)
	require.NoError(t, err)
	g.files["testdata/root.pem"] += rootPEM(t)
	now, err := g.load(t)
	require.NoError(t, err)
	require.Equal(t, []string{"--upstream-ca"}, now.NeedRestart(before.Fixed()))
}
