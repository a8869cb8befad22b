//go:build linux

package peers

import (
	"fmt"
	"regexp"
)

// haproxyForward makes a forward proxy of haproxy: where the request is for, by
// address, is where the connection goes. Connections to servers are shared.
const haproxyForward = `global
    maxconn 9900

defaults
    mode http
    timeout connect 10s
    timeout client 1m
    timeout server 1m

frontend forward
    bind 127.0.0.1:%d
    http-request set-dst url_ip
    http-request set-dst-port url_port
    http-request set-uri %%[path]
    default_backend there

backend there
    http-reuse always
    server there 0.0.0.0:0
`

// haproxyTCP is what the egress router's dns-proxy mode amounts to for an address.
const haproxyTCP = `global
    maxconn 9900

defaults
    mode tcp
    option dontlognull
    option redispatch
    retries 3
    timeout connect 10s
    timeout client 1m
    timeout server 1m

frontend fe1
    bind 127.0.0.1:%d
    default_backend be1

backend be1
    server dest1 %s
`

var haproxy = &Peer{
	Name: "haproxy", Package: "haproxy", Program: "haproxy", does: []Work{Gets, TCP},
	version: []string{"-v"}, number: regexp.MustCompile(`version (\S+)`),
	command: func(p *Peer, s Setup) ([]string, []string, error) {
		text := fmt.Sprintf(haproxyForward, s.Port)
		if s.Work == TCP {
			text = fmt.Sprintf(haproxyTCP, s.Port, s.Target)
		}
		conf, err := s.write("haproxy.cfg", text)
		return []string{p.Program, "-db", "-q", "-f", conf}, nil, err
	},
}
