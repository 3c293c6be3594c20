#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# root.sh DIR: make a root file system of Debian 13 in DIR, from Debian's mirror,
# with the programs that tools/testing/mlock2/programs runs. Needs root.
#
#   MIRROR  where from (default: http://deb.debian.org/debian)
set -euo pipefail

DIR=${1:?}
MIRROR=${MIRROR:-http://deb.debian.org/debian}
SUITE=trixie
# What is behind what the test runs
packages=gpg,cryptsetup-bin,chrony,rt-tests,memlockd,vmtouch,qemu-system-x86,mariadb-server,fio,memcached,earlyoom

want="$SUITE $MIRROR $packages"
if [ "$(cat "$DIR.stamp" 2>/dev/null)" = "$want" ]; then
	exit 0
fi
[ "$(id -u)" = 0 ] || { echo 'root: error: mmdebstrap needs root here' >&2; exit 1; }

echo "root: installing Debian $SUITE with ${packages//,/ } (some minutes; log: $DIR.log)"
rm -rf "$DIR" "$DIR.new" "$DIR.stamp"
if ! mmdebstrap --mode=root --variant=minbase --format=directory \
	--aptopt='APT::Install-Recommends "false"' \
	--dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/doc/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	--include="$packages" "$SUITE" "$DIR.new" "$MIRROR" >"$DIR.log" 2>&1; then
	tail -n 15 "$DIR.log" >&2
	echo "root: error: mmdebstrap failed; its log is $DIR.log" >&2
	exit 1
fi
mv "$DIR.new" "$DIR"
echo "$want" >"$DIR.stamp"
