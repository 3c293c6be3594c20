# SPDX-License-Identifier: GPL-2.0
# What is special about MIPS64, little endian: the one place for it in the build and the boot.

KARCH = mips
KSRCARCH = mips
KCONFIGS = mlock2.config mlock2_little_endian.config
KIMAGE = vmlinux
KIMAGE_FILE = vmlinux
KINLINE =

KARCH_PACKAGES = qemu-system-mips gcc-mips64el-linux-gnuabi64 libc6-dev-mips64el-cross \
	libc6-dev-mipsn32-mips64el-cross libc6-dev-mips32-mips64el-cross \
	libn32gcc-%gcc%-dev-mips64el-cross lib32gcc-%gcc%-dev-mips64el-cross
QEMU = qemu-system-mips64el
QEMU_ARGS = -M malta -cpu MIPS64R2-generic
CONSOLE = ttyS0
# Malta's power-off does not end QEMU.
KPARAMS = mlock2.end=reboot

USER_CC = mips64el-linux-gnuabi64-gcc
COMPAT = n32 o32
CC_n32 = mips64el-linux-gnuabi64-gcc -mabi=n32
CC_o32 = mips64el-linux-gnuabi64-gcc -mabi=32
# This machine has one CPU.
CPUS = 1
ABSENT = no memfd_secret()|no CPU can be turned off|no second CPU to take offline|only one CPU|no userfaultfd with RWP
