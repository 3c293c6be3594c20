# SPDX-License-Identifier: GPL-2.0
# What is special about LoongArch: the one place for it in the build. Debian 12 has no C
# library for it, so there is nothing to boot into.

KARCH = loongarch
KSRCARCH = loongarch
KIMAGE = vmlinux
KIMAGE_FILE = vmlinux
KINLINE =
