# SPDX-License-Identifier: GPL-2.0
#
# Find the lines of Rust that no test executes. QEMU logs the code that it translates, and it
# translates only code that is about to run. The boots are those of 'make test', on a separate
# kernel: KIND=coverage.

# Number of random operations, in addition to the stored cases.
COVERAGE_OPS ?= 5000
COVERAGE = $(BUILD)/coverage
COVERAGE_TOOL = $(TOOL) coverage --tree $(O)-coverage --objdump $(KOBJDUMP)
# The code under test: neither the tests, nor code that only they use
COVERAGE_SOURCES = $(filter-out %/tests.rs %/kunit.rs %/bindings.rs,$(wildcard mm/mlock2/*.rs rust/mm/*.rs rust/kernel/mm/*.rs rust/kernel/*.rs))
# Lines that no test can reach, each with a reason
UNREACHABLE = tools/testing/mlock2/unreachable

# Only Rust has debug information: a C helper that is inlined into it counts as the calling line.
kernel-coverage-built: KMAKE += KRUSTFLAGS=-Cdebuginfo=2

.PHONY: coverage coverage-built coverage-boots coverage-report
coverage: linux
	@$(MAKE) coverage-built KIND=coverage ACCEL=tcg
coverage-built: kernel-coverage-built guest tool diff-programs
	@rm -rf $(COVERAGE)/traces
	@$(MAKE) coverage-boots
	@$(MAKE) coverage-report

coverage-boots: QEMU_ARGS += $(shell $(COVERAGE_TOOL) options $(COVERAGE)/traces)
coverage-boots:
	@$(call boot,$(O_KIND),$(GUEST)/test.plan,test,kunit.enable=1) $(SLOW)
	@tools/mlock2/kunit.sh $(LINUX) $(O_KIND)/test/console.log | tail -n 2
	@# The results are those of this kernel twice: what is compared with C is for 'make diff'.
	@eval "$(call compare,coverage,$(O_KIND),$(O_KIND)) $(CASES) --ops $(COVERAGE_OPS)"
	@eval "$(call compare,coverage-inject,$(O_KIND),$(O_KIND),slab_debug=F cgroup.memory=nokmem) --ops 0 --cases $(INJECT_CASES)/short"

coverage-report:
	@$(COVERAGE_TOOL) report --traces $(COVERAGE)/traces --unreachable $(UNREACHABLE) \
		--out $(COVERAGE)/lines.txt $(COVERAGE_SOURCES)
