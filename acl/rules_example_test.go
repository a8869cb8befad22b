package acl_test

import (
	"fmt"
	"time"

	"github.com/sluiceproxy/sluice/acl"
)

func ExamplePolicy_Rules() {
	p, err := acl.Parse("#@ owner=web\n*.Example.com:443,80\n!10.0.0.0/8 #@ ticket=T-1\n")
	if err != nil {
		fmt.Println(err)
		return
	}
	for r := range p.Rules() {
		fmt.Printf("%d %v %q %v %v %v %q\n", r.Line, r.Form, r.Name, r.Prefix, r.Ports, r.Deny, r.Owner+r.Ticket)
	}
	// Output:
	// 2 domain "example.com" invalid Prefix [{80 80} {443 443}] false "web"
	// 3 address "" 10.0.0.0/8 [] true "webT-1"
}

func ExamplePolicy_At() {
	p, err := acl.Parse("example.com #@ expires=2027-03-01\n")
	if err != nil {
		fmt.Println(err)
		return
	}
	t, _ := acl.ParseTarget("example.com:443")
	for _, day := range []string{"2027-03-01", "2027-03-02"} {
		now, _ := time.Parse(time.DateOnly, day)
		fmt.Println(day, p.At(now).DecideHost(t).Verdict)
	}
	next, _ := p.NextExpiry(time.Time{})
	fmt.Println(next.Format(time.RFC3339))
	// Output:
	// 2027-03-01 depends
	// 2027-03-02 deny
	// 2027-03-02T00:00:00Z
}
