//go:build linux

package peers

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/sluiceproxy/sluice/internal/bench/secure"
)

// DefaultRules is how many rules Sluice has when nothing else is asked for.
const DefaultRules = 1000

// AccessLog is where Sluice's access log is in its folder.
const AccessLog = "log/access.log"

// Sluice is Sluice itself, with the name and path of one build.
func Sluice(name, path string) *Peer {
	return &Peer{
		Name: name, Program: path, does: []Work{Gets, Tunnels, TCP, Opened}, ruled: true, sluice: true,
		version: []string{"version"}, number: regexp.MustCompile(`sluice (\S+ go\S+)`),
		command: sluiceCommand,
	}
}

func sluiceCommand(p *Peer, s Setup) ([]string, []string, error) {
	admin := fmt.Sprintf("127.0.0.1:%d", s.Admin)
	log, err := s.write(AccessLog, "") // not beside the rules, whose folder is watched
	if err != nil {
		return nil, nil, err
	}
	var env []string
	argv := []string{p.Program}
	switch {
	case s.Work == TCP:
		conf, err := s.write("sluice.yaml", fmt.Sprintf("tcp:\n- {listen: %q, destinations: %q}\n", s.Addr(), s.Target))
		if err != nil {
			return nil, nil, err
		}
		argv = append(argv, "tcp", "--config", conf)
	case s.Work == Opened:
		_, port, _ := strings.Cut(s.Target, ":")
		conf, err := s.write("sluice.yaml", fmt.Sprintf(openedConfig, s.Authority, secure.ProxyCert, secure.ProxyKey, port))
		if err != nil {
			return nil, nil, err
		}
		argv, env = append(argv, "proxy", "--config", conf, "--listen", s.Addr()), trusting(s)
	case s.Tenants > 0 || s.Users > 0:
		conf, err := s.writeTenants()
		if err != nil {
			return nil, nil, err
		}
		argv = append(argv, "proxy", "--config", conf, "--listen", s.Addr())
	default:
		n := s.Rules
		if n == 0 {
			n = DefaultRules
		}
		rules, err := s.write("rules.txt", RuleText(n))
		if err != nil {
			return nil, nil, err
		}
		argv = append(argv, "proxy", "--rules", rules)
		if s.Shadow > 0 {
			shadow, err := s.write("shadow.txt", rulesFrom(n, s.Shadow))
			if err != nil {
				return nil, nil, err
			}
			argv = append(argv, "--shadow-rules", shadow)
		}
		if s.Check != "" {
			argv = append(argv, "--tunnel-check", s.Check)
		}
		if s.SOCKS {
			argv = append(argv, "--listen", "127.0.0.1:0", "--listen-socks", s.Addr())
		} else {
			argv = append(argv, "--listen", s.Addr())
		}
	}
	argv = append(argv, "--admin", admin, "--access-log", log)
	if s.Resolver != "" {
		argv = append(argv, "--resolver", s.Resolver)
	}
	if s.Profile {
		argv = append(argv, "--pprof")
	}
	return argv, env, nil
}

// openedConfig asks of each request what it may do, at all addresses of the origin.
const openedConfig = `rules: |
  127.0.0.0/8
inspect:
  caCert: %[1]s/%[2]s
  caKey: %[1]s/%[3]s
  hosts:
  - host: 127.0.0.0/8:%[4]s
    requests: |
      !* /private/**
      GET,HEAD /**
`
