#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Lay this repository over a pristine Linux 7.3 in $BUILD/linux, a git
# repository whose commit 'pristine' is the stock source and whose HEAD is
# the stock source with our files and patches. A second run changes only the
# files that differ, so that the build that follows is incremental. So does one
# after a commit, or an edit, in the user's own tree.
#
# Options come in the environment:
#   BUILD  where everything generated goes
#   KSRC   the user's own 7.3 source tree, copied and left as it is
set -euo pipefail

BUILD=${BUILD:?}
KSRC=${KSRC:-}
TOP=$(cd "$(dirname "$0")/../.." && pwd)
LINUX=$BUILD/linux

say() { printf 'linux: %s\n' "$*"; }
die() { printf 'linux: error: %s\n' "$*" >&2; exit 1; }
# shellcheck source=tools/mlock2/overlay.sh
. "$TOP/tools/mlock2/overlay.sh"
# shellcheck disable=SC2034 # for debian.sh
INSTEAD='KSRC=/path/to/linux'
# shellcheck source=tools/mlock2/debian.sh
. "$TOP/tools/mlock2/debian.sh"

# One at a time, since two builds may run at once.
mkdir -p "$BUILD"
exec 9>"$BUILD/linux.lock"
flock 9

git -C "$TOP" rev-parse --git-dir >/dev/null ||
	die "git does not take $TOP for a repository (see above): use a clone, as its owner"

# The user has none: Debian's
unpack_debian() {
	local deb
	fetch_package "linux-source-$SERIES"
	say "unpacking $(basename "$deb")"
	rm -rf "$BUILD/source/deb"
	dpkg-deb -x "$deb" "$BUILD/source/deb"
	mkdir -p "$LINUX.new"
	tar -C "$LINUX.new" --strip-components=1 -xf "$BUILD/source/deb/usr/src/linux-source-$SERIES.tar.xz"
	rm -rf "$BUILD/source/deb"
}

check_ksrc() {
	[ -f "$KSRC/Makefile" ] || die "KSRC=$KSRC is not a kernel source tree"
	right_version "$(version "$KSRC")" || die "KSRC=$KSRC is Linux $(version "$KSRC"); this is for $SERIES.y"
}

# Is the user's tree the top of a git repository?
ksrc_is_git() {
	git -C "$KSRC" rev-parse --git-dir >/dev/null 2>&1 && [ -z "$(git -C "$KSRC" rev-parse --show-prefix)" ]
}

copy_ksrc() {
	say "copying $KSRC (left as it is)"
	mkdir -p "$LINUX.new"
	if ksrc_is_git; then
		# the tracked files with local changes, without build results
		git -C "$KSRC" ls-files -z | rsync -a --files-from=- --from0 --ignore-missing-args "$KSRC/" "$LINUX.new/"
	else
		rsync -a --exclude=.git --exclude='*.o' --exclude='*.cmd' "$KSRC/" "$LINUX.new/"
		make -s -C "$LINUX.new" mrproper
	fi
}

# The tracked files of the user's tree, with local changes, as a tree in the repository of $LINUX. A
# persistent index knows which files are unchanged, so the check takes a second.
ksrc_tree() (
	cd "$KSRC"
	rm -f "$LINUX/.git/ksrc.index.lock"
	git ls-files -z >"$LINUX/.git/ksrc.files"
	export GIT_DIR=$LINUX/.git GIT_WORK_TREE=$KSRC GIT_INDEX_FILE=$LINUX/.git/ksrc.index
	[ -f "$GIT_INDEX_FILE" ] || git read-tree pristine
	# first files that are no longer tracked, then tracked files
	git ls-files -z | LC_ALL=C sort -z | LC_ALL=C comm -z -23 - <(LC_ALL=C sort -z "$LINUX/.git/ksrc.files") |
		git update-index -z --force-remove --stdin
	git update-index -z --add --remove --stdin <"$LINUX/.git/ksrc.files"
	git write-tree
)

# Where the source is from
origin=debian
if [ -n "$KSRC" ]; then
	KSRC=$(realpath "$KSRC")
	origin=$KSRC
	check_ksrc
fi
if [ -d "$LINUX" ]; then
	made_from=$(git -C "$LINUX" config mlock2.origin)
	case $made_from in
	"$origin"|"$origin "*) ;; # a commit was noted here, too
	*) die "$LINUX was made from '$made_from', not from '$origin'. Use the same KSRC= for every command, or 'make distclean' to change the source" ;;
	esac
fi
if [ ! -d "$LINUX" ]; then
	rm -rf "$LINUX.new"
	if [ -n "$KSRC" ]; then copy_ksrc; else unpack_debian; fi
	say "recording the pristine source"
	cd "$LINUX.new"
	git init -q -b mlock2 .
	git config user.name mlock2
	git config user.email mlock2@localhost
	git config core.autocrlf false
	git config core.hooksPath /dev/null
	git config commit.gpgsign false
	git config tag.gpgsign false
	git config core.looseCompression 0
	git config gc.auto 0
	git add -A -f
	git commit -q -m "Linux $(version .)"
	git tag pristine
	git config mlock2.origin "$origin"
	cd "$TOP"
	mv "$LINUX.new" "$LINUX"
fi

cd "$LINUX"
# Changes by an interrupted update are not the user's.
UPDATING=$LINUX/.git/overlay.updating
if [ -e "$UPDATING" ]; then
	rm -f .git/index.lock
	git reset -q --hard
	rm "$UPDATING"
fi
git diff --quiet HEAD -- || die "$LINUX has changes of its own ('git -C $LINUX diff'): carry them to $TOP, then 'git -C $LINUX reset --hard'"

# The user's tree may have changed. It becomes the commit 'pristine' once the whole overlay applies
# to it.
pristine=$(git rev-parse 'pristine^{commit}')
if [ -n "$KSRC" ] && ksrc_is_git; then
	tree=$(ksrc_tree)
	if [ "$tree" != "$(git rev-parse "$pristine^{tree}")" ]; then
		say "$KSRC has changed: $(git diff --shortstat "$pristine" "$tree")"
		pristine=$(git commit-tree "$tree" -m "Linux $(version "$KSRC") ($(git -C "$KSRC" describe --always --dirty))")
	fi
fi

# Build the tree with the overlay in a separate index.
export GIT_INDEX_FILE=$LINUX/.git/overlay.index
git read-tree "$pristine"
release=$(version "${KSRC:-$LINUX}")
files=$(unset GIT_INDEX_FILE; overlay)
overlay_files "$pristine" <<<"$files"
while read -r f; do
	case $f in
	*.patch) overlay_patch "$f" "$release" ;;
	esac
done <<<"$files"
tree=$(git write-tree)
unset GIT_INDEX_FILE

if [ "$tree" != "$(git rev-parse 'HEAD^{tree}')" ] || [ "$pristine" != "$(git rev-parse 'pristine^{commit}')" ]; then
	git diff --stat HEAD "$tree" | sed 's/^/linux: /'
	touch "$UPDATING"
	# Everything that must be configured again depends on this file; see the Makefile.
	[ "$pristine" = "$(git rev-parse 'pristine^{commit}')" ] || touch "$LINUX/.git/pristine.moved"
	git tag -f pristine "$pristine" >/dev/null
	git reset -q --hard "$(git commit-tree "$tree" -p pristine -m 'mm/mlock2: the mlock family in Rust')"
	rm "$UPDATING"
fi
