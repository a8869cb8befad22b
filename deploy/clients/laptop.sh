#!/usr/bin/env bash
# A box on a laptop: the gateway and a client as two containers of podman, which needs no root. The
# client's network is internal: it has no way out but the gateway. docs/clients.md explains it.
#
#   deploy/clients/laptop.sh RULES IMAGE [COMMAND...]
#
# runs COMMAND in a container of IMAGE, and ends the gateway with it. SLUICE_IMAGE is the
# gateway's image (localhost/sluice:dev), SLUICE_SUBNET a network that nobody uses (10.91.0.0/24).
set -euo pipefail
rules=$(realpath "${1:?usage: laptop.sh RULES IMAGE [COMMAND...]}")
image=${2:?usage: laptop.sh RULES IMAGE [COMMAND...]}
shift 2
box=sluice-box-$$
subnet=${SLUICE_SUBNET:-10.91.0.0/24}
gateway=${subnet%.*}.2
proxy=http://$gateway:8080

clean() {
	podman rm --force --time 1 "$box" >/dev/null 2>&1 || true
	podman network rm --force "$box" >/dev/null 2>&1 || true
}
trap clean EXIT
podman network create --internal --subnet "$subnet" "$box" >/dev/null
# The gateway is in two networks: the box, and podman's own, which leads out. Nothing in it is
# writable, and it has no capability. Where there is SELinux, a container with a label does not read
# what is in a home; to give the folder another label would be worse.
podman run --detach --name "$box" --network "$box:ip=$gateway" --network podman \
	--read-only --cap-drop=ALL --security-opt=no-new-privileges --security-opt=label=disable \
	--volume "$(dirname "$rules"):/etc/sluice:ro" \
	"${SLUICE_IMAGE:-localhost/sluice:dev}" proxy --rules "/etc/sluice/$(basename "$rules")" --listen "$gateway:8080" >/dev/null
for try in $(seq 30); do
	! podman exec "$box" /sluice probe --open "$gateway:8080" >/dev/null 2>&1 || break
	if [ "$try" = 30 ] || [ "$(podman inspect --format '{{.State.Running}}' "$box")" != true ]; then
		podman logs "$box" >&2
		exit 1
	fi
done
variables=(--env "http_proxy=$proxy" --env "https_proxy=$proxy" --env "HTTP_PROXY=$proxy" --env "HTTPS_PROXY=$proxy"
	--env no_proxy=localhost,127.0.0.1 --env NO_PROXY=localhost,127.0.0.1 --env NODE_USE_ENV_PROXY=1)
status=0
podman run --rm --interactive --network "$box" --cap-drop=ALL --security-opt=no-new-privileges \
	"${variables[@]}" "$image" "$@" || status=$?
echo "what it asked for:" >&2
{ podman logs "$box" 2>/dev/null; } >&2
exit $status
