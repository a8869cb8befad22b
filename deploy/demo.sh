#!/usr/bin/env bash
# The whole picture in network namespaces of this machine: a client, the gateway
# with a macvlan, two servers outside. Nothing leaves the machine, and nothing
# stays behind. Run it as root, by "make demo".
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
sluice=${SLUICE:-$root/bin/sluice}
rules=$root/deploy/rules.txt

die() { echo "demo: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || die "it makes network namespaces: run it as root"
[ -x "$sluice" ] || die "$sluice is not there: run \"make build\" first"
for program in ip curl python3 openssl; do
	command -v $program >/dev/null || die "$program is not installed (Debian: iproute2 curl python3 openssl)"
done

tmp=$(mktemp -d)
id=sluice-demo-$$
pids=()

cleanup() {
	trap - EXIT
	for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
	wait 2>/dev/null || true
	for ns in client gateway node router good bad; do ip netns del "$id-$ns" 2>/dev/null || true; done
	rm -rf "$tmp" "/etc/netns/$id-gateway"
	rmdir /etc/netns 2>/dev/null || true
}
trap cleanup EXIT
trap 'exit 130' INT TERM

x() { local ns=$id-$1; shift; ip netns exec "$ns" "$@"; }
start() { local ns=$id-$1; shift; ip netns exec "$ns" "$@" & pids+=($!); }
n() { local ns=$id-$1; shift; ip -n "$ns" "$@"; }

addr() { # NAMESPACE INTERFACE ADDRESS...
	local ns=$1 dev=$2 a; shift 2
	for a; do
		case $a in *:*) n "$ns" addr add "$a" dev "$dev" nodad ;; *) n "$ns" addr add "$a" dev "$dev" ;; esac
	done
	n "$ns" link set "$dev" up
}

cable() { # NAMESPACE INTERFACE BRIDGE-NAMESPACE BRIDGE
	n "$1" link add "$2" type veth peer name "p-$1" netns "$id-$3"
	n "$3" link set "p-$1" master "$4" up
}

bridge() { n "$1" link add "$2" type bridge; n "$1" link set "$2" up; }

network() {
	local ns
	for ns in client gateway node router good bad; do
		ip netns add "$id-$ns"
		x $ns sh -c 'echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad; echo 0 > /proc/sys/net/ipv6/conf/all/accept_dad'
		n $ns link set lo up
	done
	x router sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'
	bridge router lan0; addr router lan0 198.51.100.1/24 2001:db8:1::1/64
	bridge router wan0; addr router wan0 203.0.113.1/24 2001:db8:2::1/64
	cable good eth0 router wan0; addr good eth0 203.0.113.10/24 2001:db8:2::10/64
	cable bad eth0 router wan0; addr bad eth0 203.0.113.20/24 2001:db8:2::20/64
	for ns in good bad; do n $ns route add default via 203.0.113.1; n $ns route add default via 2001:db8:2::1; done
	# The node: a bridge for its pods, and an uplink that carries the macvlan.
	bridge node br0
	cable node phys0 router lan0; n node link set phys0 up
	cable client eth0 node br0; addr client eth0 10.128.0.2/24
	cable gateway eth0 node br0; addr gateway eth0 10.128.0.3/24
	n node link add macvlan0 link phys0 type macvlan mode bridge
	n node link set macvlan0 netns "$id-gateway"
	addr gateway macvlan0 198.51.100.50/24 2001:db8:1::50/64
	n gateway route add default via 198.51.100.1; n gateway route add default via 2001:db8:1::1
	mkdir -p "/etc/netns/$id-gateway"
	cat > "/etc/netns/$id-gateway/hosts" <<-HOSTS
	203.0.113.10 www.example.com
	203.0.113.20 telemetry.example.com
	HOSTS
}

servers() {
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -keyout "$tmp/key" -out "$tmp/cert" \
		-subj /CN=demo -addext "subjectAltName=DNS:*.example.com,IP:2001:db8:2::10" 2>/dev/null
	start good python3 "$root/deploy/demo-server.py" www.example.com "$tmp/cert" "$tmp/key" "$tmp/good.count"
	start bad python3 "$root/deploy/demo-server.py" telemetry.example.com "$tmp/cert" "$tmp/key" "$tmp/bad.count"
	touch "$tmp/good.count" "$tmp/bad.count"
}

