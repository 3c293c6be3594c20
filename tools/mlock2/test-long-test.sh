#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Test how test-long.sh resumes, with steps that only count, and how its report shows this. Prints
# KTAP, which 'make test' counts.
set -euo pipefail

TOP=$(cd "$(dirname "$0")/../.." && pwd)
DIR=$(mktemp -d)
trap 'rm -rf "$DIR"' EXIT
export BUILD=$DIR/build O=$DIR/build/none LINUX=$DIR/linux TEST_ARCHS=none TABLE=$DIR/table GOALS=$DIR/goals
mkdir -p "$BUILD" "$LINUX" "$GOALS"
git=(git -C "$LINUX" -c user.name=test -c user.email=test@localhost -c commit.gpgsign=false)

# A goal adds a line to 'ran', and fails if there is a file of its name; 'cut' kills the script, as
# if the machine went down.
printf '%s\n' >"$GOALS/Makefile" '.PHONY: good cut' \
	'good: ; @echo $(N) >>ran; test ! -e bad-$(N) && echo ok 1 seed $(N): 7 operations of 7, 0 differ' \
	'cut: ; @echo cut >>ran; test ! -e cut || kill $(VICTIM)'
printf '%s\n' >"$TABLE" 'one|the first|good N=one' 'many|in pieces|good N=@|a b c' 'cut|cut off|cut VICTIM=$$' 'last|the last|good N=last'
change() { echo "$2" >"$LINUX/$1"; "${git[@]}" add -A; "${git[@]}" commit -qm change; }
"${git[@]}" init -q .
mkdir "$LINUX/Documentation"
change code 1

n=0 bad=0
echo 'KTAP version 1'
# run WHAT STATUS RAN OPTION...: check the exit status of the script, and the goals that it made
run() {
	local what=$1 status=$2 expected=$3 got=0
	shift 3
	rm -f "$GOALS/ran"
	"$TOP/tools/mlock2/test-long.sh" "$@" >"$DIR/log" 2>&1 || got=$?
	check "$what" "$status: $expected" "$got: $(paste -sd' ' "$GOALS/ran" 2>/dev/null)"
}
# check WHAT EXPECTED GOT
check() {
	n=$((n + 1))
	if [ "$2" = "$3" ]; then
		printf 'ok %d %s\n' "$n" "$1"
	else
		bad=$((bad + 1))
		printf 'not ok %d %s\n# expected %s\n# got      %s\n' "$n" "$1" "$2" "$3"
		sed 's/^/# /' "$DIR/log"
	fi
}

touch "$GOALS/bad-b" "$GOALS/cut"
run 'stops where it is cut off, and goes on after a failure' 143 'one a b c cut'
run 'a step that is selected goes on' 0 'last' last
rm "$GOALS/cut"
run 'what has no result comes before what failed' 1 'cut b'
run 'what failed fails the whole again' 1 'b'
run 'status runs nothing' 1 '' --status
check 'status counts' 'many 2 passed 1 failed 0 not run' "$(sed -n 's/  */ /g; s/ *$//; /^many/p' "$DIR/log")"
rm "$GOALS/bad-b"
run 'what failed is run again' 0 'b'
run 'all has passed' 0 '' --status
check 'the report counts what the logs say' '| random operations compared with the C | 35 |' "$(grep 'random operations' "$BUILD/report.md")"
check 'the report has each piece' 6 "$(grep -c '^- `make .*: passed, ' "$BUILD/report.md")"
change Documentation/page 2
run 'documentation is no code' 0 ''
run 'a piece can be run again' 0 'c' --again many:c
run 'there is no such step' 2 '' nothing
change code 2
run 'other code begins anew' 0 'a b c' many
check 'the report does not count other code' '| random operations compared with the C | 21 |' "$(grep 'random operations' "$BUILD/report.md")"
printf '1..%d\n' "$n"
[ "$bad" = 0 ]
