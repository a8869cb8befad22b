//go:build linux

package peers

var nginx, tinyproxy, apache *Peer = &Peer{Name: "nginx", Program: "nginx"}, &Peer{Name: "tinyproxy", Program: "tinyproxy"}, &Peer{Name: "apache", Program: "apache2"}
