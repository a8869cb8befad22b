ip link add macvlan0 link eth1 type macvlan mode bridge
sysctl -qw net.ipv4.ip_unprivileged_port_start=0
ip link set macvlan0 up
arping -q -D -c 3 -I macvlan0 192.0.2.10 # nobody else may have it
ip rule add pref 7710 from 192.0.2.10 lookup 7710 protocol 83
ip rule add pref 7700 from 10.128.0.3 lookup 7700 protocol 83
ip address add 192.0.2.10/32 dev macvlan0
ip route add 192.0.2.1/32 dev macvlan0 proto 83 scope link
ip route add 192.0.2.1/32 dev macvlan0 table 7710 proto 83 scope link
ip route add 10.128.0.0/24 dev eth0 table 7710 proto 83 scope link src 10.128.0.3
ip route add 10.128.0.0/24 dev eth0 table 7700 proto 83 scope link src 10.128.0.3
ip route add 172.30.0.0/16 via 10.128.0.1 dev eth0 table 7710 proto 83
ip route add default via 192.0.2.1 dev macvlan0 table 7710 proto 83
ip route add 172.30.0.0/16 via 10.128.0.1 dev eth0 table 7700 proto 83
ip route add default via 10.128.0.1 dev eth0 table 7700 proto 83 mtu 1400
ip route replace default via 192.0.2.1 dev macvlan0 proto 83 src 192.0.2.10
arping -q -A -c 1 -I macvlan0 192.0.2.10; arping -q -U -c 1 -I macvlan0 192.0.2.10 # and again after 2 s
