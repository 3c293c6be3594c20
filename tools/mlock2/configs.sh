#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Compile mm/ and its dependencies in configurations that 'make kernel' does not build; 'make
# test-configs' calls this. Nothing is linked or booted. Each configuration has its own build tree
# in $BUILD/configs, which is removed once it compiles, unless KEEP=1.
#
#   configs.sh KMAKE [NAME...]
#   configs.sh --list
# where KMAKE runs make in the kernel source, and NAME selects from the matrix; --list prints the
# names. GOALS=... builds something else, such as vmlinux; ALWAYS adds options to all of them.
set -euo pipefail

kmake=${1:?usage: configs.sh KMAKE [NAME...]}
shift
BUILD=${BUILD:?} LINUX=${LINUX-} KEEP=${KEEP:-}
TOP=$(cd "$(dirname "$0")/../.." && pwd)
OUT=$BUILD/configs
GOALS=${GOALS:-mm/}
ALWAYS="MLOCK2=y WERROR=y ${ALWAYS:-}"

# A name, and the difference from 'allnoconfig mlock2.config'. It is an error if an option does not
# get the value given here.
matrix='
default
rt              PREEMPT_RT=y TRANSPARENT_HUGEPAGE=n
up              SMP=n
no-memcg        MEMCG=n
no-thp          TRANSPARENT_HUGEPAGE=n
debug           DEBUG_KERNEL=y DEBUG_VM=y PROVE_LOCKING=y DEBUG_ATOMIC_SLEEP=y
no-numa         NUMA=n
no-inline       RUST_INLINE_HELPERS=n
no-users        MULTIUSER=n SECRETMEM=n
no-swap         SWAP=n
lru-gen         LRU_GEN=y LRU_GEN_ENABLED=y
no-ksm          KSM=n
no-migration    NUMA_MIGRATION=n TRANSPARENT_HUGEPAGE=n COMPACTION=n MIGRATION=n
no-hugetlb      HUGETLBFS=n HUGETLB_PAGE=n
device-memory   MEMORY_HOTPLUG=y MEMORY_HOTREMOVE=y ZONE_DEVICE=y
no-counters     MEMCG=n VM_EVENT_COUNTERS=n
no-sysvipc      SYSVIPC=n
no-trace        ENABLE_DEFAULT_TRACERS=n FTRACE=n TRACEPOINTS=n
no-jump-label   JUMP_LABEL=n
rust-debug      RUST_DEBUG_ASSERTIONS=y
rust-wraps      RUST_OVERFLOW_CHECKS=n
no-kunit        MLOCK2_KUNIT_TEST=n KUNIT=n
minimal         SMP=n MEMCG=n TRANSPARENT_HUGEPAGE=n COMPACTION=n MIGRATION=n HUGETLBFS=n KSM=n SWAP=n SHMEM=n SECRETMEM=n USERFAULTFD=n SYSVIPC=n MULTIUSER=n VM_EVENT_COUNTERS=n KUNIT=n
'

# configure TREE OPTIONS: apply the fragment and the options, and check that they are set; the last
# value of an option counts
configure() {
	local dir=$1 option args=() bad='' log=$1/config.log
	local -A want=()
	for option in $2; do want[${option%=*}]=${option#*=}; done
	for option in "${!want[@]}"; do
		case ${want[$option]} in
		y) args+=(-e "$option") ;;
		n) args+=(-d "$option") ;;
		*) printf 'config: error: %s is neither y nor n\n' "$option"; return 1 ;;
		esac
		git -C "$LINUX" grep -qE "^[[:space:]]*(menu)?config $option\$" -- '*Kconfig*' ||
			{ printf 'config: error: there is no option %s\n' "$option"; return 1; }
	done
	eval "$kmake O=$dir allnoconfig mlock2.config" >"$log" 2>&1 &&
		"$LINUX/scripts/config" --file "$dir/.config" "${args[@]}" &&
		eval "$kmake O=$dir olddefconfig" >>"$log" 2>&1 ||
		{ tail -n 20 "$log"; return 1; }
	for option in "${!want[@]}"; do
		case ${want[$option]} in
		y) grep -qx "CONFIG_$option=y" "$dir/.config" ;;
		n) ! grep -q "^CONFIG_$option=" "$dir/.config" ;;
		esac || bad+=" $option=${want[$option]}"
	done
	[ -z "$bad" ] || { printf 'config: error: Kconfig does not allow%s\n' "$bad"; return 1; }
}

names=$(awk 'NF { print $1 }' <<<"$matrix")
[ "$kmake" != --list ] || { printf '%s\n' "$names"; exit; }
: "${LINUX:?}"
for name in "$@"; do
	grep -qx -- "$name" <<<"$names" || { printf 'configs: error: no configuration %s; there are:\n%s\n' "$name" "$names" >&2; exit 2; }
done
mkdir -p "$OUT"
table='' built=0 failed=0
while read -r name options; do
	[ -n "$name" ] || continue
	[ $# = 0 ] || [[ " $* " == *" $name "* ]] || continue
	dir=$OUT/$name start=$SECONDS result=ok
	printf 'config: %s: %s\n' "$name" "${options:-(as make kernel)}"
	rm -rf "$dir"
	mkdir -p "$dir"
	if ! configure "$dir" "$ALWAYS $options"; then
		result='not configured'
	elif ! eval "$kmake O=$dir $GOALS" 2>&1 </dev/null | "$TOP/tools/mlock2/progress.sh" "$dir/build.log"; then
		result='not built'
	elif [ -z "$KEEP" ]; then
		rm -rf "$dir"
	fi
	[ "$result" != ok ] || built=$((built + 1))
	[ "$result" = ok ] || { failed=$((failed + 1)); printf 'config: %s: %s; logs in %s\n' "$name" "$result" "$dir"; }
	table+=$(printf '%-15s %-14s %4d s  %s' "$name" "$result" $((SECONDS - start)) "$options")$'\n'
done <<<"$matrix"

printf '\n%-15s %-14s %6s  %s\n%s\n' configuration result time options "$table"
printf 'configs: %d built, %d failed\n' "$built" "$failed"
[ "$failed" = 0 ]
