package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/sluiceproxy/sluice/internal/hold"
)

// apiDeadline is how long the API server has for an answer. A renewal without one is as good
// as lost, and the connection that has not brought it is closed.
const apiDeadline = 500 * time.Millisecond

// holdingConfig is how a holder reaches the API server: by HTTP/1.1, whose connection ends with
// a request that was given up, while HTTP/2 goes on to use one that is dead; without a limiter,
// since a holder asks a few times a second and must not wait in a line of its own.
func holdingConfig(api *rest.Config) *rest.Config {
	c := rest.CopyConfig(api)
	c.UserAgent = "sluice-kube/" + version
	c.QPS = -1
	c.TLSClientConfig.NextProtos = []string{"http/1.1"}
	return c
}

// leases reads and writes Leases of one namespace. What has no answer in time may have been
// done, or be done yet. There are no retries: who decides sees each failure.
type leases struct {
	api       rest.Interface
	namespace string

	mu   sync.Mutex
	seen map[string]metav1.ObjectMeta // of each Lease, as it was last seen
}

func newLeases(c *kubernetes.Clientset, namespace string) *leases {
	return &leases{api: c.CoordinationV1().RESTClient(), namespace: namespace, seen: map[string]metav1.ObjectMeta{}}
}

// get asks the API server itself: a resourceVersion that is unset means the latest.
func (l *leases) get(ctx context.Context, name string) (hold.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, apiDeadline)
	defer cancel()
	o := &coordinationv1.Lease{}
	err := l.api.Get().Namespace(l.namespace).Resource("leases").Name(name).MaxRetries(0).Do(ctx).Into(o)
	if apierrors.IsNotFound(err) {
		return hold.Lease{Missing: true}, nil
	}
	if err != nil {
		return hold.Lease{}, err
	}
	return l.saw(o), nil
}

// write does what an action asks for. The error says more about any outcome but Acknowledged.
func (l *leases) write(ctx context.Context, name string, w hold.WriteLease) (hold.Written, error) {
	ctx, cancel := context.WithTimeout(ctx, apiDeadline)
	defer cancel()
	o, got := l.object(name, w), &coordinationv1.Lease{}
	request := l.api.Put().Name(name)
	if w.Base.Missing {
		request = l.api.Post()
	}
	err := request.Namespace(l.namespace).Resource("leases").Body(o).MaxRetries(0).Do(ctx).Into(got)
	done := hold.Written{Nonce: w.Nonce}
	switch {
	case err == nil:
		l.saw(got)
		done.Outcome, done.UID, done.Version = hold.Acknowledged, string(got.UID), got.ResourceVersion
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err):
		done.Outcome = hold.Conflict
	}
	return done, err
}

// object is the Lease that is to be written. What a Lease says to people (leaseDurationSeconds
// is rounded up) is informative: nobody decides by it. What others have written of it stays: who
// installed the gateway may have the Lease among the objects that go with it.
func (l *leases) object(name string, w hold.WriteLease) *coordinationv1.Lease {
	o := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: l.namespace, Labels: map[string]string{}, Annotations: map[string]string{}}}
	if !w.Base.Missing {
		o.UID, o.ResourceVersion = types.UID(w.Base.UID), w.Base.Version
		theirs := l.theirs(name, w.Base)
		maps.Copy(o.Labels, theirs.Labels)
		maps.Copy(o.Annotations, theirs.Annotations)
		o.OwnerReferences, o.Finalizers = theirs.OwnerReferences, theirs.Finalizers
	}
	o.Labels["app.kubernetes.io/name"] = "sluice"
	for k, v := range w.Lease.Annotations() {
		if o.Annotations[k] = v; v == "" {
			delete(o.Annotations, k)
		}
	}
	holder, now := w.Lease.Holder, metav1.NowMicro()
	seconds := int32((w.Lease.Bound + time.Second - 1) / time.Second)
	o.Spec = coordinationv1.LeaseSpec{HolderIdentity: &holder, RenewTime: &now, LeaseDurationSeconds: &seconds}
	return o
}

// saw remembers what is there beside that which concerns holding.
func (l *leases) saw(o *coordinationv1.Lease) hold.Lease {
	l.mu.Lock()
	l.seen[o.Name] = o.ObjectMeta
	l.mu.Unlock()
	holder := ""
	if o.Spec.HolderIdentity != nil {
		holder = *o.Spec.HolderIdentity
	}
	return hold.ParseLease(string(o.UID), o.ResourceVersion, holder, o.Annotations)
}

// theirs is what others have written of the Lease that is to be replaced, as it was seen last. A
// watch may lag behind what was read and written, by versions in which this is the same; and if it
// is ahead, nothing is replaced: the API server refuses the write.
func (l *leases) theirs(name string, base hold.Lease) metav1.ObjectMeta {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := l.seen[name]; string(o.UID) == base.UID {
		return o
	}
	return metav1.ObjectMeta{}
}

// errWatch ends a watch.
var errWatch = errors.New("the watch has ended")

// watch tells what becomes of a Lease until ctx or the watch ends.
func (l *leases) watch(ctx context.Context, name string, tell func(hold.Lease)) error {
	o := metav1.ListOptions{FieldSelector: "metadata.name=" + name, Watch: true}
	w, err := l.api.Get().Namespace(l.namespace).Resource("leases").VersionedParams(&o, scheme.ParameterCodec).MaxRetries(0).Watch(ctx)
	if err != nil {
		return err
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, ok := <-w.ResultChan():
			switch o := e.Object.(type) {
			case *coordinationv1.Lease:
				tell(l.saw(o)) // of what is deleted, what it said last: its holder may let the address out yet
				if e.Type == watch.Deleted {
					tell(hold.Lease{Missing: true})
				}
			case *metav1.Status:
				return fmt.Errorf("%w: %w", errWatch, apierrors.FromObject(o))
			default:
				if !ok {
					return errWatch
				}
			}
		}
	}
}
