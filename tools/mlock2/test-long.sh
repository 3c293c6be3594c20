#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# What takes too long for 'make test', one goal of the Makefile after the other;
# 'make test-long' calls this. What fails does not keep the rest from running,
# but fails the whole. Ends with a page about it: $BUILD/report.md.
#
#   test-long.sh [STEP...]
# where STEP selects: the others keep the results that they have.
set -euo pipefail

BUILD=${BUILD:?} O=${O:?}
TOP=$(cd "$(dirname "$0")/../.." && pwd)
OUT=$BUILD/test-long
REPORT=$BUILD/report.md
LONG_STRESS='--seconds 3600 --round 60 --watchdog 600'
SHORT_STRESS='--seconds 300 --round 60 --watchdog 600'

# A name, what it shows, and what to make for it
steps="
test|all that make test has|test
diff|random operations, compared with the C|diff OPS=2000000 SEED=2
interleave|every interleaving of the page part, in Rust and in C|interleave INTERLEAVE_ARGS='--triples all --stock'
spin|the protocol of the batches, as a model|spin
debug|selftests, with all checks|selftest KIND=debug
debug-diff|random operations, with all checks|diff KIND=debug OPS=5000 SEED=5
inject|every allocation fails once, more scenarios|inject INJECT_RANDOM=400
stress-ng|what stress-ng locks, with all checks|stress-ng KIND=debug
stress|an hour under load, with all checks|stress KIND=debug STRESS_ARGS='$LONG_STRESS'
kcsan|selftests, looking for data races|selftest KIND=kcsan
kcsan-diff|random operations on one CPU, looking for data races|diff KIND=kcsan OPS=1000 SEED=6
kcsan-inject|every allocation fails once on one CPU, looking for data races|inject KIND=kcsan INJECT_RANDOM=0
kcsan-stress|under load, looking for data races|stress KIND=kcsan STRESS_ARGS='$SHORT_STRESS'
rt|selftests, with PREEMPT_RT|selftest KIND=rt
rt-diff|random operations, with PREEMPT_RT|diff KIND=rt OPS=5000 SEED=4
rt-inject|every allocation fails once, with PREEMPT_RT|inject KIND=rt INJECT_RANDOM=0
rt-stress|under load, with PREEMPT_RT|stress KIND=rt STRESS_ARGS='$SHORT_STRESS'
lru_gen|selftests, with the multi-gen LRU|selftest KIND=lru_gen
lru_gen-diff|random operations, with the multi-gen LRU|diff KIND=lru_gen OPS=20000 SEED=8
lru_gen-stress|under load, with the multi-gen LRU|stress KIND=lru_gen STRESS_ARGS='$SHORT_STRESS'
fair|selftests, on the best C|selftest FAIR=1
fair-diff|random operations on the best C, compared with the stock C|diff FAIR=1 OPS=50000 SEED=9
configs|other configurations compile|test-configs
arch|every architecture|test-arch
arm64-debug|arm64, with all checks|selftest ARCH=arm64 KIND=debug
arm64-16k|arm64 with pages of 16 KiB|selftest ARCH=arm64 KIND=16k
arm64-16k-diff|random operations, with pages of 16 KiB|diff ARCH=arm64 KIND=16k OPS=5000
arm64-64k|arm64 with pages of 64 KiB|selftest ARCH=arm64 KIND=64k
arm64-64k-diff|random operations, with pages of 64 KiB|diff ARCH=arm64 KIND=64k OPS=5000
mutants|mistakes on purpose are noticed|mutants
"

names=$(cut -d'|' -f1 <<<"$steps" | grep .)
for name in "$@"; do
	grep -qx -- "$name" <<<"$names" || { printf 'test-long: error: no step %s; there are:\n%s\n' "$name" "$names" >&2; exit 2; }
done

# The lines of a log that say how much it was
figures() {
	sed -nE '/^(not )?ok [0-9]/p;/[0-9]+ passed, [0-9]+ failed/p;/[Pp]assed: [0-9]+/p;/^configs: [0-9]+/p;/^[0-9]+ mutants tested/p' "$1" |
		sed -E 's/; logs: .*//;s/^\[[0-9:]*\] //;s/^/  - /' | tail -n 12
}

