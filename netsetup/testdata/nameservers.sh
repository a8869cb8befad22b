# warning: only the default route by eth0 led to 10.96.0.1; traffic to the cluster's services and pods now leaves by macvlan0 (all but that to the pod's name servers); to keep it on eth0 add --keep-route 10.96.0.0/12, or whatever the cluster's networks are
# warning: only the default route by eth0 led to fd00:96::a; traffic to the cluster's services and pods now leaves by macvlan0 (all but that to the pod's name servers); to keep it on eth0 add --keep-route fd00:96::/112, or whatever the cluster's networks are
sysctl -qw net.ipv6.conf.macvlan0.accept_ra=0
ip link set macvlan0 up
arping -q -D -c 3 -I macvlan0 192.0.2.10 # nobody else may have it
ndisc6 -q 2001:db8::a macvlan0 # nobody else may have it
ip rule add pref 7710 from 192.0.2.10 lookup 7710 protocol 83
ip -6 rule add pref 7711 from 2001:db8::a lookup 7711 protocol 83
ip rule add pref 7700 from 10.244.1.7 lookup 7700 protocol 83
ip -6 rule add pref 7700 from fd00:244::7 lookup 7700 protocol 83
ip address add 192.0.2.10/24 dev macvlan0
ip address add 2001:db8::a/128 dev macvlan0 nodad
ip route add 192.0.2.1/32 dev macvlan0 proto 83 scope link
ip route add 192.0.2.1/32 dev macvlan0 table 7710 proto 83 scope link
ip route add 192.0.2.0/24 dev macvlan0 table 7710 proto 83 scope link
ip route add 169.254.1.1/32 dev eth0 table 7710 proto 83 scope link
ip route add 169.254.1.1/32 dev eth0 table 7700 proto 83 scope link
ip -6 route add 2001:db8::1/128 dev macvlan0 proto 83
ip -6 route add 2001:db8::1/128 dev macvlan0 table 7711 proto 83
ip -6 route add fd00:244::7/128 dev eth0 table 7711 proto 83 metric 256
ip -6 route add fd00:244::7/128 dev eth0 table 7700 proto 83 metric 256
ip route add 10.96.0.10/32 via 169.254.1.1 dev eth0 onlink proto 83 mtu 1440
ip route add 10.96.0.10/32 via 169.254.1.1 dev eth0 onlink table 7710 proto 83 mtu 1440
ip route add default via 192.0.2.1 dev macvlan0 table 7710 proto 83
ip route add default via 169.254.1.1 dev eth0 onlink table 7700 proto 83 mtu 1440
ip -6 route add fd00:96::a/128 via fe80::ecee:eeff:feee:eeee dev eth0 proto 83
ip -6 route add fd00:96::a/128 via fe80::ecee:eeff:feee:eeee dev eth0 table 7711 proto 83
ip -6 route add default via 2001:db8::1 dev macvlan0 table 7711 proto 83
ip -6 route add default via fe80::ecee:eeff:feee:eeee dev eth0 table 7700 proto 83
ip route replace default via 192.0.2.1 dev macvlan0 proto 83 src 192.0.2.10
ip -6 route replace default via 2001:db8::1 dev macvlan0 proto 83 src 2001:db8::a
arping -q -A -c 1 -I macvlan0 192.0.2.10; arping -q -U -c 1 -I macvlan0 192.0.2.10 # and again after 2 s
ndsend 2001:db8::a macvlan0 # and again after 2 s
