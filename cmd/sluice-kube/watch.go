package main

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
)

// contact is whether the API server tells us what changes: since when it has not.
type contact struct {
	mu   sync.Mutex
	lost map[string]time.Time // when a namespace's watch ended; zero: it goes on
}

// age is how long ago all watches were known to be in place.
func (c *contact) age() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	var age time.Duration
	for _, at := range c.lost {
		if !at.IsZero() {
			age = max(age, time.Since(at))
		}
	}
	return age
}

func (c *contact) set(namespace string, lost time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost[namespace] = lost
}

// informer watches the pods of a namespace; "" is all.
func (d *daemon) informer(client kubernetes.Interface, namespace string) (cache.SharedIndexInformer, error) {
	pods := client.CoreV1().Pods(namespace)
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return listInParts(ctx, pods, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			w, err := pods.Watch(ctx, o)
			if err != nil {
				return nil, err
			}
			return d.contact.observe(namespace, w, o.SendInitialEvents != nil && *o.SendInitialEvents), nil
		},
	}
	i := cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(lw, client), &corev1.Pod{}, 0, cache.Indexers{})
	if err := i.SetTransform(slim); err != nil {
		return nil, err
	}
	return i, nil
}

// listPart is how many pods are listed at a time: a few dozen MiB until they are slim.
const listPart = 2000

// listInParts lists pods for an API server that cannot stream them. The informer's request
// would be answered by all at once, whatever its limit, and it applies its transform when it
// has all: as they come, 100,000 pods are more than a GiB. So the version that it would take
// is not named, which lets a limit hold, and of each part no more is kept than is needed.
func listInParts(ctx context.Context, pods corev1client.PodInterface, o metav1.ListOptions) (*corev1.PodList, error) {
	o.ResourceVersion, o.ResourceVersionMatch, o.Limit = "", "", listPart
	l, err := pods.List(ctx, o)
	if err != nil {
		return nil, err
	}
	for i := range l.Items {
		l.Items[i] = needed(&l.Items[i])
	}
	return l, nil
}

// observed is a watch that tells its contact when it is in place and when it ends.
type observed struct {
	watch.Interface
	out  chan watch.Event
	stop chan struct{}
	once sync.Once
}

// observe passes a watch on. One that begins with all there is, is in place once that has
// come.
func (c *contact) observe(namespace string, w watch.Interface, begins bool) watch.Interface {
	o := &observed{Interface: w, out: make(chan watch.Event), stop: make(chan struct{})}
	if !begins {
		c.set(namespace, time.Time{})
	}
	go func() {
		defer close(o.out)
		in := !begins
		for e := range w.ResultChan() {
			if !in && ended(e) {
				in = true
				c.set(namespace, time.Time{})
			}
			select {
			case o.out <- e:
			case <-o.stop: // nobody reads; the channel is drained, so that w can end
			}
		}
		if in {
			c.set(namespace, time.Now())
		}
	}()
	return o
}

// ended reports whether e says that all there was has come.
func ended(e watch.Event) bool {
	if e.Type != watch.Bookmark {
		return false
	}
	m, err := meta.Accessor(e.Object)
	return err == nil && m.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true"
}

func (o *observed) ResultChan() <-chan watch.Event { return o.out }

func (o *observed) Stop() {
	o.once.Do(func() { close(o.stop) })
	o.Interface.Stop()
}
