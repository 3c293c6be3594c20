# SPDX-License-Identifier: GPL-2.0
# What is special about Arm v7: the one place for it in the build and the boot.

KARCH = arm
KSRCARCH = arm
KIMAGE = zImage
KIMAGE_FILE = arch/arm/boot/zImage
KINLINE =

KARCH_PACKAGES = qemu-system-arm gcc-arm-linux-gnueabihf libc6-dev-armhf-cross
QEMU = qemu-system-arm
QEMU_ARGS = -M virt -cpu cortex-a15
CONSOLE = ttyAMA0
KPARAMS =

ABSENT = no memfd_secret()|no userfaultfd with RWP|no MAP_DROPPABLE|test_mlock_droppable: MAP_DROPPABLE not supported|test_mlockall_future_droppable: MAP_DROPPABLE not supported

USER_CC = arm-linux-gnueabihf-gcc
