//go:build linux

package origin

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
)

// Serve opens the ports, writes their numbers to standard output as a JSON array,
// and runs until standard input ends.
func Serve() error {
	var listeners []*net.TCPListener
	var ports []int
	for range Ports {
		// Every address of the loopback network is a target.
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{})
		if err != nil {
			return err
		}
		listeners = append(listeners, l)
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	b, err := json.Marshal(ports)
	if err != nil {
		return err
	}
	fmt.Printf("%s\n", b)
	return Run(listeners, 0, func(b []byte) { os.Stdout.Write(b) })
}
