#!/usr/bin/env bash
# Installs the programs that the tests use: real clients and the real squid. As
# root by apt-get; otherwise it says what is missing, and the tests that need it
# are skipped.
set -euo pipefail
packages=(curl podman runc catatonit uidmap slirp4netns wget git apt-utils dpkg-dev python3 python3-pip python3-requests python3-websocket node-undici apache2-utils socat netcat-openbsd openssh-client openssh-server squid tinyproxy-bin haproxy redis-server etcd-server iproute2 nftables openssl ca-certificates gcc libc6-dev z3 debootstrap qemu-user-static rpm systemd man-db chromium libnss3-tools nghttp2-server)
# Debian's where there is no other: packages of other makers have npm and nodejs in one.
command -v npm >/dev/null || packages+=(nodejs npm)
command -v javac >/dev/null || packages+=(default-jdk-headless)
missing=()
for p in "${packages[@]}"; do
	dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
done
if [ ${#missing[@]} -eq 0 ]; then
	echo "all there: ${packages[*]}"
	exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
	echo "missing: ${missing[*]} (not root, or no apt-get: tests that need them will be skipped)"
	exit 0
fi
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# Services are not started: the tests run squid by themselves.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod +x $policy
	trap 'rm -f '$policy EXIT
fi
apt-get update -q >/dev/null
apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null
