//go:build linux

// Package peers knows how each proxy is configured for a benchmark and started:
// in the foreground, on one port of 127.0.0.1, with no log, no cache and no rules
// where that favours it. Sluice runs as it ships.
package peers

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// Work is a kind of work that a proxy can do or not.
type Work int

// The kinds of work.
const (
	Gets    Work = iota // requests in absolute form
	Tunnels             // CONNECT
	TCP                 // a fixed port to a fixed destination
	Opened              // CONNECT to hosts of Target's port whose TLS is terminated, by the authority in Authority
)

// Setup is what a proxy is configured for.
type Setup struct {
	Work     Work
	Dir      string // for its files, its own
	Port     int    // of 127.0.0.1
	Admin    int    // another port
	Target   string // of TCP and Opened
	Rules    int    // how many; 0: as the peer ships
	Resolver string // DNS server, or empty
	Profile  bool   // Sluice only: offer profiles
	SOCKS    bool   // Sluice only: Port is for clients of SOCKS 5
	AtOnce   bool   // who do not wait for the answer to their greeting
	Check    string // Sluice only: --tunnel-check; or empty
	Shadow   int    // Sluice only: how many shadow rules there are, others than the rules but the last; 0: none

	Authority string // folder that [secure.WriteAuthorities] has written, of Opened

	// Of Sluice only, too.
	Tenants       int    // each with its own DefaultRules rules; 0: none
	Directory     string // socket of the directory, which has the benchmark's clients in ClientNamespace; or empty
	Authorization string // that clients send, of UserName; or empty
	Users         int    // who have a password beside UserName, and rules as the others
}

// Addr is where the proxy listens.
func (s Setup) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.Port) }

// write writes a file into the proxy's folder, and returns its path.
func (s Setup) write(name, text string) (string, error) {
	path := filepath.Join(s.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, []byte(text), 0o644)
}

// A Peer is one proxy.
type Peer struct {
	Name    string
	Package string // of Debian that has it; empty: it is built
	Program string // path, or name to look up
	does    []Work
	sluice  bool
	ruled   bool   // it knows rules as the egress router writes them
	byName  bool   // the certificates that it makes are for names, also where the host is an address
	module  string // that the program is built from, where it has no version of its own
	version []string
	number  *regexp.Regexp // of the version in what it prints
	// command writes the configuration, and returns the command line and what the
	// environment has besides.
	command func(p *Peer, s Setup) (argv, env []string, err error)
}

// Does reports whether the peer can do that work.
func (p *Peer) Does(w Work) bool {
	for _, d := range p.does {
		if d == w {
			return true
		}
	}
	return false
}

// Opener reports whether the peer is here for what it does inside TLS only.
func (p *Peer) Opener() bool { return len(p.does) == 1 && p.does[0] == Opened }

// SignsNamesOnly reports whether no client can verify the certificate that the peer makes for an address.
func (p *Peer) SignsNamesOnly() bool { return p.byName }

// Ruled reports whether the peer has rules that can be set.
func (p *Peer) Ruled() bool { return p.ruled }

// IsSluice reports whether the peer is a build of Sluice.
func (p *Peer) IsSluice() bool { return p.sluice }

// Find returns why the peer cannot run here, or nil.
func (p *Peer) Find() error {
	_, err := exec.LookPath(p.Program)
	if err != nil && p.Package != "" {
		return fmt.Errorf("%s is not installed (Debian's package %s)", p.Name, p.Package)
	}
	return err
}

// Version asks the program for its version.
func (p *Peer) Version() string {
	if p.module != "" {
		return p.builtFrom()
	}
	out, err := exec.Command(p.Program, p.version...).CombinedOutput()
	if m := p.number.FindSubmatch(out); m != nil {
		return string(m[1])
	}
	if err != nil {
		return "unknown: " + err.Error()
	}
	return strings.TrimSpace(string(out))
}

// builtFrom is the version of the module in the program.
func (p *Peer) builtFrom() string {
	info, err := buildinfo.ReadFile(p.Program)
	if err != nil {
		return "unknown: " + err.Error()
	}
	for _, d := range info.Deps {
		if d.Path == p.module {
			return d.Version
		}
	}
	return "unknown"
}

// Command writes the configuration for a setup, and returns how to start the proxy.
func (p *Peer) Command(s Setup) (argv, env []string, err error) {
	if !p.Does(s.Work) {
		return nil, nil, fmt.Errorf("%s cannot do that", p.Name)
	}
	return p.command(p, s)
}

// All are the peers, the built ones below bin.
func All(bin string) []*Peer {
	return []*Peer{squid, haproxy, nginx, tinyproxy, trafficserver, apache, goproxy(filepath.Join(bin, "goproxy")),
		squidOpenSSL(filepath.Join(bin, "squid-openssl")), mitmproxy}
}
