//go:build linux

package tcp

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/sluiceproxy/sluice/e2e/internal/program"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

const (
	manyConnections = 10000
	// enoughFiles is a limit of open files under which one program has room for so
	// many: two each, and what is kept aside.
	enoughFiles = 2*manyConnections + 200
	// keptAside is less than two for each connection that a program has no room for:
	// the reserve of the budget, what DNS takes, and pipes that lie ready.
	keptAside = 256
)

// many are connections through programs, from one process to two others.
type many struct {
	t       *testing.T
	files   int // a program's limit of open files
	servers [2]*peers
	addrs   [2]string
	clients *peers
}

// TestTCPManyConnections has 10,000 connections open at once through the program as
// it ships, and bytes in each while all are open. The clients are a process of their
// own, the servers two. Where the hard limit of open files is 20,200 or more they are
// all of one program; under a lower one, the first program takes what its limit has
// room for (9,904 of 20,000), refuses the others, and a second program takes those.
func TestTCPManyConnections(t *testing.T) {
	m := newMany(t)
	begin := time.Now()
	first, held := m.fill()
	programs, atOnce, filled := []*tcpProgram{first}, held, first.resident()
	took := time.Since(begin)
	for atOnce < manyConnections {
		p := m.program()
		got := m.open(Opening{Addr: p.Ports[0], Count: min(manyConnections-atOnce, held), AtATime: 16})
		require.Zero(t, got.Refused)
		programs, atOnce = append(programs, p), atOnce+got.Served
	}
	m.allCarryBytes(programs, atOnce)
	m.refusesWhenFull(first, held)
	m.allCarryBytes(programs, atOnce)
	used := first.resident()
	m.isAsNew(programs, atOnce)
	t.Logf("%d connections at once, through %d program(s): %d through the first, which has a limit of %d open files, in %s; its resident memory with them %s, after four more rounds of bytes %s",
		atOnce, len(programs), held, m.files, took.Round(time.Millisecond), filled, used)
}

func newMany(t *testing.T) *many {
	var lim unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &lim))
	if lim.Max < manyConnections+keptAside {
		nettest.Unavailable(t, fmt.Sprintf("10,000 clients take as many descriptors, and the limit is %d (ulimit -Hn)", lim.Max))
	}
	m := &many{t: t, files: int(min(lim.Max, enoughFiles))}
	for i := range m.servers {
		m.servers[i] = startPeers(t, "Servers")
		m.servers[i].tell("Addr", struct{}{}, &m.addrs[i])
	}
	m.clients = startPeers(t, "Clients")
	return m
}

// program starts one that leads to both servers.
func (m *many) program() *tcpProgram {
	m.t.Helper()
	file := fmt.Sprintf("tcp:\n- {listen: 127.0.0.1:0, destinations: [%q, %q]}\n", m.addrs[0], m.addrs[1])
	// From a source address, as in a pod.
	return startBy(m.t, program.Setup{Config: file, Files: m.files, Plain: true, Args: []string{"--access-log=off", "--source=127.0.0.1"}}, nettest.NewDNS(m.t))
}

func (m *many) open(o Opening) (got Opened) {
	m.t.Helper()
	m.clients.tell("Open", o, &got)
	return got
}

// fill opens connections through a program until it has room for no more: in a
// crowd, in which some descriptors are for pipes, then one after the other.
func (m *many) fill() (p *tcpProgram, held int) {
	m.t.Helper()
	p = m.program()
	crowd := m.open(Opening{Addr: p.Ports[0], Count: manyConnections, AtATime: 16})
	rest := m.open(Opening{Addr: p.Ports[0], Count: enoughFiles, AtATime: 1, TillFull: true})
	held = crowd.Served + rest.Served
	require.Equal(m.t, 1, rest.Refused, "room for %d?", held)
	require.GreaterOrEqual(m.t, held, (m.files-keptAside)/2)
	require.Equal(m.t, fmt.Sprint(crowd.Refused+1), p.Metric(refusedForLimit))
	return p, held
}

