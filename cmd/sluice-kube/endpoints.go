package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	discovery "k8s.io/client-go/kubernetes/typed/discovery/v1"
)

// endpoints writes who holds a group into the EndpointSlices of a Service without selector: one
// for each group and family of addresses. A dead pod stays Ready for 40 s and more, so the next
// holder writes over it. The slices are the Service's, and go with it.
type endpoints struct {
	api      discovery.EndpointSliceInterface
	services corev1client.ServiceInterface
	service  string
	ports    []discoveryv1.EndpointPort
	pod      pod

	mu      sync.Mutex
	cleared map[string]bool // slices of a family that the pod has not, which lead nowhere by now
}

// pod is the pod that this program runs in.
type pod struct {
	Name, Namespace, UID, Node string
	IPs                        []netip.Addr
}

// publish puts the pod into the slices of a group, or takes it out if it is there. The slice of a
// family that it has no address of leads to nobody while it holds.
func (e *endpoints) publish(ctx context.Context, group string, on bool) error {
	var errs []error
	for _, family := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
		var addrs []string
		for _, a := range e.pod.IPs {
			if a.Is4() == (family == discoveryv1.AddressTypeIPv4) {
				addrs = append(addrs, a.String())
			}
		}
		name := fmt.Sprintf("%s-%s-%s", e.service, group, strings.ToLower(string(family)))
		if len(addrs) == 0 && !e.toClear(name, on) {
			continue
		}
		err := e.write(ctx, name, group, family, addrs, on)
		if err != nil {
			errs = append(errs, fmt.Errorf("EndpointSlice %s: %w", name, err))
		}
		e.clear(name, err == nil && on && len(addrs) == 0)
	}
	return errors.Join(errs...)
}

// toClear reports whether a slice that this pod has no address for is to be looked at yet: once,
// when it has come to hold.
func (e *endpoints) toClear(name string, on bool) bool {
	if !on {
		e.clear(name, false)
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.cleared[name]
}

func (e *endpoints) clear(name string, is bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cleared == nil {
		e.cleared = map[string]bool{}
	}
	e.cleared[name] = is
}

// write makes a slice lead to the pod (on), or not any more; with no addrs, on is to nobody.
func (e *endpoints) write(ctx context.Context, name, group string, family discoveryv1.AddressType, addrs []string, on bool) error {
	old, err := e.api.Get(ctx, name, metav1.GetOptions{})
	missing := apierrors.IsNotFound(err)
	switch {
	case err != nil && !missing:
		return err
	case !on && (missing || !e.mine(old)):
		return nil // it is another's by now
	case on && len(addrs) == 0 && (missing || len(old.Endpoints) == 0):
		return nil
	case on && !missing && len(old.Endpoints) == 1 && e.mine(old):
		return nil
	}
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: e.pod.Namespace, Labels: map[string]string{
			discoveryv1.LabelServiceName: e.service, discoveryv1.LabelManagedBy: "sluice-kube",
			"app.kubernetes.io/name": "sluice", "sluice.io/group": group}},
		AddressType: family,
		Ports:       e.ports,
	}
	if on && len(addrs) > 0 {
		s.Endpoints = []discoveryv1.Endpoint{e.endpoint(addrs)}
	}
	if !missing {
		s.ResourceVersion, s.OwnerReferences = old.ResourceVersion, old.OwnerReferences
		_, err = e.api.Update(ctx, s, metav1.UpdateOptions{})
		return err
	}
	return e.create(ctx, s)
}

// endpoint is the pod as a slice has it.
func (e *endpoints) endpoint(addrs []string) discoveryv1.Endpoint {
	yes, no := true, false
	endpoint := discoveryv1.Endpoint{
		Addresses:  addrs,
		Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: e.pod.Namespace, Name: e.pod.Name, UID: types.UID(e.pod.UID)},
	}
	if e.pod.Node != "" {
		endpoint.NodeName = &e.pod.Node
	}
	return endpoint
}

// create makes a slice that is the Service's, so that it is collected with that. Of a Service that
// is not there, or no more, there is none: who ends last would leave it behind. Where the Service
// may not be read, or an owner not be named (OpenShift wants the right to delete for that), it is
// nobody's.
func (e *endpoints) create(ctx context.Context, s *discoveryv1.EndpointSlice) error {
	service, err := e.services.Get(ctx, e.service, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("there is no Service to lead anywhere: %w", err)
	case err == nil:
		s.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Service", Name: service.Name, UID: service.UID}}
	case !apierrors.IsForbidden(err):
		return err
	}
	_, err = e.api.Create(ctx, s, metav1.CreateOptions{})
	if apierrors.IsForbidden(err) && s.OwnerReferences != nil {
		s.OwnerReferences = nil
		_, err = e.api.Create(ctx, s, metav1.CreateOptions{})
	}
	return err
}

// mine reports whether a slice has this pod.
func (e *endpoints) mine(s *discoveryv1.EndpointSlice) bool {
	return slices.ContainsFunc(s.Endpoints, func(p discoveryv1.Endpoint) bool {
		return p.TargetRef != nil && string(p.TargetRef.UID) == e.pod.UID
	})
}
