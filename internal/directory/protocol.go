package directory

import (
	"net/netip"
	"time"

	"github.com/sluiceproxy/sluice/internal/peer"
)

// Protocol is what is said on the socket. Once it knows all pods, the server sends begin, a
// set for each address, and end; from then on a set for each change, and a beat every few
// seconds. Verdicts come in between. The reader sends reviews.
var Protocol = peer.Protocol{Name: "the directory's protocol", Version: 1}

// Bounds of a line, in bytes.
const (
	maxAnswer   = 256 << 10 // a pod with its labels, escaped
	maxQuestion = 48 << 10  // a token of up to MaxToken
)

// MaxToken is the length of the longest token that is asked about, in bytes.
const MaxToken = 32 << 10

// Times of the protocol. The reader takes a server that is silent for quiet as gone.
const (
	beatTime  = 2 * time.Second
	quietTime = 10 * time.Second
)

// message is a line of either end; one of its fields is set.
type message struct {
	Begin   *struct{} `json:"begin,omitempty"`
	Set     *setting  `json:"set,omitempty"`
	End     *beat     `json:"end,omitempty"`
	Beat    *beat     `json:"beat,omitempty"`
	Review  *question `json:"review,omitempty"`
	Verdict *verdict  `json:"verdict,omitempty"`
}

// setting says who has an address; without a namespace nobody, as far as is known.
type setting struct {
	Addr      netip.Addr `json:"addr"`
	Namespace string     `json:"ns,omitempty"`
	Account   string     `json:"sa,omitempty"`
	Name      string     `json:"pod,omitempty"`
	UID       string     `json:"uid,omitempty"`
	Labels    Labels     `json:"labels,omitempty"`
}

// beat says how long ago the server last knew that it knows all. Without, it never did.
type beat struct {
	Age *int64 `json:"age,omitempty"` // in milliseconds
}

type question struct {
	ID    uint64 `json:"id"`
	Token string `json:"token"`
}

// What a verdict says.
const (
	stateValid   = "valid"
	stateRefused = "refused"
	stateUnknown = "unknown" // it cannot be verified now
)

type verdict struct {
	ID        uint64 `json:"id"`
	State     string `json:"state"`
	Why       string `json:"why,omitempty"`
	Namespace string `json:"ns,omitempty"`
	Account   string `json:"sa,omitempty"`
	Pod       string `json:"pod,omitempty"`
	PodUID    string `json:"uid,omitempty"`
	Expires   int64  `json:"exp,omitempty"` // seconds since 1970
}

func settingOf(c change) *setting {
	if c.pod == nil {
		return &setting{Addr: c.addr}
	}
	return &setting{c.addr, c.pod.Namespace, c.pod.ServiceAccount, c.pod.Name, c.pod.UID, c.pod.Labels}
}

// pod is whom s names, or nil.
func (s *setting) pod() *Pod {
	if s.Namespace == "" {
		return nil
	}
	p := Pod{s.Namespace, s.Account, s.Name, s.UID, s.Labels}.Interned()
	return &p
}
