package request_test

import (
	"fmt"

	"github.com/sluiceproxy/sluice/acl/request"
)

// A repository that may be cloned, and not be pushed to.
func Example() {
	rules, err := request.Parse(`
GET  /**/info/refs?service=git-upload-pack
POST /**/git-upload-pack
`, request.Options{})
	if err != nil {
		panic(err)
	}
	for _, r := range [][2]string{
		{"GET", "/team/app.git/info/refs?service=git-upload-pack"},
		{"GET", "/team/app.git/info/refs?service=git-receive-pack"},
		{"POST", "/team/app.git/git-receive-pack"},
		{"GET", "/team/../info/refs?service=git-upload-pack"},
	} {
		d := rules.Decide(r[0], r[1])
		fmt.Printf("%-5s %s\n", d.Verdict, d)
	}
	// Output:
	// allow request rule in line 2 GET  /**/info/refs?service=git-upload-pack
	// deny  no request rule allows it
	// deny  no request rule allows it
	// deny  malformed path: a dot segment
}
