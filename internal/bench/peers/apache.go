//go:build linux

package peers

import (
	"fmt"
	"regexp"
)

// apacheConfig is mod_proxy as a forward proxy with the event MPM. A tunnel holds a
// thread, so there are enough of them for row 6.
const apacheConfig = `ServerRoot "/usr/lib/apache2"
DefaultRuntimeDir %[2]s
Mutex file:%[2]s default
PidFile %[2]s/pid
ServerName localhost
Listen 127.0.0.1:%[1]d
ListenBacklog 4096
ErrorLog /dev/null
LogLevel crit
LoadModule mpm_event_module modules/mod_mpm_event.so
LoadModule authz_core_module modules/mod_authz_core.so
LoadModule proxy_module modules/mod_proxy.so
LoadModule proxy_http_module modules/mod_proxy_http.so
LoadModule proxy_connect_module modules/mod_proxy_connect.so
ServerLimit 40
StartServers 1
ThreadLimit 256
ThreadsPerChild 256
MaxRequestWorkers 10240
MaxConnectionsPerChild 0
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 120
Timeout 600
ProxyRequests On
ProxyVia Off
AllowCONNECT 1-65535
<Proxy "*">
    Require all granted
</Proxy>
`

var apache = &Peer{
	Name: "apache2", Package: "apache2", Program: "apache2", does: []Work{Gets, Tunnels},
	version: []string{"-v"}, number: regexp.MustCompile(`Apache/(\S+)`),
	command: func(p *Peer, s Setup) ([]string, []string, error) {
		conf, err := s.write("apache2.conf", fmt.Sprintf(apacheConfig, s.Port, s.Dir))
		return []string{p.Program, "-DFOREGROUND", "-f", conf}, nil, err
	},
}
