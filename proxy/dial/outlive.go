package dial

import (
	"net/netip"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/proxy/sock"
)

// Outlive is how long a connection from a held address lives on while nothing that it sends
// arrives. Nobody else takes the address while its holder is cut off with everybody else, so
// that may last as long as an API server or a gateway is away: ten minutes are more than
// either takes to be started again. It bounds the kernel's own patience (15 minutes) and
// lengthens that of keep-alive (150 s).
//
// Source: failover.md, "Never two holders", 7.
const Outlive = 10 * time.Minute

// Longest times from one retransmission to the next. What is lost on the wire is sent again
// within rtoHeld of the end of the loss; the kernel's own rto doubles up to two minutes.
const (
	rtoHeld = time.Second
	rtoMost = 2 * time.Minute
)

// tcpRTOMax is TCP_RTO_MAX_MS, which golang.org/x/sys does not know yet.
const tcpRTOMax = 44

// outlive has a socket live through Outlive, and recover soon where the kernel can (Linux
// 6.15); elsewhere it does when the kernel tries next. The timeout belongs to both: with
// retransmissions as frequent as these the kernel would give up after a quarter of a minute.
func outlive(fd int) error {
	if err := sock.SetInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(Outlive/time.Millisecond)); err != nil {
		return err
	}
	err := setRTO(fd, rtoHeld)
	if err == unix.ENOPROTOOPT {
		return nil
	}
	return err
}

func setRTO(fd int, most time.Duration) error {
	return sock.SetInt(fd, unix.IPPROTO_TCP, tcpRTOMax, int(most/time.Millisecond))
}

// SweepEvery is how often Fenced is to be called, and how long after the fence is there.
const SweepEvery = 4 * time.Second

// Fenced is called now and then while the fence drops what is from one of addrs. Segments that
// it drops do not count as sent, but as held up here: the kernel tries fifteen times to send
// them, whatever its timeout (tcp_retries2), and then gives the connection up. At rtoHeld that
// is over in 14 seconds; so those connections get the kernel's own times back, with which it
// takes 15 minutes. Then they try less and less often, and Lifted has them send.
func Fenced(addrs []netip.Addr) {
	each(addrs, func(fd int) {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil && info.Unacked == 0 { // what is on the wire goes by the timeout
			_ = setRTO(fd, rtoMost) // kernels that do not know it have no other times
		}
	})
}

// Lifted is called when the fence lets addrs out again: what was held up here is sent now.
func Lifted(addrs []netip.Addr) {
	each(addrs, func(fd int) {
		_ = setRTO(fd, rtoHeld)
		_ = sock.SetInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // as it is; the kernel sends what waits
	})
}

// each calls f with the descriptor of each connection from one of addrs. Whose it is does not
// matter, so nobody is asked, nor held up: a descriptor may be another's by the time that f has
// it, for whom these options do no harm.
func each(addrs []netip.Addr, f func(fd int)) {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(1000)
		if err != nil {
			return
		}
		for _, name := range names {
			fd, err := strconv.Atoi(name)
			if err == nil && slices.Contains(addrs, sock.LocalName(fd).Addr()) {
				f(fd)
			}
		}
	}
}
