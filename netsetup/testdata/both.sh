# warning: only the default route by eth0 led out of the pod's own network; traffic to the cluster's services and pods now leaves by macvlan0 (all but that to the pod's name servers); to keep it on eth0 add --keep-route PREFIX for each of the cluster's networks
sysctl -qw net.ipv4.ip_forward=1
sysctl -qw net.ipv6.conf.all.forwarding=1
sysctl -qw net.ipv6.conf.macvlan0.accept_ra=0
ip link set macvlan0 up
arping -q -D -c 3 -I macvlan0 192.0.2.10 # nobody else may have it
ndisc6 -q 2001:db8::a macvlan0 # nobody else may have it
arping -q -D -c 3 -I macvlan0 192.0.2.11 # nobody else may have it
ip rule add pref 7710 from 192.0.2.10 lookup 7710 protocol 83
ip -6 rule add pref 7711 from 2001:db8::a lookup 7711 protocol 83
ip rule add pref 7712 from 192.0.2.11 lookup 7712 protocol 83
ip rule add pref 7700 from 10.128.0.3 lookup 7700 protocol 83
ip rule add pref 7701 iif macvlan0 lookup 7700 protocol 83
ip -6 rule add pref 7700 from fd00:128::3 lookup 7700 protocol 83
ip -6 rule add pref 7701 iif macvlan0 lookup 7700 protocol 83
ip address add 192.0.2.10/24 dev macvlan0
ip address add 2001:db8::a/64 dev macvlan0 nodad
ip address add 192.0.2.11/24 dev macvlan0
ip route add 192.0.2.1/32 dev macvlan0 proto 83 scope link
ip route add 192.0.2.1/32 dev macvlan0 table 7710 proto 83 scope link
ip route add 192.0.2.0/24 dev macvlan0 table 7710 proto 83 scope link
ip route add 10.128.0.0/24 dev eth0 table 7710 proto 83 scope link src 10.128.0.3
ip route add 192.0.2.1/32 dev macvlan0 table 7712 proto 83 scope link
ip route add 192.0.2.0/24 dev macvlan0 table 7712 proto 83 scope link
ip route add 10.128.0.0/24 dev eth0 table 7712 proto 83 scope link src 10.128.0.3
ip route add 10.128.0.0/24 dev eth0 table 7700 proto 83 scope link src 10.128.0.3
ip -6 route add 2001:db8::/64 dev macvlan0 table 7711 proto 83
ip -6 route add fd00:128::/64 dev eth0 table 7711 proto 83 metric 256
ip -6 route add fd00:128::/64 dev eth0 table 7700 proto 83 metric 256
ip route add 172.30.0.0/16 via 10.128.0.1 dev eth0 table 7710 proto 83
ip route add default via 192.0.2.1 dev macvlan0 table 7710 proto 83
ip route add 172.30.0.0/16 via 10.128.0.1 dev eth0 table 7712 proto 83
ip route add default via 192.0.2.1 dev macvlan0 table 7712 proto 83
ip route add 172.30.0.0/16 via 10.128.0.1 dev eth0 table 7700 proto 83
ip route add default via 10.128.0.1 dev eth0 table 7700 proto 83 mtu 1400
ip -6 route add default via fe80::1 dev macvlan0 table 7711 proto 83
ip -6 route add default via fd00:128::1 dev eth0 table 7700 proto 83
ip route replace default via 192.0.2.1 dev macvlan0 proto 83 src 192.0.2.10
ip -6 route replace default via fe80::1 dev macvlan0 proto 83 src 2001:db8::a
nft -f - <<'NFT'
add table ip nat
add chain ip nat prerouting { type nat hook prerouting priority dstnat; policy accept; }
flush chain ip nat prerouting
add chain ip nat postrouting { type nat hook postrouting priority srcnat; policy accept; }
flush chain ip nat postrouting
add chain ip nat forward { type filter hook forward priority filter; policy drop; }
flush chain ip nat forward
add rule ip nat prerouting iifname "eth0" tcp dport 80 counter dnat to 203.0.113.6 comment "80 tcp 203.0.113.6"
add rule ip nat prerouting iifname "eth0" sctp dport 3868 counter dnat to 203.0.113.7 comment "3868 sctp 203.0.113.7"
add rule ip nat postrouting oifname "macvlan0" ip saddr 192.0.2.11 counter accept comment "keep source 192.0.2.11"
add rule ip nat postrouting oifname "macvlan0" counter snat to 192.0.2.10 comment "source 192.0.2.10 by macvlan0"
add rule ip nat forward ct status dnat counter accept comment "redirected"
add rule ip nat forward counter drop comment "refused"
add table ip6 nat
add chain ip6 nat prerouting { type nat hook prerouting priority dstnat; policy accept; }
flush chain ip6 nat prerouting
add chain ip6 nat postrouting { type nat hook postrouting priority srcnat; policy accept; }
flush chain ip6 nat postrouting
add chain ip6 nat forward { type filter hook forward priority filter; policy drop; }
flush chain ip6 nat forward
add rule ip6 nat prerouting iifname "eth0" tcp dport 80 counter dnat to [2001:db8:1::6]:8080 comment "80 tcp 2001:db8:1::6 8080"
add rule ip6 nat postrouting oifname "macvlan0" counter snat to 2001:db8::a comment "source 2001:db8::a by macvlan0"
add rule ip6 nat forward ct status dnat counter accept comment "redirected"
add rule ip6 nat forward counter drop comment "refused"
NFT
arping -q -A -c 1 -I macvlan0 192.0.2.10; arping -q -U -c 1 -I macvlan0 192.0.2.10 # and again after 2 s
ndsend 2001:db8::a macvlan0 # and again after 2 s
arping -q -A -c 1 -I macvlan0 192.0.2.11; arping -q -U -c 1 -I macvlan0 192.0.2.11 # and again after 2 s
