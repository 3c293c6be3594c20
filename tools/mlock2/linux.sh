#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Lay this repository over a pristine Linux 7.3 in $BUILD/linux, a git
# repository whose commit 'pristine' is the stock source and whose HEAD is
# the stock source with our files and patches. A second run changes only the
# files that differ, so that the build that follows is incremental.
#
# Options come in the environment:
#   BUILD  where everything generated goes
#   KSRC   the user's own 7.3 source tree, copied and left as it is
set -euo pipefail

BUILD=${BUILD:?}
KSRC=${KSRC:-}
SERIES=7.3
TOP=$(cd "$(dirname "$0")/../.." && pwd)
LINUX=$BUILD/linux

say() { printf 'linux: %s\n' "$*"; }
die() { printf 'linux: error: %s\n' "$*" >&2; exit 1; }
version() { awk '/^(VERSION|PATCHLEVEL|SUBLEVEL) =/ { v = v s $3; s = "." } /^NAME/ { print v; exit }' "$1/Makefile"; }

# One at a time: two builds may have been started.
mkdir -p "$BUILD"
exec 9>"$BUILD/linux.lock"
flock 9

git -C "$TOP" rev-parse --git-dir >/dev/null ||
	die "git does not take $TOP for a repository (see above): use a clone, as its owner"

# Where apt has Debian from; nothing if it has no lists yet.
debian_mirror() {
	apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' |
		awk '$1 == "Debian" && uri == "" { uri = $2 } END { print uri }'
}

