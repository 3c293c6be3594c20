#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# All tests, one after the other, on kernels that are built; 'make test' calls
# this. Every step leaves a row in a results.tsv; a step that fails does not
# keep the next ones from running, but fails the whole.
#
#   test.sh ARCH
# with commands in the environment: BOOT and BOOT_C boot the kernel with MLOCK2=y
# and its twin without, DIFF compares them. BOOT_DEBUG, DIFF_DEBUG, INJECT and
# STRESS are for the kernel with all checks, which is tested on x86_64 only; what is
# empty is not there to be done.
set -euo pipefail

arch=$1
BUILD=${BUILD:?} LINUX=${LINUX:?} O=${O:?} O_C=${O_C:?} TOOL=${TOOL:?} CARGO=${CARGO:?} KSRCARCH=${KSRCARCH:?} KCC=${KCC:?} INTERLEAVE=${INTERLEAVE:?} OBJDUMP=${OBJDUMP:?}
BOOT=${BOOT-} BOOT_C=${BOOT_C-} DIFF=${DIFF-} BOOT_DEBUG=${BOOT_DEBUG-} DIFF_DEBUG=${DIFF_DEBUG-} INJECT=${INJECT-} STRESS=${STRESS-}
TOP=$(cd "$(dirname "$0")/../.." && pwd)
OUT=$BUILD/test-$arch
HOST=$OUT/results.tsv

rm -rf "$OUT" "$O/test" "$O_C/test" "$O-debug/test" "$O-debug/stress"
mkdir -p "$OUT"

say() { printf '\n=== %s\n' "$*"; }
# record KERNEL TEST PASSED FAILED SECONDS
record() { "$TOOL" record --file "$HOST" --kernel "$1" --test "$2" --passed "$3" --failed "$4" --skipped 0 --seconds "$5"; }

# host CRATE NAME: cargo test, counted
host() {
	local start=$SECONDS status=0 log=$OUT/$2.log passed failed
	$CARGO test --locked --manifest-path "$TOP/$1/Cargo.toml" --target-dir "$BUILD/$2" >"$log" 2>&1 || status=$?
	passed=$(awk '/^test result:/ { n += $4 } END { print n + 0 }' "$log")
	failed=$(awk '/^test result:/ { n += $6 } END { print n + 0 }' "$log")
	if [ "$status" != 0 ]; then
		tail -n 40 "$log"
		[ "$failed" -gt 0 ] || failed=1
	fi
	printf '%s: %d passed, %d failed\n' "$2" "$passed" "$failed"
	record host "$2" "$passed" "$failed" $((SECONDS - start))
}

