#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs what takes too long for 'make test'; 'make test-long' calls this. Each
# step is a goal of the Makefile, or the same goal once for each of its items:
# such a piece is what one run can finish. $OUT/results has a line for each
# piece that came to an end: the hash of the code, the piece, how it ended, the
# seconds, the date and the commit. Started again, the script skips the pieces
# that passed for the same code. It first runs those that have no result, then
# those that failed. What fails does not keep the rest from running, but fails
# the whole. Ends with a page: $BUILD/report.md.
#
#   test-long.sh [--status] [--again] [STEP|STEP:ITEM...]
# where STEP selects; --again also runs pieces that passed; --status runs
# nothing and prints what has passed.
set -euo pipefail

BUILD=${BUILD:?} O=${O:?} LINUX=${LINUX:?} TEST_ARCHS=${TEST_ARCHS:?}
TOP=$(cd "$(dirname "$0")/../.." && pwd)
OUT=$BUILD/test-long
REPORT=$BUILD/report.md
# Another table and Makefile, for the test of this script
TABLE=${TABLE:-}
GOALS=${GOALS:-$TOP}
STRESS="--round 60 --watchdog 600"

mutants=$(cd "$TOP/tools/testing/mlock2/mutants" && printf '%s\n' *.diff | sed 's/-.*//' | sort -u | paste -sd' ')

# Name, purpose and goal; @ in the goal stands for an item in the last column.
steps="
test|all that make test has|test
interleave|every interleaving of the page part, in Rust and in C|interleave INTERLEAVE_ARGS='--triples all --stock'
spin|the protocol of the batches, as a model|spin
coverage|no line of the Rust is untested|coverage
diff|random operations, compared with the C|diff-seeds OPS=50000 SEEDS=@|2-11 12-21 22-31 32-41
debug|selftests, with all checks|selftest KIND=debug
debug-diff|random operations, with all checks|diff KIND=debug OPS=5000 SEED=5
inject|every allocation fails once|inject INJECT_RANDOM=0
inject-random|every allocation fails once, random scenarios|inject INJECT_GROUPS= INJECT_RANDOM=40 SEED=@|1 2 3 4 5 6 7 8 9 10
stress-ng|what stress-ng locks, with all checks|stress-ng KIND=debug
stress|an hour under load, with all checks|stress KIND=debug STRESS_ARGS='--seconds 900 $STRESS --seed @'|1 2 3 4
kcsan|selftests, looking for data races|selftest KIND=kcsan
kcsan-diff|random operations on one CPU, looking for data races|diff KIND=kcsan OPS=1000 SEED=6
kcsan-inject|every allocation fails once on one CPU, looking for data races|inject KIND=kcsan INJECT_RANDOM=0
kcsan-stress|under load, looking for data races|stress KIND=kcsan STRESS_ARGS='--seconds 300 $STRESS'
rt|selftests, with PREEMPT_RT|selftest KIND=rt
rt-diff|random operations, with PREEMPT_RT|diff KIND=rt OPS=5000 SEED=4
rt-inject|every allocation fails once, with PREEMPT_RT|inject KIND=rt INJECT_RANDOM=0
rt-stress|under load, with PREEMPT_RT|stress KIND=rt STRESS_ARGS='--seconds 300 $STRESS'
lru_gen|selftests, with the multi-gen LRU|selftest KIND=lru_gen
lru_gen-diff|random operations, with the multi-gen LRU|diff KIND=lru_gen OPS=20000 SEED=8
lru_gen-stress|under load, with the multi-gen LRU|stress KIND=lru_gen STRESS_ARGS='--seconds 300 $STRESS'
fair|selftests, on the best C|selftest FAIR=1
fair-diff|random operations on the best C, compared with the stock C|diff FAIR=1 OPS=50000 SEED=9
configs|other configurations compile|test-configs CONFIGS=@|$("$TOP/tools/mlock2/configs.sh" --list | paste -sd' ')
exports|symbols that modules get|test-exports
arch|every architecture|test-arch TEST_ARCHS=@|$TEST_ARCHS
arm64-debug|arm64, with all checks|selftest ARCH=arm64 KIND=debug
arm64-16k|arm64 with pages of 16 KiB|selftest ARCH=arm64 KIND=16k
arm64-16k-diff|random operations, with pages of 16 KiB|diff ARCH=arm64 KIND=16k OPS=5000
arm64-64k|arm64 with pages of 64 KiB|selftest ARCH=arm64 KIND=64k
arm64-64k-diff|random operations, with pages of 64 KiB|diff ARCH=arm64 KIND=64k OPS=5000
mutants-pure|mutants of the modules without kernel types|mutants-pure
mutants-interleave|mutants that make interleave kills|mutants-interleave MUTANT='@'|race-[a-e]* race-[f-l]* race-[m-z]* [!r]*
mutants|mutants that a kernel kills|mutants-booted MUTANT='@-*'|$mutants
"
[ -z "$TABLE" ] || steps=$(cat "$TABLE")

