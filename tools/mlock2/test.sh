#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Run all tests on kernels that are built; 'make test' calls this. Every step adds a row to a
# results.tsv. A failed step does not stop the run, but makes it fail.
#
#   test.sh ARCH
# with commands in the environment: BOOT and BOOT_C boot the kernel with MLOCK2=y and its twin
# without, DIFF compares them. BOOT_DEBUG, DIFF_DEBUG, INJECT and STRESS are for the debug kernel,
# which is tested on x86_64 only; empty ones are skipped.
set -euo pipefail

arch=$1
BUILD=${BUILD:?} LINUX=${LINUX:?} O=${O:?} O_C=${O_C:?} TOOL=${TOOL:?} CARGO=${CARGO:?} KSRCARCH=${KSRCARCH:?} KCC=${KCC:?} INTERLEAVE=${INTERLEAVE:?} OBJDUMP=${OBJDUMP:?}
BOOT=${BOOT-} BOOT_C=${BOOT_C-} DIFF=${DIFF-} BOOT_DEBUG=${BOOT_DEBUG-} DIFF_DEBUG=${DIFF_DEBUG-} INJECT=${INJECT-} STRESS=${STRESS-}
TOP=$(cd "$(dirname "$0")/../.." && pwd)
OUT=$BUILD/test-$arch
HOST=$OUT/results.tsv

rm -rf "$OUT" "$O/test" "$O_C/test" "$O-debug/test" "$O-debug/stress"
mkdir -p "$OUT"

# shellcheck source-path=SCRIPTDIR
. "$TOP/tools/mlock2/steps.sh"

# counted KERNEL COUNT NAME TITLE COMMAND [SHOWN]: run a step, count its cases in its log with
# COUNT, and add a row to the results. The part of the name after ':' is for the log only.
counted() {
	local passed failed
	step "$3" "$4" "$5" "${6-}"
	read -r passed failed < <("$2" "$(log_of "$3")")
	[ "$step_result" = passed ] || [ "$failed" != 0 ] || failed=1
	printf '%s: %d passed, %d failed\n' "$3" "$passed" "$failed"
	"$TOOL" record --file "$HOST" --kernel "$1" --test "${3%%:*}" --passed "$passed" --failed "$failed" --skipped 0 --seconds "$step_seconds"
}

# The steps that this script implements; they print KTAP.

# ktap_case STATUS NAME
ktap_case() {
	ktap_number=$((ktap_number + 1))
	if [ "$1" = 0 ]; then printf 'ok %d %s\n' "$ktap_number" "$2"; else printf 'not ok %d %s\n' "$ktap_number" "$2"; fi
}

# The patches of 'make mutants' still apply to this code.
mutants_apply() {
	local patch status ktap_number=0
	for patch in "$TOP"/tools/testing/mlock2/mutants/*.diff "$TOP"/tools/testing/mlock2/interleave/mutants/*.diff; do
		status=0
		git -C "$LINUX" apply --check "$patch" || status=1
		ktap_case "$status" "$(basename "$patch" .diff)"
	done
	printf '1..%d\n' "$ktap_number"
}

# CONFIG_MLOCK2=n builds the code of the stock kernel with the fixes in mm-fixes/: the compiler,
# called as in the build, generates the same instructions from the pristine source with these fixes.
same_code() {
	local stock=$OUT/stock f fix status ktap_number=0 dirs=(include mm ipc fs/hugetlbfs scripts "arch/$KSRCARCH")
	# User-Mode Linux uses much code of the architecture that it runs on.
	[ "$KSRCARCH" != um ] || dirs+=(arch/x86)
	mkdir -p "$stock"
	git -C "$LINUX" archive pristine "${dirs[@]}" | tar -x -C "$stock"
	for fix in "$TOP"/mm-fixes/*.patch; do
		# A fix may be for a file that is not compiled here.
		GIT_CEILING_DIRECTORIES=$OUT git -C "$stock" apply --include='mm/*' --include='include/*' "$fix"
		printf 'stock with %s\n' "$(basename "$fix" .patch)"
	done
	for f in mm/mlock mm/mmap mm/mremap mm/util mm/folio mm/gup mm/huge_memory mm/memory ipc/shm fs/hugetlbfs/inode; do
		# Not every architecture has huge pages.
		if { [ "${f%/*}" != mm ] || [ "$f" = mm/huge_memory ]; } && [ ! -e "$O_C/${f%/*}/.${f##*/}.o.cmd" ]; then
			printf '%s.c is not compiled for this kernel\n' "$f"
			continue
		fi
		status=1
		if compile "$f" "$LINUX" "$stock/$f.ours" && compile "$f" "$stock" "$stock/$f.stock" &&
			cmp "$stock/$f.ours" "$stock/$f.stock"; then
			status=0
		fi
		ktap_case "$status" "$f.o: CONFIG_MLOCK2=n is the stock code"
	done
	rm -rf "$stock"
	printf '1..%d\n' "$ktap_number"
}
# compile NAME SOURCE-TREE OUTPUT: the instructions of NAME.c and their relocations, compiled as in
# the build of $O_C, but without objtool. On some architectures, the code contains line numbers.
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

