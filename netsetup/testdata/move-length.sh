ip address del 2001:db8::a/64 dev macvlan0
ip address add 192.0.2.10/32 dev macvlan0
ip address add 2001:db8::a/112 dev macvlan0 nodad
ip -6 route add 2001:db8::/112 dev macvlan0 table 7711 proto 83
ip route del 192.0.2.0/24 dev macvlan0 table 7710 proto 83 scope link
ip -6 route del 2001:db8::/64 dev macvlan0 table 7711 proto 83
ip address del 192.0.2.10/24 dev macvlan0
arping -q -A -c 1 -I macvlan0 192.0.2.10; arping -q -U -c 1 -I macvlan0 192.0.2.10 # and again after 2 s
ndsend 2001:db8::a macvlan0 # and again after 2 s
