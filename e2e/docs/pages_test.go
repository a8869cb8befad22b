//go:build linux

package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/bcrypt"

	"github.com/sluiceproxy/sluice/e2e/internal/docs"
	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// withAddresses is a machine that has the source addresses of the examples.
func withAddresses(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t)
	m.o.Egress.Address("lo", "192.0.2.10/32", "192.0.2.11/32", "2001:db8::10/128", "2001:db8::11/128")
	return m
}

// environment wants a command to take the variables of a container.
func environment(command string) func(*testing.T, docs.Block) {
	return func(t *testing.T, b docs.Block) {
		var container struct {
			Env []struct{ Name, Value string }
		}
		require.NoError(t, yaml.Unmarshal([]byte(b.Text), &container))
		require.NotEmpty(t, container.Env)
		m := withAddresses(t)
		for _, v := range container.Env {
			m.env = append(m.env, v.Name+"="+v.Value)
		}
		assert.Equal(t, "0\n", m.run("exec 2>&1\nbin/sluice "+command+" --check; echo $?"))
	}
}

// config wants a command to take a configuration file, with more at its end; the files that
// it names are there.
func config(command, more string) func(*testing.T, docs.Block) {
	return func(t *testing.T, b docs.Block) {
		m := withAddresses(t)
		dir := t.TempDir()
		write := func(name, text string) {
			path := filepath.Join(dir, name)
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		}
		ca := nettest.NewCA(t)
		cert, key := nettest.WriteFiles(t, dir, "tls", ca.Issue("sluice"))
		for from, to := range map[string]string{cert: "tls/tls.crt", key: "tls/tls.key"} {
			text, err := os.ReadFile(from)
			require.NoError(t, err)
			write(to, string(text))
		}
		hash, err := bcrypt.GenerateFromPassword([]byte("PASSWORD"), bcrypt.MinCost)
		require.NoError(t, err)
		write("clients/ca.crt", string(ca.PEM))
		write("users", "agent:"+string(hash)+"\n")
		write("parent", "gate:PASSWORD\n")
		write("ci.rules", "*.example.com\n")
		write("sluice.yaml", strings.ReplaceAll(b.Text, "/etc/sluice/", dir+"/")+more)
		assert.Equal(t, "0\n", m.run("exec 2>&1\nbin/sluice "+command+" --check --config "+dir+"/sluice.yaml; echo $?"))
	}
}

// isPartOf wants each key of a block to be the same in a file that is tested, which may have more.
func isPartOf(file string) func(*testing.T, docs.Block) {
	return func(t *testing.T, b docs.Block) {
		text, err := os.ReadFile(filepath.Join(root, file))
		require.NoError(t, err)
		var shown, there map[string]any
		require.NoError(t, yaml.Unmarshal([]byte(b.Text), &shown))
		require.NoError(t, yaml.Unmarshal(text, &there))
		require.NotEmpty(t, shown)
		for key, value := range shown {
			if list, ok := value.([]any); ok {
				assert.Subset(t, there[key], list, key)
				continue
			}
			assert.Equal(t, there[key], value, key)
		}
	}
}

// migrateAsks has the rules of the page's first pod.
func migrateAsks(t *testing.T, b docs.Block) {
	newMachine(t).replay(b, "PATH=$PWD/bin:$PATH\nprintf '%s\\n' '!*.example.com' '!192.168.1.0/24' 192.168.2.1 '*' > rules.txt\n")
}

// converts has a small squid.conf, where squid has it.
func converts(t *testing.T, b docs.Block) {
	const at = "/etc/squid/squid.conf"
	require.Contains(t, b.Text, at)
	path := filepath.Join(t.TempDir(), "squid.conf")
	require.NoError(t, os.WriteFile(path, []byte("acl site dstdomain .example.com\nhttp_access allow site\nhttp_access deny all\n"), 0o600))
	script := strings.ReplaceAll(strings.ReplaceAll(b.Text, "$ ", ""), at, path)
	got := newMachine(t).run("PATH=$PWD/bin:$PATH\n" + script + "cat rules.txt")
	assert.Contains(t, got, "*.example.com\n")
}

