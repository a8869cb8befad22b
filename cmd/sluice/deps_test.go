package main

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/sluiceproxy/sluice/"

// list runs go list on the packages and returns its lines.
func list(t *testing.T, format string, packages ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-f", format}, packages...)...)
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	require.NoError(t, err)
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// The architecture: what a package must not import, itself or through others, and
// why. A prefix that ends in / stands for everything below it.
func TestForbiddenImports(t *testing.T) {
	tests := []struct {
		pkg    string
		banned string
		why    string
	}{
		{"cmd/sluice", "github.com/vishvananda/netlink", "network-facing: it needs no privilege and must not be able to change the network"},
		{"cmd/sluice", "github.com/google/nftables", "network-facing: it needs no privilege and must not be able to change the network"},
		{"cmd/sluice", module + "netsetup", "the privileged half parses no client's bytes, and the other half holds no privilege"},
		{"cmd/sluice", "testing", "test code does not ship"},
		{"cmd/sluice", "html/template", "its reflection keeps all methods in the program, which is then a quarter larger"},
		{"cmd/sluice", "k8s.io", "network-facing: it asks no API and holds no token of one; sluice-kube tells it who is who"},
		{"cmd/sluice", "sigs.k8s.io", "network-facing: it asks no API and holds no token of one; sluice-kube tells it who is who"},
		{"internal/directory", "k8s.io", "both ends of the socket have it, and only one knows an API server"},
		{"internal/holding", "github.com/vishvananda/netlink", "both ends of the socket have it, and only one may change the network"},
		{"cmd/sluice-kube", "github.com/vishvananda/netlink", "it has the pod's token, and no privilege: sluice-netsetup hold changes the network"},
		{"internal/hold", "k8s.io", "who holds is decided apart from how that is asked and done"},
		{"internal/hold", "net", "who holds is decided apart from how that is asked and done"},
		{"acl", "net/http", "acl is a library for any caller: it decides, and opens nothing"},
		{"acl", "net", "acl opens no socket and asks no resolver"},
		{"acl/request", "net", "it opens no socket, and reads no files"},
		{"proxy/...", module + "acl/convert", "configurations are converted by a command, and by nothing that a request passes"},
		{"acl/convert", "net", "converting opens no socket and asks no resolver"},
		{"acl/convert", "net/http", "converting opens no socket and asks no resolver"},
		{"proxy/http1", "net", "http1 is heads and framing: bytes in, bytes out"},
		{"proxy/socks5", "net", "socks5 is what a client says: bytes in, a reading out"},
		{"proxy/outbound", "net/http", "what leaves is decided and dialled here, by address"},
		{"proxy/tlshello", "net", "tlshello is what a client says: bytes in, a reading out"},
		{"cmd/sluice-netsetup", "net/http", "privileged: it speaks with nobody but the pod's other programs, on a socket of its own"},
		{"cmd/sluice-netsetup", module + "proxy", "privileged: it parses no client's bytes"},
		{"cmd/sluice-netsetup", module + "acl", "privileged: it decides on no client"},
		{"cmd/sluice-netsetup", module + "internal/config", "privileged: it links no more than it needs, and the settings of the other commands are none of its business"},
		{"cmd/sluice-netsetup", "github.com/fsnotify/fsnotify", "privileged: it links no more than it needs; it compares its files every few seconds"},
		{"internal/reload", "github.com/fsnotify/fsnotify", "who wants to be told by the kernel brings internal/reload/inotify"},
	}
	// fmt imports os, so this one is about acl's own imports.
	assert.NotContains(t, list(t, "{{join .Imports \"\\n\"}}", "./acl"), "os", "acl reads no files: its callers do")
	for _, tt := range tests {
		deps := list(t, "{{join .Deps \"\\n\"}}", "./"+tt.pkg)
		for _, d := range deps {
			if d == tt.banned || strings.HasPrefix(d, tt.banned+"/") && tt.banned != "net" {
				t.Errorf("%s imports %s: %s", tt.pkg, d, tt.why)
			}
		}
	}
}

// What a room may import of this program at most, itself or through others, and why.
func TestAllowedImports(t *testing.T) {
	gate := []string{"acl", "acl/request", "internal/files", "proxy/auth", "proxy/contain", "proxy/fdbudget", "proxy/http1", "proxy/policy", "proxy/poll", "proxy/resolve", "proxy/sock", "proxy/tlshello"}
	frontDoor := slices.Concat(gate, []string{"internal/linelog", "metrics", "proxy/accept", "proxy/accesslog", "proxy/door", "proxy/logline", "proxy/outbound", "proxy/tunnel"})
	judged := []string{"proxy/auth", "proxy/contain", "proxy/policy"} // what is said of what something was judged by
	tests := []struct {
		pkg     string
		allowed []string
		why     string
	}{
		{"acl", nil, "acl is a library for any caller"},
		{"acl/convert", []string{"acl"}, "it reads texts, wherever they come from"},
		{"acl/suggest", []string{"acl"}, "it reads logs, wherever they come from"},
		{"acl/audit", []string{"acl"}, "it reasons about rules, whoever has them"},
		{"acl/request", []string{"acl"}, "it decides what requests may do, and opens nothing"},
		{"proxy/ca", nil, "it signs, whoever asks for what host"},
		{"proxy", slices.Concat(frontDoor, []string{"proxy/answer", "proxy/inspect", "proxy/proxyheader", "proxy/socks5", "proxy/streams", "proxy/terminate", "proxy/wire"}), "a front door knows no other, and takes what it uses, not the configuration; the admin port is beside it"},
		{"proxy/tcp", slices.Concat(frontDoor, []string{"proxy/proxyheader", "proxy/tlshello"}), "a front door knows no other, and takes what it uses, not the configuration"},
		{"proxy/inspect", []string{"proxy/contain", "proxy/http1", "proxy/sock", "proxy/wire"}, "it hands requests on, and neither judges nor dials"},
		{"proxy/streams", []string{"proxy/contain", "proxy/fdbudget", "proxy/http1", "proxy/sock", "proxy/wire"}, "it is given connections that the gate has made"},
		{"proxy/wire", []string{"proxy/http1"}, "it reads and writes messages, whoever has them"},
		{"proxy/door", slices.Concat(judged, []string{"acl", "acl/request", "proxy/fdbudget"}), "the door knows no front door, and no bytes"},
		{"proxy/outbound", gate, "what admits and connects knows no front door, and has its dialler from who makes it"},
		{"proxy/auth", []string{"proxy/contain"}, "what a client has shown is judged without knowing what for; who reviews tokens is given"},
		{"proxy/answer", slices.Concat(judged, []string{"acl", "acl/request", "proxy/http1", "proxy/logline"}), "what a client is told is made of plain values: answers open no socket, and know no front door"},
		{"proxy/accesslog", slices.Concat(judged, []string{"acl", "acl/request", "internal/linelog", "metrics", "proxy/http1", "proxy/logline"}), "front doors fill records; the log knows none of them, and opens no socket"},
		{"proxy/policy", []string{"acl", "acl/request", "proxy/auth", "proxy/contain"}, "what a request is judged by: values, and no socket"},
		{"proxy/resolve", []string{"internal/files", "proxy/contain", "proxy/fdbudget"}, "the resolver does not decide"},
		{"proxy/tunnel", []string{"proxy/contain", "proxy/fdbudget", "proxy/poll", "proxy/sock"}, "a tunnel moves bytes; what may be connected was decided before"},
		{"proxy/accept", []string{"proxy/contain", "proxy/poll", "proxy/sock"}, "who may come in is the door's business"},
		{"proxy/poll", []string{"proxy/contain", "proxy/sock"}, "loops tell events, whatever they mean"},
		{"proxy/sock", nil, "sockets know no policy"},
		{"proxy/dial", []string{"proxy/sock"}, "it connects to what it is given, which the gate has judged"},
		{"proxy/http1", nil, "http1 knows no policy"},
		{"proxy/tlshello", nil, "tlshello knows no policy, and leaves names as they are spelt"},
		{"proxy/socks5", nil, "socks5 is messages and replies, and knows no policy"},
		{"proxy/proxyheader", nil, "it reads a header, whoever may send one"},
		{"proxy/terminate", []string{"proxy/auth", "proxy/contain", "proxy/fdbudget", "proxy/proxyheader", "proxy/sock"}, "it hands clients on, to whom it does not know"},
		{"proxy/fdbudget", nil, "it counts, whatever is opened"},
		{"proxy/contain", nil, "it keeps panics, whatever was served"},
		{"proxy/logline", nil, "it appends words to lines"},
		{"metrics", []string{"acl"}, "metrics are below what they measure"},
		{"netsetup", []string{"internal/source"}, "netsetup reads texts, wherever they come from"},
		{"netsetup/hold", []string{"internal/fencetime", "internal/holding", "internal/peer", "internal/source", "netsetup", "netsetup/fence"}, "it holds what it is asked to, and knows nothing of whose turn it is"},
		{"netsetup/fence", []string{"internal/fencetime"}, "the fence knows addresses and the kernel, whoever holds them"},
		{"internal/settings", []string{"internal/files", "internal/spelling"}, "settings serve the privileged program too: what the values mean is the commands' business"},
		{"internal/reload", []string{"internal/files"}, "reload serves the privileged program too"},
		{"internal/directory", []string{"internal/peer"}, "who a client is, is no policy; it serves a program that knows the API and one that faces the network"},
		{"internal/holding", []string{"internal/peer"}, "it serves the program that knows the API and the one that has the privilege"},
		{"internal/serving", []string{"internal/peer"}, "it serves the program that knows whose turn it is and the one that faces the network"},
		{"internal/peer", nil, "lines of JSON, whatever they say"},
		{"internal/hold", []string{"internal/fencetime"}, "what it decides is explored whole: it knows nothing but its arguments"},
		{"internal/fencetime", nil, "a rule about times, whoever sets them"},
		{"internal/linelog", nil, "it writes lines, whatever they say"},
	}
	for _, tt := range tests {
		for _, d := range list(t, "{{join .Deps \"\\n\"}}", "./"+tt.pkg) {
			if name, ours := strings.CutPrefix(d, module); ours && !slices.Contains(tt.allowed, name) {
				t.Errorf("%s imports %s: %s", tt.pkg, name, tt.why)
			}
		}
	}
}

// What reasons about lists of rules as a whole may take seconds and hundreds of megabytes: it is asked
// when rules are read and by commands, never on the way of a request. Nothing that a request passes through
// imports it, itself or through others; what reads the configuration and the commands do.
func TestAuditIsNotOnTheWay(t *testing.T) {
	for _, line := range list(t, "{{.ImportPath}}: {{join .Deps \" \"}}", "./proxy/...", "./metrics/...", "./internal/admin/...", "./internal/reload/...", "./acl") {
		pkg, deps, _ := strings.Cut(strings.TrimPrefix(line, module), ": ")
		for _, d := range strings.Fields(deps) {
			for _, slow := range []string{"acl/audit", "acl/audit/audittest", "acl/convert", "acl/suggest"} {
				assert.NotEqual(t, module+slow, d, "%s is on the way of a request, and imports %s", pkg, slow)
			}
		}
	}
	// Those that ask it, each when rules are read or by a command.
	for _, line := range list(t, "{{.ImportPath}}: {{join .Imports \" \"}}", "./...") {
		pkg, imports, _ := strings.Cut(strings.TrimPrefix(line, module), ": ")
		if slices.Contains(strings.Fields(imports), module+"acl/audit") {
			assert.Contains(t, []string{"cmd/sluice", "internal/config", "acl/audit/audittest"}, pkg, "who asks acl/audit is on no request's way")
		}
	}
}

// Who holds the dialler can connect to anything: only what puts a gate together does.
func TestWhoDials(t *testing.T) {
	for _, line := range list(t, "{{.ImportPath}}: {{join .Imports \" \"}}", "./...") {
		pkg, imports, _ := strings.Cut(strings.TrimPrefix(line, module), ": ")
		if slices.Contains(strings.Fields(imports), module+"proxy/dial") {
			assert.Equal(t, "cmd/sluice", pkg, "only proxy/outbound dials, by what it is given there")
		}
	}
}

// Who imports goproxy has what dials and signs by itself in its hands.
func TestWhoHoldsGoproxy(t *testing.T) {
	for _, line := range list(t, "{{.ImportPath}}: {{join .Imports \" \"}} {{join .TestImports \" \"}} {{join .XTestImports \" \"}}", "./...") {
		pkg, imports, _ := strings.Cut(strings.TrimPrefix(line, module), ": ")
		if slices.Contains(strings.Fields(imports), "github.com/elazarl/goproxy") {
			assert.Equal(t, "proxy/inspect", pkg, "requests of opened tunnels come by the front door's adaptor")
		}
	}
}

// Who links a client of the API server can use what the pod may do there.
func TestWhoKnowsKubernetes(t *testing.T) {
	for _, line := range list(t, "{{.ImportPath}}: {{join .Imports \" \"}}", "./...") {
		pkg, imports, _ := strings.Cut(strings.TrimPrefix(line, module), ": ")
		for _, i := range strings.Fields(imports) {
			if strings.HasPrefix(i, "k8s.io/") {
				assert.Equal(t, "cmd/sluice-kube", pkg, "%s: who is who comes from sluice-kube, by the directory's socket", i)
			}
		}
	}
}

// Every package says in one comment what it is.
func TestPackageComments(t *testing.T) {
	for _, line := range list(t, "{{.ImportPath}}\t{{len .GoFiles}}\t{{.Doc}}", "./...") {
		fields := strings.SplitN(line, "\t", 3)
		if fields[1] != "0" {
			assert.NotEmpty(t, fields[2], "%s has no package comment", fields[0])
		}
	}
}
