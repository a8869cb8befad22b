package outbound

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/tlshello"
)

// An Opening judges what a client sends first through its tunnel: whether it leads where the
// tunnel does. It is admission's last word, which can be said only when the tunnel is there. Its
// methods must not be called concurrently.
type Opening struct {
	// Enforce says that the tunnel must end when something is wrong; else it is only told.
	Enforce bool

	gen     *policy.Generation
	rules   *acl.Policy
	inspect *policy.Inspect
	target  acl.Target
	inUse   netip.Addr
	want    string // "tls", "http", "ssh"; "": anything, but a ClientHello must name the target; "any": no inspected host
	byPort  bool   // no rule says that, but the port
}

// OpeningMost is how many bytes an opening may take on the wire.
const OpeningMost = 128 << 10

// NewOpening returns what the first bytes of a tunnel are judged by which t has admitted to an
// address of the target; nil: they are not looked at.
func NewOpening(gen *policy.Generation, t *Ticket, target acl.Target, inUse netip.Addr) *Opening {
	mode := gen.TunnelCheck()
	if mode == policy.CheckOff || t.Tenant == nil {
		return nil
	}
	rules := t.Tenant.Rules
	d := t.Decision
	if inUse.IsValid() { // else a parent resolves the name
		d = rules.DecideAddr(target, inUse)
	}
	want := rules.Protocol(d)
	if want == "any" && t.Tenant.Inspect == nil {
		return nil
	}
	byPort := want == "" && target.Port == 443
	if byPort {
		want = "tls"
	}
	return &Opening{Enforce: mode == policy.CheckEnforce, gen: gen, rules: rules, inspect: t.Tenant.Inspect, target: target, inUse: inUse, want: want, byPort: byPort}
}

// Generation is what it judges by.
func (o *Opening) Generation() *policy.Generation { return o.gen }

// Wants reports whether something has to come: silence is wrong too.
func (o *Opening) Wants() bool { return o.want != "" && o.want != "any" }

// Problem is what is wrong with an opening. The zero Problem is nothing.
type Problem uint8

const (
	OtherName     Problem = 1 + iota // a ClientHello for a name that is not the target's, and that the rules do not allow
	NoName                           // a ClientHello without a name for a target that has one
	OtherProtocol                    // not what the rule wants, or no TLS at port 443
	TooLong                          // a ClientHello that does not end
	TooSlow                          // it did not come in time

	Problems int = iota + 1 // how many values there are
)

// Found is what an opening was found to be.
type Found struct {
	Problem Problem
	Details string // of the problem, for the log
	Hello   bool   // it is a ClientHello
	ECH     bool   // there may be another ClientHello within, encrypted
	// Other is what the client asks the server for, where that is not the tunnel's target and the
	// rules allow it; else the zero Target.
	Other acl.Target
}

// Last is why nothing more of an opening will come.
type Last uint8

const (
	MayCome Last = iota // more may
	Ended               // the client has ended its half
	Late                // the time for it is over
	Full                // there is no room for more of it
)

// Judge looks at all that has come from the client. over is false when more must come before
// anything can be said: least bytes in all, or more. It does not keep first.
func (o *Opening) Judge(first []byte, last Last) (f Found, over bool, least int) {
	if len(first) == 0 && last != Late {
		return f, last != MayCome, 1 // nothing was said
	}
	if o.want == "http" || o.want == "ssh" {
		return o.judgeOther(first, last)
	}
	hello, err := tlshello.Parse(first)
	switch {
	case err == nil:
		f.Hello, f.ECH = true, hello.ECH
		o.judgeHello(&f, hello.ServerName)
		return f, true, 0
	case err != tlshello.ErrMore:
		return o.judgeOther(first, last)
	case (last == Ended || o.want == "any" && last == Late) && !o.Wants():
		return f, true, 0
	case len(first) >= OpeningMost, last == Full:
		f.Problem, f.Details = TooLong, fmt.Sprintf("no end of a ClientHello in %d bytes", len(first))
	case last == Late:
		f.Problem, f.Details = TooSlow, fmt.Sprintf("nothing that can be judged in time, but %d bytes", len(first))
	case last == Ended:
		f.Problem, f.Details = OtherProtocol, "the client has ended its half within a ClientHello"
	default:
		return f, false, len(first) + max(1, tlshello.Missing(first))
	}
	return f, true, 0
}

