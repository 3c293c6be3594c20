# SPDX-License-Identifier: GPL-2.0
# What is special about x86_64: the one place for it in the build and the boot.

# the kernel's own names for it
KARCH = x86_64
KSRCARCH = x86
KIMAGE = bzImage
KIMAGE_FILE = arch/x86/boot/bzImage
# options that must be set where the compilers allow inline helpers
KINLINE = RUST_INLINE_HELPERS

KARCH_PACKAGES = qemu-system-x86 libc6-dev-i386 lib32gcc-%gcc%-dev
QEMU = qemu-system-x86_64
# -cpu max: getrandom() has no seed early in user space otherwise
QEMU_ARGS = -M q35 -cpu max
# The kernel changes its own code while other CPUs run it (CONFIG_JUMP_LABEL). If each has a thread
# of QEMU 7.2, then one may trap at an instruction that has been put right since: "Oops: int3".
TCG = tcg,thread=single
# the same machine with KVM, for 'make bench KVM=1'
KVM_QEMU_ARGS = -M q35 -cpu host
CONSOLE = ttyS0
# What the kernel's start trips over when QEMU's threads have to wait for a host CPU: an
# interrupt while identify_boot_cpu() does not know of the five levels of the page table
# (KASAN reports it), a timer that seems not to work, and the clocksource watchdog, in
# which both CPUs wait for each other for good
KPARAMS = no5lvl no_timer_check tsc=reliable
# where pages are moved between nodes
KNODES = numa=fake=2
# virtme-ng's options: a machine that this kernel has drivers for
KVNG = --disable-microvm

# programs for user space: the kernel's own ABI, and the others that it runs
USER_CC = gcc
COMPAT = i386
CC_i386 = gcc -m32

# programs in Rust for the guest, and the clock that counts instructions
RUST_TARGET = x86_64-unknown-linux-gnu
KICOUNT = clocksource=tsc
# a profile traces each step of a string instruction: clear pages by words, not by bytes
PROFILE_QEMU_ARGS = -M q35 -cpu max,-erms,-fsrm
# QEMU does not emulate LAM; PREEMPT_RT excludes huge pages.
ABSENT = no tagged addresses$(if $(filter rt,$(KIND)),|no transparent huge pages)
