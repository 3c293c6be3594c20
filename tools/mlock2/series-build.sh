#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Build the kernel after each patch of the main series, and boot the last one.
#
# With in the environment: LINUX the tree that has the commits, OUT where commits is
# and what is built goes, CONFIG a .config with CONFIG_MLOCK2=y, KMAKE make for
# $OUT/tree, IMAGE its goal for an image, BOOT the command that boots $OUT/obj.
set -euo pipefail

LINUX=${LINUX:?} OUT=${OUT:?} CONFIG=${CONFIG:?} KMAKE=${KMAKE:?} IMAGE=${IMAGE:?} BOOT=${BOOT:?}
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
	goals='prepare mm/ ipc/ fs/hugetlbfs/'
	[ "$n" != "${#commits[@]}" ] || goals=$IMAGE
	log=$OUT/build-$n.log
	# shellcheck disable=SC2086
	if ! { eval "$KMAKE O=$obj olddefconfig" && eval "$KMAKE O=$obj $goals"; } >"$log" 2>&1; then
		grep -E 'error|\*\*\*' "$log" | head -n 20
		echo "series: error: patch $n does not build: $name (log: $log)" >&2
		exit 1
	fi
	# A warning in our code fails the patch.
	if grep -E '^warning:' "$log"; then
		echo "series: error: patch $n builds with warnings: $name (log: $log)" >&2
		exit 1
	fi
	echo "series: $n of ${#commits[@]} builds ($((SECONDS - start)) s): $name"
done
eval "$BOOT"
