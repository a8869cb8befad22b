package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/sluiceproxy/sluice/internal/directory"
)

// BenchmarkMemory reports what is kept of so many pods: the informer's store and the index.
func BenchmarkMemory(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				before := heap()
				d := &daemon{index: directory.NewIndex(), log: slog.New(slog.DiscardHandler)}
				store := cache.NewStore(cache.MetaNamespaceKeyFunc)
				for i := range n {
					r, err := slim(somePod(i))
					require.NoError(b, err)
					require.NoError(b, store.Add(r))
					d.put(r)
				}
				b.ReportMetric(float64(heap()-before)/(1<<20), "MiB")
				runtime.KeepAlive(store)
				runtime.KeepAlive(d)
			}
		})
	}
}

func somePod(i int) *corev1.Pod {
	app := fmt.Sprint("deployment-", i/10)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprint("namespace-", i/250), Name: fmt.Sprintf("%s-5d8f7c9b6d-%05d", app, i), ResourceVersion: fmt.Sprint(1_000_000 + i),
			UID: types.UID(fmt.Sprintf("0e9f2f5a-3a64-4b1d-9d7e-%012d", i)), Labels: map[string]string{"app": app, "pod-template-hash": "5d8f7c9b6d"}},
		Spec:   corev1.PodSpec{ServiceAccountName: "default"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: netip.AddrFrom4([4]byte{10, 128 + byte(i>>16), byte(i >> 8), byte(i)}).String()}}},
	}
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
