#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# What modules get of the Rust, as KTAP: with CONFIG_MLOCK2=y no symbol more than
# without, but for those that exports.allow lists.
#
# A module calls what is not inlined into it, so the kernel exports each symbol of
# its crates that is made for all (rust/exports_*_generated.h): with helpers
# inlined and without.
#
#   exports.sh KMAKE
# where KMAKE runs make in the kernel source. With in the environment: BUILD where
# the trees go, ALWAYS the options that the compilers want, INLINE empty where they
# cannot inline helpers.
set -euo pipefail

kmake=${1:?usage: exports.sh KMAKE}
BUILD=${BUILD:?} LINUX=${LINUX:?} INLINE=${INLINE-}
TOP=$(cd "$(dirname "$0")/../.." && pwd)
OUT=$BUILD/exports
ALLOW=$TOP/tools/mlock2/exports.allow
die() { printf 'exports: error: %s\n' "$*" >&2; exit 1; }

# is_set TREE OPTION e|d
is_set() {
	local is=d
	! grep -qx "CONFIG_$2=y" "$1/.config" || is=e
	[ "$is" = "$3" ] || die "$1: Kconfig does not allow CONFIG_$2 to be otherwise"
}
# build TREE MLOCK2 INLINE-HELPERS: the crates alone; 'prepare' makes them
build() {
	local dir=$1 log=$1/build.log
	mkdir -p "$dir"
	{
		eval "$kmake O=$dir allnoconfig mlock2.config" &&
			"$LINUX/scripts/config" --file "$dir/.config" -e MODULES "-$2" MLOCK2 "-$3" RUST_INLINE_HELPERS &&
			eval "$kmake O=$dir olddefconfig prepare"
	} >"$log" 2>&1 || { tail -n 20 "$log" >&2; die "$dir is not built"; }
	is_set "$dir" MODULES e
	is_set "$dir" MLOCK2 "$2"
	is_set "$dir" RUST_INLINE_HELPERS "$3"
}
# The names without what is different in each crate's hash
symbols() {
	sed -nE 's/^EXPORT_SYMBOL_RUST_GPL\((.*)\);$/\1/p' "$1"/rust/exports_*_generated.h |
		sed -E 's/(C|NtC|NvC)s[0-9A-Za-z]+_/\1_/g' | LC_ALL=C sort -u
}

echo 'TAP version 13'
failed=0 n=0
for inline in ${INLINE:+e} d; do
	# one tree for both, so that no more is built again than has to be
	for mlock2 in d e; do
		build "$OUT/$inline" "$mlock2" "$inline"
		symbols "$OUT/$inline" >"$OUT/$inline.$mlock2"
	done
	[ -s "$OUT/$inline.d" ] || die "no symbol is exported without CONFIG_MLOCK2"
	LC_ALL=C comm -13 "$OUT/$inline.d" "$OUT/$inline.e" >"$OUT/$inline.more"
	grep -vE '^(#|$)' "$ALLOW" >"$OUT/allow"
	n=$((n + 1)) name="exports: helpers $([ $inline = e ] && echo inlined || echo called)"
	if grep -vxEf "$OUT/allow" "$OUT/$inline.more" >"$OUT/$inline.bad"; then
		failed=$((failed + 1))
		sed 's/^/# /' "$OUT/$inline.bad"
		printf 'not ok %d %s: %d symbols are not in exports.allow\n' "$n" "$name" "$(wc -l <"$OUT/$inline.bad")"
	else
		printf 'ok %d %s: %d symbols more of %d\n' "$n" "$name" "$(wc -l <"$OUT/$inline.more")" "$(wc -l <"$OUT/$inline.e")"
	fi
done
printf '1..%d\n' "$n"
[ "$failed" = 0 ]
