# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Lay this repository over a kernel tree: a file has the same path there, and <file>.patch changes a
# file of the kernel. linux.sh and apply source this; TOP is this repository.

SERIES=7.3

version() { awk '/^(VERSION|PATCHLEVEL|SUBLEVEL) =/ { v = v s $3; s = "." } /^EXTRAVERSION =/ { v = v $3 } /^NAME/ { print v; exit }' "$1/Makefile"; }

# What differs in another series of Linux: versions/<series> has, under the same path, what takes the
# place of a file or a patch of this repository.
PORTS=$TOP/tools/mlock2/versions
PORT=

# right_version VERSION: also sets PORT
right_version() {
	local series
	series=$(sed -n 's/^\([0-9]*\.[0-9]*\)\($\|[.-].*\)/\1/p' <<<"$1")
	case $series in
	"$SERIES") PORT= ;;
	?*) PORT=$PORTS/$series; [ -d "$PORT" ] ;;
	*) return 1 ;;
	esac
}

# ported FILE: where its text for the version is
ported() {
	if [ -n "$PORT" ] && [ -f "$PORT/$1" ]; then printf '%s\n' "$PORT/$1"; else printf '%s\n' "$TOP/$1"; fi
}

# The files of the overlay, committed or not.
#
# 'Kconfig' at the top goes into the kernel; all other files at the top except patches stay out of
# it. So do the patches for the best C, which has its own kernel, and what other versions want.
overlay() {
	git -C "$TOP" ls-files --cached --others --exclude-standard |
		grep -e '/' -e '\.patch$' | grep -v -e '^\.' -e '^tools/mlock2/fair/' -e '^tools/mlock2/versions/' | LC_ALL=C sort -u |
		while read -r f; do if [ -f "$TOP/$f" ]; then printf '%s\n' "$f"; fi; done
}

# put FILE PATH COMMIT: a line for 'git update-index --index-info', in the kernel's repository
put() {
	local mode=100644
	[ -x "$TOP/$1" ] && mode=100755
	git cat-file -e "$3:$2" 2>/dev/null &&
		die "$1 would replace a file of the kernel: make it $2.patch"
	printf '%s %s\t%s\n' "$mode" "$(git hash-object -w --no-filters "$(ported "$1")")" "$2"
}

# overlay_files COMMIT: put the files on standard input, except patches, into the index; COMMIT is
# the stock kernel
overlay_files() {
	local f
	{
		put Kconfig mm/mlock2/Kconfig "$1"
		while read -r f; do
			case $f in
			*.patch) ;;
			*) put "$f" "$f" "$1" ;;
			esac
		done
	} | git update-index --add --index-info
}

# overlay_patch FILE VERSION: apply one to the index
overlay_patch() {
	git apply --cached --whitespace=nowarn "$(ported "$1")" ||
		die "$1 does not apply to Linux $2: is it applied already? Use a stock $SERIES.y"
}
