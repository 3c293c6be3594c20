# SPDX-License-Identifier: GPL-2.0
# What is special about arm64: the one place for it in the build and the boot.

KARCH = arm64
KSRCARCH = arm64
KIMAGE = Image
KIMAGE_FILE = arch/arm64/boot/Image
KINLINE = RUST_INLINE_HELPERS

KARCH_PACKAGES = qemu-system-arm gcc-aarch64-linux-gnu libc6-dev-arm64-cross \
	gcc-arm-linux-gnueabihf libc6-dev-armhf-cross
QEMU = qemu-system-aarch64
# twice as fast in an emulator as -cpu max; the other one has 16 KiB pages
QEMU_ARGS = -M virt -cpu $(if $(filter 16k,$(KIND)),max$(comma)pauth-impdef=on,cortex-a57)
# A THP has 512 MiB there.
MEM = $(if $(filter 64k,$(KIND)),4096)
# which is more than a program of 32 bits can fill; one of 32 MiB, more than a test
ABSENT = $(if $(filter 16k 64k,$(KIND)),more memory than this test wants to fill)
CONSOLE = ttyAMA0
KPARAMS = $(if $(filter 64k,$(KIND)),default_hugepagesz=2M)

USER_CC = aarch64-linux-gnu-gcc
COMPAT = aarch32
# for pages of any size
CC_aarch32 = arm-linux-gnueabihf-gcc -Wl,-z,max-page-size=65536
HEADERS_aarch32 = arm

RUST_TARGET = aarch64-unknown-linux-gnu
RUST_LINKER = aarch64-linux-gnu-gcc
KICOUNT =
