package suggest_test

import (
	"fmt"
	"strings"

	"github.com/sluiceproxy/sluice/acl/suggest"
)

func ExampleLog() {
	const log = `{"time":"2026-11-21T04:05:06.007Z","method":"CONNECT","target":"a.example.com:443","verdict":"allow","address":"192.0.2.1:443"}
{"time":"2026-11-21T04:05:07.007Z","method":"CONNECT","target":"b.example.com:443","verdict":"allow","address":"192.0.2.2:443"}
{"time":"2026-11-21T04:05:08.007Z","method":"GET","target":"http://example.com/","verdict":"allow","address":"192.0.2.3:80"}
{"time":"2026-11-21T04:05:09.007Z","method":"CONNECT","target":"db.example.net:5432","verdict":"allow","address":"192.0.2.4:5432"}
{"time":"2026-11-21T04:05:10.007Z","method":"CONNECT","target":"192.0.2.9:22","verdict":"deny","reason":"default"}
`
	var l suggest.Log
	if err := suggest.Read(strings.NewReader(log), "access.json", l.Add); err != nil {
		fmt.Println(err)
	}
	fmt.Print(l.Suggest(suggest.Options{Fold: 3}))
	// Output:
	// # 5 recorded requests, of which these rules allow what was reached. Read them before they are in force.
	// *.example.com       # 3 requests for 3 names, 2026-11-21T04:05:06Z to 2026-11-21T04:05:08Z
	// db.example.net:5432 # 1 request, 2026-11-21T04:05:09Z
	//
	// # denied:
	// #   192.0.2.9:22  1 request, 2026-11-21T04:05:10Z: default
	// #@ end
}
