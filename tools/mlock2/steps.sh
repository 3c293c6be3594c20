# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What a step is, for test.sh, test-arch.sh and test-long.sh, which source this:
# a command with a name. Its output goes to a log in $OUT, and what is asked for
# to the terminal. It has passed if the command did. A step that fails does not
# keep the next ones from running; whoever runs them fails in the end.

# log_of NAME
log_of() { printf '%s/%s.log\n' "$OUT" "${1//[^A-Za-z0-9:_-]/_}"; }

# step NAME TITLE COMMAND [SHOWN]: SHOWN is what the terminal shows, as sed's -n
# takes it; all without it. Sets step_result to "passed" or "FAILED", and
# step_seconds. Not to be called where the shell ignores errors (if, &&, ||).
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
	# Where little is shown, say why.
	[ "$status" = 0 ] || [ "${4-p}" = p ] || tail -n 40 "$log"
}

# How many cases passed and failed, as "PASSED FAILED", by the log of a step
cargo_cases() { awk '/^test result:/ { passed += $4; failed += $6 } END { print passed + 0, failed + 0 }' "$1"; }
kunit_cases() {
	printf '%s %s\n' "$(sed -n 's/.*[Pp]assed: \([0-9]*\).*/\1/p' "$1" | tail -n 1 | grep . || echo 0)" \
		"$(sed -n 's/.*[Ff]ailed: \([0-9]*\).*/\1/p' "$1" | tail -n 1 | grep . || echo 0)"
}
# Of KTAP without subtests. What was announced and has no result did not pass.
ktap_cases() {
	awk '/^1\.\.[0-9]+/ && !planned { planned = substr($0, 4) + 0; plan = 1 } /^ok / { passed++ } /^not ok / { failed++ }
		END {
			if (!failed && (!plan || passed != planned)) failed = 1
			print passed + 0, failed + 0
		}' "$1"
}
