//go:build linux

package peers

// goproxy's basic example, as make bench builds it from its module.
func goproxy(path string) *Peer {
	return &Peer{
		Name: "goproxy", Program: path, module: "github.com/elazarl/goproxy", does: []Work{Gets, Tunnels},
		command: func(p *Peer, s Setup) ([]string, []string, error) {
			return []string{p.Program, "-addr", s.Addr()}, nil, nil
		},
	}
}
