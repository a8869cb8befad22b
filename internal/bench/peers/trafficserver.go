//go:build linux

package peers

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

const trafficserverRecords = `CONFIG proxy.config.http.server_ports STRING %d:ip-in=127.0.0.1
CONFIG proxy.config.reverse_proxy.enabled INT 0
CONFIG proxy.config.url_remap.remap_required INT 0
CONFIG proxy.config.url_remap.pristine_host_hdr INT 1
CONFIG proxy.config.http.cache.http INT 0
CONFIG proxy.config.http.connect_ports STRING *
CONFIG proxy.config.http.server_session_sharing.pool STRING thread
CONFIG proxy.config.log.logging_enabled INT 0
CONFIG proxy.config.net.connections_throttle INT 20000
CONFIG proxy.config.net.max_connections_in INT 20000
CONFIG proxy.config.net.max_requests_in INT 0
CONFIG proxy.config.diags.output.status STRING O
CONFIG proxy.config.diags.output.note STRING O
CONFIG proxy.config.diags.output.warning STRING O
CONFIG proxy.config.admin.user_id STRING nobody
CONFIG proxy.config.http.transaction_active_timeout_in INT 0
`

// trafficserverLayout keeps it out of this machine's own configuration.
const trafficserverLayout = `prefix: %[1]s
exec_prefix: %[1]s
bindir: /usr/bin
sbindir: /usr/bin
sysconfdir: %[1]s/etc
datadir: %[1]s
includedir: %[1]s
libdir: /usr/lib/trafficserver
libexecdir: /usr/lib/trafficserver/modules
localstatedir: %[1]s
runtimedir: %[1]s/run
logdir: %[1]s/log
cachedir: %[1]s/cache
`

var trafficserver = &Peer{
	Name: "trafficserver", Package: "trafficserver", Program: "traffic_server", does: []Work{Gets, Tunnels},
	version: []string{"--version"}, number: regexp.MustCompile(`(\d+\.\d+\.\d+)`),
	command: func(p *Peer, s Setup) ([]string, []string, error) {
		for name, text := range map[string]string{
			"runroot.yaml":       fmt.Sprintf(trafficserverLayout, s.Dir),
			"etc/records.config": fmt.Sprintf(trafficserverRecords, s.Port),
			"etc/storage.config": "",
			"etc/remap.config":   "",
			"etc/plugin.config":  "",
			"etc/ip_allow.yaml":  "ip_allow:\n- {apply: in, ip_addrs: 127.0.0.1, action: allow, methods: ALL}\n",
			"log/.keep":          "",
			"cache/.keep":        "",
			"run/.keep":          "",
		} {
			if _, err := s.write(name, text); err != nil {
				return nil, nil, err
			}
		}
		// As root it wants to become somebody else, who writes here.
		for _, dir := range []string{"", "log", "cache", "run"} {
			if err := os.Chmod(filepath.Join(s.Dir, dir), 0o777); err != nil {
				return nil, nil, err
			}
		}
		return []string{p.Program, "--run-root=" + filepath.Join(s.Dir, "runroot.yaml")}, nil, nil
	},
}
