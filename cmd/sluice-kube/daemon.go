package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/sluiceproxy/sluice/internal/admin"
	"github.com/sluiceproxy/sluice/internal/cli"
	"github.com/sluiceproxy/sluice/internal/directory"
	"github.com/sluiceproxy/sluice/internal/linelog"
	"github.com/sluiceproxy/sluice/internal/peer"
	"github.com/sluiceproxy/sluice/metrics"
)

// daemon is the running directory.
type daemon struct {
	c       *configuration
	log     *slog.Logger
	index   *directory.Index
	contact *contact
	synced  atomic.Bool // all pods are known; for good
	server  *directory.Server
	metrics *metrics.Kube
	health  *admin.Handler // nil: there is no admin port
}

// serve runs until ctx ends or a signal says so.
func serve(ctx context.Context, c *configuration, s streams) error {
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	defer context.AfterFunc(ctx, stop)() // a second signal ends the process, whatever this waits for
	said := linelog.New(s.err, linelog.Options{Room: 1 << 20, Prompt: true})
	defer said.Close(time.Second)
	d := &daemon{
		c:       c,
		log:     slog.New(slog.NewJSONHandler(said, &slog.HandlerOptions{Level: c.LogLevel})),
		index:   directory.NewIndex(),
		contact: &contact{lost: make(map[string]time.Time)},
	}
	klog.SetSlogLogger(d.log.With("of", "client-go"))
	for _, w := range c.Warnings {
		d.log.Warn(w.Error())
	}
	return failed(d.run(ctx))
}

func (d *daemon) run(ctx context.Context) error {
	l, err := peer.Listen(d.c.Socket)
	if err != nil {
		return cli.Wrong(fmt.Errorf("sluice-kube: --socket: %w", err))
	}
	client, reviews, err := clients(d.c.API)
	if err != nil {
		l.Close()
		return fmt.Errorf("sluice-kube: %w", err)
	}
	d.server = &directory.Server{Index: d.index, Age: d.age, Version: version, Log: d.log}
	registry := prometheus.NewRegistry()
	d.metrics = metrics.NewKube(registry, version, d.figures)
	judge := reviewer(reviews.AuthenticationV1().TokenReviews(), d.c.Audience)
	d.server.Review = func(ctx context.Context, token string) (directory.Identity, error) {
		id, err := judge(ctx, token)
		d.metrics.Reviewed(err == nil, errors.Is(err, directory.ErrRefused))
		return id, err
	}
	failed, err := d.openAdmin(ctx, registry)
	if err != nil {
		l.Close()
		return cli.Wrong(err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case err := <-failed:
			cancel(fmt.Errorf("sluice-kube: the admin port: %w", err))
		case <-ctx.Done():
		}
	}()
	if err := d.watch(ctx, client); err != nil {
		l.Close()
		return fmt.Errorf("sluice-kube: %w", err)
	}
	d.log.Info("serving the directory", "socket", d.c.Socket, "namespaces", d.c.Namespaces, "audience", d.c.Audience, "version", version)
	if err := d.server.Serve(ctx, l); err != nil {
		return fmt.Errorf("sluice-kube: the socket: %w", err)
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// clients are one for the pods and one for tokens, each with connections of its own: the
// start of a watch is not held up by tokens, nor these by that.
func clients(api *rest.Config) (pods, reviews *kubernetes.Clientset, err error) {
	api.UserAgent = "sluice-kube/" + version
	watching, asking := rest.CopyConfig(api), rest.CopyConfig(api)
	watching.ContentType = "application/vnd.kubernetes.protobuf"
	watching.AcceptContentTypes = watching.ContentType + ",application/json"
	asking.QPS = -1 // as many as come; the server bounds those at once
	if pods, err = kubernetes.NewForConfig(watching); err != nil {
		return nil, nil, err
	}
	reviews, err = kubernetes.NewForConfig(asking)
	return pods, reviews, err
}

// watch begins to watch the pods, until ctx is done.
func (d *daemon) watch(ctx context.Context, client kubernetes.Interface) error {
	namespaces := d.c.Namespaces
	if len(namespaces) == 0 {
		namespaces = []string{""}
	}
	var synced []cache.InformerSynced
	for _, ns := range namespaces {
		i, err := d.informer(client, ns)
		if err != nil {
			return err
		}
		reg, err := i.AddEventHandler(d.handler())
		if err != nil {
			return err
		}
		synced = append(synced, reg.HasSynced)
		go i.RunWithContext(ctx)
	}
	go func() {
		if !cache.WaitForCacheSync(ctx.Done(), synced...) {
			return
		}
		d.synced.Store(true)
		if d.health != nil {
			d.health.Ready.Store(true)
		}
		pods, disputed := d.index.Counts()
		d.log.Info("all pods are known", "pods", pods, "disputed_addresses", disputed)
	}()
	return nil
}

// age is that of the index, and false while not all pods are known.
func (d *daemon) age() (time.Duration, bool) { return d.contact.age(), d.synced.Load() }

// figures is what is measured when somebody asks.
func (d *daemon) figures() metrics.Directory {
	pods, disputed := d.index.Counts()
	return metrics.Directory{Pods: pods, Disputed: disputed, Readers: d.server.Readers(), Age: d.contact.age(), Synced: d.synced.Load()}
}

// openAdmin serves health and metrics until ctx is done. failed is given what goes wrong.
func (d *daemon) openAdmin(ctx context.Context, registry *prometheus.Registry) (failed <-chan error, err error) {
	if d.c.Admin == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", d.c.Admin)
	if err != nil {
		return nil, fmt.Errorf("sluice-kube: --admin: %w", err)
	}
	d.health = admin.Plain(registry)
	s, done := d.health.Serve(l, d.log)
	context.AfterFunc(ctx, func() { s.Close() })
	d.log.Info("admin on http://" + l.Addr().String() + "/")
	out := make(chan error, 1)
	go func() {
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			out <- err
		}
	}()
	return out, nil
}
