#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Install the missing tools to build and boot the kernel: Debian packages and bindgen. Write the
# chosen tools to build/tools.mk, which the Makefile reads.
#
# Options come in the environment:
#   KARCH_PACKAGES  the packages that one architecture wants (QEMU)
#   BUILD           where everything generated goes
#   KSRC            the user's own kernel source: no source package is needed
#   GCC             not empty: the kernel is compiled by gcc, and clang may be missing
#   INSTALL=no      choose the tools only, and say which one is missing
set -euo pipefail

BUILD=${BUILD:?}
KARCH_PACKAGES=${KARCH_PACKAGES-}
LLVM_MAJOR=22
BINDGEN_MIN=0.71.1
BINDGEN_CRATE=0.72.1

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }
# version_at_least HAVE WANT
version_at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

packages=(
	# the kernel
	build-essential bc bison flex cpio kmod rsync xz-utils git patch perl
	libelf-dev libssl-dev python3 ccache
	# clang and rustc of one LLVM major: helpers are inlined into Rust
	"clang-$LLVM_MAJOR" "lld-$LLVM_MAJOR" "llvm-$LLVM_MAJOR" "libclang-$LLVM_MAJOR-dev"
	# a rustc with its source where the kernel looks for it
	rustc-web rust-web-src rustfmt-web rust-web-clippy cargo-web
	# static test programs, and 'make shell'
	libc6-dev python3-venv
	# 'make spin'
	spin
	# the font of the benchmark charts
	fonts-dejavu-core
)
# What is called after the distribution's gcc, and QEMU's packages, of which
# Debian 13 has more.
# shellcheck disable=SC1091
case $( (. /etc/os-release && echo "${VERSION_ID:-}") 2>/dev/null || true) in
12) names='%gcc%=12 %qemu-riscv%=qemu-system-misc %qemu-s390x%=qemu-system-misc' ;;
*) names='%gcc%=14 %qemu-riscv%=qemu-system-riscv %qemu-s390x%=qemu-system-s390x' ;;
esac
for name in $names; do
	KARCH_PACKAGES=${KARCH_PACKAGES//${name%=*}/${name#*=}}
done
# shellcheck disable=SC2206
packages+=($KARCH_PACKAGES)

# An installed cargo (rustup's) works for the host tools as well.
if command -v cargo >/dev/null; then
	for i in "${!packages[@]}"; do
		[ "${packages[$i]}" = cargo-web ] && unset "packages[$i]"
	done
fi

missing=()
if [ "${INSTALL:-}" = no ]; then
	:
elif command -v dpkg-query >/dev/null; then
	for p in "${packages[@]}"; do
		dpkg-query -W -f='${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed ||
			missing+=("$p")
	done
else
	missing=("${packages[@]}")
fi

# The tools may also come from elsewhere: KSRC= means that the machine is set up, so only check the
# tools.
supported() {
	[ -r /etc/os-release ] || return 1
	# shellcheck disable=SC1091
	. /etc/os-release
	[ "${ID:-}" = debian ] && { [ "${VERSION_ID:-}" = 12 ] || [ "${VERSION_ID:-}" = 13 ]; }
}

needed() {
	cat >&2 <<-EOF
	setup: this is needed, as installed on Debian 12 or 13:
	    ${missing[*]}
	  that is, at the least: clang, lld, llvm and libclang $LLVM_MAJOR; a rustc built on
	  LLVM $LLVM_MAJOR, with its source (rust-src), rustfmt and clippy; cargo; bindgen $BINDGEN_MIN;
	  what the kernel itself asks for (Documentation/process/changes.rst);
	  QEMU; ccache; a static libc; python3 with venv.
	EOF
}

if [ ${#missing[@]} -gt 0 ]; then
	if supported && [ "$(id -u)" = 0 ]; then
		say "installing ${#missing[@]} packages (some minutes; log: $BUILD/setup-apt.log): ${missing[*]}"
		mkdir -p "$BUILD"
		if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive \
			apt-get install -q -y --no-install-recommends "${missing[@]}"; } \
			>"$BUILD/setup-apt.log" 2>&1; then
			tail -n 15 "$BUILD/setup-apt.log" >&2
			die "apt-get failed; its log is $BUILD/setup-apt.log. On Debian 12, the compilers are in bookworm-security: is it among the sources?"
		fi
	elif [ -n "${KSRC:-}" ]; then
		say "not installed from Debian packages: ${missing[*]}"
		say "going on with what is there, since KSRC= is given"
	else
		needed
		if supported; then
			die "run 'make setup' as root once, or install the packages above"
		fi
		die "only Debian 12 and 13 are set up by this script: install the above, then go on with KSRC=/path/to/linux"
	fi
fi

# Choose a rustc with its source, if possible with the LLVM of clang. A rustup toolchain may be
# first on PATH and lack rust-src.
llvm_of() { "$1" -vV 2>/dev/null | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p'; }
has_source() { [ -f "$("$1" --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library/core/src/lib.rs" ]; }
RUSTC_CHOSEN=
for r in "${RUSTC:-}" /usr/bin/rustc "$(command -v rustc || true)"; do
	[ -n "$r" ] && [ -x "$(command -v "$r")" ] && has_source "$r" || continue
	[ -n "$RUSTC_CHOSEN" ] || RUSTC_CHOSEN=$(command -v "$r")
	if [ "$(llvm_of "$r")" = "$LLVM_MAJOR" ]; then
		RUSTC_CHOSEN=$(command -v "$r")
		break
	fi
done
[ -n "$RUSTC_CHOSEN" ] || die "no rustc with its source found: install rust-web-src (Debian) or 'rustup component add rust-src', or set RUSTC="

# What belongs to that rustc: with rustup, PATH has those of another compiler.
# companion NAME: the NAME that the chosen rustc came with
companion() {
	local tool
	tool=$("$RUSTC_CHOSEN" --print sysroot)/bin/$1
	[ -x "$tool" ] || die "$RUSTC_CHOSEN has no $1 beside it ($tool): install rustfmt-web and rust-web-clippy (Debian) or 'rustup component add rustfmt clippy'"
	printf '%s\n' "$tool"
}
RUSTDOC_CHOSEN=$(companion rustdoc)
RUSTFMT_CHOSEN=$(companion rustfmt)
CLIPPY_CHOSEN=$(companion clippy-driver)

major=$(llvm_of "$RUSTC_CHOSEN")
if command -v "clang-$major" >/dev/null && command -v "ld.lld-$major" >/dev/null; then
	LLVM_CHOSEN=-$major
elif command -v "clang-$LLVM_MAJOR" >/dev/null; then
	LLVM_CHOSEN=-$LLVM_MAJOR
elif command -v clang >/dev/null && command -v ld.lld >/dev/null; then
	LLVM_CHOSEN=1
elif [ -n "${GCC:-}" ]; then
	LLVM_CHOSEN=
else
	die "no clang with lld found: install clang-$LLVM_MAJOR, lld-$LLVM_MAJOR and llvm-$LLVM_MAJOR"
fi
clang=clang${LLVM_CHOSEN#1}
INLINE=y
if [ -z "$LLVM_CHOSEN" ]; then
	clang=gcc
	INLINE=n
	say "no clang with lld found: going on with gcc"
elif clang_major=$("$clang" -dumpversion | cut -d. -f1); [ "$clang_major" != "$major" ]; then
	INLINE=n
	say "clang is LLVM $clang_major and rustc LLVM $major: doing without inline helpers"
	say "(works the same, costs 150 to 200 instructions more for each page)"
fi

# bindgen: the distribution's may be too old. 0.73 gets the layout of task_struct wrong without
# CONFIG_SCHEDSTATS, because of an aligned empty member.
bindgen_pads() {
	local dir
	dir=$(mktemp -d)
	printf 'struct e { } __attribute__((__aligned__(64)));\nstruct t { long a; struct e b; int c; };\n' >"$dir/t.h"
	"$1" --no-layout-tests "$dir/t.h" 2>/dev/null | grep -q padding
	local status=$?
	rm -r "$dir"
	return $status
}
BINDGEN_CHOSEN=
for b in "${BINDGEN:-}" "$BUILD/tools/bin/bindgen" "$(command -v bindgen || true)"; do
	[ -n "$b" ] && [ -x "$b" ] || continue
	version_at_least "$("$b" --version | awk '{ print $2 }')" "$BINDGEN_MIN" || continue
	bindgen_pads "$b" || { say "$b loses the padding before an empty aligned member: not using it"; continue; }
	BINDGEN_CHOSEN=$b
	break
done
if [ -z "$BINDGEN_CHOSEN" ]; then
	[ "${INSTALL:-}" != no ] || die "no bindgen $BINDGEN_MIN or later found: 'make setup' builds it, BINDGEN=/path takes one that you have"
	command -v cargo >/dev/null || die "no cargo found to build bindgen with"
	say "building bindgen $BINDGEN_CRATE (some minutes; BINDGEN=/path takes one that you have)"
	mkdir -p "$BUILD"
	if ! cargo install -q --locked --root "$BUILD/tools" --version "$BINDGEN_CRATE" bindgen-cli \
		>"$BUILD/setup-bindgen.log" 2>&1; then
		tail -n 15 "$BUILD/setup-bindgen.log" >&2
		die "cargo install bindgen-cli failed; its log is $BUILD/setup-bindgen.log"
	fi
	BINDGEN_CHOSEN=$BUILD/tools/bin/bindgen
fi

CCACHE=
command -v ccache >/dev/null && CCACHE='ccache '

mkdir -p "$BUILD"
[ -w "$BUILD" ] || die "$BUILD belongs to $(stat -c %U "$BUILD"): 'chown -R' it to yourself, or remove it"
cat >"$BUILD/tools.mk.new" <<EOF
# Made by tools/mlock2/setup.sh; a new version of a tool configures anew.
# $("$RUSTC_CHOSEN" --version)
# $("$clang" --version | head -n 1)
# $("$BINDGEN_CHOSEN" --version)
KTOOLS = ${LLVM_CHOSEN:+LLVM=$LLVM_CHOSEN }RUSTC=$RUSTC_CHOSEN RUSTDOC=$RUSTDOC_CHOSEN RUSTFMT=$RUSTFMT_CHOSEN CLIPPY_DRIVER=$CLIPPY_CHOSEN BINDGEN=$BINDGEN_CHOSEN
KCC = $CCACHE$clang
KRUSTC = $RUSTC_CHOSEN
KRUSTDOC = $RUSTDOC_CHOSEN
KRUSTFMT = $RUSTFMT_CHOSEN
KCLIPPY = $CLIPPY_CHOSEN
KOBJDUMP = ${LLVM_CHOSEN:+llvm-}objdump${LLVM_CHOSEN#1}
INLINE_HELPERS = $INLINE
EOF
if cmp -s "$BUILD/tools.mk.new" "$BUILD/tools.mk"; then
	rm "$BUILD/tools.mk.new"
else
	mv "$BUILD/tools.mk.new" "$BUILD/tools.mk"
	say "rustc $("$RUSTC_CHOSEN" --version | awk '{ print $2 }') ($RUSTC_CHOSEN), $clang, bindgen ($BINDGEN_CHOSEN), inline helpers: $INLINE"
fi

# Root may have run this only to install packages, in the clone of another user.
if [ "$(id -u)" = 0 ]; then
	TOP=$(cd "$(dirname "$0")/../.." && pwd)
	owner=$(stat -c %U "$TOP")
	if [ "$owner" != root ]; then
		find "$BUILD" -maxdepth 3 -user root -path "$BUILD/linux" -prune -o -user root -exec chown -h --reference="$TOP" {} +
		say "what was made in $BUILD belongs to $owner, as the clone does"
	fi
fi
