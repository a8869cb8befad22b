ip -6 route replace default via fd00:128::1 dev eth0
nft -f - <<'NFT'
add table ip nat
add chain ip nat prerouting { type nat hook prerouting priority dstnat; policy accept; }
flush chain ip nat prerouting
add chain ip nat postrouting { type nat hook postrouting priority srcnat; policy accept; }
flush chain ip nat postrouting
add chain ip nat forward { type filter hook forward priority filter; policy drop; }
flush chain ip nat forward
add rule ip nat prerouting iifname "eth0" tcp dport 80 counter dnat to 203.0.113.6 comment "80 tcp 203.0.113.6"
add rule ip nat postrouting oifname "macvlan0" counter snat to 192.0.2.10 comment "source 192.0.2.10 by macvlan0"
add rule ip nat forward ct status dnat counter accept comment "redirected"
add rule ip nat forward counter drop comment "refused"
add table ip6 nat
flush chain ip6 nat prerouting
delete chain ip6 nat prerouting
flush chain ip6 nat postrouting
delete chain ip6 nat postrouting
flush chain ip6 nat forward
delete chain ip6 nat forward
NFT
ip -6 route del 2001:db8::1/128 dev macvlan0 proto 83
ip -6 route del 2001:db8::1/128 dev macvlan0 table 7711 proto 83
ip -6 route del 2001:db8::/64 dev macvlan0 table 7711 proto 83
ip -6 route del fd00:128::/64 dev eth0 table 7711 proto 83 metric 256
ip -6 route del fd00:128::/64 dev eth0 table 7700 proto 83 metric 256
ip -6 route del default via 2001:db8::1 dev macvlan0 table 7711 proto 83
ip -6 route del default via fd00:128::1 dev eth0 table 7700 proto 83
ip -6 rule del pref 7711 from 2001:db8::a lookup 7711 protocol 83
ip -6 rule del pref 7700 from fd00:128::3 lookup 7700 protocol 83
ip -6 rule del pref 7701 iif macvlan0 lookup 7700 protocol 83
ip address del 2001:db8::a/64 dev macvlan0
arping -q -A -c 1 -I macvlan0 192.0.2.10; arping -q -U -c 1 -I macvlan0 192.0.2.10 # and again after 2 s
