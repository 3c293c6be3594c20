#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Run 'make test' for each architecture; 'make test-arch' calls this. A failure does not stop the
# run, but makes it fail. Prints a table in the end, which is also in $BUILD/test-arch/table.md,
# with the last run of each architecture and its date.
#
#   test-arch.sh ARCH...
set -euo pipefail

BUILD=${BUILD:?}
TOP=$(cd "$(dirname "$0")/../.." && pwd)
OUT=$BUILD/test-arch
mkdir -p "$OUT"
# shellcheck source-path=SCRIPTDIR
. "$TOP/tools/mlock2/steps.sh"

# cases RESULTS ABI: results of the programs of one ABI
cases() {
	awk -F'\t' -v abi="${2:+-$2}" '
		BEGIN {
			n = split("mlock2-tests mlock2-tests-nobody mlock-random-test on-fault-limit mlock-calls mlock-limits mlock-vmas mlock-populate mlock-special mlock-shm mlock-counters mlock-memcg mlock-features mlock-pressure mlock-large", names, " ")
			for (i = 1; i <= n; i++) want[names[i] abi] = 1
		}
		$2 in want { passed += $4; failed += $5; skipped += $6; delete want[$2] }
		END {
			printf "%d", passed
			if (failed) printf ", %d FAILED", failed
			if (skipped) printf ", %d skipped", skipped
			for (name in want) printf ", no %s", name
		}' "$1"
}

# rows ARCH RESULT: the rows of the table, from the results of this run
rows() {
	local arch=$1 result=$2 O=$BUILD/$1 shift page='' built=no booted=no ops='' abi
	shift=$(sed -n 's/^CONFIG_PAGE_SHIFT=//p' "$O/.config" 2>/dev/null || true)
	[ -z "$shift" ] || page="$((1 << (shift - 10))) KiB"
	# If it does not build, it is not tested.
	[ ! -s "$BUILD/test-$arch/results.tsv" ] || built=yes
	if [ ! -s "$O/test/results.tsv" ]; then
		printf '| %s | | %s | %s | no | | | %s, %s |\n' "$arch" "$page" "$built" "$result" "$(date +%F)"
		return
	fi
	! grep -q "	boot	pass	" "$O/test/results.tsv" || booted=yes
	ops=$(sed -n 's/^ok [0-9]* seed [0-9]*: \([0-9]*\) operations.*/\1/p' "$BUILD/test-$arch/diff.log" 2>/dev/null || true)
	printf '| %s | its own | %s | %s | %s | %s | %s | %s, %s |\n' \
		"$arch" "$page" "$built" "$booted" "$(cases "$O/test/results.tsv" '')" "$ops" "$result" "$(date +%F)"
	for abi in $(awk -F'\t' 'sub(/^on-fault-limit-/, "", $2) { print $2 }' "$O/test/results.tsv"); do
		printf '| | %s | | | | %s | | |\n' "$abi" "$(cases "$O/test/results.tsv" "$abi")"
	done
}

failed=0
for arch; do
	# Results of an earlier run must not count for this one.
	rm -rf "$OUT/$arch.rows" "$BUILD/test-$arch" "$BUILD/$arch/test"
	step "$arch" "$arch" "make -C '$TOP' ARCH='$arch' test"
	[ "$step_result" = passed ] || failed=$((failed + 1))
	rows "$arch" "$step_result" >"$OUT/$arch.rows"
done

{
	echo '| architecture | ABI | pages | built | booted | cases passed | operations compared with C | make test |'
	echo '|---|---|---|---|---|---:|---:|---|'
	cat "$OUT"/*.rows
} >"$OUT/table.md"
cat "$OUT/table.md"
[ "$failed" = 0 ]
