package main

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/sluiceproxy/sluice/internal/directory"
)

// record is what is kept of a pod. The informer has it in its store as if it was the pod,
// and asks it for no more than what it overrides here.
type record struct {
	metav1.Object
	pod     directory.Pod
	version string
	addrs   []netip.Addr // of its own, while it lives
}

// nothing is what a record says of what it has not kept.
var nothing = new(metav1.ObjectMeta)

func (r *record) GetNamespace() string       { return r.pod.Namespace }
func (r *record) GetName() string            { return r.pod.Name }
func (r *record) GetUID() types.UID          { return types.UID(r.pod.UID) }
func (r *record) GetResourceVersion() string { return r.version }

// slim keeps of a pod what is served. It is an informer's transform: it may be given what
// it has made, and tombstones.
func slim(obj any) (any, error) {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	return &record{
		Object: nothing,
		pod: directory.Pod{
			Namespace:      p.Namespace,
			ServiceAccount: p.Spec.ServiceAccountName,
			Name:           p.Name,
			UID:            string(p.UID),
			Labels:         directory.LabelsOf(p.Labels),
		}.Interned(),
		version: p.ResourceVersion,
		addrs:   addresses(p),
	}, nil
}

// needed is as much of a pod as slim looks at.
func needed(p *corev1.Pod) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, UID: p.UID, Labels: p.Labels, ResourceVersion: p.ResourceVersion},
		Spec:       corev1.PodSpec{ServiceAccountName: p.Spec.ServiceAccountName, HostNetwork: p.Spec.HostNetwork},
		Status:     corev1.PodStatus{Phase: p.Status.Phase, PodIPs: p.Status.PodIPs, HostIPs: p.Status.HostIPs},
	}
}

// addresses are those that are the pod's own: none of a pod that uses its node's, nor of
// one that has ended, whose address may be another's by now.
func addresses(p *corev1.Pod) []netip.Addr {
	if p.Spec.HostNetwork || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return nil
	}
	var addrs []netip.Addr
	for _, ip := range p.Status.PodIPs {
		if slices.ContainsFunc(p.Status.HostIPs, func(h corev1.HostIP) bool { return h.IP == ip.IP }) {
			continue
		}
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// handler keeps the index as the informer's events say. A pod that was deleted unseen and
// made anew under the same name comes as an update with another UID.
func (d *daemon) handler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { d.put(obj) },
		UpdateFunc: func(before, now any) {
			if b, ok := before.(*record); ok && b.pod.UID != uidOf(now) {
				d.index.Remove(b.pod.UID)
			}
			d.put(now)
		},
		DeleteFunc: func(obj any) {
			if unseen, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = unseen.Obj
			}
			d.index.Remove(uidOf(obj))
		},
	}
}

func uidOf(obj any) string {
	if r, ok := obj.(*record); ok {
		return r.pod.UID
	}
	return ""
}

func (d *daemon) put(obj any) {
	r, ok := obj.(*record)
	if !ok {
		d.log.Error("a fault of the program: the informer gave something else than a pod", "type", fmt.Sprintf("%T", obj))
		return
	}
	if !d.index.Put(r.pod, r.addrs) {
		d.log.Warn("a pod has too many labels to be served: its addresses are unknown", "namespace", r.pod.Namespace, "pod", r.pod.Name)
	}
}
