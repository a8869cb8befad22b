#!/bin/sh
# Before removal, not before an upgrade: Debian says "remove", RPM 0.
set -e
case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl stop sluice.socket sluice.service
	fi
	if command -v systemctl >/dev/null; then # links to units that will be gone
		systemctl disable --quiet sluice.socket sluice.service
	fi
	;;
esac
