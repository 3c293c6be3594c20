# SPDX-License-Identifier: GPL-2.0
# What is special about s390: the one place for it in the build and the boot.

KARCH = s390
KSRCARCH = s390
KIMAGE = bzImage
KIMAGE_FILE = arch/s390/boot/bzImage
KINLINE =

KARCH_PACKAGES = %qemu-s390x% gcc-s390x-linux-gnu libc6-dev-s390x-cross
QEMU = qemu-system-s390x
QEMU_ARGS = -M s390-ccw-virtio -cpu max
CONSOLE = ttysclp0
KPARAMS =

# QEMU emulates no EDAT, that is, no huge pages.
ABSENT = no userfaultfd with RWP|no hugetlb|no transparent huge pages

USER_CC = s390x-linux-gnu-gcc
