// Package directory says who a client is, by its address: which pod has it, of which
// namespace and service account. One program knows that from the API server, and serves
// it on a Unix socket ([Server], of an [Index]); another, which faces the network and needs
// no API, keeps a copy that it looks up without lock or allocation ([Client]). The same
// socket carries tokens to be judged.
//
// What is not known for certain is unknown: an address of two living pods, and every
// address when nothing was heard for too long.
package directory

import (
	"slices"
	"strings"
	"time"
	"unique"
)

// Pod is who has an address. It is not changed once made, and is comparable.
type Pod struct {
	Namespace      string
	ServiceAccount string
	Name           string
	UID            string
	Labels         Labels
}

// Labels are a pod's labels as "key=value,key=value", sorted by key. Neither keys nor
// values have a comma or an equals sign.
type Labels string

// LabelsOf is m as Labels.
func LabelsOf(m map[string]string) Labels {
	if len(m) == 0 {
		return ""
	}
	words := make([]string, 0, len(m))
	for k, v := range m {
		words = append(words, k+"="+v)
	}
	slices.Sort(words)
	return Labels(strings.Join(words, ","))
}

// Get is the value of a label, and whether there is one. It allocates nothing.
func (l Labels) Get(key string) (value string, ok bool) {
	for rest := string(l); rest != ""; {
		var word string
		word, rest, _ = strings.Cut(rest, ",")
		if k, v, _ := strings.Cut(word, "="); k == key {
			return v, true
		}
	}
	return "", false
}

// Interned is p with strings that are kept once for all pods that have them: most pods
// share their namespace, account and labels with many.
func (p Pod) Interned() Pod {
	p.Namespace = unique.Make(p.Namespace).Value()
	p.ServiceAccount = unique.Make(p.ServiceAccount).Value()
	p.Labels = unique.Make(p.Labels).Value()
	return p
}

// Identity is whom a token was given to.
type Identity struct {
	Namespace      string
	ServiceAccount string
	Pod            string    // that the token is bound to; "": none
	PodUID         string    // likewise
	Expires        time.Time // zero: not known
}
