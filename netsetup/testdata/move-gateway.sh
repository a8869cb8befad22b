# warning: only the default route by eth0 led out of the pod's own network; traffic to the cluster's services and pods now leaves by macvlan0 (all but that to the pod's name servers); to keep it on eth0 add --keep-route PREFIX for each of the cluster's networks
ip route add 192.0.2.2/32 dev macvlan0 proto 83 scope link
ip route add 192.0.2.2/32 dev macvlan0 table 7710 proto 83 scope link
ip route replace default via 192.0.2.2 dev macvlan0 table 7710 proto 83
ip route replace default via 192.0.2.2 dev macvlan0 proto 83 src 192.0.2.10
ip route del 192.0.2.1/32 dev macvlan0 proto 83 scope link
ip route del 192.0.2.1/32 dev macvlan0 table 7710 proto 83 scope link
arping -q -A -c 1 -I macvlan0 192.0.2.10; arping -q -U -c 1 -I macvlan0 192.0.2.10 # and again after 2 s
ndsend 2001:db8::a macvlan0 # and again after 2 s
