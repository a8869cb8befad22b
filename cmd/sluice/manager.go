package main

import (
	"log/slog"
	"sync/atomic"

	systemd "github.com/coreos/go-systemd/v22/daemon"
)

// manager is the service manager that has started the process, if it wants to know how that
// is (sd_notify(3)). The methods may be called concurrently.
type manager struct {
	notify func(state string) error // nil: nobody asks
	log    *slog.Logger

	waits atomic.Bool // for a reload to end
}

func (m *manager) tell(state string) {
	if m.notify == nil {
		return
	}
	if err := m.notify(state); err != nil {
		m.log.Warn("the service manager cannot be told how this process is", "state", state, "error", err)
	}
}

// ready says that clients are served.
func (m *manager) ready() { m.tell(systemd.SdNotifyReady) }

// reloading says that a reload has been asked for. The time tells the manager that it is the
// one which it has asked for.
func (m *manager) reloading() {
	m.waits.Store(true)
	m.tell(systemd.SdNotifyReloading + "\n" + systemd.SdNotifyMonotonicUsec())
}

// reloaded says that a reload has ended, to whoever waits for that; problem is what is to be
// known about it.
func (m *manager) reloaded(problem string) {
	state := "STATUS=" + problem
	if m.waits.Swap(false) {
		state = systemd.SdNotifyReady + "\n" + state
	}
	m.tell(state)
}

// stopping says that the process is to end.
func (m *manager) stopping() { m.tell(systemd.SdNotifyStopping) }
