package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	events "k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"

	"github.com/sluiceproxy/sluice/internal/admin"
	"github.com/sluiceproxy/sluice/internal/cli"
	"github.com/sluiceproxy/sluice/internal/hold"
	"github.com/sluiceproxy/sluice/internal/holding"
	"github.com/sluiceproxy/sluice/internal/linelog"
	"github.com/sluiceproxy/sluice/internal/peer"
	"github.com/sluiceproxy/sluice/internal/serving"
	"github.com/sluiceproxy/sluice/metrics"
)

// serveHold runs "sluice-kube hold" until a signal says so, and what is held has been let go;
// or until a second signal, which leaves it to the kernel.
func serveHold(ctx context.Context, c *holdConfiguration, s streams) error {
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGPIPE)
	said := linelog.New(s.err, linelog.Options{Room: 1 << 20, Prompt: true})
	defer said.Close(time.Second)
	log := slog.New(slog.NewJSONHandler(said, &slog.HandlerOptions{Level: c.LogLevel}))
	klog.SetSlogLogger(log.With("of", "client-go"))
	for _, w := range c.Warnings {
		log.Warn(w.Error())
	}
	h := &holder{c: c, log: log, known: make(chan struct{})}
	return failed(h.run(ctx))
}

// holder is the running command.
type holder struct {
	c      *holdConfiguration
	log    *slog.Logger
	driver *driver
	kernel *kernel
	known  chan struct{} // closed when the groups are
}

func (h *holder) run(ctx context.Context) error {
	first, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx, end := context.WithCancel(ctx)
	defer end()
	l, err := peer.Listen(h.c.Socket)
	if err != nil {
		return cli.Wrong(fmt.Errorf("sluice-kube: --socket: %w", err))
	}
	registry := prometheus.NewRegistry()
	n := &notes{log: h.log}
	n.metrics = metrics.NewHold(registry, n.held)
	api := holdingConfig(h.c.API)
	counted(api, n.metrics)
	client, err := kubernetes.NewForConfig(api)
	if err != nil {
		l.Close()
		return fmt.Errorf("sluice-kube: %w", err)
	}
	closeEvents := h.events(client, n)
	defer closeEvents()
	h.kernel = &kernel{socket: h.c.Netsetup, log: h.log, heard: h.heard, reached: n.metrics.Reached, again: sayAgain}
	if err := h.openAdmin(ctx, registry, n); err != nil {
		l.Close()
		return cli.Wrong(err)
	}
	d := newDriver(ctx, h.log)
	d.leases, d.kernel, d.notes = newLeases(client, h.c.Pod.Namespace), h.kernel, n
	h.driver = d
	d.proxies = &serving.Server{Version: version, Log: h.log,
		Changed: func(serves bool) { d.post(hold.Every, hold.Proxy{Serving: serves}) },
		Leaving: func() { d.post(hold.Every, hold.Leave{}) },
		Drained: func() { d.post(hold.Every, hold.Drained{}) },
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := d.proxies.Serve(ctx, l); err != nil {
			h.log.Error("no proxy can come any more: those that are here stay", "error", err)
		}
	}()
	go h.kernel.keep(ctx)
	status, ok := h.kernel.status(first)
	if !ok { // told to end before there was anything to hold
		h.dismiss(ctx)
		return nil
	}
	if err := h.take(status); err != nil {
		return err
	}
	if h.c.Service != "" {
		d.endpoints = &endpoints{api: client.DiscoveryV1().EndpointSlices(h.c.Pod.Namespace), services: client.CoreV1().Services(h.c.Pod.Namespace),
			service: h.c.Service, ports: h.c.Ports, pod: h.c.Pod}
	}
	context.AfterFunc(first, func() {
		if ctx.Err() == nil {
			h.log.Info("told to end")
			h.again(ctx, end)
			d.post(hold.Every, hold.Leave{})
		}
	})
	self := hold.Identity{Pod: h.c.Pod.UID, Process: random()}
	h.log.Info("holding", "groups", len(d.groups), "identity", self.String(), "version", version)
	d.run(self, h.c.Hold)
	h.dismiss(ctx)
	end()
	<-served
	return nil
}

// dismiss has the proxies end, and then sluice-netsetup hold.
func (h *holder) dismiss(ctx context.Context) {
	h.driver.proxies.Tell(serving.Told{Drain: h.c.Hold.DrainTimeout.Milliseconds()})
	h.driver.proxies.Gone(ctx, h.c.Hold.DrainTimeout+time.Second)
	h.kernel.ended(ctx)
}

// again has the next signal end the process whatever is held.
func (h *holder) again(ctx context.Context, end func()) {
	second, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(second, func() {
		stop()
		end()
	})
}

// take makes groups of what sluice-netsetup hold has.
func (h *holder) take(s holding.Status) error {
	for _, g := range s.Groups {
		h.driver.groups = append(h.driver.groups, group{g, h.c.leaseOf(g.Name)})
	}
	if len(h.driver.groups) == 0 {
		return errors.New("sluice-kube: sluice-netsetup hold has no addresses to hold: set EGRESS_SOURCE or EGRESS_POOL there")
	}
	close(h.known)
	if s.Weak {
		h.log.Warn("the kernel has no egress hook: frames that are sent raw are not fenced")
	}
	return nil
}

// heard takes an event of the privileged side in.
func (h *holder) heard(e holding.Event) {
	select {
	case <-h.known:
	default:
		return
	}
	for i, g := range h.driver.groups {
		if g.Name != e.Group {
			continue
		}
		switch e.Kind {
		case holding.Foreign:
			h.driver.post(i, hold.Heard{By: e.By})
		case holding.Down:
			h.log.Warn("an interface is down", "group", e.Group, "interface", e.Link)
		case holding.Up:
			h.log.Info("the interfaces are up again", "group", e.Group)
		}
	}
}

// events has n write Events on the pod, until what it returns is called.
func (h *holder) events(client *kubernetes.Clientset, n *notes) func() {
	p := h.c.Pod
	n.pod = &corev1.Pod{TypeMeta: metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{Name: p.Name, Namespace: p.Namespace, UID: types.UID(p.UID)}}
	b := events.NewBroadcaster()
	b.StartRecordingToSink(&corev1client.EventSinkImpl{Interface: client.CoreV1().Events(p.Namespace)})
	n.events = b.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "sluice-kube", Host: p.Node})
	return b.Shutdown
}

// openAdmin serves health and metrics until ctx is done. A standby is ready as a holder is:
// else updates of a StatefulSet would stand still.
func (h *holder) openAdmin(ctx context.Context, registry *prometheus.Registry, n *notes) error {
	if h.c.Admin == "" {
		return nil
	}
	l, err := net.Listen("tcp", h.c.Admin)
	if err != nil {
		return fmt.Errorf("sluice-kube: --admin: %w", err)
	}
	a := admin.Plain(registry)
	a.Ready.Store(true)
	a.Details = func() []string { return append(h.kernel.details(), n.details()...) }
	s, _ := a.Serve(l, h.log)
	context.AfterFunc(ctx, func() { s.Close() })
	h.log.Info("admin on http://" + l.Addr().String() + "/")
	return nil
}

// random is a number that no other process has.
func random() uint64 {
	var b [8]byte
	rand.Read(b[:]) // which never fails
	return binary.BigEndian.Uint64(b[:])
}
