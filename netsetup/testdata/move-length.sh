# warning: only the default route by eth0 led out of the pod's own network; traffic to the cluster's services and pods now leaves by macvlan0 (all but that to the pod's name servers); to keep it on eth0 add --keep-route PREFIX for each of the cluster's networks
ip address del 2001:db8::a/64 dev macvlan0
ip address add 192.0.2.10/32 dev macvlan0
ip address add 2001:db8::a/112 dev macvlan0 nodad
ip -6 route add 2001:db8::/112 dev macvlan0 table 7711 proto 83
ip route del 192.0.2.0/24 dev macvlan0 table 7710 proto 83 scope link
ip -6 route del 2001:db8::/64 dev macvlan0 table 7711 proto 83
ip address del 192.0.2.10/24 dev macvlan0
arping -q -A -c 1 -I macvlan0 192.0.2.10; arping -q -U -c 1 -I macvlan0 192.0.2.10 # and again after 2 s
ndsend 2001:db8::a macvlan0 # and again after 2 s
