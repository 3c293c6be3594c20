# SPDX-License-Identifier: GPL-2.0
#
# Find the lines of Rust that no test executes. QEMU logs the code that it translates, and it
# translates only code that is about to run. The boots are those of 'make test'. The kernel is the
# usual one: debug information does not change its code.

# Number of random operations, in addition to the stored cases.
COVERAGE_OPS ?= 5000
COVERAGE = $(BUILD)/coverage
O_COVERAGE = $(O)-coverage
COVERAGE_TOOL = $(TOOL) coverage --tree $(O_COVERAGE) --objdump $(KOBJDUMP)
# The code under test: neither the tests, nor code that only they use
COVERAGE_SOURCES = $(filter-out %/tests.rs %/kunit.rs %/bindings.rs,$(wildcard mm/mlock2/*.rs rust/mm/*.rs rust/kernel/mm/*.rs rust/kernel/*.rs))
# Lines that these tests cannot reach, each with a reason
UNREACHABLE = tools/testing/mlock2/unreachable

.PHONY: coverage coverage-built coverage-boots coverage-report
coverage: linux
	@$(MAKE) coverage-built ACCEL=tcg
coverage-built: kernel-built guest tool diff-programs
	$(call copy_tree,$(O),$(O_COVERAGE))
	@cmp -s $(O)/.config $(O_COVERAGE)/.config || cp $(O)/.config $(O_COVERAGE)/.config
	@# Only Rust gets debug information: a C helper that is inlined into it counts as the calling line.
	@echo 'build: $(O_COVERAGE) (with debug information)'
	@$(KMAKE) CC='$(KCC)' KRUSTFLAGS=-Cdebuginfo=2 O=$(O_COVERAGE) $(KIMAGE) $(KEXTRA) 2>&1 | $(call progress,$(O_COVERAGE)/build)
	@rm -rf $(COVERAGE)/traces
	@$(MAKE) coverage-boots
	@$(MAKE) coverage-report

coverage-boots: QEMU_ARGS += $(shell $(COVERAGE_TOOL) options $(COVERAGE)/traces)
coverage-boots:
	@$(call boot,$(O_COVERAGE),$(GUEST)/test.plan,test,kunit.enable=1) $(SLOW)
	@tools/mlock2/kunit.sh $(LINUX) $(O_COVERAGE)/test/console.log | tail -n 2
	@# The results are those of this kernel twice: what is compared with C is for 'make diff'.
	@eval "$(call compare,coverage,$(O_COVERAGE),$(O_COVERAGE)) $(CASES) --ops $(COVERAGE_OPS)"

coverage-report:
	@$(COVERAGE_TOOL) report --traces $(COVERAGE)/traces --unreachable $(UNREACHABLE) \
		--out $(COVERAGE)/lines.txt $(COVERAGE_SOURCES)
