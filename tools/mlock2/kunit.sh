#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Report the KUnit results of a boot from its console log, with the kernel's kunit.py. Fail if
# kunit.py fails or reports errors, or if the suite mlock2 did not run and pass.
#
#   kunit.sh LINUX CONSOLE
set -euo pipefail

status=0
report=$(python3 "$1/tools/testing/kunit/kunit.py" parse "$2" 2>&1) || status=$?
printf '%s\n' "$report"
! grep -qi 'errors: [1-9]' <<<"$report" || status=1
grep -qE '[^t] ok [0-9]+ mlock2[[:space:]]*$' "$2" || {
	echo 'kunit: error: the suite mlock2 did not run and pass' >&2
	exit 1
}
exit "$status"
