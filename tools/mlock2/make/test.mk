# SPDX-License-Identifier: GPL-2.0
# The goals that test: all of it, the selftests alone, other architectures, full length.

# Limits on random operations in 'make test', and on slow tests with debug checks. There, the
# selftests run in the kernel's own ABI only.
TEST_OPS ?= $(if $(filter x86_64,$(ARCH)),50000,5000)
TEST_DEBUG_OPS = 500
TEST_STRESS = --seconds 120 --round 30 --watchdog 600
DEBUG := $(filter x86_64,$(ARCH))

.PHONY: test test-built
test: linux
	@$(MAKE) test-built
test-built: kernel-c-built $(if $(USER_CC),guest) tool $(if $(RUST_TARGET),diff-programs) $(if $(DEBUG),kernel-debug-c-built stress-program) interleave-program
	@LINUX=$(LINUX) O=$(O) O_C=$(O_C) TOOL=$(TOOL) CARGO='$(CARGO)' KSRCARCH=$(KSRCARCH) KCC='$(KCC)' OBJDUMP='$(KOBJDUMP)' \
		BOOT="$(if $(USER_CC),$(call boot,$(O),$(GUEST)/test.plan,test,kunit.enable=1))" \
		BOOT_C="$(if $(USER_CC),$(call boot,$(O_C),$(GUEST)/test.plan,test))" \
		DIFF="$(if $(RUST_TARGET),$(call compare,$(ARCH)-test,$(O_C),$(O)) $(CASES) --ops $(TEST_OPS))" \
		BOOT_DEBUG="$(if $(DEBUG),$(call boot,$(O)-debug,$(GUEST)/debug.plan,test,kunit.enable=1) $(SLOW))" \
		STRESS="$(if $(DEBUG),$(call stress_boot,$(O)-debug,$(STRESS)/test.plan))" \
		DIFF_DEBUG="$(if $(DEBUG),$(call compare,$(ARCH)-debug-test,$(O)-debug-c,$(O)-debug) $(CASES) --ops $(TEST_DEBUG_OPS))" \
		INTERLEAVE="$(INTERLEAVE)/release/mlock2-interleave $(TEST_INTERLEAVE)" \
		INJECT="$(if $(DEBUG),$(call inject,$(ARCH)-inject-test,$(O)-debug) --cases $(INJECT_CASES)/short)" \
		tools/mlock2/test.sh '$(ARCH)'

# Only the selftests and KUnit, on one kernel
.PHONY: selftest selftest-built
selftest: linux
	@$(MAKE) selftest-built
selftest-built: $(if $(USER_CC),,no-user-cc) kernel-tested guest tool
	@$(call boot,$(O_TESTED),$(GUEST)/test.plan,test,$(if $(FAIR),,kunit.enable=1)) $(SLOW)
	@# C has no KUnit test, and neither has a distribution's kernel
	@$(if $(FAIR)$(filter distro,$(KIND)),,tools/mlock2/kunit.sh $(LINUX) $(O_TESTED)/test/console.log | tail -n 2)

# The most important ones for the series come first
TEST_ARCHS ?= arm64 mips64el riscv64 um mips64 powerpc64le s390 arm loongarch64

.PHONY: test-arch
test-arch:
	@tools/mlock2/test-arch.sh $(TEST_ARCHS)

# Takes hours. For the same code, it resumes where it was interrupted.
STEPS ?=
TEST_LONG = LINUX=$(LINUX) O=$(O) TEST_ARCHS='$(TEST_ARCHS)' tools/mlock2/test-long.sh
.PHONY: test-long test-long-status
test-long: linux
	@$(TEST_LONG) $(STEPS)
test-long-status: linux
	@$(TEST_LONG) --status
