// Command client is a client of the tests: it gets URLs as the variables of its environment say,
// or, with -ignore, as if there were none; with -serve it answers at port 80.
package main

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	serve := flag.Bool("serve", false, "answer at port 80")
	ignore := flag.Bool("ignore", false, "ignore the variables")
	flag.Parse()
	if *serve {
		fmt.Fprintln(os.Stderr, http.ListenAndServe(":80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host, _, _ := net.SplitHostPort(r.RemoteAddr)
			fmt.Fprintln(w, "you come from", host)
		})))
		os.Exit(1)
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment}
	if *ignore {
		transport.Proxy = nil
	}
	c := http.Client{Transport: transport, Timeout: 10 * time.Second}
	status := 0
	for _, url := range flag.Args() {
		r, err := c.Get(url)
		if err != nil {
			fmt.Println(err)
			status = 1
			continue
		}
		fmt.Println(r.Status)
		_ = r.Body.Close()
	}
	os.Exit(status)
}
