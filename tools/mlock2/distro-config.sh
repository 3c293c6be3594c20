#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Make the .config of a distribution's kernel with CONFIG_MLOCK2=y: from Debian's package
# linux-config, or from the user's own. Other options change only if they are not possible here; the
# script names each.
#
#   distro-config.sh                        in the environment:
#       BUILD, LINUX, O    where things are; O is the build tree
#       KMAKE              the kernel's make with all its options
#       INLINE_HELPERS     y if clang and rustc are of one LLVM
#       OPTIONS            a file with a line of the user's options:
#           CONFIG=/path       the configuration to start from (a *.gz or *.xz is unpacked)
#           FLAVOUR=cloud      which of Debian's, otherwise; or rt, or generic
#           LOCALMODCONFIG=1   only the modules that are loaded here (LSMOD=file: that
#                              lsmod wrote to it), and those that a guest needs
#           DEBUG_INFO=1       as Debian has it: several times the disk and the time
#
#   distro-config.sh --modules O FILE.ko...   those that are modules in O/.config
set -euo pipefail

TOP=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=tools/mlock2/overlay.sh
. "$TOP/tools/mlock2/overlay.sh"
# shellcheck disable=SC2034 # for debian.sh
INSTEAD='CONFIG=/path/to/config'
# shellcheck source=tools/mlock2/debian.sh
. "$TOP/tools/mlock2/debian.sh"

say() { printf 'config: %s\n' "$*"; }
die() { printf 'config: error: %s\n' "$*" >&2; exit 1; }

# The option for a module of the selftests
option_of() {
	case $1 in
	*/zram.ko) echo ZRAM ;;
	*/lz4hc_compress.ko) echo LZ4HC_COMPRESS ;;
	*) die "which option makes $1?" ;;
	esac
}

if [ "${1:-}" = --modules ]; then
	tree=$2
	shift 2
	for module in "$@"; do
		if grep -qx "CONFIG_$(option_of "$module")=m" "$tree/.config"; then echo "$module"; fi
	done
	exit
fi

CONFIG='' FLAVOUR=cloud LOCALMODCONFIG='' LSMOD='' DEBUG_INFO=''
eval "$(cat "$OPTIONS")"
new=$O/.config
log=$O/config.log
: >"$log"
kmake() {
	# shellcheck disable=SC2294 # its options are words with quotes in them
	eval "$KMAKE" "$@" >>"$log" 2>&1 || { tail -n 20 "$log" >&2; die "make $* failed; its log is $log"; }
}
is() { grep -qx "CONFIG_$1=y" "$new"; }
set_option() { "$LINUX/scripts/config" --file "$new" "$@"; }

#
# Where to start
#

unpack() {
	case $1 in
	*.gz) zcat "$1" ;;
	*.xz) xz -dc "$1" ;;
	*) cat "$1" ;;
	esac
}

if [ -n "$CONFIG" ]; then
	[ -r "$CONFIG" ] || die "cannot read CONFIG=$CONFIG"
	from=$CONFIG
else
	arch=$(dpkg --print-architecture)
	fetch_package "linux-config-$SERIES"
	rm -rf "$BUILD/source/config"
	dpkg-deb -x "$deb" "$BUILD/source/config"
	case $FLAVOUR in
	generic) name=$arch ;;
	*) name=$FLAVOUR-$arch ;;
	esac
	from=$BUILD/source/config/usr/src/linux-config-$SERIES/config.${arch}_none_$name.xz
	[ -f "$from" ] || die "FLAVOUR=$FLAVOUR: $(basename "$deb") has no $(basename "$from"), but: $(cd "$(dirname "$from")" && echo *)"
fi
say "from $from"
unpack "$from" >"$new.base"
grep -q '^CONFIG_[A-Z]' "$new.base" || die "$from is no kernel configuration"
cp "$new.base" "$new"

#
# What cannot be had here
#

# Certificates in the distribution's source, and a key that is generated here
for option in SYSTEM_TRUSTED_KEYS SYSTEM_REVOCATION_KEYS; do
	if grep -q "^CONFIG_$option=\"..*\"" "$new"; then
		say "CONFIG_$option=\"\": the certificates are the distribution's"
		set_option --set-str "$option" ''
	fi
done
if is MODULE_SIG; then set_option --set-str MODULE_SIG_KEY certs/signing_key.pem; fi
set_option -d LOCALVERSION_AUTO --set-str LOCALVERSION ''

if [ -z "$DEBUG_INFO" ]; then
	say "without debug info, which DEBUG_INFO=1 keeps (and BTF, which sched_ext depends on)"
	set_option -d DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT -d DEBUG_INFO_DWARF4 -d DEBUG_INFO_DWARF5 \
		-d DEBUG_INFO_BTF -d GDB_SCRIPTS -e DEBUG_INFO_NONE
fi

# CONFIG_RUST excludes some; see init/Kconfig.
if is MODVERSIONS && ! is GENDWARFKSYMS; then
	if [ -n "$DEBUG_INFO" ]; then
		say "CONFIG_GENDWARFKSYMS=y: versions of symbols in Rust are made from debug info"
		set_option -e GENDWARFKSYMS
	else
		say "CONFIG_MODVERSIONS is not set: with Rust, it takes debug info (DEBUG_INFO=1)"
		set_option -d MODVERSIONS
	fi
fi

kmake olddefconfig

#
# Fewer modules
#

if [ -n "$LOCALMODCONFIG" ]; then
	{
		if [ -n "$LSMOD" ]; then cat "$LSMOD"; else lsmod 2>/dev/null || true; fi
		# the boot devices of a virtual machine with Debian, and those of the tests
		for module in virtio_blk virtio_net virtio_scsi virtio_balloon virtio_rng virtiofs 9p 9pnet_virtio \
			sd_mod sr_mod ahci nvme xfs vfat isofs overlay autofs4 efivarfs loop brd zram \
			dm_mod dm_crypt nd_pmem dax_pmem device_dax kmem virtio_pmem nls_ascii nls_cp437; do
			echo "$module 16384 0"
		done
	} | awk 'NR == 1 && $1 != "Module" { print "Module Size Used by" } { print }' >"$O/lsmod"
	before=$(grep -c '=m$' "$new")
	kmake "LSMOD=$O/lsmod" localmodconfig < <(yes '' 2>/dev/null)
	say "LOCALMODCONFIG=1: $(grep -c '=m$' "$new") modules of $before"
	cp "$new" "$new.base"
fi

#
# The mlock family
#

kmake olddefconfig mlock2-distro.config
echo -mlock2 >"$O/localversion"
if ! is MLOCK2; then
	"$TOP/tools/mlock2/apply" --check "$LINUX" --out "$O" ${GCC:+--gcc} ||
		die "so this configuration cannot have the mlock family in Rust"
fi
if [ "$INLINE_HELPERS" = y ] && ! is RUST_INLINE_HELPERS; then
	say "without inline helpers, which this architecture does not have"
fi

# Options that changed, except compiler versions
"$LINUX/scripts/diffconfig" "$new.base" "$new" >"$O/config.diff" || true
say "$(grep -vcE '(CC|GCC|CLANG|AS|LD|LLD|RUSTC|BINDGEN|PAHOLE|RUSTC_LLVM)_?[A-Z_]*VERSION' "$O/config.diff") options differ from that, by compiler or by the above: $O/config.diff"
