package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	events "k8s.io/client-go/tools/record"

	"github.com/sluiceproxy/sluice/internal/hold"
	"github.com/sluiceproxy/sluice/metrics"
)

// notes says what happens to the groups: in the log, in metrics, and by Events on the pod.
type notes struct {
	log     *slog.Logger
	metrics *metrics.Hold
	events  events.EventRecorder // nil: none are written
	pod     *corev1.Pod

	mu        sync.Mutex
	groups    []metrics.Held
	failed    time.Time // when it was last said that the API server does not answer
	unwritten time.Time // and that endpoints could not be written
}

// said is how a note is told: its reason is that of the Event.
type said struct {
	reason, message string
	warning         bool
}

var words = map[hold.NoteKind]said{
	hold.Took:          {"AddressTaken", "the address is held here", false},
	hold.Fenced:        {"AddressFenced", "the address is fenced, since no renewal came in time; connections stay", true},
	hold.Lifted:        {"AddressLifted", "the address is held again, by the same replica; connections have lived on", false},
	hold.Lost:          {"LeaseLost", "the Lease is another's: the address is let go, and connections are cut", true},
	hold.Released:      {"LeaseReleased", "the Lease is given up", false},
	hold.Refused:       {"CommitRefused", "the kernel has refused what came too late", true},
	hold.Late:          {"RenewalLate", "a renewal of the Lease has no answer", true},
	hold.Keeping:       {"AddressKept", "the address is held without the Lease, since the API server does not answer", true},
	hold.NoGateway:     {"GatewayMissing", "the gateway does not answer", true},
	hold.InterfaceDown: {"InterfaceDown", "the interface is down", true},
	hold.Duplicate:     {"DuplicateAddress", "somebody answers for the address: it is not taken", true},
	hold.Foreign:       {"ForeignAddress", "somebody else uses the address: it is let go", true},
	hold.NoReply:       {"NoReply", "no reply comes to the address: it is let go", true},
	hold.NoProxy:       {"ProxyGone", "no proxy serves here: the address is let go", true},
	hold.Leaving:       {"Leaving", "this replica is to end, and waits for a successor", false},
	hold.Relieved:      {"Relieved", "a successor can take over at once", false},
	hold.Alone:         {"NoSuccessor", "no successor is there: the address is let go all the same", true},
	hold.Offered:       {"Offered", "this replica can take over at once", false},
}

// quiet are the kinds that come often, and whose Events would say nothing new.
func quiet(k hold.NoteKind) bool {
	return k == hold.Late || k == hold.Keeping || k == hold.NoGateway || k == hold.InterfaceDown
}

// say tells a note about a group.
func (n *notes) say(g group, note hold.Note) {
	w := words[note.Kind]
	n.metrics.Happened(g.Name, note.Kind.String())
	attrs := []any{"group", g.Name, "addresses", g.Addrs}
	if note.Who != "" {
		attrs = append(attrs, "who", note.Who)
	}
	level, kind := slog.LevelInfo, corev1.EventTypeNormal
	if w.warning {
		level, kind = slog.LevelWarn, corev1.EventTypeWarning
	}
	n.log.Log(context.Background(), level, w.message, attrs...)
	if n.events == nil || quiet(note.Kind) {
		return
	}
	if note.Who == "" {
		n.events.Eventf(n.pod, kind, w.reason, "group %s: %s", g.Name, w.message)
		return
	}
	n.events.Eventf(n.pod, kind, w.reason, "group %s: %s (%s)", g.Name, w.message, note.Who)
}

// api says now and then that requests for a Lease fail; err is nil when one has not.
func (n *notes) api(err error) {
	if err == nil || apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Since(n.failed) > 10*time.Second {
		n.failed = time.Now()
		n.log.Warn("the API server could not be asked about the Lease", "error", err)
	}
}

// published says now and then that an EndpointSlice could not be written.
func (n *notes) published(err error) {
	if apierrors.IsConflict(err) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Since(n.unwritten) > 10*time.Second {
		n.unwritten = time.Now()
		n.log.Warn("the endpoints of the Service could not be written: it is tried again", "error", err)
	}
}

// status takes down how the groups fare at a time, for metrics.
func (n *notes) status(groups []group, p hold.Pool, now time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.groups = n.groups[:0]
	for i, g := range groups {
		s := p.Group(i).Status()
		h := metrics.Held{Group: g.Name, Mode: s.Mode, Holding: s.Holding, Ours: s.Mode == "owner"}
		if h.Ours {
			h.AckAge = now - s.Acked
		}
		n.groups = append(n.groups, h)
	}
}

// held is how the groups fare.
func (n *notes) held() []metrics.Held {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]metrics.Held(nil), n.groups...)
}

// details are a line for each group, for /readyz?verbose.
func (n *notes) details() (lines []string) {
	for _, g := range n.held() {
		what := g.Mode
		switch {
		case g.Holding:
			what += ", held"
		case g.Ours:
			what += ", fenced"
		}
		lines = append(lines, fmt.Sprintf("group %s: %s", g.Group, what))
	}
	return lines
}
