//go:build linux

package peers

import (
	"path/filepath"

	"github.com/sluiceproxy/sluice/internal/bench/secure"
)

// goproxy's basic example, and that of an intercepting proxy, as make bench builds it from its module.
func goproxy(path string) *Peer {
	return &Peer{
		Name: "goproxy", Program: path, module: "github.com/elazarl/goproxy", does: []Work{Gets, Tunnels, Opened},
		command: func(p *Peer, s Setup) ([]string, []string, error) {
			if s.Work == Opened {
				return []string{p.Program, "-addr", s.Addr(), "-ca", filepath.Join(s.Authority, secure.ProxyBoth)}, trusting(s), nil
			}
			return []string{p.Program, "-addr", s.Addr()}, nil, nil
		},
	}
}
