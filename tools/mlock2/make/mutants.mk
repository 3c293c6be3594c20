# SPDX-License-Identifier: GPL-2.0
# Mutation testing: mistakes put into the code one by one, and which test notices.

MUTANTS = $(BUILD)/mutants
# Next to the other trees and at the same depth, so that ccache finds their objects.
O_MUTANT = $(O)-mutant
# which of tools/testing/mlock2/mutants/*.diff; FORCE=1: also those that were killed before
MUTANT ?= *
FORCE ?=
MUTANT_OPS ?= 5000
# mutant_boot(name, seconds for a program, entries of the plan, more kernel parameters)
mutant_boot = $(call boot,$(O_MUTANT),$(GUEST)/test.plan,run/$(1),oops=panic $(4)) \
	--limit $(2) --timeout $$(($(2) + 60)) $(addprefix --only ,$(3))

.PHONY: mutants mutants-built mutants-pure mutants-kernel mutants-debug
mutants: linux
	@$(MAKE) mutants-built
mutants-built: mutants-pure mutants-interleave-built mutants-booted-built
# Mutants that require booting a kernel
.PHONY: mutants-booted mutants-booted-built
mutants-booted: linux
	@$(MAKE) mutants-booted-built
mutants-booted-built:
	@$(MAKE) mutants-kernel
	@survivors=$$($(SURVIVORS)) || { echo 'mutants: error: one is broken, see above' >&2; exit 1; }; \
	[ -z "$$survivors" ] || $(MAKE) mutants-debug

# Mutants are tested again when these are newer.
mutant_tests = $(addprefix $(GUEST)/,$(SELFTESTS))

# Stages run in turn, the quickest first. Survivors (status 1) continue below.
mutants-kernel: kernel-c-built guest tool diff-programs
	@$(TOOL) mutants --linux $(LINUX) --from $(O) --tree $(O_MUTANT) --work $(MUTANTS) $(if $(FORCE),--again) \
		$(addprefix --test ,$(mutant_tests) $(wildcard tools/testing/mlock2/diff/cases/*.case) $(DIFF_BIN)/mlock2-diff-guest) \
		--build "$(KMAKE) CC='$(KCC)' O=$(O_MUTANT) $(KIMAGE)" \
		--stage quick="$(call mutant_boot,quick,120,mlock2-tests mlock2-tests-nobody on-fault-limit,kunit.enable=1)" \
		--stage behaviour="$(call mutant_boot,behaviour,300,$(BEHAVIOUR))" \
		--stage trace="$(call mutant_boot,trace,120,mlock-trace)" \
		--stage diff="$(call compare,mutant,$(O_C),$(O_MUTANT)) $(CASES) --ops $(MUTANT_OPS) --shrink 0" \
		--stage pressure="$(call mutant_boot,pressure,600,mlock-pressure mlock-random-test)" \
		$(wildcard $(MUTANT:%=tools/testing/mlock2/mutants/%.diff)) || [ $$? = 1 ]

# Test the survivors with debug checks, and under load
SURVIVORS = awk -F'\t' -v of=' $(wildcard $(MUTANT:%=tools/testing/mlock2/mutants/%.diff)) ' \
	'{ patch = "tools/testing/mlock2/mutants/" $$1 ".diff" } index(of, " " patch " ") { if ($$2 == "survived") print patch; else if ($$2 != "killed") exit 1 }' \
	$(MUTANTS)/results.tsv
debug_mutant_boot = $(call boot,$(O)-debug-mutant,tools/mlock2/guest/test.plan,run/$(1),kunit.enable=1) $(SLOW) $(addprefix --only ,$(2))
mutants-debug: kernel-debug-built guest tool stress-program
	@$(TOOL) mutants --linux $(LINUX) --from $(O)-debug --tree $(O)-debug-mutant --work $(MUTANTS)/debug $(if $(FORCE),--again) \
		$(addprefix --test ,$(mutant_tests) $(STRESS_BIN)/mlock2-stress) \
		--build "$(KMAKE) CC='$(KCC)' O=$(O)-debug-mutant $(KIMAGE)" \
		--stage quick="$(call debug_mutant_boot,quick,mlock2-tests mlock-random-test $(BEHAVIOUR))" \
		--stage stress="$(call stress_boot,$(O)-debug-mutant,$(STRESS)/test.plan)" \
		--stage pressure="$(call debug_mutant_boot,pressure,mlock-pressure)" \
		$$($(SURVIVORS))

# The modules without kernel types, which cargo-mutants can mutate
CARGO_MUTANTS_VERSION := 27.1.0
PURE = $(MUTANTS)/pure
$(BUILD)/tools/bin/cargo-mutants:
	@echo 'mutants: building cargo-mutants $(CARGO_MUTANTS_VERSION) (some minutes)'
	@$(CARGO) install --locked --root $(BUILD)/tools --version $(CARGO_MUTANTS_VERSION) cargo-mutants

mutants-pure: $(BUILD)/tools/bin/cargo-mutants
	@rm -rf $(PURE) && mkdir -p $(PURE)/src
	@cp tools/testing/mlock2/Cargo.toml tools/testing/mlock2/Cargo.lock $(PURE)
	@cp mm/mlock2/request.rs mm/mlock2/range.rs mm/mlock2/limit.rs $(PURE)/src
	@cp $(addprefix tools/testing/mlock2/src/,values.rs request_test.rs range_test.rs limit_test.rs) $(PURE)/src
	@cp tools/testing/mlock2/mutants/pure.in $(PURE)/src/lib.rs
	@PATH=$(BUILD)/tools/bin:$$PATH cargo mutants --dir $(PURE) --output $(PURE) --gitignore=false \
		--exclude-re 'replace \| with \^ in LockAll::from_mlockall_flags'

# Those that only a race shows
.PHONY: mutants-interleave mutants-interleave-built
mutants-interleave: linux
	@$(MAKE) mutants-interleave-built
mutants-interleave-built:
	@LINUX=$(LINUX) CC='$(KCC)' $(INTERLEAVE_CRATE)/mutants.sh $(MUTANTS)/interleave $(foreach m,$(MUTANT),'$(m)')
