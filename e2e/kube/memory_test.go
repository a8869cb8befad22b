//go:build linux

package kube

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluiceproxy/sluice/internal/directory"
	"github.com/sluiceproxy/sluice/internal/nettest"
)

// BenchmarkMemory reports what sluice-kube takes, with one reader, of so many pods of a real
// API server: at its start, when all of them come, and at rest.
func BenchmarkMemory(b *testing.B) {
	c := use(b)
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c.store(b, n)
			for b.Loop() {
				socket := filepath.Join(b.TempDir(), "s")
				begun := time.Now()
				k := c.run(b, socket, nil)
				r := read(b, directory.Options{Socket: socket})
				require.True(b, nettest.Within(5*time.Minute, func() bool { return r.Table().Len() >= n }))
				b.ReportMetric(time.Since(begun).Seconds(), "s-until-known")
				least, since := k.memory(b, "VmRSS"), time.Now()
				for time.Since(since) < 10*time.Second { // the collector gives back what it does not need
					time.Sleep(time.Second)
					if now := k.memory(b, "VmRSS"); now < 0.99*least {
						least, since = now, time.Now()
					}
				}
				b.ReportMetric(k.memory(b, "VmRSS"), "MiB-at-rest")
				b.ReportMetric(k.memory(b, "VmHWM"), "MiB-at-most")
				require.Zero(b, k.end())
			}
		})
	}
}

// More pods than are listed at a time, where the API server cannot stream them.
func TestManyPods(t *testing.T) {
	c := use(t)
	const n = 4500
	c.store(t, n)
	r := c.both(t)
	require.Equal(t, n, r.Table().Len())
	p, _ := r.Lookup(netip.AddrFrom4([4]byte{10, 128, 17, 147}))
	assert.Equal(t, directory.Pod{Namespace: "memory", ServiceAccount: "default", Name: "pod-004499", UID: "0e9f2f5a-3a64-4b1d-9d7e-000000004499",
		Labels: "app=deployment-449,pod-template-hash=5d8f7c9b6d"}, p)
}

// memory is a line of the process's status, in MiB.
func (k *kube) memory(t testing.TB, name string) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", k.cmd.Process.Pid))
	require.NoError(t, err)
	m := regexp.MustCompile(name + `:\s+(\d+) kB`).FindSubmatch(text)
	require.NotNil(t, m)
	kib, err := strconv.Atoi(string(m[1]))
	require.NoError(t, err)
	return float64(kib) / 1024
}

// memoryPods is where the pods of the benchmark are in etcd.
const memoryPods = "/registry/pods/memory/"

// store puts n pods into etcd until the test ends, by its JSON gateway: through the API
// server it would take minutes.
func (c *cluster) store(t testing.TB, n int) {
	t.Helper()
	t.Cleanup(func() {
		c.etcdDo(t, "deleterange", map[string]any{"key": []byte(memoryPods), "range_end": []byte(memoryPods[:len(memoryPods)-1] + "0")})
	})
	const part = 100 // of the 128 that a transaction may have
	var ops []any
	for i := range n {
		text, err := json.Marshal(storedPod(i))
		require.NoError(t, err)
		ops = append(ops, map[string]any{"request_put": map[string]any{"key": []byte(fmt.Sprintf("%spod-%06d", memoryPods, i)), "value": text}})
		if len(ops) == part || i == n-1 {
			c.etcdDo(t, "txn", map[string]any{"success": ops})
			ops = nil
		}
	}
}

func (c *cluster) etcdDo(t testing.TB, what string, request any) {
	t.Helper()
	text, err := json.Marshal(request)
	require.NoError(t, err)
	resp, err := http.Post(c.etcdURL+"/v3/kv/"+what, "application/json", bytes.NewReader(text))
	require.NoError(t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode, string(answer))
}

// storedPod is a pod of 3 KiB, with what an ordinary one has.
func storedPod(i int) *corev1.Pod {
	now, app := metav1.NewTime(time.Now().Truncate(time.Second)), fmt.Sprint("deployment-", i/10)
	addr := netip.AddrFrom4([4]byte{10, 128 + byte(i>>16), byte(i >> 8), byte(i)}).String()
	quantities := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi")}
	p := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "memory", Name: fmt.Sprintf("pod-%06d", i), UID: types.UID(fmt.Sprintf("0e9f2f5a-3a64-4b1d-9d7e-%012d", i)), CreationTimestamp: now,
			Labels:      map[string]string{"app": app, "pod-template-hash": "5d8f7c9b6d"},
			Annotations: map[string]string{"k8s.v1.cni.cncf.io/network-status": fmt.Sprintf(`[{"name": "cluster", "interface": "eth0", "ips": [%q], "default": true, "dns": {}}]`, addr)},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubelet", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", Time: &now, FieldsType: "FieldsV1", Subresource: "status",
				FieldsV1: metav1.NewFieldsV1(`{"f:status":{"f:conditions":{"k:{\"type\":\"ContainersReady\"}":{".":{},"f:lastProbeTime":{},"f:lastTransitionTime":{},"f:status":{},"f:type":{}},"k:{\"type\":\"Ready\"}":{".":{},"f:status":{},"f:type":{}}},"f:containerStatuses":{},"f:hostIP":{},"f:phase":{},"f:podIP":{},"f:podIPs":{".":{},"k:{\"ip\":\"` + addr + `\"}":{".":{},"f:ip":{}}},"f:startTime":{}}}`)}},
		},
		Spec: corev1.PodSpec{ServiceAccountName: "default", NodeName: fmt.Sprint("node-", i/100), RestartPolicy: corev1.RestartPolicyAlways, DNSPolicy: corev1.DNSClusterFirst,
			Volumes: []corev1.Volume{{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: app}}}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, HostIP: "192.0.2.1", HostIPs: []corev1.HostIP{{IP: "192.0.2.1"}}, PodIP: addr, PodIPs: []corev1.PodIP{{IP: addr}}, StartTime: &now, QOSClass: corev1.PodQOSBurstable},
	}
	for _, kind := range []corev1.PodConditionType{corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled} {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	container := corev1.Container{Name: "main", Image: "registry.example.com/shop/" + app + ":v1.2.3", Resources: corev1.ResourceRequirements{Requests: quantities, Limits: quantities},
		Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}}, VolumeMounts: []corev1.VolumeMount{{Name: "config", MountPath: "/etc/config", ReadOnly: true}}}
	for j := range 10 {
		container.Env = append(container.Env, corev1.EnvVar{Name: fmt.Sprint("SETTING_", j), Value: "the value of a setting"})
	}
	p.Spec.Containers = []corev1.Container{container}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", Ready: true, Image: container.Image, ImageID: container.Image + "@sha256:0123456789abcdef", ContainerID: fmt.Sprintf("cri-o://%064d", i),
		State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}}}
	return p
}
