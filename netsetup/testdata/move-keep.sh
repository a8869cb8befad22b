# warning: only the default route by eth0 led out of the pod's own network; traffic to the cluster's services and pods now leaves by macvlan0 (all but that to the pod's name servers); to keep it on eth0 add --keep-route PREFIX for each of the cluster's networks
ip -6 route replace default via fe80::ecee:eeff:feee:eeee dev eth0
ip -6 route del 2001:db8::1/128 dev macvlan0 proto 83
ip -6 route del 2001:db8::1/128 dev macvlan0 table 7711 proto 83
ip -6 route del fd00:244::7/128 dev eth0 table 7711 proto 83 metric 256
ip -6 route del fd00:244::7/128 dev eth0 table 7700 proto 83 metric 256
ip route del 10.96.0.0/12 via 169.254.1.1 dev eth0 onlink proto 83 mtu 1440
ip route del 10.244.0.0/16 via 169.254.1.1 dev eth0 onlink proto 83 mtu 1440
ip route del 10.96.0.0/12 via 169.254.1.1 dev eth0 onlink table 7710 proto 83 mtu 1440
ip route del 10.244.0.0/16 via 169.254.1.1 dev eth0 onlink table 7710 proto 83 mtu 1440
ip -6 route del fd00::/16 via fe80::ecee:eeff:feee:eeee dev eth0 proto 83
ip -6 route del fd00::/16 via fe80::ecee:eeff:feee:eeee dev eth0 table 7711 proto 83
ip -6 route del default via 2001:db8::1 dev macvlan0 table 7711 proto 83
ip -6 route del default via fe80::ecee:eeff:feee:eeee dev eth0 table 7700 proto 83
ip -6 rule del pref 7711 from 2001:db8::a lookup 7711 protocol 83
ip -6 rule del pref 7700 from fd00:244::7 lookup 7700 protocol 83
ip address del 2001:db8::a/128 dev macvlan0
arping -q -A -c 1 -I macvlan0 192.0.2.10; arping -q -U -c 1 -I macvlan0 192.0.2.10 # and again after 2 s