# Both kernels must have the same result for every case.
same_results() {
	local ktap_number=0 status=0
	# The C has no trace events of mlock.
	answers() { (cd "$1/test" && grep -HE '^[[:space:]]*(not )?ok ' -- *.log | grep -vE '^(console|mlock-(trace|why-test).*)\.log:') >"$2" || true; }
	answers "$O" "$OUT/cases"
	answers "$O_C" "$OUT/cases-c"
	diff "$OUT/cases" "$OUT/cases-c" || status=1
	[ -s "$OUT/cases" ] || { status=1; echo 'no case has a result'; }
	ktap_case "$status" 'both kernels give the same answers'
	echo '1..1'
}

# The kinds of steps

# host CRATE NAME: cargo test
host() { counted host cargo_cases "$2" "$2" "$CARGO test --locked --manifest-path '$TOP/$1/Cargo.toml' --target-dir '$BUILD/$2'" ''; }
# ktap KERNEL NAME TITLE COMMAND [SHOWN]
SHOWN='/^# .*operations$/p;/^\(not \)\?ok /p;/^#   /p'
ktap() { counted "$1" ktap_cases "$2" "$3" "$4" "${5-$SHOWN}"; }
# boot NAME TITLE COMMAND: its results are in the work directory of that boot.
boot() { step "$1" "$2" "$3"; }
# kunit TREE: the KUnit results are in the log of the boot.
kunit() { counted "${1##*/} MLOCK2=y" kunit_cases "kunit:${1##*/}" "KUnit, ${1##*/}" "'$TOP/tools/mlock2/kunit.sh' '$LINUX' '$1/test/console.log'" '/complete/p'; }

host tools/testing/mlock2 host-modules
host tools/mlock2 host-tool
host tools/testing/mlock2/guest host-guest
host tools/testing/mlock2/diff host-diff
host tools/testing/mlock2/stress host-stress
host tools/testing/mlock2/interleave/kernel host-interleave
ktap host test-long 'test-long goes on where it was cut off' "'$TOP/tools/mlock2/test-long-test.sh'"
ktap host uapi 'the numbers of all architectures' "'$TOOL' uapi --linux '$LINUX' --cc '${KCC##* }'"
ktap host interleave 'every interleaving, in Rust and in C' "$INTERLEAVE" '/^not ok/p;/^#/p'
ktap "$arch" check "the kernel's own checks of its source" "'$TOP/tools/mlock2/check.sh'" '/^not ok/p;/^#/p'
ktap host mutants-apply 'all mutants apply' mutants_apply '/^ok /!p'
ktap "$arch MLOCK2=y" compile-fail 'mistakes that do not compile' "'$TOP/tools/testing/mlock2/compile-fail/run.sh' '$O'" '/^ok /!p'
ktap "$arch MLOCK2=n" stock-code 'CONFIG_MLOCK2=n is the stock code, with fixes' same_code p
booted=
if [ -n "$BOOT" ]; then
	boot boot 'selftests and KUnit, CONFIG_MLOCK2=y' "$BOOT"
	kunit "$O"
	boot boot-c 'selftests, CONFIG_MLOCK2=n' "$BOOT_C"
	ktap "$arch" same-results 'both kernels give the same answers' same_results p
	booted="$O $O_C"
else
	printf 'There are no programs for %s to boot into.\n' "$arch"
fi
if [ -n "$DIFF" ]; then
	ktap "$arch" diff 'random operations, compared with CONFIG_MLOCK2=n' "$DIFF"
fi
if [ -n "$BOOT_DEBUG" ]; then
	boot boot-debug 'all checks: selftests and KUnit' "$BOOT_DEBUG"
	kunit "$O-debug"
	ktap "$arch-debug" diff-debug 'all checks: random operations, compared with CONFIG_MLOCK2=n' "$DIFF_DEBUG"
	ktap "$arch-debug" inject 'all checks: every allocation fails once, compared with CONFIG_MLOCK2=n' "$INJECT"
	boot stress 'all checks: under load' "$STRESS"
	booted+=" $O-debug"
fi
printf '\n=== summary\n'
# shellcheck disable=SC2086
"$TOOL" report "$HOST" ${booted:+$(printf '%s/test/results.tsv ' $booted)} ${BOOT_DEBUG:+"$O-debug/stress/results.tsv"}
