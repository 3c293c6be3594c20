#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Try kernels and compilers, and print a table of those that work.
#
#   versions.sh [SUITE/VERSION...]   Debian's linux-source packages, or all that are known
#
# in the environment:
#   BUILD      where everything generated goes
#   COMPILERS  what to compile mm/ and rust/ with, if anything: words of CC:RUSTC:BINDGEN,
#              such as clang-22:/usr/bin/rustc:/usr/bin/bindgen gcc:/usr/bin/rustc:/usr/bin/bindgen
#   JOBS
#
# A patch that does not apply is skipped, and the others are tried. See overlay.sh for what other
# versions want instead of some.
set -euo pipefail

TOP=$(cd "$(dirname "$0")/../.." && pwd)
BUILD=${BUILD:?}
WORK=$BUILD/versions
# shellcheck source=tools/mlock2/overlay.sh
. "$TOP/tools/mlock2/overlay.sh"
# shellcheck disable=SC2034 # for debian.sh
INSTEAD='others as arguments'
# shellcheck source=tools/mlock2/debian.sh
. "$TOP/tools/mlock2/debian.sh"

say() { printf 'versions: %s\n' "$*"; }
die() { printf 'versions: error: %s\n' "$*" >&2; exit 1; }
row() { printf '%s\n' "$(IFS=$'\t'; echo "$*")" >>"$WORK/table.tsv"; }

[ $# -gt 0 ] || set -- trixie-backports/7.2 experimental/7.3 trixie-backports/7.3

# list the files in the tarball $1 that the patches $2... change
touched() {
	local tarball=$1
	shift
	(for patch; do sed -n 's,^+++ b/\([^\t]*\).*,\1,p' "$(ported "$patch")"; done) | sort -u >"$tree.wanted"
	tar -tf "$tarball" | sed 's,^[^/]*/,,' | sort >"$tree.have"
	comm -12 "$tree.wanted" "$tree.have" | sed "s,^,linux-source-$series/,"
}

# compile COMPILERS: print "yes", or the reason for the failure
compile() {
	local cc rustc bindgen llvm='' out=$tree.out
	IFS=: read -r cc rustc bindgen <<<"$1"
	case $cc in clang*) llvm="LLVM=${cc#clang}"; [ "$cc" != clang ] || llvm=LLVM=1 ;; esac
	rm -rf "$out"
	mkdir "$out"
	kernel() {
		env -u MAKEFLAGS make -C "$tree" $llvm CC="ccache $cc" "RUSTC=$rustc" "BINDGEN=$bindgen" O="$out" -j"${JOBS:-2}" "$@" >>"$out.log" 2>&1
	}
	: >"$out.log"
	kernel defconfig && "$tree/scripts/config" --file "$out/.config" -e RUST -e MLOCK2 && kernel olddefconfig || { echo 'no configuration'; return; }
	grep -qx CONFIG_MLOCK2=y "$out/.config" || { echo 'CONFIG_MLOCK2 not set'; return; }
	kernel prepare mm/ || { echo "no: $(grep -m 1 -E 'error|Error' "$out.log" | cut -c1-60)"; return; }
	grep -q 'warning:' "$out.log" && { echo 'with warnings'; return; }
	echo yes
}

mkdir -p "$WORK"
: >"$WORK/table.tsv"
for source in "$@"; do
	suite=${source%/*} series=${source#*/}
	fetch_package "linux-source-$series" "$WORK/$suite" "$suite"
	name=$(basename "$deb" | sed 's/^[^_]*_\([^_]*\)_.*/\1/')
	tree=$WORK/$suite/linux-$series
	rm -rf "$tree" "$WORK/$suite/deb"
	dpkg-deb -x "$deb" "$WORK/$suite/deb"
	tarball=$WORK/$suite/deb/usr/src/linux-source-$series.tar.xz
	right_version "$series" || PORT=
	mapfile -t files < <(overlay)
	mapfile -t patches < <(printf '%s\n' "${files[@]}" | grep '\.patch$')
	mkdir "$tree"
	if [ -n "${COMPILERS:-}" ]; then
		tar -C "$tree" --strip-components=1 -xf "$tarball"
	else
		touched "$tarball" "${patches[@]}" >"$tree.list"
		tar -C "$tree" --strip-components=1 -xf "$tarball" -T "$tree.list"
	fi
	rm -rf "$WORK/$suite/deb"

	say "Debian's linux-source-$series $name: ${#patches[@]} patches"
	failed=()
	for patch in "${patches[@]}"; do
		# as linux.sh does, without fuzz
		(cd "$tree" && git apply --whitespace=nowarn "$(ported "$patch")" 2>>"$tree.log") || failed+=("$patch")
	done
	applied="$((${#patches[@]} - ${#failed[@]})) of ${#patches[@]}"
	[ ${#failed[@]} -eq 0 ] || printf '  does not apply: %s\n' "${failed[@]}"
	if [ -z "${COMPILERS:-}" ]; then
		row "$name" "$applied" - - - -
		continue
	fi
	for f in "${files[@]}"; do
		case $f in *.patch) ;; *) mkdir -p "$tree/$(dirname "$f")"; cp "$(ported "$f")" "$tree/$f" ;; esac
	done
	cp "$TOP/Kconfig" "$tree/mm/mlock2/Kconfig"
	for compilers in $COMPILERS; do
		IFS=: read -r cc rustc bindgen <<<"$compilers"
		row "$name" "$applied" "$("$cc" --version | sed -n '1s/.* \([0-9.]*\).*/'"${cc%%-*}"' \1/p')" \
			"$("$rustc" --version | cut -d' ' -f2)" "$("$bindgen" --version | cut -d' ' -f2)" "$(compile "$compilers")"
	done
	rm -rf "$tree" "$tree.out"
done
{ printf 'kernel\tpatches\tC\trustc\tbindgen\tcompiles\n'; cat "$WORK/table.tsv"; } | column -t -s "$(printf '\t')"
