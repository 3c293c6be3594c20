# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Steps of test.sh, test-arch.sh and test-long.sh, which source this. A step is a named command. Its
# output goes to a log in $OUT, and selected lines to the terminal. The step passes if the command
# succeeds. After a failed step, the others still run, and the caller fails in the end.

# log_of NAME
log_of() { printf '%s/%s.log\n' "$OUT" "${1//[^A-Za-z0-9:_-]/_}"; }

# step NAME TITLE COMMAND [SHOWN]: SHOWN is a 'sed -n' script that selects what the terminal shows;
# all by default. Sets step_result to "passed" or "FAILED", and step_seconds. Do not call this where
# the shell ignores errors (if, &&, ||).
step() {
	local start=$SECONDS log status
	log=$(log_of "$1")
	printf '\n=== %s\n' "$2"
	set +e
	(set -e; eval "$3") </dev/null 2>&1 | tee "$log" | sed -un "${4-p}"
	status=$?
	set -e
	step_seconds=$((SECONDS - start))
	step_result=passed
	[ "$status" = 0 ] || step_result=FAILED
	# If little is shown, show why it failed.
	[ "$status" = 0 ] || [ "${4-p}" = p ] || tail -n 40 "$log"
}

# Count the passed and failed cases in the log of a step, as "PASSED FAILED"
cargo_cases() { awk '/^test result:/ { passed += $4; failed += $6 } END { print passed + 0, failed + 0 }' "$1"; }
kunit_cases() {
	printf '%s %s\n' "$(sed -n 's/.*[Pp]assed: \([0-9]*\).*/\1/p' "$1" | tail -n 1 | grep . || echo 0)" \
		"$(sed -n 's/.*[Ff]ailed: \([0-9]*\).*/\1/p' "$1" | tail -n 1 | grep . || echo 0)"
}
# For KTAP without subtests. A planned test without a result has failed.
ktap_cases() {
	awk '/^1\.\.[0-9]+/ && !planned { planned = substr($0, 4) + 0; plan = 1 } /^ok / { passed++ } /^not ok / { failed++ }
		END {
			if (!failed && (!plan || passed != planned)) failed = 1
			print passed + 0, failed + 0
		}' "$1"
}
