#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Run run_vmtests.sh -t mlock in virtme-ng on the files of this machine, as mm's CI does.
#
# With in the environment: LINUX the source, OUT where the tests are built, CC,
# HEADERS the kernel's headers, ARCH, and VNG the command that runs a shell command
# in the kernel to test (--exec is added).
set -euo pipefail

LINUX=${LINUX:?} OUT=${OUT:?} CC=${CC:?} HEADERS=${HEADERS:?} ARCH=${ARCH:?} VNG=${VNG:?}
mm=$LINUX/tools/testing/selftests/mm
tests="mlock2-tests mlock-random-test on-fault-limit $(sed -n 's/^TEST_GEN_FILES += \(mlock-.*\)/\1/p' "$mm/Makefile" | paste -sd' ')"
# once each: the Makefile also names tests of the stock kernel
tests=$(tr ' ' '\n' <<<"$tests" | sort -u | paste -sd' ')

rm -rf "$OUT"
mkdir -p "$OUT"
# shellcheck disable=SC2046
env -u MAKEFLAGS -u MFLAGS make -s -C "$mm" ARCH="$ARCH" CC="$CC" OUTPUT="$OUT" KHDR_INCLUDES="-isystem $HEADERS" \
	$(printf "$OUT/%s " $tests) >"$OUT/build.log" 2>&1 || { tail -n 20 "$OUT/build.log" >&2; exit 1; }
"$CC" -O2 -o "$OUT/mlock-why" "$LINUX/tools/mm/mlock-why.c"
cp "$mm"/run_vmtests.sh "$mm"/ksft_mlock.sh "$OUT/"
mkdir -p "$OUT/tmp"

# Pass the status back in a file, since the console has other output as well.
rm -f "$OUT/status"
timeout 2400 bash -c "$VNG --rwdir '$OUT' --exec 'cd $OUT && ./ksft_mlock.sh; echo \$? >$OUT/status'" 2>&1 |
	tee "$OUT/log" | grep --line-buffered -E '^(not )?ok |^# (not )?ok|SKIP|SUMMARY|^1\.\.' || true
[ -f "$OUT/status" ] || { echo "ksft: error: the guest did not shut down normally (log: $OUT/log)" >&2; exit 1; }
status=$(cat "$OUT/status")
# Status 4 means that tests were skipped; the log names them.
case $status in
0) echo 'ksft: run_vmtests.sh -t mlock: passed' ;;
4) echo 'ksft: run_vmtests.sh -t mlock: passed, with the tests named above skipped' ;;
*) echo "ksft: run_vmtests.sh -t mlock: failed ($status; log: $OUT/log)" >&2; exit 1 ;;
esac