// judgeHello judges a ClientHello that asks for that name.
func (o *Opening) judgeHello(f *Found, name string) {
	host := o.target.Host
	if o.want == "any" {
		o.judgeInspected(f, name)
		return
	}
	bare := host.IsAddr() || !strings.Contains(host.Name(), ".")
	switch {
	case !host.IsAddr() && name == host.Name(), name == "" && bare:
		return
	case name == "":
		f.Problem, f.Details = NoName, "a ClientHello without a server name"
		return
	}
	sni, err := acl.ParseHost(name)
	other := acl.Target{Host: sni, Port: o.target.Port}
	switch {
	case err != nil:
		f.Problem, f.Details = OtherName, fmt.Sprintf("the server name %.64q is none", name)
	case sni == host, sni.IsAddr() && sni.Addr() == o.inUse:
	case o.inspect.Of(other, true) != nil, o.inspect.Elsewhere(other):
		o.judgeInspected(f, name)
	case o.rules.DecideAddr(other, o.inUse).Verdict == acl.Allow:
		f.Other = other
	default:
		f.Problem, f.Details = OtherName, "the server name "+sni.String()+" is not allowed at "+o.inUse.String()
	}
}

// judgeInspected refuses a ClientHello for an inspected host, where nothing else is asked.
func (o *Opening) judgeInspected(f *Found, name string) {
	sni, err := acl.ParseHost(name)
	other := acl.Target{Host: sni, Port: o.target.Port}
	switch {
	case err != nil || sni == o.target.Host:
		return
	case o.inspect.Elsewhere(other): // it is denied by that name, too
		f.Problem, f.Details = OtherName, "requests to "+sni.String()+" are asked what they may do, and a tunnel to another port would go past that"
	case o.inspect.Of(other, true) != nil:
		f.Problem, f.Details = OtherName, "requests to "+sni.String()+" are asked what they may do: the tunnel must be asked for by that name"
	default:
		return
	}
	if o.rules.DecideAddr(other, o.inUse).Verdict != acl.Allow {
		f.Details += ", and is not allowed at " + o.inUse.String()
	}
}

// judgeOther judges what is no TLS.
func (o *Opening) judgeOther(first []byte, last Last) (f Found, over bool, least int) {
	is := false
	switch o.want {
	case "", "any":
		return f, true, 0
	case "http":
		is, over = httpMethod(first)
	case "ssh":
		is, over = sshVersion(first)
	case "tls":
		over = true
	}
	switch {
	case is:
	case !over && last == MayCome:
		return f, false, len(first) + 1
	case !over && last == Late:
		f.Problem, f.Details = TooSlow, fmt.Sprintf("nothing that can be judged in time, but %d bytes", len(first))
	case o.byPort:
		f.Problem, f.Details = OtherProtocol, "no TLS at port 443"
	default:
		f.Problem, f.Details = OtherProtocol, "not what the rule says: protocol="+o.want
	}
	return f, true, 0
}

// sshVersion reports whether b begins SSH, as soon as that can be told. It is RFC 4253 section 4.2: a client says its version before anything else.
func sshVersion(b []byte) (is, over bool) {
	const version = "SSH-"
	if len(b) < len(version) {
		return false, !bytes.HasPrefix([]byte(version), b)
	}
	return bytes.HasPrefix(b, []byte(version)), true
}

// methodMost is how long a method may be whose end is waited for.
const methodMost = 32

// httpMethod does so of HTTP. It is RFC 9112 section 3: a request begins with a method and a space.
// Of HTTP/2 that is so too (RFC 9113 section 3.4).
func httpMethod(b []byte) (is, over bool) {
	for i, c := range b {
		switch {
		case c == ' ':
			return i > 0, true
		case c < 'A' || c > 'Z' || i == methodMost:
			return false, true
		}
	}
	return false, false
}
