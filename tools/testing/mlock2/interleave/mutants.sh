#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Puts one mistake at a time into the Rust that 'make interleave' tries, and sees
# whether it notices: what only a race shows has a patch in mutants/ here, and of
# the other mistakes those are tried that mutants/also names.
#
#   mutants.sh DIRECTORY [NAME...]
# where DIRECTORY is for copies and results, and NAME selects, as a glob. Wants
# LINUX and CC as cargo does here.
set -euo pipefail

OUT=$1
shift
HERE=$(cd "$(dirname "$0")" && pwd)
TOP=$(cd "$HERE/../../../.." && pwd)
# So few preemptions show all of them.
ARGS=(--preemptions 2 --first)

# A tree with nothing in it but what is compiled here
copy() {
	mkdir -p "$OUT/tree/mm" "$OUT/tree/rust/kernel" "$OUT/tree/tools/testing/mlock2"
	rsync -a --delete "$TOP/mm/mlock2" "$OUT/tree/mm/"
	rsync -a --delete "$TOP/rust/mm" "$OUT/tree/rust/"
	rsync -a --delete "$TOP/rust/kernel/mm" "$OUT/tree/rust/kernel/"
	rsync -a --delete --exclude target "$HERE" "$OUT/tree/tools/testing/mlock2/"
}

# Older files come back under newer ones: cargo goes by their times.
fresh() { find "$OUT/tree/mm" "$OUT/tree/rust" -name "*.rs" -exec touch {} +; }

# try: compiles what is in the tree, and tries it
try() {
	cargo --quiet build --release --locked --target-dir "$OUT/target" \
		--manifest-path "$OUT/tree/tools/testing/mlock2/interleave/Cargo.toml" >"$1" 2>&1 || return 2
	"$OUT/target/release/mlock2-interleave" "${ARGS[@]}" >>"$1" 2>&1 || return 1
}

mkdir -p "$OUT"
patches=("$HERE"/mutants/*.diff)
while read -r name; do
	patches+=("$HERE/../mutants/$name.diff")
done <"$HERE/mutants/also"
killed=0 bad=0
for patch in '' "${patches[@]}"; do
	name=$(basename "${patch:-(none)}" .diff)
	if [ $# -gt 0 ] && [ -n "$patch" ]; then
		selected=
		# shellcheck disable=SC2053
		for glob in "$@"; do [[ $name != $glob ]] || selected=1; done
		[ -n "$selected" ] || continue
	fi
	copy
	status=0
	if [ -n "$patch" ] && ! GIT_CEILING_DIRECTORIES=$OUT git -C "$OUT/tree" apply "$patch"; then
		result='broken: does not apply'
		bad=$((bad + 1))
	else
		fresh
		try "$OUT/$name.log" || status=$?
		by=$(sed -n 's/^not ok [0-9]* \(.*\) #.*/\1/p' "$OUT/$name.log" | head -n 1)
		case $status/$by in
		0/*) result=survived ;;
		1/?*) result="killed by $by" ;;
		2/*) result='broken: does not compile' ;;
		*) result="killed by a panic" ;;
		esac
		if [ -z "$patch" ]; then
			[ "$result" = survived ] || { tail -n 40 "$OUT/$name.log"; echo 'mutants: error: without any, it fails'; exit 1; }
		elif [[ $result = killed* ]]; then
			killed=$((killed + 1))
		else
			bad=$((bad + 1))
		fi
	fi
	printf '%s: %s\n' "$name" "$result"
done
printf '%d passed, %d failed: mutants that make interleave is to notice\n' "$killed" "$bad"
[ "$bad" = 0 ]
