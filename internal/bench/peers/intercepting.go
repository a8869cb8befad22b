//go:build linux

package peers

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"

	"github.com/sluiceproxy/sluice/internal/bench/secure"
)

// trusting has a program of Go trust the origin.
func trusting(s Setup) []string {
	return []string{"SSL_CERT_FILE=" + filepath.Join(s.Authority, secure.OriginCert), "SSL_CERT_DIR=/nonexistent"}
}

// bumpConfig is squid as it looks into all that goes by TLS.
const bumpConfig = `http_port 127.0.0.1:%[1]d ssl-bump tls-cert=%[2]s/%[3]s generate-host-certificates=on dynamic_cert_mem_cache_size=16MB
sslcrtd_program %[4]s/usr/lib/squid/security_file_certgen -s %[5]s/certificates -M 16MB
sslcrtd_children 4 startup=1
tls_outgoing_options cafile=%[2]s/%[6]s
acl step1 at_step SslBump1
ssl_bump peek step1
ssl_bump bump all
# It knows no addresses in certificates.
sslproxy_cert_error allow all
http_access allow all
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
icon_directory /usr/share/squid/icons
error_directory /usr/share/squid-langpack/en
mime_table /usr/share/squid/mime.conf
`

// squidOpenSSL is squid with ssl_bump, for which Debian has a package that cannot be installed beside
// the other: it is unpacked in the folder.
func squidOpenSSL(folder string) *Peer {
	return &Peer{
		Name: "squid-openssl", Package: "squid-openssl", Program: filepath.Join(folder, "usr/sbin/squid"), does: []Work{Opened}, byName: true,
		version: []string{"-v"}, number: regexp.MustCompile(`Version (\S+)`),
		command: func(p *Peer, s Setup) ([]string, []string, error) {
			root, err := filepath.Abs(folder)
			if err != nil {
				return nil, nil, err
			}
			conf, err := s.write("squid.conf", fmt.Sprintf(bumpConfig, s.Port, s.Authority, secure.ProxyBoth, root, s.Dir, secure.OriginCert))
			if err != nil {
				return nil, nil, err
			}
			certgen := exec.Command(filepath.Join(root, "usr/lib/squid/security_file_certgen"), "-c", "-s", filepath.Join(s.Dir, "certificates"), "-M", "16MB")
			if out, err := certgen.CombinedOutput(); err != nil {
				return nil, nil, fmt.Errorf("security_file_certgen: %w: %s", err, out)
			}
			if out, err := exec.Command("chown", "-R", "proxy", s.Dir).CombinedOutput(); err != nil { // whose squid becomes
				return nil, nil, fmt.Errorf("chown: %w: %s", err, out)
			}
			program, err := filepath.Abs(p.Program)
			return []string{program, "-N", "-f", conf}, nil, err
		},
	}
}

var mitmproxy = &Peer{
	Name: "mitmproxy", Package: "mitmproxy", Program: "mitmdump", does: []Work{Opened},
	version: []string{"--version"}, number: regexp.MustCompile(`Mitmproxy: (\S+)`),
	command: func(p *Peer, s Setup) ([]string, []string, error) {
		if _, err := s.write("mitmproxy-ca.pem", ""); err != nil {
			return nil, nil, err
		}
		if out, err := exec.Command("cp", filepath.Join(s.Authority, secure.ProxyBoth), filepath.Join(s.Dir, "mitmproxy-ca.pem")).CombinedOutput(); err != nil {
			return nil, nil, fmt.Errorf("cp: %w: %s", err, out)
		}
		return []string{p.Program, "-q", "--listen-host", "127.0.0.1", "--listen-port", fmt.Sprint(s.Port), "--set", "confdir=" + s.Dir,
			"--set", "ssl_verify_upstream_trusted_ca=" + filepath.Join(s.Authority, secure.OriginCert), "--set", "flow_detail=0"}, nil, nil
	},
}
