// Package inotify has the kernel tell a [reload.Reloader] when something happens beside its
// files. It is apart so that a program without it links nothing of it.
package inotify

import (
	"github.com/fsnotify/fsnotify"

	"github.com/sluiceproxy/sluice/internal/reload"
)

// New returns a Notifier, which runs goroutines until it is closed.
func New() (*reload.Notifier, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	events := make(chan reload.Event)
	go func() {
		defer close(events)
		for e := range w.Events {
			events <- reload.Event{Path: e.Name, Written: e.Op&^(fsnotify.Write|fsnotify.Chmod) == 0}
		}
	}()
	go func() {
		for range w.Errors { // an overflow, say: the comparison finds what was missed
		}
	}()
	return &reload.Notifier{Events: events, Add: w.Add, Close: func() {
		_ = w.Close()
		for range events {
		}
	}}, nil
}
