package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/sluiceproxy/sluice/internal/cli"
	"github.com/sluiceproxy/sluice/proxy/tcp"
)

// lowPorts is the sysctl that says from which port on a process without privilege
// may listen.
const lowPorts = "net.ipv4.ip_unprivileged_port_start"

// listenError says why a port cannot be opened and how to mend it. setting is where
// the address stands. It is the caller's to mend, as a wrong setting is.
func listenError(setting, addr string, err error) error {
	begin := fmt.Sprintf("sluice: %s: listen on %s: ", setting, addr)
	_, port, splitErr := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(port)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return cli.Wrong(fmt.Errorf("%sanother program has the port; end that, or choose another port: %w", begin, err))
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return cli.Wrong(fmt.Errorf("%sno interface of this host has the address; leave the address out to listen on all: %w", begin, err))
	case errors.Is(err, syscall.EACCES) && splitErr == nil && n < 1024:
		return cli.Wrong(fmt.Errorf("%sports below %s are for privileged processes here; set the sysctl %s to %d or less (in a pod: securityContext.sysctls), or listen on a higher port and let the Service lead port %d to it (targetPort): %w",
			begin, unprivilegedStart(), lowPorts, n, n, err))
	}
	return cli.Wrong(fmt.Errorf("%s%w", begin, err))
}

// unprivilegedStart is the sysctl's value.
func unprivilegedStart() string {
	b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(lowPorts, ".", "/"))
	if err != nil {
		return "1024"
	}
	return strings.TrimSpace(string(b))
}

// ofPorts is listenError for a port of sluice tcp that could not be opened; origin
// is where the ports stand. Other errors stay.
func ofPorts(origin string, err error) error {
	if le, ok := errors.AsType[*tcp.ListenError](err); ok {
		return listenError(origin, le.Listen, le.Err)
	}
	return err
}
