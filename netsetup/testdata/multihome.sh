sysctl -qw net.ipv4.conf.net1.arp_announce=2
sysctl -qw net.ipv4.conf.net1.arp_ignore=1
sysctl -qw net.ipv4.conf.net1.rp_filter=2
sysctl -qw net.ipv4.conf.net2.arp_announce=2
sysctl -qw net.ipv4.conf.net2.arp_ignore=1
sysctl -qw net.ipv4.conf.net2.rp_filter=2
ip link set net1 up
ip link set net2 up
arping -q -D -c 3 -I net1 192.0.2.10 # nobody else may have it
arping -q -D -c 3 -I net2 198.51.100.10 # nobody else may have it
ip rule add pref 7710 from 192.0.2.10 lookup 7710 protocol 83
ip rule add pref 7711 from 198.51.100.10 lookup 7711 protocol 83
ip rule add pref 7700 from 10.128.0.3 lookup 7700 protocol 83
ip address add 192.0.2.10/24 dev net1
ip address add 198.51.100.10/32 dev net2
ip route add 192.0.2.1/32 dev net1 proto 83 scope link
ip route add 192.0.2.1/32 dev net1 table 7710 proto 83 scope link
ip route add 192.0.2.0/24 dev net1 table 7710 proto 83 scope link
ip route add 10.128.0.0/24 dev eth0 table 7710 proto 83 scope link src 10.128.0.3
ip route add 198.51.100.1/32 dev net2 table 7711 proto 83 scope link
ip route add 10.128.0.0/24 dev eth0 table 7711 proto 83 scope link src 10.128.0.3
ip route add 10.128.0.0/24 dev eth0 table 7700 proto 83 scope link src 10.128.0.3
ip route add 172.30.0.0/16 via 10.128.0.1 dev eth0 table 7710 proto 83
ip route add default via 192.0.2.1 dev net1 table 7710 proto 83
ip route add 172.30.0.0/16 via 10.128.0.1 dev eth0 table 7711 proto 83
ip route add default via 198.51.100.1 dev net2 table 7711 proto 83
ip route add 172.30.0.0/16 via 10.128.0.1 dev eth0 table 7700 proto 83
ip route add default via 10.128.0.1 dev eth0 table 7700 proto 83 mtu 1400
ip route replace default via 192.0.2.1 dev net1 proto 83 src 192.0.2.10
arping -q -A -c 1 -I net1 192.0.2.10; arping -q -U -c 1 -I net1 192.0.2.10 # and again after 2 s
arping -q -A -c 1 -I net2 198.51.100.10; arping -q -U -c 1 -I net2 198.51.100.10 # and again after 2 s
