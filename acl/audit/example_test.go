package audit_test

import (
	"fmt"

	"github.com/sluiceproxy/sluice/acl"
	"github.com/sluiceproxy/sluice/acl/audit"
)

func policy(text string) *acl.Policy {
	p, err := acl.Parse(text)
	if err != nil {
		panic(err)
	}
	return p
}

func ExampleCompare() {
	old := policy("*.example.com:443\n")
	now := policy("!ads.example.com\n*.example.com\n")
	d := audit.Compare(old, now, audit.Options{})
	for _, c := range d.Changes {
		fmt.Println(c.Target, c.Old.Verdict, "by", c.Old.Reason(), "->", c.New.Verdict, "by", c.New.Reason())
	}
	fmt.Println(d.Complete(), len(d.Opened()), len(d.Closed()))
	// Output:
	// ads.example.com:443=1.0.0.0 allow by line 1 *.example.com:443 -> deny by line 1 !ads.example.com
	// example.com:80=1.0.0.0 deny by default -> allow by line 2 *.example.com
	// true 1 1
}

func ExampleLint() {
	p := policy("*.example.com\n!ads.example.com\n*.co.uk\n")
	for _, f := range audit.Lint(p, audit.LintOptions{}).Findings {
		fmt.Println(f.Kind, f.Msg)
	}
	// Output:
	// never-decides '!ads.example.com' never decides: line 1 (*.example.com) comes first; ads.example.com:443=198.51.100.1 is decided by line 1 *.example.com
	// look-alike '*.co.uk' allows every name under co.uk, whoever registers it; write the domains that are meant, such as *.example.co.uk
}

func ExampleCheckAssertions() {
	p := policy("#@ assert deny 10.0.0.0/8\n*.example.com\n!10.0.0.0/8\n*\n")
	for _, b := range audit.CheckAssertions(p, audit.Options{}) {
		fmt.Println(b.Problem().Error())
	}
	// Output:
	// line 1: 'assert deny 10.0.0.0/8' does not hold: line 2 *.example.com allows example.com:443=10.0.0.0
}
