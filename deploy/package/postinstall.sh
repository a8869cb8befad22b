#!/bin/sh
# After installation and upgrade. A service that runs goes on as the new version; one that
# does not run is not started: its rules deny everything until somebody has written some.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl try-restart sluice.service
fi
