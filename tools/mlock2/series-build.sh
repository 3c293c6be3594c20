#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Build and boot the kernel after each patch of the main series.
#
# With in the environment: LINUX the tree that has the commits, OUT where commits is
# and what is built goes, CONFIG a .config with CONFIG_MLOCK2=y, KMAKE make for
# $OUT/tree, IMAGE its goal for an image. After the last patch, BOOT boots $OUT/obj
# for all tests; after each other one, BOOT_QUICK for some that any kernel passes.
set -euo pipefail

LINUX=${LINUX:?} OUT=${OUT:?} CONFIG=${CONFIG:?} KMAKE=${KMAKE:?} IMAGE=${IMAGE:?} BOOT=${BOOT:?} BOOT_QUICK=${BOOT_QUICK:?}
tree=$OUT/tree obj=$OUT/obj
mapfile -t commits <"$OUT/commits"
[ "${#commits[@]}" -gt 0 ] || { echo 'series: error: no commits' >&2; exit 1; }

git -C "$LINUX" worktree prune
if [ ! -d "$tree" ]; then
	git -C "$LINUX" worktree add -q --detach "$tree" "${commits[0]}"
fi
mkdir -p "$obj"
n=0
for commit in "${commits[@]}"; do
	n=$((n + 1)) start=$SECONDS
	git -C "$tree" checkout -q --detach --force "$commit"
	name=$(git -C "$tree" log -1 --format=%s)
	cp "$CONFIG" "$obj/.config"
	log=$OUT/build-$n.log
	if ! { eval "$KMAKE O=$obj olddefconfig" && eval "$KMAKE O=$obj $IMAGE"; } >"$log" 2>&1; then
		grep -E 'error|\*\*\*' "$log" | head -n 20
		echo "series: error: patch $n does not build: $name (log: $log)" >&2
		exit 1
	fi
	# A warning in our code fails the patch.
	if grep -E '^warning:|: warning:' "$log"; then
		echo "series: error: patch $n builds with warnings: $name (log: $log)" >&2
		exit 1
	fi
	log=$OUT/boot-$n.log
	if [ "$n" = "${#commits[@]}" ]; then
		eval "$BOOT"
	elif ! eval "$BOOT_QUICK" >"$log" 2>&1; then
		tail -n 20 "$log" >&2
		echo "series: error: patch $n fails the tests: $name (log: $log)" >&2
		exit 1
	fi
	echo "series: $n of ${#commits[@]} builds and boots ($((SECONDS - start)) s): $name"
done
