package dial

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/sock"
)

// Only what comes from a held address has other times than the kernel's.
func TestOutlive(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	to, home := l.Addr().(*net.TCPAddr).AddrPort(), netip.MustParseAddr("127.0.0.1")
	for name, tt := range map[string]struct {
		d       Dialer
		source  netip.Addr
		patient bool
	}{
		"always here":           {Dialer{}, home, false},
		"held":                  {Dialer{Held: true}, home, true},
		"the kernel's own":      {Dialer{Held: true}, netip.Addr{}, false},
		"the kernel's, no turn": {Dialer{}, netip.Addr{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			ofTCP, err := tt.d.TCP(t.Context(), tt.source, to)
			require.NoError(t, err)
			begun := new(sock.Conn)
			_, err = tt.d.Begin(begun, tt.source, to)
			require.NoError(t, err)
			for _, c := range []*sock.Conn{ofTCP, begun} {
				require.NoError(t, c.Control(func(fd uintptr) {
					timeout, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
					assert.NoError(t, err)
					assert.Equal(t, map[bool]int{true: 600_000}[tt.patient], timeout)
					most, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, tcpRTOMax)
					if err != unix.ENOPROTOOPT { // before Linux 6.15
						assert.NoError(t, err)
						assert.Equal(t, map[bool]int{true: 1000, false: 120_000}[tt.patient], most)
					}
				}))
				require.NoError(t, c.Close())
			}
		})
	}
}
