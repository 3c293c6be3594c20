# SPDX-License-Identifier: GPL-2.0
# What is special about riscv64: the one place for it in the build and the boot.

KARCH = riscv
KSRCARCH = riscv
KIMAGE = Image
KIMAGE_FILE = arch/riscv/boot/Image
KINLINE =

KARCH_PACKAGES = %qemu-riscv% gcc-riscv64-linux-gnu libc6-dev-riscv64-cross
QEMU = qemu-system-riscv64
QEMU_ARGS = -M virt
CONSOLE = ttyS0
# QEMU 7.2 does not name the extensions in the way that the kernel looks for first
KPARAMS = riscv_isa_fallback
ABSENT = no userfaultfd with RWP

USER_CC = riscv64-linux-gnu-gcc

RUST_TARGET = riscv64gc-unknown-linux-gnu
RUST_LINKER = riscv64-linux-gnu-gcc
KICOUNT =
