# SPDX-License-Identifier: GPL-2.0
# What is special about User-Mode Linux: the one place for it in the build and the boot.

KARCH = um SUBARCH=x86
KSRCARCH = um
KIMAGE = linux
KIMAGE_FILE = linux
KINLINE =

# The kernel is a program.
KARCH_PACKAGES =
QEMU =
QEMU_ARGS =
CPUS = 1
CONSOLE = tty0
# half of the host's system calls
KPARAMS = seccomp=on
# what it does not have, as tests call it that need it
ABSENT = no transparent huge pages|no large folios of shared memory|no hugetlb|no memfd_secret()|no perf events|no userfaultfd with RWP|no [vsyscall]|no CPU can be turned off|no second CPU to take offline|only one CPU

USER_CC = gcc
USER_HEADERS = x86_64

RUST_TARGET = x86_64-unknown-linux-gnu
# time stands still but for what sleeps
KICOUNT = time-travel=inf-cpu