# The mistakes of 'make mutants' are still mistakes in this code.
mutants_apply() {
	local start=$SECONDS patch passed=0 failed=0
	for patch in "$TOP"/tools/testing/mlock2/mutants/*.diff "$TOP"/tools/testing/mlock2/interleave/mutants/*.diff; do
		if git -C "$LINUX" apply --check "$patch"; then
			passed=$((passed + 1))
		else
			failed=$((failed + 1))
		fi
	done
	printf 'mutants: %d apply, %d do not\n' "$passed" "$failed"
	record host mutants-apply "$passed" "$failed" $((SECONDS - start))
}

# The code that CONFIG_MLOCK2=n builds is the stock kernel's with the fixes of
# mm-fixes/: the compiler, called as the build called it, makes the same instructions
# of the pristine source with these.
same_code() {
	local start=$SECONDS stock=$OUT/stock f fix passed=0 failed=0 dirs=(include mm ipc fs/hugetlbfs scripts "arch/$KSRCARCH")
	# User-Mode Linux takes much from the architecture that it runs on.
	[ "$KSRCARCH" != um ] || dirs+=(arch/x86)
	mkdir -p "$stock"
	git -C "$LINUX" archive pristine "${dirs[@]}" | tar -x -C "$stock"
	for fix in "$TOP"/mm-fixes/*.patch; do
		# A fix may be for what is not compiled here.
		GIT_CEILING_DIRECTORIES=$OUT git -C "$stock" apply --include='mm/*' --include='include/*' "$fix"
		printf 'stock with %s\n' "$(basename "$fix" .patch)"
	done
	for f in mm/mlock mm/mmap mm/mremap mm/util ipc/shm fs/hugetlbfs/inode; do
		# Not every architecture has huge pages.
		if [ "${f%/*}" != mm ] && [ ! -e "$O_C/${f%/*}/.${f##*/}.o.cmd" ]; then
			printf '%s.c is not compiled for this kernel\n' "$f"
			continue
		fi
		if compile "$f" "$LINUX" "$stock/$f.ours" && compile "$f" "$stock" "$stock/$f.stock" &&
			cmp "$stock/$f.ours" "$stock/$f.stock"; then
			passed=$((passed + 1))
		else
			printf '%s.o: CONFIG_MLOCK2=n is not the stock code\n' "$f"
			failed=$((failed + 1))
		fi
	done
	rm -rf "$stock"
	printf 'the files that are changed: %d the same as stock, %d not\n' "$passed" "$failed"
	record "$arch MLOCK2=n" stock-code "$passed" "$failed" $((SECONDS - start))
}
# compile NAME SOURCE-TREE OUTPUT: the instructions of NAME.c and what they
# refer to, compiled as the build of $O_C did it, without what comes after the
# compiler (objtool). Some architectures have the numbers of lines in the code.
compile() {
	local cmd
	cmd=$(sed -n '1s/^savedcmd_[^ ]* := //p' "$O_C/${1%/*}/.${1##*/}.o.cmd" | sed 's/;.*//; s/^ccache //')
	cmd=${cmd//"$LINUX"/"$2"}
	cmd=${cmd//"-o $1.o"/"-D__LINE__=1 -Wno-builtin-macro-redefined -o $3.o"}
	cmd=${cmd//"-Wp,-MMD,${1%/*}/.${1##*/}.o.d"/}
	if ! (cd "$O_C" && eval "${cmd:?no command in $O_C/${1%/*}/.${1##*/}.o.cmd}") ||
		! "$OBJDUMP" -dr --no-show-raw-insn "$3.o" | grep -v 'file format' >"$3" ||
		! grep -q 'Disassembly of section \.l\?text' "$3"; then
		printf 'cannot compile and disassemble %s.c of %s\n' "$1" "$2"
		return 1
	fi
}

# kunit TREE: KUnit's results stand in the log of the boot.
kunit() {
	local start=$SECONDS log=$OUT/kunit-${1##*/}.log status=0 passed failed
	"$TOP/tools/mlock2/kunit.sh" "$LINUX" "$1/test/console.log" >"$log" 2>&1 || status=$?
	passed=$(sed -n 's/.*Passed: \([0-9]*\).*/\1/p;s/.*passed: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
	failed=$(sed -n 's/.*[Ff]ailed: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
	[ "$status" = 0 ] || tail -n 40 "$log"
	[ "$status" = 0 ] || [ "${failed:-0}" != 0 ] || failed=1
	tail -n 2 "$log"
	record "${1##*/} MLOCK2=y" kunit "${passed:-0}" "${failed:-0}" $((SECONDS - start))
}

# ktap KERNEL NAME COMMAND [SHOWN]: a command that reports its results on the host,
# and what of it is shown, for sed
SHOWN='/^# .*operations$/p;/^\(not \)\?ok /p;/^#   /p'
ktap() {
	local start=$SECONDS log=$OUT/$2.log status=0 passed failed planned
	eval "$3" 2>&1 | tee "$log" | sed -n "${4-$SHOWN}" || status=$?
	passed=$(grep -c '^ok ' "$log" || true)
	failed=$(grep -c '^not ok ' "$log" || true)
	# What was announced and has no result did not pass.
	planned=$(sed -n 's/^1\.\.//p' "$log" | head -n 1)
	[ $((passed + failed)) = "${planned:-none}" ] || status=1
	if [ "$status" != 0 ] && [ "$failed" = 0 ]; then
		tail -n 10 "$log"
		failed=1
	fi
	record "$1" "$2" "$passed" "$failed" $((SECONDS - start))
}

# Both kernels must have given the same answer to every case.
same_results() {
	local start=$SECONDS ok=1
	# The C has no trace events of mlock.
	cases() { (cd "$1/test" && grep -HE '^[[:space:]]*(not )?ok ' -- *.log | grep -vE '^(console|mlock-(trace|why-test).*)\.log:') >"$2" || true; }
	cases "$O" "$OUT/cases" && cases "$O_C" "$OUT/cases-c"
	diff "$OUT/cases" "$OUT/cases-c" >"$OUT/same.log" || ok=0
	[ -s "$OUT/cases" ] || { ok=0; echo 'no case has a result' >"$OUT/same.log"; }
	[ "$ok" = 1 ] || cat "$OUT/same.log"
	record "$arch" same-results "$ok" $((1 - ok)) $((SECONDS - start))
}

say 'host tests'
host tools/testing/mlock2 host-modules
host tools/mlock2 host-tool
host tools/testing/mlock2/diff host-diff
host tools/testing/mlock2/stress host-stress
host tools/testing/mlock2/interleave/kernel host-interleave
ktap host test-long "'$TOP/tools/mlock2/test-long-test.sh'"
say 'the numbers of all architectures'
ktap host uapi "'$TOOL' uapi --linux '$LINUX' --cc '${KCC##* }'"
say 'every interleaving, in Rust and in C'
ktap host interleave "$INTERLEAVE" '/^not ok/p;/^#/p'
say 'mistakes on purpose'
mutants_apply
say 'mistakes that do not compile'
ktap "$arch MLOCK2=y" compile-fail "'$TOP/tools/testing/mlock2/compile-fail/run.sh' '$O'" '/^ok /!p'
say 'CONFIG_MLOCK2=n is the stock code, with fixes'
same_code
booted=
if [ -n "$BOOT" ]; then
	say 'selftests and KUnit, CONFIG_MLOCK2=y'
	eval "$BOOT" || true
	kunit "$O"
	say 'selftests, CONFIG_MLOCK2=n'
	eval "$BOOT_C" || true
	same_results
	booted="$O $O_C"
else
	printf 'There are no programs for %s to boot into.\n' "$arch"
fi
if [ -n "$DIFF" ]; then
	say 'random operations, compared with CONFIG_MLOCK2=n'
	ktap "$arch" diff "$DIFF"
fi
if [ -n "$BOOT_DEBUG" ]; then
	say 'all checks: selftests and KUnit'
	eval "$BOOT_DEBUG" || true
	kunit "$O-debug"
	say 'all checks: random operations, compared with CONFIG_MLOCK2=n'
	ktap "$arch-debug" diff-debug "$DIFF_DEBUG"
	say 'all checks: every allocation fails once, compared with CONFIG_MLOCK2=n'
	ktap "$arch-debug" inject "$INJECT"
	say 'all checks: under load'
	eval "$STRESS" || true
	booted+=" $O-debug"
fi
say 'summary'
# shellcheck disable=SC2086
"$TOOL" report "$HOST" ${booted:+$(printf '%s/test/results.tsv ' $booted)} ${BOOT_DEBUG:+"$O-debug/stress/results.tsv"}