// saysTime wants the line that is shown to be one that the converter's goldens have, but for its place.
func saysTime(t *testing.T, b docs.Block) {
	_, said, ok := strings.Cut(b.Text, ": ")
	require.True(t, ok)
	assert.Contains(t, read(t, "acl/convert/testdata/squid/unsaid.golden"), ": "+said)
}

// read is a file of the source.
func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	require.NoError(t, err)
	return string(text)
}

// saysInUse wants the message that is shown to be the program's.
func saysInUse(t *testing.T, b docs.Block) {
	format := regexp.MustCompile(`"(EGRESS_SOURCE %s is in use: [^"]*)"`).FindStringSubmatch(read(t, "netsetup/wire_linux.go"))
	require.NotNil(t, format)
	assert.Regexp(t, strings.ReplaceAll(regexp.QuoteMeta(format[1]), "%s", ".*"), b.Text)
}

// saysLost wants the warning that is shown to be one that the planner's tests have.
func saysLost(t *testing.T, b docs.Block) {
	assert.Contains(t, read(t, "netsetup/testdata/nameservers.sh"), strings.Join(strings.Fields(b.Text), " "))
}

// kubectlNames wants what the commands ask for to be called so.
func kubectlNames(t *testing.T, b docs.Block) {
	var manifests strings.Builder
	for _, dir := range []string{"base", "components"} {
		require.NoError(t, filepath.WalkDir(filepath.Join(root, "deploy", "kustomize", dir), func(path string, e os.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				text, err := os.ReadFile(path)
				manifests.Write(text)
				return err
			}
			return err
		}))
	}
	asked := 0
	for _, m := range regexp.MustCompile(`-c (\w+)|component=(\w+)|service-name=(\w+)|lease (\w+)`).FindAllStringSubmatch(b.Text, -1) {
		name := strings.Join(m[1:], "")
		assert.Regexp(t, `(name|component): "?`+name+`"?\b`, manifests.String(), m[0])
		asked++
	}
	assert.GreaterOrEqual(t, asked, 6)
}

// leaseWords wants the annotations that are shown to be those that are written.
func leaseWords(t *testing.T, b docs.Block) {
	words := regexp.MustCompile(`sluice\.io/[a-z-]+`).FindAllString(b.Text, -1)
	require.Len(t, words, 5)
	for _, word := range words {
		assert.Contains(t, read(t, "internal/hold/lease.go"), `"`+word+`"`)
	}
}

// writesPassword gives htpasswd the password that it asks a person for.
func writesPassword(t *testing.T, b docs.Block) {
	nettest.Need(t, "htpasswd")
	require.Contains(t, b.Text, "htpasswd -nB agent")
	m := newMachine(t)
	script := strings.Replace(b.Text, "htpasswd -nB agent", "printf PASSWORD | htpasswd -niB agent", 1)
	got := m.run("rm -f users\n" + script + "\necho $https_proxy $http_proxy\nsed '/^$/d; s/:.*//' users")
	assert.Equal(t, "http://agent:PASSWORD@sluice:8080 http://agent:PASSWORD@sluice:8080\nagent\n", got)
}

// makesCertificate has a CA, and takes the certificate for one of a client.
func makesCertificate(t *testing.T, b docs.Block) {
	dir := t.TempDir()
	got := program.Command(t, nil, nil, "sh", "-ec", "cd "+dir+`
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -subj /CN=CA -out ca.crt -days 1
`+b.Text+`
openssl verify -purpose sslclient -CAfile ca.crt shop.crt
openssl x509 -in shop.crt -noout -ext subjectAltName
`)
	require.Equal(t, 0, got.Status, got.Err)
	assert.Contains(t, got.Out, "shop.crt: OK\n")
	assert.Contains(t, got.Out, "URI:spiffe://cluster.local/ns/shop/sa/web")
}

func socketActivate(t *testing.T, b docs.Block) {
	nettest.Need(t, "systemd-socket-activate")
	got := newMachine(t).run("cd bin\necho '*.example.com' > rules.txt\n" + strings.TrimSpace(strings.TrimPrefix(b.Text, "$ ")) + " > said 2>&1 &\nstarted\n" +
		"curl -sS -x http://127.0.0.1:8080 https://www.example.com/\ncurl -s http://127.0.0.1:9090/readyz")
	assert.Contains(t, got, "hello\n")
}

