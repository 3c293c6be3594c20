# SPDX-License-Identifier: GPL-2.0
# What user space sees of random operations, in C and in Rust, and of allocations
# that fail.

OPS ?= 50000
SEED ?= 1
SEEDS ?= 1-200
# SELF=c|rust: compare a kernel with itself, without differences
SELF ?=
DIFF = $(BUILD)/diff
DIFF_BIN = $(DIFF)/target/$(RUST_TARGET)/release
DIFF_TOOL = $(DIFF)/tool/release/mlock2-diff
# Both kernels execute deterministically; without an emulator, as far as a single CPU allows.
DIFF_MACHINE = $(if $(QEMU),$(ICOUNT))
CASES = --cases tools/testing/mlock2/diff/cases
diff_boot = $(call machine,$(1),$(DIFF_MACHINE),$(KICOUNT) $(KNODES) norandmaps $(2)) --accel tcg --cpus 1 \
	--bin $(DIFF_BIN) --plan tools/testing/mlock2/diff/diff.plan
# compare(name, reference build tree, tested build tree, more kernel parameters): a command, for use
# in double quotes
compare = $(DIFF_TOOL) $(if $(ABSENT),--absent '$(ABSENT)') $(if $(KNODES),$(if $(filter rt,$(KIND)),,--reach-all)) --work $(DIFF)/$(1) \
	--oracle \"$(call diff_boot,$(2),$(4))\" --tested \"$(call diff_boot,$(3),$(4))\"
# The two kernels that SELF and FAIR select
right = $(1)$(if $(filter rust,$(SELF)),,-c)
tested = $(1)$(if $(filter c,$(SELF)),-c,$(if $(FAIR),-fair))

.PHONY: diff-programs
diff-programs: $(if $(RUST_TARGET),,no-rust-target) $(GUEST)/init
	@# both for the page size of the guest
	@export MLOCK2_PAGE_SIZE=$$((1 << $$(sed -n 's/^CONFIG_PAGE_SHIFT=//p' $(O_KIND)/.config))); \
	$(call guest_crate,tools/testing/mlock2/diff,$(DIFF),--bin mlock2-diff-guest) && \
	$(CARGO) build --release --locked --bin mlock2-diff \
		--manifest-path tools/testing/mlock2/diff/Cargo.toml --target-dir $(DIFF)/tool

.PHONY: diff diff-built
diff: linux
	@$(MAKE) diff-built
diff-built: kernel$(KIND:%=-%)-c-built kernel-tested guest tool diff-programs
	@eval "$(call compare,$(notdir $(O_TESTED)),$(call right,$(O_KIND)),$(call tested,$(O_KIND))) \
		$(CASES) --ops $(OPS) --seed $(SEED)"

.PHONY: diff-seeds diff-seeds-built
diff-seeds: linux
	@$(MAKE) diff-seeds-built
diff-seeds-built: kernel$(KIND:%=-%)-c-built kernel-tested guest tool diff-programs
	@LINUX=$(LINUX) OUT=$(DIFF)/seeds-$(notdir $(O_TESTED))$(SELF:%=-%) OPS=$(OPS) \
		COMPARE="$(call compare,$(notdir $(O_TESTED))-seeds,$(call right,$(O_KIND)),$(call tested,$(O_KIND)))" \
		tools/mlock2/diff-seeds.sh $(SEEDS)

# Each allocation fails once; this needs a kernel with fault injection.
INJECT_RANDOM ?= 20
INJECT_CASES = tools/testing/mlock2/diff/cases-inject
# directories of cases that run before the random scenarios of SEED
INJECT_GROUPS ?= short more

# inject(name, build tree)
inject = $(call compare,$(1),$(call right,$(2)),$(call tested,$(2)),slab_debug=F cgroup.memory=nokmem) --ops 0

.PHONY: inject inject-built
inject: linux
	@$(MAKE) inject-built KIND=$(or $(KIND),debug)
inject-built: kernel$(KIND:%=-%)-c-built guest tool diff-programs
	@eval "$(call inject,$(notdir $(O_KIND))-inject,$(O_KIND)) $(addprefix --cases $(INJECT_CASES)/,$(INJECT_GROUPS)) --inject $(INJECT_RANDOM) --seed $(SEED)"
