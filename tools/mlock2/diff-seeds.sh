#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Compare the two kernels for each seed in turn; 'make diff-seeds' calls this. $OUT/results has a
# line for each finished seed: hash of the code, operations requested, seed, operations done, and
# sequences that differ. A second run skips seeds that are finished for the same code. A difference
# does not stop the run, but makes it fail.
#
#   diff-seeds.sh SEED|FIRST-LAST...
set -euo pipefail

LINUX=${LINUX:?} OUT=${OUT:?} COMPARE=${COMPARE:?} OPS=${OPS:?}

seeds=()
for range; do
	[[ $range =~ ^[0-9]+(-[0-9]+)?$ ]] || { printf 'diff-seeds: error: SEEDS is to be like "7 20-99", not "%s"\n' "$range" >&2; exit 2; }
	mapfile -t -O ${#seeds[@]} seeds < <(seq "${range%-*}" "${range#*-}")
done
[ ${#seeds[@]} -gt 0 ] || { echo 'diff-seeds: error: SEEDS has none' >&2; exit 2; }

code=$("$(dirname "$0")/code-hash.sh" "$LINUX")
mkdir -p "$OUT"
touch "$OUT/results"

n=0 operations=0 differ=0
for seed in "${seeds[@]}"; do
	log=$OUT/seed-$seed.log
	line=$(awk -v OFS=' ' -v key="$code $OPS $seed" '$1 " " $2 " " $3 == key { found = $4 " " $5 } END { print found }' "$OUT/results")
	if [ -z "$line" ]; then
		status=0
		eval "$COMPARE --ops $OPS --seed $seed" </dev/null >"$log" 2>&1 || status=$?
		line=$(sed -nE 's/^(not )?ok [0-9]+ seed [0-9]+: ([0-9]+) operations.* ([0-9]+) differ, .*/\2 \3/p' "$log")
		# Status 1 means a difference, which may lie outside all sequences.
		case $status:${line##* } in
		[01]:) status=2 ;;
		1:0) line="${line% *} 1" ;;
		esac
		if [ $status -gt 1 ]; then
			cat "$log" >&2
			printf 'diff-seeds: error: seed %s could not be tried; log: %s\n' "$seed" "$log" >&2
			exit 2
		fi
		printf '%s %s %s %s\n' "$code" "$OPS" "$seed" "$line" >>"$OUT/results"
		[ $status = 1 ] || rm "$log"
	fi
	n=$((n + 1)) operations=$((operations + ${line% *})) differ=$((differ + ${line##* }))
	[ "${line##* }" = 0 ] || printf 'diff-seeds: seed %s differs; log: %s\n' "$seed" "$log"
	printf 'seed %s: %s operations, %s differ; so far %d of %d seeds, %d operations, %d differ\n' \
		"$seed" "${line% *}" "${line##* }" "$n" ${#seeds[@]} "$operations" "$differ"
done
printf 'diff-seeds: %d seeds, %d operations, %d differ\n' "$n" "$operations" "$differ"
[ "$differ" = 0 ]
