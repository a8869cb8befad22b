// Command goproxy is goproxy as its basic example has it, to measure Sluice
// against. It is a module of its own, to keep what it needs out of Sluice's.
package main

import (
	"flag"
	"log"
	"net/http"

	"github.com/elazarl/goproxy"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "where to listen")
	flag.Parse()
	log.Fatal(http.ListenAndServe(*addr, goproxy.NewProxyHttpServer()))
}
