// Command goproxy is goproxy as its basic example has it, or the one that looks into TLS
// by an authority of one's own, to measure Sluice against. It is a module of its own, to keep what it needs out of Sluice's.
package main

import (
	"crypto/tls"
	"flag"
	"log"
	"net/http"
	"sync"

	"github.com/elazarl/goproxy"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "where to listen")
	ca := flag.String("ca", "", "file with the certificate and the key to look into TLS with; empty: do not")
	flag.Parse()
	proxy := goproxy.NewProxyHttpServer()
	if *ca != "" {
		pair, err := tls.LoadX509KeyPair(*ca, *ca)
		if err != nil {
			log.Fatal(err)
		}
		goproxy.GoproxyCa = pair
		proxy.CertStore = &certificates{all: map[string]*tls.Certificate{}}
		proxy.Tr.TLSClientConfig = nil // verified, as the others do
		proxy.OnRequest().HandleConnect(goproxy.AlwaysMitm)
	}
	log.Fatal(http.ListenAndServe(*addr, proxy))
}

// certificates keeps those that were made, as the README of goproxy advises.
type certificates struct {
	mu  sync.Mutex
	all map[string]*tls.Certificate
}

func (c *certificates) Fetch(host string, make func() (*tls.Certificate, error)) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if got := c.all[host]; got != nil {
		return got, nil
	}
	made, err := make()
	if err == nil {
		c.all[host] = made
	}
	return made, err
}
