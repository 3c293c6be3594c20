#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Checks mlock.pml, the protocol of the batches as a model, with spin: what must
# hold in any schedule, for the Rust and for the C.
#
#   spin.sh DIRECTORY
# where DIRECTORY is for what spin makes. CC is the compiler.
set -euo pipefail

OUT=$1
MODEL=$(cd "$(dirname "$0")" && pwd)/mlock.pml
CC=${CC:-cc}
passed=0 failed=0

# check WHAT EXPECTED OPTION...: EXPECTED is the number of errors, 0 or 1
check() {
	local what=$1 expected=$2 dir=$OUT/$((passed + failed)) start=$SECONDS errors states
	shift 2
	rm -rf "$dir" && mkdir -p "$dir"
	(
		cd "$dir"
		spin -a "$@" "$MODEL" >spin.log
		# shellcheck disable=SC2086
		$CC -O2 -DSAFETY -DCOLLAPSE -DVECTORSZ=2048 -w -o pan pan.c
		./pan -m5000000 >pan.log
	)
	errors=$(sed -n 's/.*errors: \([0-9]*\)$/\1/p' "$dir/pan.log")
	states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' "$dir/pan.log")
	# What was not searched to its end has shown nothing.
	if [ "$errors" = "$expected" ] && ! grep -q 'max search depth too small' "$dir/pan.log"; then
		passed=$((passed + 1))
		printf 'ok %d %s # %s states, %d s\n' $((passed + failed)) "$what" "$states" $((SECONDS - start))
	else
		failed=$((failed + 1))
		grep -E 'violated|errors|error:|invalid end' "$dir/pan.log" | sed 's/^/# /' || true
		printf 'not ok %d %s\n' $((passed + failed)) "$what"
	fi
}

mkdir -p "$OUT"
printf 'KTAP version 1\n1..6\n'
check 'Rust: a folio that no vma locks is not mlocked' 0 -DSTUCK
# Two CPUs, each with the folio in its batch, find it isolated by the other one.
check 'C: a folio that no vma locks may stay mlocked' 1 -DSTUCK -DC
check 'Rust: isolated by others' 0 -DVMAS=1 -DISOLATE
check 'C: isolated by others' 0 -DVMAS=1 -DISOLATE -DC
check 'Rust: isolated and unmapped by others, on any CPU' 0 -DVMAS=1 -DISOLATE -DUNMAP -DMOVE
check 'C: isolated and unmapped by others, on any CPU' 0 -DVMAS=1 -DISOLATE -DUNMAP -DMOVE -DC
printf '# %d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
