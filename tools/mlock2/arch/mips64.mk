# SPDX-License-Identifier: GPL-2.0
# What is special about MIPS64, big endian: the one place for it in the build and the boot.

MIPS_TUPLE = mips64
MIPS_ENDIAN = big
include tools/mlock2/arch/mips64.common
