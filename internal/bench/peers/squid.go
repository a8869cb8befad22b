//go:build linux

package peers

import (
	"fmt"
	"regexp"
)

// squidConfig is the egress router's, with what keeps squid off this machine's
// files and processes. Without rules everything is allowed.
const squidConfig = `http_port 127.0.0.1:%d
cache deny all
access_log none all
debug_options ALL,0
shutdown_lifetime 0
pid_filename none
cache_log /dev/null
netdb_filename none
coredump_dir none
pinger_enable off
hosts_file none
`

var squid = &Peer{
	Name: "squid", Package: "squid", Program: "squid", does: []Work{Gets, Tunnels}, ruled: true,
	version: []string{"-v"}, number: regexp.MustCompile(`Version (\S+)`),
	command: func(p *Peer, s Setup) ([]string, []string, error) {
		text := fmt.Sprintf(squidConfig, s.Port)
		if s.Resolver != "" {
			text += "dns_nameservers " + s.Resolver + "\n"
		}
		if s.Rules == 0 {
			text += "http_access allow all\n"
		} else {
			text += squidRules(s.Rules)
		}
		conf, err := s.write("squid.conf", text)
		return []string{p.Program, "-N", "-f", conf}, nil, err
	},
}
