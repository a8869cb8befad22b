package convert_test

import (
	"fmt"

	"github.com/sluiceproxy/sluice/acl/convert"
)

func ExampleSquid() {
	conf := `
acl office src 10.1.0.0/16
acl work time MTWHF 08:00-18:00
acl docs dstdomain -n .docs.example.com
acl games dstdomain -n .games.example.net
http_access deny games
http_access allow office docs
http_access allow office work
http_access deny all
`
	files := convert.Files{Read: func(string) ([]byte, error) { return []byte(conf), nil }}
	r, err := convert.Squid{Files: files}.Convert("squid.conf")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range r.Left {
		if f.Effect != convert.None {
			fmt.Println(f)
		}
	}
	text, _ := r.Text()
	fmt.Print(text)
	// Output:
	// squid.conf:8: closes: the acl work (time, line 3): rules know no time of day: http_access allow office work
	// tenants:
	// - name: clients-1
	//   clients: [10.1.0.0/16]
	//   rules: |
	//     # squid.conf:6: http_access deny games
	//     !*.games.example.net
	//     # squid.conf:7: http_access allow office docs
	//     *.docs.example.com
}

func ExampleSmokescreen() {
	acl := `version: v1
services:
- name: payments
  project: pay
  action: enforce
  allowed_domains: [api.example.com, "*.bank.example.net"]
`
	files := convert.Files{Read: func(string) ([]byte, error) { return []byte(acl), nil }}
	r, err := convert.Smokescreen{Files: files, Service: "payments"}.Convert("acl.yaml")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(r.Rules)
	// Output:
	// # acl.yaml:1: private ranges, which smokescreen denies of itself
	// !10.0.0.0/8
	// !172.16.0.0/12
	// !192.168.0.0/16
	// !fc00::/7
	// # acl.yaml:6: api.example.com
	// api.example.com
	// # acl.yaml:5: enforce
	// !bank.example.net
	// # acl.yaml:6: *.bank.example.net
	// *.bank.example.net
}