status='' again='' selected=()
for word; do
	case $word in
	--status) status=1 ;;
	--again) again=1 ;;
	*) selected+=("$word") ;;
	esac
done

# One piece a line, as "step|piece|goal"; a glob may be an item
set -f
pieces=$(while IFS='|' read -r step _ goal items; do
	[ -n "$step" ] || continue
	[ -n "$items" ] || printf '%s|%s|%s\n' "$step" "$step" "$goal"
	for item in $items; do
		printf '%s|%s:%s|%s\n' "$step" "$step" "$item" "${goal//@/"$item"}"
	done
done <<<"$steps")
for name in "${selected[@]}"; do
	cut -d'|' -f1,2 --output-delimiter=$'\n' <<<"$pieces" | grep -qxF -- "$name" ||
		{ printf 'test-long: error: no step %s; there are:\n%s\n' "$name" "$(cut -d'|' -f1 <<<"$pieces" | uniq)" >&2; exit 2; }
done
is_selected() { [ ${#selected[@]} = 0 ] || [[ " ${selected[*]} " == *" $1 "* || " ${selected[*]} " == *" $2 "* ]]; }

code=$("$TOP/tools/mlock2/code-hash.sh" "$LINUX")
mkdir -p "$OUT"
touch "$OUT/results"
# result PIECE: the last result for this code, as "passed|seconds|date|commit", or nothing
result() { awk -F'|' -v OFS='|' -v code="$code" -v piece="$1" '$1 == code && $2 == piece { found = $3 OFS $4 OFS $5 OFS $6 } END { if (found) print found }' "$OUT/results"; }
# shellcheck source-path=SCRIPTDIR
. "$TOP/tools/mlock2/steps.sh"

# run_piece PIECE GOAL
run_piece() {
	local commit
	commit=$(git -C "$TOP" describe --always --dirty)
	step "$1" "$1 (make $2)" "make -C '$GOALS' $2"
	# Code that changed during the run is not fully tested.
	if [ "$("$TOP/tools/mlock2/code-hash.sh" "$LINUX")" != "$code" ]; then
		echo 'test-long: error: the code has changed; run it again' >&2
		exit 2
	fi
	printf '%s|%s|%s|%d|%s|%s\n' "$code" "$1" "$step_result" "$step_seconds" "$(date +%F)" "$commit" >>"$OUT/results"
}

if [ -z "$status" ]; then
	exec 9>"$OUT/lock"
	flock -n 9 || { printf 'test-long: error: another run is active in %s\n' "$OUT" >&2; exit 2; }
	# First pieces without a result for this code, then pieces that failed before.
	first='' then=''
	while IFS='|' read -r step piece goal; do
		is_selected "$step" "$piece" || continue
		case $(result "$piece") in
		'') first+="$piece|$goal"$'\n' ;;
		FAILED*) then+="$piece|$goal"$'\n' ;;
		*) [ -z "$again" ] || first+="$piece|$goal"$'\n' ;;
		esac
	done <<<"$pieces"
	while IFS='|' read -r piece goal; do
		[ -z "$piece" ] || run_piece "$piece" "$goal"
	done <<<"$first$then"
fi

# The lines of a log with the amount of work
figures() {
	sed -nE '/^(not )?ok [0-9]/p;/[0-9]+ passed, [0-9]+ failed/p;/[Pp]assed: [0-9]+/p;/^configs: [0-9]+/p;/^[0-9]+ mutants tested/p;/^diff-seeds: [0-9]+ seeds/p;/^coverage: [0-9]+/p;/^# [0-9]+ scenarios/p' "$1" |
		sed -E 's/; logs: .*//;s/^\[[0-9:]*\] //;s/^/  - /' | tail -n 12
}

