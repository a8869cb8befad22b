//go:build linux

package peers

import (
	"fmt"
	"regexp"
)

// nginxConfig makes a forward proxy of nginx: the target is in a variable. (Its
// pool of upstream connections is for targets that are known beforehand.)
const nginxConfig = `daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid nginx.pid;
error_log stderr crit;
events { worker_connections 19000; }
http {
    access_log off;
    client_body_temp_path tmp;
    proxy_temp_path tmp;
    fastcgi_temp_path tmp;
    uwsgi_temp_path tmp;
    scgi_temp_path tmp;
    tcp_nodelay on;
    keepalive_requests 1000000;
    keepalive_timeout 75s;
    server {
        listen 127.0.0.1:%d backlog=4096;
        location / {
            proxy_pass http://$http_host$request_uri;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_max_temp_file_size 0;
        }
    }
}
`

var nginx = &Peer{
	Name: "nginx", Package: "nginx-light", Program: "nginx", does: []Work{Gets},
	version: []string{"-v"}, number: regexp.MustCompile(`nginx/(\S+)`),
	command: func(p *Peer, s Setup) ([]string, []string, error) {
		conf, err := s.write("nginx.conf", fmt.Sprintf(nginxConfig, s.Port))
		return []string{p.Program, "-p", s.Dir, "-e", "stderr", "-c", conf}, nil, err
	},
}
