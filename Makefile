# SPDX-License-Identifier: GPL-2.0
#
# The mlock family in Rust, laid over a stock Linux 7.3. See 'make help'.

MAKEFLAGS += --no-builtin-rules --no-print-directory
SHELL := /bin/bash
comma := ,
.SHELLFLAGS := -eo pipefail -c
.DELETE_ON_ERROR:

ifneq ($(words $(CURDIR)),1)
$(error The kernel does not build below a path with blanks: $(CURDIR))
endif
# The kernel's own build runs in parallel; the recipes here run sequentially.
.NOTPARALLEL:

ARCH ?= x86_64
ACCEL ?= auto
KSRC ?=
JOBS ?= $(shell nproc)
VNG_VERSION := 1.42

BUILD := $(CURDIR)/build
LINUX := $(BUILD)/linux

# Everything specific to one architecture
ARCHS := $(patsubst tools/mlock2/arch/%.mk,%,$(wildcard tools/mlock2/arch/*.mk))
ifeq ($(filter $(ARCH),$(ARCHS)),)
$(error ARCH=$(ARCH) is not supported; there are: $(ARCHS))
endif
# set in there, never from the environment
KCONFIGS = mlock2.config
KARCH_PACKAGES =
QEMU =
QEMU_ARGS =
TCG = tcg
CPUS =
MEM =
ABSENT =
KNODES =
USER_CC =
USER_HEADERS =
COMPAT =
RUST_TARGET =
RUST_LINKER =
include tools/mlock2/arch/$(ARCH).mk

# A kind of kernel is the smallest one plus a fragment.
KINDS := $(sort $(patsubst mlock2-%.config,%,$(notdir $(wildcard $(addsuffix /configs/mlock2-*.config,kernel arch/$(KSRCARCH))))))
KIND ?=
# FAIR=1: the C twin with tools/mlock2/fair/ in place of the Rust kernel
FAIR ?=
# The kinds with fault injection
CHECKS = debug kcsan rt
ifneq ($(or $(filter-out $(KINDS),$(KIND)),$(word 2,$(KIND))),)
$(error KIND=$(KIND) is no kind of kernel for ARCH=$(ARCH); there are: $(KINDS))
endif
ifneq ($(and $(KIND),$(filter-out kernel% selftest% diff% inject% stress% deb%,$(MAKECMDGOALS))),)
$(error KIND=$(KIND) is for kernel, selftest, diff, inject, stress and stress-ng)
endif
ifneq ($(filter distro,$(KIND))$(filter deb%,$(MAKECMDGOALS)),)
# as Debian's kernel; see tools/mlock2/make/deb.mk
GCC ?= $(if $(filter clang,$(CC)),,1)
endif
ifneq ($(and $(FAIR),$(filter-out selftest% diff% stress%,$(MAKECMDGOALS))),)
$(error FAIR=$(FAIR) is for selftest, diff, stress and stress-ng)
endif
ifneq ($(and $(filter-out $(CHECKS),$(KIND)),$(filter inject%,$(MAKECMDGOALS))),)
$(error inject is for KIND=$(CHECKS), so not for KIND=$(KIND))
endif
ifneq ($(and $(filter 16k 64k,$(KIND)),$(filter stress%,$(MAKECMDGOALS))),)
$(error $(MAKECMDGOALS) is for pages of 4 KiB, so not for KIND=$(KIND))
endif
ifneq ($(and $(filter-out x86_64,$(ARCH)),$(filter bench% coverage% profile% shell% stress-ng% mutants% test-programs%,$(MAKECMDGOALS))),)
$(error $(MAKECMDGOALS) is for ARCH=x86_64 only)
endif

define HELP
make run          set up, build and boot the kernel; demonstration and selftests
make test         the test suite: host, KUnit, selftests on this kernel and on the C one, debug kernel
make selftest     only KUnit and the selftests

Build
  kernel          the kernel with CONFIG_MLOCK2=y, in build/$(ARCH)
  kernel-c        the same with CONFIG_MLOCK2=n, in build/$(ARCH)-c
  kernel-fair     the C one with the best C of tools/mlock2/fair/, in build/$(ARCH)-fair
  linux           lay this repository over the stock source, in build/linux
  changes         show the changes to the stock source
  deb             a Debian package with the kernel, configured as Debian's own
                  (deb-c: the C one; CONFIG=/path FLAVOUR=cloud|generic|rt LOCALMODCONFIG=1
                  LSMOD=file DEBUG_INFO=1 CC=clang)
  setup           install what is missing (as root, on Debian 12 or 13)
  shell           a shell in the kernel, with the files of this machine
  clean           remove the build trees; distclean: all of build/

More tests
  test-arch       make test for other architectures (TEST_ARCHS="$(TEST_ARCHS)")
  test-long       all goals of this list at full length, other kinds of kernels, and a report
                  (many hours; STEPS="rt rt-diff" selects; resumes where it was interrupted)
  test-long-status  the progress of test-long
  test-configs    compile mm/ in other configurations (an hour; CONFIGS="up rt" selects)
  diff            random operations on this kernel and on the C one, compared (OPS=50000 SEED=1)
  diff-seeds      diff for many seeds; resumes where it was interrupted (OPS=50000 SEEDS=1-200)
  test-programs   programs of Debian 13 that lock memory, on both kernels (as root;
                  PROGRAM="gpg qemu" selects)
  inject          fail each allocation of the mlock calls in turn, on both kernels
  stress          locked memory under load (STRESS_ARGS="--seconds 120")
  stress-ng       the stressors of Debian's stress-ng that lock memory
  interleave      every interleaving of the page code with the rest of mm, in Rust and in C, on the host
  spin            check a model of the batch protocol, for one page, with spin
  mutants         mutation testing (1 to 2 hours; MUTANT="walk-* batch-*" selects)
  test-exports    check the symbols of the Rust that modules can use
  test-apply      test tools/mlock2/apply on kernel trees in all states
  versions        the Linux versions to which this applies, and the compilers that build it
                  (COMPILERS=...)
  coverage        the lines of the Rust that no test executes
  check           checkpatch, rustfmt, clippy, rustdoc, sparse and more, on the kernel part
  ksft            run_vmtests.sh -t mlock in virtme-ng, as CI of mm runs it

Patches
  series          write the patches to send to build/series/mail, build and boot each
                  (QUICK=1: write and check them only; ONTO=/path/to/linux: report conflicts there)

Benchmarks
  bench           instructions per operation in C and in Rust, how they grow, several CPUs
                  (bench-rows, bench-growth, bench-cpus: one of the three)
  bench-native    nanoseconds on this machine, with kernels that are programs (User-Mode Linux)
  bench-sweep     each call of the family with each outcome, the most expensive relative to C first
  bench-stress-ng the stressors of stress-ng with which LKP watches mlock (installs it)
  bench-large     partly locked large folios: instructions to split, lock and reclaim them
  bench-paper     the experiment of the 2015 cover letter; at SCALE=1/32 of its size (3 minutes)
  profile ROW=... the instructions of one row of bench-rows, function by function
  results         write Documentation/mm/mlock2-results.rst from the benchmark results

Variables
  ARCH=$(ARCH)         one of: $(ARCHS)
  KIND=...            kernel, selftest, diff, inject, stress, stress-ng for another kind of kernel:
                      $(KINDS)
  GCC=1               the kernel, and all goals that need one, with gcc instead of clang
  FAIR=1              selftest, diff, stress and stress-ng for the kernel with the best C
  KSRC=/path/to/linux your own 7.3 tree instead of Debian's (it is copied)
  ACCEL=auto|kvm|tcg  how QEMU runs the guest (auto tries KVM first)
  JOBS=$(JOBS)              parallel jobs     V=1: show the whole build
endef

.PHONY: help
help:
	@: $(info $(HELP))

# One file per subject. A later one may use what an earlier one defines in its
# targets and prerequisites.
include tools/mlock2/make/kernel.mk
include tools/mlock2/make/deb.mk
include tools/mlock2/make/guest.mk
include tools/mlock2/make/test.mk
include tools/mlock2/make/bench.mk
include tools/mlock2/make/diff.mk
include tools/mlock2/make/interleave.mk
include tools/mlock2/make/mutants.mk
include tools/mlock2/make/stress.mk
include tools/mlock2/make/coverage.mk
include tools/mlock2/make/programs.mk
include tools/mlock2/make/series.mk
include tools/mlock2/make/exports.mk

.PHONY: clean distclean
clean:
	rm -rf $(O) $(addprefix $(O)-,c fair coverage mutant mutant.pristine debug-mutant debug-mutant.pristine $(KINDS) $(addsuffix -c,$(KINDS)) $(addsuffix -fair,$(KINDS))) $(MUTANTS)
distclean:
	rm -rf $(BUILD)