# What all logs of steps that passed come to
totals() {
	local name logs=()
	for name in $names; do
		! grep -qs '^passed' "$OUT/$name.result" || logs+=("$OUT/$name.log")
	done
	[ ${#logs[@]} -gt 0 ] || { printf 'Nothing has passed yet.\n'; return; }
	awk '
		# what comes before or after a word, such as "12 operations" and "passed: 12"
		function before(word,   text) {
			text = substr($0, 1, index($0, word) - 1)
			sub(/ +$/, "", text); sub(/.*[^0-9.]/, "", text)
			return text + 0
		}
		/^ok [0-9]+ .* operations( of [0-9]+)?, / { operations += before(" operations") }
		/^ok [0-9]+ .* failed allocations/ { allocations += before(" failed allocations") }
		# the row of its table, which a log may have twice
		$3 == "stress" && $4 == "pass" && !row[FILENAME, $0]++ { load += $NF }
		/: PASS: [0-9]+ passed/ { cases += before(" passed") }
		/Testing complete/ { sub(/.*passed: /, ""); kunit += $1 }
		/^configs: [0-9]+/ { configs += $2 }
		/^[0-9]+ mutants tested/ { pure += before(" caught") }
		FILENAME ~ /\/mutants\.log$/ && /^[0-9]+ passed, [0-9]+ failed/ { kernel += $1 }
		END {
			print "| | |\n|---|---:|"
			printf "| cases of selftests passed, boots and programs among them | %d |\n", cases
			printf "| cases of KUnit passed | %d |\n", kunit
			printf "| random operations compared with the C | %d |\n", operations
			printf "| allocations failed, and compared with the C | %d |\n", allocations
			printf "| hours under load | %.2f |\n", load / 3600
			printf "| configurations compiled | %d |\n", configs
			printf "| mistakes noticed: in kernel code | %d |\n", kernel
			printf "| mistakes noticed: in modules without kernel types | %d |\n", pure
		}' "${logs[@]}"
}

mkdir -p "$OUT"
while IFS='|' read -r name what goal; do
	[ -n "$name" ] || continue
	[ $# = 0 ] || [[ " $* " == *" $name "* ]] || continue
	printf '\n=== %s: %s (make %s)\n' "$name" "$what" "$goal"
	# No old verdict may stand beside a new log.
	rm -f "$OUT/$name.result"
	start=$SECONDS result=passed when="$(date +%F), $(git -C "$TOP" describe --always --dirty)"
	eval "make -C '$TOP' $goal" </dev/null 2>&1 | tee "$OUT/$name.log" || result=FAILED
	printf '%s|%d|%s\n' "$result" $((SECONDS - start)) "$when" >"$OUT/$name.result"
done <<<"$steps"

failed=0
{
	printf '# What was tested\n\nLinux %s, %s. Of the steps that passed, each at the commit that stands beside it:\n\n' \
		"$(cat "$O/include/config/kernel.release" 2>/dev/null || echo '(no kernel was built)')" "$(uname -m)"
	totals
	printf '\nEach line can be run again as it stands.\n'
	while IFS='|' read -r name what goal; do
		[ -n "$name" ] || continue
		printf '\n## %s\n\n' "$what"
		if [ -s "$OUT/$name.result" ]; then
			IFS='|' read -r result seconds day <"$OUT/$name.result"
			printf -- '- `make %s`: %s, %d s, %s\n' "$goal" "$result" "$seconds" "$day"
			figures "$OUT/$name.log"
		else
			printf -- '- `make %s`: not run\n' "$goal"
		fi
	done <<<"$steps"
	printf '\n## Checks that were on\n\n'
	for tree in "$O-debug" "$O-kcsan" "$O-rt" "$O-lru_gen"; do
		[ -s "$tree/.config" ] || continue
		printf -- '- %s: ' "${tree##*/}"
		grep -oE '^CONFIG_(KASAN|KCSAN|KFENCE|UBSAN|PROVE_LOCKING|PROVE_RCU|DEBUG_VM|DEBUG_VM_PGFLAGS|PAGE_TABLE_CHECK|DEBUG_ATOMIC_SLEEP|DEBUG_LIST|DEBUG_OBJECTS|RUST_DEBUG_ASSERTIONS|RUST_OVERFLOW_CHECKS|PREEMPT_RT|LRU_GEN_ENABLED|DETECT_HUNG_TASK|SOFTLOCKUP_DETECTOR|FAULT_INJECTION)=y' \
			"$tree/.config" | sed 's/^CONFIG_//;s/=y$//' | paste -sd' '
	done
} >"$REPORT"
for name in ${*:-$names}; do
	grep -q '^passed' "$OUT/$name.result" 2>/dev/null || { failed=$((failed + 1)); printf 'test-long: %s did not pass\n' "$name"; }
done
printf 'report: %s\n' "$REPORT"
[ "$failed" = 0 ]
