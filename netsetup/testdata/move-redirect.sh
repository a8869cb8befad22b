# warning: only the default route by eth0 led out of the pod's own network; traffic to the cluster's services and pods now leaves by macvlan0 (all but that to the pod's name servers); to keep it on eth0 add --keep-route PREFIX for each of the cluster's networks
nft -f - <<'NFT'
add table ip nat
add chain ip nat prerouting { type nat hook prerouting priority dstnat; policy accept; }
flush chain ip nat prerouting
add chain ip nat postrouting { type nat hook postrouting priority srcnat; policy accept; }
flush chain ip nat postrouting
add chain ip nat forward { type filter hook forward priority filter; policy drop; }
flush chain ip nat forward
add rule ip nat prerouting iifname "eth0" tcp dport 80 counter dnat to 203.0.113.7 comment "80 tcp 203.0.113.7"
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
add rule ip6 nat postrouting oifname "macvlan0" counter snat to 2001:db8::a comment "source 2001:db8::a by macvlan0"
add rule ip6 nat forward ct status dnat counter accept comment "redirected"
add rule ip6 nat forward counter drop comment "refused"
NFT
arping -q -A -c 1 -I macvlan0 192.0.2.10; arping -q -U -c 1 -I macvlan0 192.0.2.10 # and again after 2 s
ndsend 2001:db8::a macvlan0 # and again after 2 s
