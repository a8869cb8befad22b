#!/usr/bin/env bash
# Installs and builds the proxies that make bench compares Sluice with: those of
# Debian by apt-get as root, goproxy from its module. What cannot be had is said, and
# left out of the tables.
set -euo pipefail
cd "$(dirname "$0")/.."
policy='' folder=''
trap 'rm -rf $policy $folder' EXIT
packages=(squid haproxy nginx-light tinyproxy trafficserver apache2 mitmproxy)
missing=()
for p in "${packages[@]}"; do
	dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
	if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
		echo "missing: ${missing[*]} (not root, or no apt-get)"
	else
		echo "installing: ${missing[*]}"
		export DEBIAN_FRONTEND=noninteractive
		# Services are not started: the benchmark runs them by itself.
		if [ ! -e /usr/sbin/policy-rc.d ]; then
			policy=/usr/sbin/policy-rc.d
			printf '#!/bin/sh\nexit 101\n' >$policy
			chmod +x $policy
		fi
		apt-get update -q >/dev/null
		apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null ||
			echo "apt-get failed: not all of these are there: ${missing[*]}"
	fi
fi
mkdir -p bin
CGO_ENABLED=0 go build -C internal/bench/peers/goproxy -trimpath -o ../../../../bin/goproxy . ||
	echo "goproxy cannot be built"
# squid with ssl_bump is a package of its own, which cannot be installed beside squid: it is unpacked.
if [ ! -x bin/squid-openssl/usr/sbin/squid ]; then
	folder=$(mktemp -d)
	chmod 755 "$folder" # apt-get gives up root
	if (cd "$folder" && apt-get download -q squid-openssl >/dev/null); then
		dpkg-deb -x "$folder"/squid-openssl_*.deb bin/squid-openssl
	else
		echo "squid-openssl cannot be had"
	fi
fi