const refusedForLimit = `sluice_tcp_refused_total{cause="limit",listener="127.0.0.1:0"}`

// refusesWhenFull wants a program that is full to reset who comes, at once, and
// otherwise to be well.
func (m *many) refusesWhenFull(p *tcpProgram, held int) {
	m.t.Helper()
	before, err := strconv.Atoi(p.Metric(refusedForLimit))
	require.NoError(m.t, err)
	const more = 500
	got := m.open(Opening{Addr: p.Ports[0], Count: more, AtATime: 16})
	require.Equal(m.t, Opened{Refused: more, Slowest: got.Slowest}, got)
	assert.Less(m.t, got.Slowest, 10*time.Second)
	assert.Equal(m.t, fmt.Sprint(before+more), p.Metric(refusedForLimit))
	for _, path := range []string{"/healthz", "/readyz", "/"} {
		status, _ := p.Ask(path)
		assert.Equal(m.t, 200, status, path)
	}
	assert.NotContains(m.t, p.Stderr(), "cannot accept", "the kernel never refuses it a descriptor")
	m.t.Logf("%d more were reset, the slowest after %s; %d descriptors open", more, got.Slowest.Round(time.Microsecond), p.descriptors())

	// Who goes makes room.
	const some = 100
	m.clients.tell("Close", some, nil)
	m.eventuallySessions([]*tcpProgram{p}, held-some)
	require.Equal(m.t, some, m.open(Opening{Addr: p.Ports[0], Count: some, AtATime: 1}).Served)
}

// allCarryBytes wants n connections to be open at the clients, at the programs and
// at the servers, and every one to bring back what its client sends.
func (m *many) allCarryBytes(programs []*tcpProgram, n int) {
	m.t.Helper()
	for range 2 {
		var echoed int
		m.clients.tell("Echo", struct{}{}, &echoed)
		require.Equal(m.t, n, echoed)
	}
	m.eventuallySessions(programs, n)
	nettest.Eventually(m.t, fmt.Sprintf("the servers have %d connections", n), func() bool { return m.atServers() == n })
}

// eventuallySessions waits until the programs have n sessions.
func (m *many) eventuallySessions(programs []*tcpProgram, n int) {
	m.t.Helper()
	nettest.Eventually(m.t, fmt.Sprintf("there are %d sessions", n), func() bool {
		sessions := 0
		for _, p := range programs {
			for _, addr := range m.addrs {
				k, err := strconv.Atoi(p.Metric(fmt.Sprintf(`sluice_tcp_sessions{destination="%s",listener="127.0.0.1:0"}`, addr)))
				require.NoError(m.t, err)
				sessions += k
			}
		}
		return sessions == n
	})
}

// atServers is how many connections the servers have.
func (m *many) atServers() (n int) {
	for _, s := range m.servers {
		var k int64
		s.tell("Open", struct{}{}, &k)
		n += int(k)
	}
	return n
}

// isAsNew closes all n connections, and wants the programs to keep nothing of them.
func (m *many) isAsNew(programs []*tcpProgram, n int) {
	m.t.Helper()
	m.clients.tell("Close", n, nil)
	m.eventuallySessions(programs, 0)
	for _, p := range programs {
		nettest.Eventually(m.t, "the descriptors are closed", func() bool { return p.descriptors() < keptAside })
	}
	nettest.Eventually(m.t, "the servers know", func() bool { return m.atServers() == 0 })
}

// descriptors is how many a program has open.
func (p *tcpProgram) descriptors() int {
	p.t.Helper()
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.PID()))
	require.NoError(p.t, err)
	return len(all)
}

// resident is a program's memory.
func (p *tcpProgram) resident() string {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	require.NoError(p.t, err)
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindStringSubmatch(string(b))
	require.NotNil(p.t, m)
	return m[1] + " KiB"
}
