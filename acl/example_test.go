package acl_test

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/sluiceproxy/sluice/acl"
)

func Example() {
	p, err := acl.Parse(`
!*.example.com
!192.168.1.0/24
192.168.2.1
*
`)
	if err != nil {
		fmt.Println(err)
		return
	}
	// What a resolver would say.
	addrs := map[string][]netip.Addr{
		"dual.test": {netip.MustParseAddr("192.168.1.7"), netip.MustParseAddr("203.0.113.5")},
	}
	for _, s := range []string{"EXAMPLE.com.:80", "dual.test:80", "192.168.2.1:8080", "169.254.169.254:80"} {
		t, err := acl.ParseTarget(s)
		if err != nil {
			fmt.Println(err)
			return
		}
		d := p.DecideHost(t)
		if d.Verdict != acl.NeedAddr {
			fmt.Println(t, d.Verdict, d.Reason())
			continue
		}
		for _, a := range addrs[t.Host.Name()] {
			d := p.DecideAddr(t, a)
			fmt.Println(t, a, d.Verdict, d.Reason())
		}
	}
	// Output:
	// example.com:80 deny line 2 !*.example.com
	// dual.test:80 192.168.1.7 deny line 3 !192.168.1.0/24
	// dual.test:80 203.0.113.5 allow line 5 *
	// 192.168.2.1:8080 allow line 4 192.168.2.1
	// 169.254.169.254:80 deny guard link-local
}

func ExampleParseNamed() {
	_, err := acl.ParseNamed("rules.txt", "10.0.0.300\n*\nhttp://example.com\n")
	fmt.Println(err)
	var perr *acl.ParseError
	if errors.As(err, &perr) {
		fmt.Println(len(perr.Problems), perr.Problems[0].Line, perr.Problems[0].Text)
	}
	// Output:
	// rules.txt:1: Bad destination '10.0.0.300': not an IPv4 address; write four numbers from 0 to 255 without leading zeros
	// rules.txt:2: Wildcard must be last rule, if present: line 3 follows '*'; move the `*` to the end
	// rules.txt:3: Bad destination 'http://example.com': a scheme is refused; write only the host and port, without http:// or the like
	// 3 1 10.0.0.300
}

func ExamplePolicy_Warnings() {
	p, err := acl.ParseNamed("rules.txt", "10.1.2.3/8\nexample.com\n!EXAMPLE.com\n")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, w := range p.Warnings() {
		fmt.Println(w.Error())
	}
	fmt.Print(p)
	// Output:
	// rules.txt:1: '10.1.2.3/8' has host bits set, and is read as 10.0.0.0/8
	// rules.txt:3: '!EXAMPLE.com' never decides: line 2, for the same destination, comes first
	// 10.0.0.0/8
	// example.com
	// !example.com
}

func ExamplePolicy_WithGuard() {
	p, err := acl.Parse("10.0.0.0/8\n127.0.0.1:8080\n*\n")
	if err != nil {
		fmt.Println(err)
		return
	}
	p = p.WithGuard(acl.Guard{Own: []netip.Addr{netip.MustParseAddr("10.0.0.5")}})
	for _, s := range []string{"10.0.0.6:80", "10.0.0.5:80", "127.0.0.1:8080", "127.0.0.1:80"} {
		t, err := acl.ParseTarget(s)
		if err != nil {
			fmt.Println(err)
			return
		}
		d := p.DecideHost(t)
		fmt.Println(t, d.Verdict, d.Reason())
	}
	// Output:
	// 10.0.0.6:80 allow line 1 10.0.0.0/8
	// 10.0.0.5:80 deny guard own address
	// 127.0.0.1:8080 allow line 2 127.0.0.1:8080
	// 127.0.0.1:80 deny guard loopback
}

func ExampleParseTarget() {
	for _, s := range []string{"API.Example.com.:443", "[::ffff:192.0.2.1]:80", "0x7f000001:80"} {
		fmt.Println(acl.ParseTarget(s))
	}
	// Output:
	// api.example.com:443 <nil>
	// 192.0.2.1:80 <nil>
	//  bad target '0x7f000001:80': not an IPv4 address; write four numbers from 0 to 255 without leading zeros
}
