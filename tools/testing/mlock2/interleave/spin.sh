#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Checks mlock.pml, the protocol of the batches as a model, with spin: what must
# hold in any schedule, for the Rust and for the C; and that each assertion fails
# if a mistake is put into the model.
#
#   spin.sh DIRECTORY
# where DIRECTORY is for what spin makes. CC is the compiler.
set -euo pipefail

OUT=$1
MODEL=$(cd "$(dirname "$0")" && pwd)/mlock.pml
CC=${CC:-cc}
passed=0 failed=0
OPT=-O1

# check WHAT EXPECTED OPTION...: EXPECTED is the number of errors, 0 or 1. MODEL is
# what is checked.
check() {
	local what=$1 expected=$2 dir=$OUT/$((passed + failed)) start=$SECONDS errors states
	shift 2
	rm -rf "$dir" && mkdir -p "$dir"
	(
		cd "$dir"
		spin -a "$@" "$MODEL" >spin.log
		# shellcheck disable=SC2086
		$CC $OPT -DSAFETY -DCOLLAPSE -DVECTORSZ=2048 -w -o pan pan.c
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

# mistake WHAT EDIT OPTION...: EDIT, of sed, puts the mistake into the model
mistake() {
	local what=$1 edit=$2 right=$MODEL
	shift 2
	MODEL=$OUT/mistake/${right##*/}
	rm -rf "$OUT/mistake" && mkdir "$OUT/mistake"
	cp "${right%/*}"/*.pml "$OUT/mistake"
	sed -i "$edit" "$OUT/mistake"/*.pml
	if { diff -q "${right%/*}" "$OUT/mistake" || true; } | grep '^Files' >/dev/null; then
		check "mistake: $what" 1 "$@"
	else
		failed=$((failed + 1))
		printf 'not ok %d mistake: %s # it changes nothing\n' $((passed + failed)) "$what"
	fi
	MODEL=$right
}

mkdir -p "$OUT"
printf 'KTAP version 1\n1..15\n'
check 'Rust: a folio that no vma locks is not mlocked' 0 -DSTUCK
# Two CPUs, each with the folio in its batch, find it isolated by the other one.
check 'C: a folio that no vma locks may stay mlocked' 1 -DSTUCK -DC
check 'Rust: isolated by others' 0 -DVMAS=1 -DISOLATE
check 'C: isolated by others' 0 -DVMAS=1 -DISOLATE -DC
check 'Rust: isolated by others, on any CPU' 0 -DVMAS=1 -DISOLATE -DMOVE
check 'C: isolated by others, on any CPU' 0 -DVMAS=1 -DISOLATE -DMOVE -DC
check 'Rust: a CPU goes offline' 0 -DVMAS=1 -DMOVE -DHOTPLUG
check 'C: a CPU goes offline' 0 -DVMAS=1 -DMOVE -DHOTPLUG -DC

# These stop early: compiling takes the time.
OPT=-O0
mistake 'a batch holds no reference' '/^inline push/,/^}/s/refs++//' -DVMAS=1
mistake 'PG_lru is not tested in the step that changes the flags' \
	'/^inline change/,/^}/s/listed = lru;/listed = 1;/' -DVMAS=1 -DISOLATE
mistake 'a batch is drained without the lruvec lock' \
	'/^inline cull_or_rescue/,/^}/s/lock(lruvec);//' -DVMAS=1 -DISOLATE
mistake 'the C does not isolate the folio' 's/isolated = lru; lru = 0/isolated = lru/' -DVMAS=1 -DC
mistake 'a munlock subtracts nothing' 's/(count -> count - 1 : 0)/count/' -DSTUCK
mistake 'a CPU goes offline in the middle of a task' 's/ && !pinned//' -DVMAS=1 -DMOVE -DHOTPLUG
mistake 'the batch of a dead CPU is not drained' '/mlock_drain_remote/d' -DVMAS=1 -DMOVE -DHOTPLUG
printf '# %d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