# Debian's linux-source package, from whichever release carries 7.3; apt
# checks the signature. Nothing of the machine's own apt set-up is touched.
fetch_debian() {
	local dir=$BUILD/source suite deb opts mirror
	mkdir -p "$dir"
	deb=$(find "$dir" -maxdepth 1 -name "linux-source-$SERIES*.deb" | head -n 1)
	if [ -z "$deb" ]; then
		command -v apt-get >/dev/null || die "no apt-get here to fetch the source with: give your own tree with KSRC=/path/to/linux"
		# the mirror that this machine uses already
		mirror=$(debian_mirror)
		if [ -z "$mirror" ] && [ "$(id -u)" = 0 ]; then
			apt-get -q update >"$dir/apt.log" 2>&1 || true
			mirror=$(debian_mirror)
		fi
		[ -n "$mirror" ] || die "apt has no Debian mirror ('apt-get update' may help): give your own tree with KSRC=/path/to/linux"
		for suite in trixie-backports trixie forky sid; do
			rm -rf "$dir/apt"
			mkdir -p "$dir/apt/lists/partial" "$dir/apt/cache/archives/partial" "$dir/apt/parts"
			printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' \
				"$mirror" "$suite" >"$dir/apt/parts/linux.sources"
			opts=(-q -o "Dir::Etc::SourceList=/dev/null" -o "Dir::Etc::SourceParts=$dir/apt/parts"
			      -o "Dir::State::Lists=$dir/apt/lists" -o "Dir::Cache=$dir/apt/cache"
			      -o "Dir::State::status=/dev/null" -o "APT::Sandbox::User=")
			say "looking for linux-source-$SERIES in Debian $suite"
			apt-get "${opts[@]}" update >"$dir/apt.log" 2>&1 || continue
			# under its name only when it is complete
			rm -rf "$dir/new"
			mkdir "$dir/new"
			(cd "$dir/new" && apt-get "${opts[@]}" download "linux-source-$SERIES") >>"$dir/apt.log" 2>&1 || continue
			mv "$dir"/new/*.deb "$dir/"
			break
		done
		rm -rf "$dir/apt" "$dir/new"
		deb=$(find "$dir" -maxdepth 1 -name "linux-source-$SERIES*.deb" | head -n 1)
		[ -n "$deb" ] || die "Debian has no linux-source-$SERIES to fetch (log: $dir/apt.log): give your own tree with KSRC=/path/to/linux"
	fi
	say "unpacking $(basename "$deb")"
	rm -rf "$dir/deb"
	dpkg-deb -x "$deb" "$dir/deb"
	mkdir -p "$LINUX.new"
	tar -C "$LINUX.new" --strip-components=1 -xf "$dir/deb/usr/src/linux-source-$SERIES.tar.xz"
	rm -rf "$dir/deb"
}

copy_ksrc() {
	[ -f "$KSRC/Makefile" ] || die "KSRC=$KSRC is not a kernel source tree"
	case $(version "$KSRC") in
	"$SERIES"|"$SERIES".*) ;;
	*) die "KSRC=$KSRC is Linux $(version "$KSRC"); this is for $SERIES.y" ;;
	esac
	say "copying $KSRC (left as it is)"
	mkdir -p "$LINUX.new"
	if git -C "$KSRC" rev-parse --git-dir >/dev/null 2>&1 && [ -z "$(git -C "$KSRC" rev-parse --show-prefix)" ]; then
		# the tracked files as they stand, without what was built among them
		git -C "$KSRC" ls-files -z | rsync -a --files-from=- --from0 --ignore-missing-args "$KSRC/" "$LINUX.new/"
	else
		rsync -a --exclude=.git --exclude='*.o' --exclude='*.cmd' "$KSRC/" "$LINUX.new/"
		make -s -C "$LINUX.new" mrproper
	fi
}

# Where the source is from; a git tree that moved on is another one.
origin=debian
if [ -n "$KSRC" ]; then
	KSRC=$(realpath "$KSRC")
	origin="$KSRC $(git -C "$KSRC" rev-parse HEAD 2>/dev/null || true)"
fi
if [ -d "$LINUX" ] && [ "$(git -C "$LINUX" config mlock2.origin)" != "$origin" ]; then
	die "$LINUX was made from '$(git -C "$LINUX" config mlock2.origin)', not from '$origin'. Go on with the same KSRC= on every command, or 'make distclean' for another source"
fi
if [ ! -d "$LINUX" ]; then
	rm -rf "$LINUX.new"
	if [ -n "$KSRC" ]; then copy_ksrc; else fetch_debian; fi
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
# An update that was cut off half-way is not the user's change.
UPDATING=$LINUX/.git/overlay.updating
if [ -e "$UPDATING" ]; then
	rm -f .git/index.lock
	git reset -q --hard
	rm "$UPDATING"
fi
git diff --quiet HEAD -- || die "$LINUX has changes of its own ('git -C $LINUX diff'): carry them to $TOP, then 'git -C $LINUX reset --hard'"

# The tree that the overlay makes, put together in an index of its own.
export GIT_INDEX_FILE=$LINUX/.git/overlay.index
git read-tree pristine
overlay() {
	# 'Kconfig' at the top is ours and has its place in the kernel; the other
	# files at the top but patches are the project's own. So are the patches of
	# the C to compare with, which a kernel of its own gets.
	git -C "$TOP" ls-files --cached --others --exclude-standard |
		grep -e '/' -e '\.patch$' | grep -v -e '^\.' -e '^tools/mlock2/fair/' | LC_ALL=C sort -u
}
put() {
	local mode=100644
	[ -x "$TOP/$1" ] && mode=100755
	git cat-file -e "pristine:$2" 2>/dev/null &&
		die "$1 would replace a file of the kernel: make it $2.patch"
	printf '%s %s\t%s\n' "$mode" "$(git hash-object -w "$TOP/$1")" "$2"
}
files=$(unset GIT_INDEX_FILE; overlay)
{
	put Kconfig mm/mlock2/Kconfig
	while read -r f; do
		[ -f "$TOP/$f" ] || continue
		case $f in
		*.patch) ;;
		*) put "$f" "$f" ;;
		esac
	done <<<"$files"
} | git update-index --add --index-info
while read -r f; do
	case $f in
	*.patch)
		[ -f "$TOP/$f" ] || continue
		git apply --cached "$TOP/$f" ||
			die "$f does not apply to Linux $(version "$LINUX"): is it in there already? KSRC= is to be a stock $SERIES.y"
		;;
	esac
done <<<"$files"
tree=$(git write-tree)
unset GIT_INDEX_FILE

if [ "$tree" != "$(git rev-parse 'HEAD^{tree}')" ]; then
	git diff --stat HEAD "$tree" | sed 's/^/linux: /'
	touch "$UPDATING"
	git reset -q --hard "$(git commit-tree "$tree" -p pristine -m 'mm/mlock2: the mlock family in Rust')"
	rm "$UPDATING"
fi
