package convert

import (
	"slices"
	"strings"
)

// haproxyKnown are the keywords of haproxy 1.5 to 3.2 in sections that lead connections.
var haproxyKnown = strings.Fields(`acl appsession backlog balance bind bind-process block capture clitimeout compression contimeout cookie
	declare default-server default_backend description disabled dispatch email-alert enabled errorfile errorfiles errorloc errorloc302
	errorloc303 external-check filter force-persist fullconn grace guid hash-balance-factor hash-preserve-affinity hash-type
	http-after-response http-check http-error http-request http-response http-reuse http-send-name-header id ignore-persist
	load-server-state-from-file log log-format log-format-sd log-steps log-tag max-keep-alive-queue max-session-srv-conns maxconn mode
	monitor monitor-net monitor-uri no option persist quic-initial rate-limit redirect redispatch retries retry-on server
	server-state-file-name server-template source srvtimeout stats stick stick-table tcp-check tcp-request tcp-response timeout
	transparent unique-id-format unique-id-header use-fcgi-app use-server use_backend`)

// haproxyFamilies are beginnings of keywords, of which there are many.
var haproxyFamilies = []string{"clitcpka-", "srvtcpka-", "req", "rsp"}

// knows reports whether a line of the section may begin with a word. Other sections lead nothing.
func (s *haproxySection) knows(word string) bool {
	if !slices.Contains([]string{"defaults", "listen", "frontend", "backend"}, s.kind) || slices.Contains(haproxyKnown, word) {
		return true
	}
	return slices.ContainsFunc(haproxyFamilies, func(family string) bool { return strings.HasPrefix(word, family) })
}
