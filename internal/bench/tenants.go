//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sluiceproxy/sluice/internal/bench/peers"
	"github.com/sluiceproxy/sluice/internal/bench/report"
	"github.com/sluiceproxy/sluice/internal/directory"
)

// Sizes of row 13.
const (
	manyTenants = 1000
	manyPods    = 100_000
)

// tenantsRow measures rows 1 and 4 with tenants, what logins cost others, and a reload of
// all rules of all tenants.
func (b *bench) tenantsRow(number int) ([]*report.Table, error) {
	d, socket, err := b.startDirectory()
	if err != nil {
		return nil, err
	}
	defer d.stop()
	one := b.sluices[0]
	variants := []variant{{name: report.NoTenants, peer: one, scale: 1}}
	for _, password := range []bool{false, true} {
		for _, n := range []int{1, manyTenants} {
			setup := peers.Setup{Tenants: n, Directory: socket}
			if password {
				setup.Authorization = peers.Basic(peers.UserName, peers.Password)
			}
			variants = append(variants, variant{name: report.Tenants(n, password), peer: one, setup: setup, scale: 1})
		}
	}
	var tables []*report.Table
	for _, key := range []string{"1", "4"} {
		w := workOf(key)
		w.round = 3 // since a few per cent count here
		w.row, w.key, w.name = number, "13:"+key, fmt.Sprintf("tenants, %d pods: %s", manyPods, w.name)
		t, err := b.runWorks([]work{w}, append(variants, variant{name: direct, scale: 1}))
		if err != nil {
			return nil, err
		}
		tables = append(tables, t...)
	}
	for _, run := range []func(int, string) (*report.Table, error){b.loginsTable, b.tenantReloadTable} {
		t, err := run(number, socket)
		if err != nil {
			return nil, err
		}
		tables = append(tables, t)
	}
	return tables, nil
}

// startDirectory runs a directory of so many pods, of which one has the address that the
// load generator comes from.
func (b *bench) startDirectory() (h *helper, socket string, err error) {
	socket = filepath.Join(b.dir, "directory.sock")
	if h, err = b.startHelper("directory", socket); err != nil {
		return nil, "", err
	}
	var pods int
	return h, socket, h.read(&pods)
}

// serveDirectory is the directory, until in ends.
func serveDirectory(socket string, in io.Reader, out io.Writer) error {
	index := directory.NewIndex()
	put := func(namespace string, i int, addr netip.Addr) {
		index.Put(directory.Pod{Namespace: namespace, ServiceAccount: "default", Name: fmt.Sprint("pod-", i), UID: strconv.Itoa(i),
			Labels: directory.LabelsOf(map[string]string{"app": fmt.Sprint("app-", i/10)})}, []netip.Addr{addr})
	}
	for i := range manyPods - 1 {
		put(peers.NamespaceOf(i%manyTenants), i, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	put(peers.ClientNamespace, manyPods-1, netip.MustParseAddr("127.0.0.1"))
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	s := &directory.Server{Index: index, Version: "bench", Log: slog.New(slog.DiscardHandler)}
	go func() { done <- s.Serve(ctx, l) }()
	fmt.Fprintln(out, manyPods)
	_, _ = bufio.NewReader(in).ReadString(0) // to its end
	cancel()
	return <-done
}

// awaitPods waits until the proxy has heard of all pods.
func (in *instance) awaitPods() error {
	for begin := time.Now(); time.Since(begin) < startTimeout; time.Sleep(20 * time.Millisecond) {
		if n, err := in.metric("sluice_directory_addresses"); err != nil || n >= manyPods {
			return err
		}
	}
	return errors.New(in.name + " has not heard of all pods")
}
