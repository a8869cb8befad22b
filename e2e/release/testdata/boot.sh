#!/bin/bash
# Boots systemd in a folder, as a container would: boot.sh ROOT. It runs in mount, PID, cgroup,
# UTS and IPC namespaces of its own, and in the network namespace of who calls it.
set -e
root=$1
work=$(mktemp -d)
trap 'rmdir "$work"' EXIT
# A group of its own, which systemd then has for the root.
mount -t cgroup -o none,name=systemd cgroup "$work" 2>/dev/null || mount -t cgroup2 cgroup2 "$work"
group=$work/sluice-test-$$
mkdir "$group"
(
	echo $BASHPID >"$group/cgroup.procs"
	umount "$work"
	exec unshare -m -p -f -C -u -i --kill-child bash -c '
		set -e
		cd "$1"
		mount --make-rprivate /
		mount --bind . .
		cd "$1"
		mount -t proc proc proc
		mount -t sysfs -o ro sysfs sys
		mount -t tmpfs -o mode=755 cgroup sys/fs/cgroup
		mkdir sys/fs/cgroup/systemd
		mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd 2>/dev/null || mount -t cgroup2 cgroup2 sys/fs/cgroup
		mount -t tmpfs -o mode=755 run run
		mount -t tmpfs tmp tmp
		mount -t tmpfs -o mode=755 dev dev
		for d in null zero full random urandom tty; do
			touch dev/$d
			mount --bind /dev/$d dev/$d
		done
		mkdir dev/pts dev/shm dev/mqueue dev/hugepages
		ln -s pts/ptmx dev/ptmx
		mount -t tmpfs shm dev/shm
		mkdir -p old
		pivot_root . old
		umount -l old
		rmdir old
		exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --show-status=no
	' sh "$root"
) || :