// asPrinted runs a block of commands, which has no need of a gateway.
func asPrinted(t *testing.T, b docs.Block) {
	newMachine(t).replay(b, "PATH=$PWD/bin:$PATH; cd \"$(mktemp -d)\"")
}

// suggestsAsPrinted writes the log that is shown, and wants the list that is shown: its comments look
// like prompts, so that the block cannot be replayed as others are.
func suggestsAsPrinted(t *testing.T, b docs.Block) {
	_, log, ok := strings.Cut(b.Text, "$ cat access.log\n")
	require.True(t, ok)
	log, want, ok := strings.Cut(log, "$ sluice acl suggest --log access.log\n")
	require.True(t, ok)
	got := newMachine(t).run("PATH=$PWD/bin:$PATH; cd \"$(mktemp -d)\"; printf %s '" + log + "' > access.log; sluice acl suggest --log access.log")
	assert.Equal(t, strings.TrimSpace(want), strings.TrimSpace(got))
}

// acceptedRules wants the rules that are shown to be some.
func acceptedRules(t *testing.T, b docs.Block) {
	got := newMachine(t).run("PATH=$PWD/bin:$PATH\nsluice acl check - <<'end of rules'\n" + b.Text + "\nend of rules\necho status $?")
	assert.Contains(t, got, "status 0\n")
}

// refusesWhatOpens runs the last step of a job, as GitHub does, for pull requests: none opens what was not agreed on
// before it, whatever the pull request says of that.
func refusesWhatOpens(t *testing.T, b docs.Block) {
	var page struct {
		Jobs map[string]struct {
			Container any
			Steps     []struct{ Run string }
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte(b.Text), &page))
	job := page.Jobs["rules"]
	assert.Nil(t, job.Container, "the image has no shell to run steps with")
	step := job.Steps[len(job.Steps)-1].Run
	const stage = `PATH=$PWD/bin:$PATH; cd "$(mktemp -d)"
export RUNNER_TEMP=$(mktemp -d) GITHUB_BASE_REF=main GIT_CONFIG_GLOBAL=/dev/null
git init -q . && git config user.name a && git config user.email a@example.com
printf 'good.com #@ owner=web\n' > agreed.txt; printf 'a.com\n#@ end\n' > rules.txt
git add . && git commit -qm one && git update-ref refs/remotes/origin/main HEAD
`
	for edit, want := range map[string]string{
		"printf 'a.com\ngood.com\n#@ end\n' > rules.txt":                                   "0",
		"printf 'a.com\nevil.com\n#@ end\n' > rules.txt":                                   "1",
		"printf 'evil.com\n' > agreed.txt; printf 'a.com\nevil.com\n#@ end\n' > rules.txt": "1",
	} {
		out := newMachine(t).run(stage + edit + "\ncat > step.sh <<'end of step'\n" + step + "\nend of step\nbash -e step.sh 2>&1; echo status $?")
		assert.Contains(t, out, "status "+want+"\n", edit)
	}
}

// inspectable writes the page's configuration, with what it names, where a command line is to run.
const inspectable = `PATH=$PWD/bin:$PATH
page=$PWD/docs/inspect.md
cd "$(mktemp -d)" && mkdir ca && echo a-secret-of-github > github
sluice inspect ca api.github.com git.example.com --cert ca/tls.crt --key ca/tls.key > ca/said
sed -n '/^~~~yaml$/,/^~~~$/p' "$page" | sed '1d;/^~~~$/,$d' | sed "s|/etc/sluice/||" > sluice.yaml
`

func inspectFile(t *testing.T, _ docs.Block) {
	fences := strings.ReplaceAll(inspectable, "~~~", "```")
	assert.Equal(t, "0\n", newMachine(t).run(fences+"exec 2>&1\nsluice proxy --check --config sluice.yaml; echo $?"))
}

func inspectAsks(t *testing.T, b docs.Block) {
	newMachine(t).replay(b, strings.ReplaceAll(inspectable, "~~~", "```"))
}
