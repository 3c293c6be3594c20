# SPDX-License-Identifier: GPL-2.0
# What is special about powerpc64le: the one place for it in the build and the boot.

KARCH = powerpc
KSRCARCH = powerpc
KIMAGE = vmlinux
KIMAGE_FILE = vmlinux
KINLINE =

KARCH_PACKAGES = qemu-system-ppc gcc-powerpc64le-linux-gnu libc6-dev-ppc64el-cross
QEMU = qemu-system-ppc64
QEMU_ARGS = -M pseries -cpu power9
CONSOLE = hvc0
KPARAMS =

ABSENT = no memfd_secret()|no userfaultfd with RWP

USER_CC = powerpc64le-linux-gnu-gcc
