package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"

	"github.com/sluiceproxy/sluice/internal/cli"
	"github.com/sluiceproxy/sluice/proxy/sock"
)

// inherited are the listening sockets that systemd has opened for this process. What a
// socket serves the settings say, not its name: it is taken when an address is to be listened
// at that is its own.
type inherited struct {
	mu   sync.Mutex
	rest []inheritance // nobody has listened at these yet
}

type inheritance struct {
	file *os.File
	addr netip.AddrPort
}

// inherit looks at the sockets, which are its own from now on.
func inherit(files []*os.File) (*inherited, error) {
	i := new(inherited)
	var wrong error
	for _, f := range files {
		addr, err := listensAt(f)
		if err != nil && wrong == nil {
			wrong = cli.Wrong(fmt.Errorf("sluice: the socket %s that was handed over (LISTEN_FDS): %w; it takes TCP sockets that listen (ListenStream=)", f.Name(), err))
		}
		i.rest = append(i.rest, inheritance{f, addr})
	}
	if wrong != nil {
		i.close()
	}
	return i, wrong
}

func listensAt(f *os.File) (addr netip.AddrPort, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return addr, err
	}
	if e := raw.Control(func(fd uintptr) { addr, err = sock.ListensAt(int(fd)) }); e != nil {
		return addr, e
	}
	return addr, err
}

// take returns the socket of an address that is to be listened at, or nil.
func (i *inherited) take(addr string) *os.File {
	i.mu.Lock()
	defer i.mu.Unlock()
	for n, s := range i.rest {
		if meant(addr, s.addr) {
			i.rest = append(i.rest[:n], i.rest[n+1:]...)
			return s.file
		}
	}
	return nil
}

// meant reports whether a setting's address is that of a socket. ":PORT" is any of the
// addresses that stand for all.
func meant(setting string, of netip.AddrPort) bool {
	if port, ok := strings.CutPrefix(setting, ":"); ok {
		return of.Addr().IsUnspecified() && port == fmt.Sprint(of.Port())
	}
	a, err := netip.ParseAddrPort(setting)
	return err == nil && netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) == of
}

// listen is sock.Listen, or takes the socket that is there for the address.
func (i *inherited) listen(addr string) (*sock.Listener, error) {
	f := i.take(addr)
	if f == nil {
		return sock.Listen(addr)
	}
	defer f.Close()
	return sock.Inherit(f)
}

// listenPlain is net.Listen, likewise.
func (i *inherited) listenPlain(addr string) (net.Listener, error) {
	f := i.take(addr)
	if f == nil {
		return net.Listen("tcp", addr)
	}
	defer f.Close()
	return net.FileListener(f)
}

// unclaimed is an error when a socket is left: clients would wait there for nobody.
func (i *inherited) unclaimed() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.rest) == 0 {
		return nil
	}
	var addrs []string
	for _, s := range i.rest {
		addrs = append(addrs, s.addr.String())
	}
	return cli.Wrong(fmt.Errorf("sluice: no setting has the address of a socket that was handed over (LISTEN_FDS): %s; listen there, or take it out of the socket unit", strings.Join(addrs, ", ")))
}

func (i *inherited) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, s := range i.rest {
		s.file.Close()
	}
	i.rest = nil
}
