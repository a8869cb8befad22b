#!/usr/bin/env bash
# Makes the small Debian in which the tests install the package, unless it is there already.
# It is kept outside of the checkout, by suite; remove it to have a new one.
set -euo pipefail
suite=bookworm
folder=${XDG_CACHE_HOME:-$HOME/.cache}/sluice
base=$folder/debian-$suite.tar
if [ -s "$base" ]; then
	echo "a Debian base is there: $base"
	exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v debootstrap >/dev/null; then
	echo "no Debian base (not root, or no debootstrap): the test of the package will be skipped"
	exit 0
fi
echo "making a Debian base, which takes a minute or two"
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Codename: $suite" | head -n 1)
mkdir -p "$folder"
work=$(mktemp -d "$folder/debian-XXXXXX")
trap 'rm -rf "$work"' EXIT
debootstrap --variant=minbase --include=systemd "$suite" "$work/root" ${mirror:+"$mirror"} >"$work/log" 2>&1 || {
	tail -n 20 "$work/log" >&2
	exit 1
}
rm -rf "$work"/root/var/cache/apt/* "$work"/root/var/lib/apt/lists/*
tar -C "$work/root" --one-file-system -cf "$work/base.tar" .
mv "$work/base.tar" "$base"
