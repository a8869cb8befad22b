package fuzz

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
	yaml3 "go.yaml.in/yaml/v3"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	kubeyaml "sigs.k8s.io/yaml"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/convert"
	"github.com/sluiceproxy/sluice/internal/migrate"
)

// textFiles are a configuration "c" and the one file that it may name, "f".
func textFiles(conf, file string) convert.Files {
	return convert.Files{
		Read: func(path string) ([]byte, error) {
			switch path {
			case "c":
				return []byte(conf), nil
			case "f":
				return []byte(file), nil
			}
			return nil, errors.New("no such file")
		},
		Glob: func(string) ([]string, error) { return []string{"f"}, nil },
	}
}

// requireLists: what is converted are lists of rules, and every finding has a line that the
// configuration has.
func requireLists(t *testing.T, r *convert.Result, err error, texts ...string) {
	t.Helper()
	if err != nil {
		require.Nil(t, r)
		return
	}
	_, err = r.Text()
	require.NoError(t, err)
	all := []string{r.Rules}
	for _, tenant := range r.Tenants {
		require.NotEmpty(t, tenant.Clients)
		all = append(all, tenant.Rules)
	}
	for _, text := range all {
		_, err := acl.Parse(text)
		require.NoError(t, err, "%q", text)
	}
	most := 1
	for _, text := range texts {
		most = max(most, strings.Count(text, "\n")+1)
	}
	for _, f := range r.Left {
		require.NotEmpty(t, f.Why)
		require.LessOrEqual(t, f.Line, most)
	}
}

// FuzzConvertSquid reads arbitrary configurations of squid's, with a file of values.
func FuzzConvertSquid(f *testing.F) {
	f.Add("acl a dstdomain .example.com \"f\"\nacl s src 10.0.0.0/8 10.1.0.1-10.1.0.9\nacl p port 80 443 1025-65535\nhttp_access deny !p\nhttp_access allow s a\nhttp_access deny all\n", "x.test\n# y\n*.z\n", "")
	f.Add("acl r dstdom_regex -i (^|\\.)a\\.test$ \\.b$\nacl d dst 10.0.0.0/8 ::/0\nhttp_access allow !r d \\\n all\ninclude *.c\n", "http_access deny CONNECT\n", "443")
	f.Add("tcp_outgoing_address 192.0.2.1 localhost\nhttp_reply_access deny all\nhttp_access allow localhost\n", "", "1-2,9")
	f.Fuzz(func(t *testing.T, conf, file, ports string) {
		c := convert.Squid{Files: textFiles(conf, file), ConnectPorts: ports}
		r, err := c.Convert("c")
		requireLists(t, r, err, conf, file)
	})
}

// FuzzConvertOthers reads arbitrary configurations of the other proxies.
func FuzzConvertOthers(f *testing.F) {
	f.Add("Allow 10.0.0.0/8\nDeny x\nFilter \"f\"\nFilterDefaultDeny On\nConnectPort 443\n", "^a\\.test$\n\\.b$\n")
	f.Add("version: v1\nservices: []\ndefault: {action: open, allowed_domains: ['*.a.test', 10.0.0.1]}\nglobal_deny_list: [b.test]\n", "")
	f.Add("defaults\n mode tcp\nlisten a\n bind *:${P}\n server x 10.0.0.1:2 check inter 3s\n", "")
	f.Fuzz(func(t *testing.T, conf, file string) {
		files := textFiles(conf, file)
		r, err := convert.Tinyproxy{Files: files}.Convert("c")
		requireLists(t, r, err, conf, file)
		r, err = convert.Smokescreen{Files: files}.Convert("c")
		requireLists(t, r, err, conf, file)
		r, err = convert.HAProxy{Files: files, Env: map[string]string{"P": "80"}}.Convert("c")
		if err == nil {
			requireLists(t, r, nil, conf, file)
		}
	})
}

// FuzzMigrate reads arbitrary manifests: what comes out, as manifests and as values, is YAML to
// kubectl and helm too, and to nobody another thing; what breaks writes nothing; a note is a line.
func FuzzMigrate(f *testing.F) {
	f.Add("kind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: c\n    env:\n    - {name: EGRESS_HTTP_PROXY_DESTINATION, value: '*'}\n", "V")
	f.Add("kind: Template\nparameters: [{name: X, value: '1'}]\nobjects:\n- kind: EgressRouter\n  metadata: {name: '${X}'}\n  spec: {addresses: [{ip: 192.0.2.1/24, gateway: 192.0.2.2}], redirect: {fallbackIP: 203.0.113.1}}\n", "2")
	f.Add("{\"kind\": \"List\", \"items\": [{\"kind\": \"Deployment\", \"spec\": {\"template\": {\"spec\": {\"containers\": [{\"env\": [{\"name\": \"SERVICE_DEST\", \"value\": \"a.test\"}]}]}}}}]}", "")
	f.Add("kind: Pod\nmetadata: {name: a, labels: {x: \"on\", y: '1:2'}}\nspec: {containers: [{name: c, env: [{name: A, value: b}, {name: SERVICE_DEST, value: '$(A).test'}, {name: SERVICE_TCP_PORT, value: '80'}]}]}\n", "")
	f.Fuzz(func(t *testing.T, text, value string) {
		for _, values := range []bool{false, true} {
			o := migrate.Options{Files: []migrate.File{{Name: "f", Text: text}}, Params: map[string]string{"X": value}, Image: "sluice", Values: values}
			r, err := migrate.Migrate(o)
			if err != nil {
				o.Params = nil
				r, err = migrate.Migrate(o)
			}
			if err != nil {
				require.Nil(t, r)
				return
			}
			require.Equal(t, len(r.Broken()) == 0, r.Manifest != "", "%v", r.Notes)
			for _, n := range r.Notes {
				require.NotEmpty(t, n.Msg)
				require.False(t, strings.ContainsFunc(n.String(), func(r rune) bool { return !unicode.IsPrint(r) }), "%q", n.String())
			}
			requireSame(t, r.Manifest)
		}
	})
}

// requireSame has each document be the same by YAML 1.1, as kubectl reads it, and by 1.2.
func requireSame(t *testing.T, manifest string) {
	t.Helper()
	now := yaml3.NewDecoder(strings.NewReader(manifest))
	then := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(manifest)))
	for {
		text, err := then.Read()
		var a, b any
		if errors.Is(err, io.EOF) {
			require.ErrorIs(t, now.Decode(&a), io.EOF, "%q", manifest)
			return
		}
		require.NoError(t, err)
		require.NoError(t, now.Decode(&a), "%q", manifest)
		require.NoError(t, kubeyaml.UnmarshalStrict(text, &b), "%q", manifest)
		want, err := json.Marshal(a)
		require.NoError(t, err, "%q", manifest)
		got, err := json.Marshal(b)
		require.NoError(t, err)
		require.JSONEq(t, string(want), string(got), "%q", manifest)
	}
}