# The totals of the logs of all passed pieces
totals() {
	local piece logs=()
	while IFS='|' read -r _ piece _; do
		[[ $(result "$piece") != passed* ]] || [ ! -e "$(log_of "$piece")" ] || logs+=("$(log_of "$piece")")
	done <<<"$pieces"
	[ ${#logs[@]} -gt 0 ] || { printf 'Nothing has passed yet.\n'; return; }
	awk '
		# the number before or after a word, such as "12 operations" and "passed: 12"
		function before(word,   text) {
			text = substr($0, 1, index($0, word) - 1)
			sub(/ +$/, "", text); sub(/.*[^0-9.]/, "", text)
			return text + 0
		}
		/^ok [0-9]+ .* operations( of [0-9]+)?, / { operations += before(" operations") }
		/^diff-seeds: [0-9]+ seeds/ { operations += before(" operations") }
		/^ok [0-9]+ .* failed allocations/ { allocations += before(" failed allocations") }
		# the row of its table, which a log may have twice
		$3 == "stress" && $4 == "pass" && !row[FILENAME, $0]++ { load += $NF }
		/: PASS: [0-9]+ passed/ { cases += before(" passed") }
		/Testing complete/ { sub(/.*passed: /, ""); kunit += $1 }
		/^configs: [0-9]+/ { configs += $2 }
		/^[0-9]+ mutants tested/ { pure += before(" caught") }
		FILENAME ~ /\/mutants[^\/]*\.log$/ && /^[0-9]+ passed, [0-9]+ failed/ { kernel += $1 }
		END {
			print "| | |\n|---|---:|"
			printf "| cases of selftests passed, boots and programs among them | %d |\n", cases
			printf "| cases of KUnit passed | %d |\n", kunit
			printf "| random operations compared with the C | %d |\n", operations
			printf "| allocations failed, and compared with the C | %d |\n", allocations
			printf "| hours under load | %.2f |\n", load / 3600
			printf "| configurations compiled | %d |\n", configs
			printf "| mutants killed: of kernel code | %d |\n", kernel
			printf "| mutants killed: of modules without kernel types | %d |\n", pure
		}' "${logs[@]}"
}

# count STEP: sets passed, failed and missing
count() {
	local step piece
	passed=0 failed=0 missing=0
	while IFS='|' read -r step piece _; do
		[ "$step" = "$1" ] || continue
		case $(result "$piece") in
		passed*) passed=$((passed + 1)) ;;
		FAILED*) failed=$((failed + 1)) ;;
		*) missing=$((missing + 1)) ;;
		esac
	done <<<"$pieces"
}

# Prints for each step how many pieces passed; fails unless all did.
summary() {
	local step good=0 all=0
	for step in $(cut -d'|' -f1 <<<"$pieces" | uniq); do
		count "$step"
		good=$((good + passed)) all=$((all + passed + failed + missing))
		printf '%-20s %3d passed %3d failed %3d not run\n' "$step" "$passed" "$failed" "$missing"
	done
	printf 'test-long: code %s: %d of %d pieces passed\n' "${code:0:12}" "$good" "$all"
	[ "$good" = "$all" ]
}

if [ -n "$status" ]; then
	summary
	exit
fi

{
	printf '# What was tested\n\nLinux %s, %s, code %s. Each piece ran at the commit beside it; their code is the same.\n\n' \
		"$(cat "$O/include/config/kernel.release" 2>/dev/null || echo '(no kernel was built)')" "$(uname -m)" "${code:0:12}"
	totals
	printf '\nEach line can be run again as it stands.\n'
	while IFS='|' read -r name what _; do
		[ -n "$name" ] || continue
		printf '\n## %s\n\n' "$what"
		while IFS='|' read -r step piece goal; do
			[ "$step" = "$name" ] || continue
			IFS='|' read -r result seconds day commit < <(result "$piece") || true
			if [ -n "$result" ]; then
				printf -- '- `make %s`: %s, %d s, %s, %s\n' "$goal" "$result" "$seconds" "$day" "$commit"
				[ ! -e "$(log_of "$piece")" ] || figures "$(log_of "$piece")"
			else
				printf -- '- `make %s`: not run\n' "$goal"
			fi
		done <<<"$pieces"
	done <<<"$steps"
	printf '\n## Checks that were on\n\n'
	for tree in "$O-debug" "$O-kcsan" "$O-rt" "$O-lru_gen"; do
		[ -s "$tree/.config" ] || continue
		printf -- '- %s: ' "${tree##*/}"
		grep -oE '^CONFIG_(KASAN|KCSAN|KFENCE|UBSAN|PROVE_LOCKING|PROVE_RCU|DEBUG_VM|DEBUG_VM_PGFLAGS|PAGE_TABLE_CHECK|DEBUG_ATOMIC_SLEEP|DEBUG_LIST|DEBUG_OBJECTS|RUST_DEBUG_ASSERTIONS|RUST_OVERFLOW_CHECKS|PREEMPT_RT|LRU_GEN_ENABLED|DETECT_HUNG_TASK|SOFTLOCKUP_DETECTOR|FAULT_INJECTION)=y' \
			"$tree/.config" | sed 's/^CONFIG_//;s/=y$//' | paste -sd' '
	done
} >"$REPORT"
summary || true
printf 'report: %s\n' "$REPORT"
# All selected pieces must have passed.
bad=0
while IFS='|' read -r step piece _; do
	is_selected "$step" "$piece" || continue
	[[ $(result "$piece") == passed* ]] || { bad=$((bad + 1)); printf 'test-long: %s did not pass\n' "$piece"; }
done <<<"$pieces"
[ "$bad" = 0 ]
