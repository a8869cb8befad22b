package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	discovery "k8s.io/client-go/kubernetes/typed/discovery/v1"
)

// endpoints writes who holds a group into the EndpointSlices of a Service without selector: one
// for each group and family of addresses. A dead pod stays Ready for 40 s and more, so the next
// holder writes over it.
type endpoints struct {
	api     discovery.EndpointSliceInterface
	service string
	ports   []discoveryv1.EndpointPort
	pod     pod
}

// pod is the pod that this program runs in.
type pod struct {
	Name, Namespace, UID, Node string
	IPs                        []netip.Addr
}

// publish puts the pod into the slices of a group, or takes it out if it is there.
func (e *endpoints) publish(ctx context.Context, group string, on bool) error {
	var errs []error
	for _, family := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
		var addrs []string
		for _, a := range e.pod.IPs {
			if a.Is4() == (family == discoveryv1.AddressTypeIPv4) {
				addrs = append(addrs, a.String())
			}
		}
		if len(addrs) == 0 {
			continue
		}
		name := fmt.Sprintf("%s-%s-%s", e.service, group, strings.ToLower(string(family)))
		if err := e.write(ctx, name, group, family, addrs, on); err != nil {
			errs = append(errs, fmt.Errorf("EndpointSlice %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func (e *endpoints) write(ctx context.Context, name, group string, family discoveryv1.AddressType, addrs []string, on bool) error {
	old, err := e.api.Get(ctx, name, metav1.GetOptions{})
	missing := apierrors.IsNotFound(err)
	switch {
	case err != nil && !missing:
		return err
	case !on && (missing || !e.mine(old)):
		return nil // it is another's by now
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
	if on {
		yes, no := true, false
		endpoint := discoveryv1.Endpoint{
			Addresses:  addrs,
			Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: e.pod.Namespace, Name: e.pod.Name, UID: types.UID(e.pod.UID)},
		}
		if e.pod.Node != "" {
			endpoint.NodeName = &e.pod.Node
		}
		s.Endpoints = []discoveryv1.Endpoint{endpoint}
	}
	if missing {
		_, err = e.api.Create(ctx, s, metav1.CreateOptions{})
		return err
	}
	s.ResourceVersion = old.ResourceVersion
	_, err = e.api.Update(ctx, s, metav1.UpdateOptions{})
	return err
}

// mine reports whether a slice has this pod.
func (e *endpoints) mine(s *discoveryv1.EndpointSlice) bool {
	return slices.ContainsFunc(s.Endpoints, func(p discoveryv1.Endpoint) bool {
		return p.TargetRef != nil && string(p.TargetRef.UID) == e.pod.UID
	})
}
