# SPDX-License-Identifier: GPL-2.0
#
# Which lines of the Rust no test executes: QEMU logs what it translates, and
# only what is about to run is translated. The boots are those of 'make test',
# on a kernel of their own: KIND=coverage.

# How many random operations; the stored cases come on top.
COVERAGE_OPS ?= 5000
COVERAGE = $(BUILD)/coverage
COVERAGE_TOOL = $(TOOL) coverage --tree $(O)-coverage --objdump $(KOBJDUMP)
# What is tested: not the tests, nor what only they use
COVERAGE_SOURCES = $(filter-out %/tests.rs %/kunit.rs %/bindings.rs,$(wildcard mm/mlock2/*.rs rust/mm/*.rs rust/kernel/mm/*.rs rust/kernel/*.rs))
# Lines that no test can reach, each with the reason
UNREACHABLE = tools/testing/mlock2/unreachable

# Rust alone has debug information: the helpers in C that are inlined into it
# count as the line that calls them.
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
