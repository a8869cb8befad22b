package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sluiceproxy/sluice/internal/nettest"
)

// handOver gives it sockets that listen at addrs, as systemd does, and returns the wrapper
// that says so.
func (d *process) handOver(addrs ...string) (wrapper []string) {
	d.t.Helper()
	for _, addr := range addrs {
		l, err := net.Listen("tcp", addr)
		require.NoError(d.t, err)
		d.t.Cleanup(func() { l.Close() })
		f, err := l.(*net.TCPListener).File()
		require.NoError(d.t, err)
		d.t.Cleanup(func() { f.Close() })
		d.files = append(d.files, f)
	}
	return []string{"sh", "-c", fmt.Sprintf(`LISTEN_PID=$$ LISTEN_FDS=%d exec "$@"`, len(d.files)), "sh"}
}

// What systemd listens at is served, and whoever comes between two processes waits.
func TestHandedOver(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			d := newProcess(t, mode)
			wrapper := d.handOver(d.port, d.admin)
			for range 2 {
				waits, err := net.Dial("tcp", d.port)
				require.NoError(t, err)
				d.start(wrapper, nil, nil)
				nettest.Eventually(t, "it is ready", func() bool { return d.status("/readyz") == 200 })
				d.send()
				require.NoError(t, waits.SetDeadline(time.Now().Add(time.Minute)))
				if mode == "proxy" {
					fmt.Fprintf(waits, "GET http://%s/ HTTP/1.0\r\n\r\n", d.server)
				} else {
					fmt.Fprint(waits, "GET / HTTP/1.0\r\n\r\n")
				}
				hears(t, waits, "HTTP/1.")
				waits.Close()
				d.signal(syscall.SIGTERM)
				d.exits(0)
			}
		})
	}
}

// systemd's own program for that, which starts the daemon at its first client.
func TestSocketActivate(t *testing.T) {
	nettest.Need(t, "systemd-socket-activate")
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			d := newProcess(t, mode)
			d.start([]string{"systemd-socket-activate", "-E", asSluice, "-l", d.port, "-l", d.admin}, nil, nil)
			nettest.Eventually(t, "it is ready", func() bool { return d.status("/readyz") == 200 })
			d.send()
			assert.NotContains(t, d.read("stderr"), "address already in use")
		})
	}
}

// A socket that nobody serves would have its clients wait for ever.
func TestHandedOverWrongly(t *testing.T) {
	for _, mode := range modes {
		d := newProcess(t, mode)
		other := freeAddr(t)
		wrapper := d.handOver(d.port, other)
		d.start(wrapper, nil, nil)
		d.exits(2)
		assert.Contains(t, d.read("stderr"), "sluice: no setting has the address of a socket that was handed over (LISTEN_FDS): "+other+"; listen there, or take it out of the socket unit\n", mode)

		d = newProcess(t, mode)
		d.files = []*os.File{d.create("file")}
		d.start(d.handOver(), nil, nil)
		d.exits(2)
		assert.Equal(t, "sluice: the socket LISTEN_FD_3 that was handed over (LISTEN_FDS): getsockopt: socket operation on non-socket; it takes TCP sockets that listen (ListenStream=)\n", d.read("stderr"), mode)

		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		require.NoError(t, err)
		defer c.Close()
		f, err := c.(*net.UDPConn).File()
		require.NoError(t, err)
		defer f.Close()
		d = newProcess(t, mode)
		d.files = []*os.File{f}
		d.start(d.handOver(), nil, nil)
		d.exits(2)
		assert.Contains(t, d.read("stderr"), "the socket does not listen", mode)
	}
}

func TestMeant(t *testing.T) {
	l, err := net.Listen("tcp", ":0")
	require.NoError(t, err)
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	require.NoError(t, err)
	all, err := listensAt(f)
	require.NoError(t, err)
	for setting, want := range map[string]bool{
		fmt.Sprintf(":%d", all.Port()): true, fmt.Sprintf("[::]:%d", all.Port()): true, fmt.Sprintf("127.0.0.1:%d", all.Port()): false, ":1": false, "x": false,
	} {
		assert.Equal(t, want, meant(setting, all), setting)
	}
}

// The service manager learns when clients are served, when a reload has ended, and how, and
// when the process is to end.
func TestServiceManagerIsTold(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			d := newProcess(t, mode)
			path := filepath.Join(t.TempDir(), "notify")
			manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
			require.NoError(t, err)
			defer manager.Close()
			require.NoError(t, manager.SetReadDeadline(time.Now().Add(time.Minute)))
			told := func() string {
				b := make([]byte, 4096)
				n, err := manager.Read(b)
				require.NoError(t, err)
				return regexp.MustCompile(`USEC=\d+`).ReplaceAllString(string(b[:n]), "USEC=…")
			}
			d.env = []string{"NOTIFY_SOCKET=" + path}
			d.start(nil, nil, nil)
			require.Equal(t, "READY=1", told())
			d.send()

			d.signal(syscall.SIGHUP)
			require.Equal(t, "RELOADING=1\nMONOTONIC_USEC=…\n", told())
			require.Equal(t, "READY=1\nSTATUS=", told())

			text := d.read("sluice.yaml")
			require.NoError(t, os.WriteFile(d.file(), []byte(text+"nonsense: 1\n"), 0o600))
			d.signal(syscall.SIGHUP)
			require.Equal(t, "RELOADING=1\nMONOTONIC_USEC=…\n", told())
			const refused = "STATUS=the last reload was refused, and the configuration before stays in force; the log says why"
			require.Equal(t, "READY=1\n"+refused, told())
			d.send()

			// Nobody has asked for this one.
			require.NoError(t, os.WriteFile(d.file(), []byte(text), 0o600))
			require.Equal(t, "STATUS=", told())
			d.signal(syscall.SIGTERM)
			require.Equal(t, "STOPPING=1", told())
			d.exits(0)
			assert.False(t, strings.Contains(d.read("stderr"), "cannot be told"))
		})
	}
}
