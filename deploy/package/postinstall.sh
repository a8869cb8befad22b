#!/bin/sh
# After installation and upgrade. A service that runs goes on as the new version; one that
# does not run is not started: its rules deny everything until somebody has written some.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	# What this version does not understand is no reason to leave the package half installed.
	systemctl try-restart sluice.service || echo "sluice.service did not start again: journalctl -u sluice says why" >&2
fi