gateway() {
	start gateway "$sluice" proxy --rules "$rules" --source 198.51.100.50 --source 2001:db8:1::50 \
		>"$tmp/access.log" 2>"$tmp/sluice.log"
}

ready() { # COMMAND...: wait until it succeeds
	local i pid
	for i in $(seq 200); do
		"$@" >/dev/null 2>&1 && return
		for pid in "${pids[@]}"; do kill -0 "$pid" 2>/dev/null || break 2; done
		sleep 0.05
	done
	cat "$tmp/sluice.log" >&2
	die "waited in vain for: $*"
}

# try WHAT WANTED URL: show a curl call from the client pod, and check its output.
try() {
	local what=$1 wanted=$2 url=$3 out
	printf '\n# %s\n$ curl -x http://10.128.0.3:8080 %s\n' "$what" "$url"
	out=$(x client curl -sSi --max-time 20 --cacert "$tmp/cert" -x http://10.128.0.3:8080 "$url" 2>&1 | tr -d '\r') || true
	# The status line of a denial, or what the server said.
	case $out in
	*"HTTP/1.1 403"*) grep -o 'HTTP/1.1 403.*' <<<"$out" | head -1 | sed 's/^/  /' ;;
	*) tail -1 <<<"$out" | sed 's/^/  /' ;;
	esac
	grep -qF "$wanted" <<<"$out" || die "expected: $wanted"
}

cat <<'PICTURE'

  client pod        gateway pod                                     outside
 ┌────────────┐    ┌──────────────────────────┐             ┌───────────────────────┐
 │ 10.128.0.2 ├────┤ 10.128.0.3        sluice │         ┌───┤ www.example.com       │
 └────────────┘ br0│                   :8080  │  router │   │ 203.0.113.10          │
                   │ macvlan0  198.51.100.50  ├─────────┤   └───────────────────────┘
                   │          2001:db8:1::50  │         │   ┌───────────────────────┐
                   └──────────────────────────┘         └───┤ telemetry.example.com │
                     EGRESS_SOURCE                          │ 203.0.113.20          │
                                                            └───────────────────────┘
PICTURE
echo
network
servers
gateway
ready x client curl -s http://10.128.0.3:8080/
ready x good curl -sk "https://[::1]/"
ready x bad curl -sk "https://[::1]/"
: > "$tmp/good.count"; : > "$tmp/bad.count"

echo "The rules, deploy/rules.txt:"
grep -v -e '^#' -e '^$' "$rules" | sed 's/^/  /'

try "Allowed by name. The server sees EGRESS_SOURCE, not the pod." \
	"www.example.com saw 198.51.100.50" http://www.example.com/
try "https: a tunnel, by CONNECT." \
	"www.example.com saw 198.51.100.50" https://www.example.com/
try "IPv6 leaves from the IPv6 source." \
	"www.example.com saw 2001:db8:1::50" "https://[2001:db8:2::10]/"
try "Denied by name. The reason is in the status line, where curl -v shows it." \
	"403 Egress denied: line 5 !telemetry.example.com" http://telemetry.example.com/
try "Denied in a tunnel." \
	"403 Egress denied: line 5 !telemetry.example.com" https://telemetry.example.com/
try "No rule allows port 80 there." \
	"403 Egress denied: no rule allows it" "http://[2001:db8:2::10]/"
try "Cloud credentials live here; no rule allows it." \
	"403 Egress denied: " http://169.254.169.254/

printf '\nwww.example.com had %s requests, telemetry.example.com had %s.\n' \
	"$(wc -l <"$tmp/good.count")" "$(wc -l <"$tmp/bad.count")"
[ ! -s "$tmp/bad.count" ] || die "a denied server was reached"
kill "${pids[2]}"; wait "${pids[2]}" || die "sluice ended with status $?"
printf '\nThe access log says why, line by line:\n'
sed -nE '/"status":400/d
	s/.*"target":"([^"]*)","verdict":"([^"]*)","reason":"([^"]*)".*"status":([0-9]+).*/\2 \4 \1 \3/p' "$tmp/access.log" |
	while read -r verdict status target reason; do printf '  %-5s %s  %-32s %s\n' "$verdict" "$status" "$target" "$reason"; done
