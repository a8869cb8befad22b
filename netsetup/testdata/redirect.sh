sysctl -qw net.ipv4.ip_forward=1
ip link set macvlan0 up
arping -q -D -c 3 -I macvlan0 192.0.2.10 # nobody else may have it
ip rule add pref 7710 from 192.0.2.10 lookup 7710 protocol 83
ip rule add pref 7700 from 10.128.0.3 lookup 7700 protocol 83
ip rule add pref 7701 iif macvlan0 lookup 7700 protocol 83
ip address add 192.0.2.10/24 dev macvlan0
ip route add 192.0.2.1/32 dev macvlan0 proto 83 scope link
ip route add 192.0.2.1/32 dev macvlan0 table 7710 proto 83 scope link
ip route add 192.0.2.0/24 dev macvlan0 table 7710 proto 83 scope link
ip route add 10.128.0.0/24 dev eth0 table 7710 proto 83 scope link src 10.128.0.3
ip route add 10.128.0.0/24 dev eth0 table 7700 proto 83 scope link src 10.128.0.3
ip route add 172.30.0.0/16 via 10.128.0.1 dev eth0 table 7710 proto 83
ip route add default via 192.0.2.1 dev macvlan0 table 7710 proto 83
ip route add 172.30.0.0/16 via 10.128.0.1 dev eth0 table 7700 proto 83
ip route add default via 10.128.0.1 dev eth0 table 7700 proto 83 mtu 1400
ip route replace default via 192.0.2.1 dev macvlan0 proto 83 src 192.0.2.10
nft -f - <<'NFT'
add table ip nat
add chain ip nat prerouting { type nat hook prerouting priority dstnat; policy accept; }
flush chain ip nat prerouting
add chain ip nat postrouting { type nat hook postrouting priority srcnat; policy accept; }
flush chain ip nat postrouting
add chain ip nat forward { type filter hook forward priority filter; policy drop; }
flush chain ip nat forward
add rule ip nat prerouting iifname "eth0" tcp dport 80 counter dnat to 203.0.113.6 comment "80 tcp 203.0.113.6"
add rule ip nat prerouting iifname "eth0" tcp dport 8080 counter dnat to 203.0.113.9:80 comment "8080 tcp 203.0.113.9 80"
add rule ip nat prerouting iifname "eth0" udp dport 53 counter dnat to 203.0.113.53 comment "53 udp 203.0.113.53"
add rule ip nat prerouting iifname "eth0" counter dnat to 203.0.113.3 comment "203.0.113.3"
add rule ip nat postrouting oifname "macvlan0" counter snat to 192.0.2.10 comment "source 192.0.2.10 by macvlan0"
add rule ip nat forward ct status dnat counter accept comment "redirected"
add rule ip nat forward counter drop comment "refused"
NFT
arping -q -A -c 1 -I macvlan0 192.0.2.10; arping -q -U -c 1 -I macvlan0 192.0.2.10 # and again after 2 s
