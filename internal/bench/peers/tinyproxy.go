//go:build linux

package peers

import (
	"fmt"
	"regexp"
)

const tinyproxyConfig = `Port %d
Listen 127.0.0.1
Timeout 600
MaxClients 20000
LogLevel Critical
Syslog Off
LogFile "%s/log"
DisableViaHeader Yes
`

var tinyproxy = &Peer{
	Name: "tinyproxy", Package: "tinyproxy", Program: "tinyproxy", does: []Work{Gets, Tunnels},
	version: []string{"-v"}, number: regexp.MustCompile(`tinyproxy (\S+)`),
	command: func(p *Peer, s Setup) ([]string, []string, error) {
		conf, err := s.write("tinyproxy.conf", fmt.Sprintf(tinyproxyConfig, s.Port, s.Dir))
		return []string{p.Program, "-d", "-c", conf}, nil, err
	},
}
