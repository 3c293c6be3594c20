# SPDX-License-Identifier: GPL-2.0
# The guest: PID 1, demonstration and selftests, and the tool that boots them.

GUEST = $(O)/guest
# Tests of the calls as user space sees them, one program per subject
BEHAVIOUR = mlock-calls mlock-limits mlock-vmas mlock-populate mlock-special mlock-shm mlock-counters mlock-memcg mlock-features
SELFTESTS = mlock2-tests mlock-random-test on-fault-limit $(BEHAVIOUR) \
	mlock-pressure mlock-large mlock-lru-gen mlock-rt mlock-secret mlock-trace mlock-why-test
TOOL = $(BUILD)/tool/release/mlock2
CARGO = cargo --quiet

# headers(kernel's name of the architecture): the uapi headers
headers = $(O)/headers/$(1)/usr/include
$(O)/headers/%/.done: $(BUILD)/tools.mk
	@echo 'headers: $(@D)'
	@mkdir -p $(@D)
	@$(KMAKE) ARCH=$* O=$(@D) headers >$(@D)/log 2>&1 || { tail -n 20 $(@D)/log >&2; exit 1; }
	@touch $@

# The compiler and headers of an ABI, or those of the kernel's own ABI
cc_of = $(or $(CC_$(1)),$(USER_CC))
headers_of = $(or $(HEADERS_$(1)),$(USER_HEADERS),$(KARCH))

# selftests(ABI, directory). The kernel's own Makefile builds them; static, so that the guest needs
# no libraries. They need two calls of libcap.
define selftests
	@mkdir -p $(2) && printf '!<arch>\n' >$(2)/libcap.a
	@env -u MAKEFLAGS -u MFLAGS $(MAKE) -s -C $(LINUX)/tools/testing/selftests/mm ARCH=$(KSRCARCH) CC='$(call cc_of,$(1))' \
		OUTPUT=$(2) EXTRA_CFLAGS='-static -Wno-unused-result -isystem $(CURDIR)/tools/mlock2/guest/include -L$(2)' \
		KHDR_INCLUDES='-isystem $(call headers,$(call headers_of,$(1)))' \
		$(addprefix $(2)/,$(SELFTESTS)) >$(2)/selftests.log 2>&1 || { cat $(2)/selftests.log >&2; exit 1; }

endef

.PHONY: guest
guest: $(if $(USER_CC),,no-user-cc) $(foreach abi,native $(COMPAT),$(O)/headers/$(call headers_of,$(abi))/.done) $(GUEST)/init $(GUEST)/demo $(GUEST)/mlock-why $(GUEST)/run.plan $(GUEST)/test.plan $(GUEST)/debug.plan
	$(call selftests,native,$(GUEST))
	$(foreach abi,$(COMPAT),$(call selftests,$(abi),$(GUEST)/$(abi)))

define guest_program
	@mkdir -p $(GUEST)
	@$(USER_CC) -static -O2 -Wall -Wextra -isystem $(call headers,$(call headers_of,native)) -o $@ $<
endef
$(GUEST)/%: tools/mlock2/guest/%.c $(O)/headers/$(call headers_of,native)/.done
	$(guest_program)
$(GUEST)/%: tools/mm/%.c $(O)/headers/$(call headers_of,native)/.done
	$(guest_program)

# Not yet tried on other architectures; takes minutes on some
NOT_TRIED = $(if $(filter x86_64,$(ARCH)),,mlock-rt mlock-secret)
# The same programs for each other ABI
$(GUEST)/%.plan: tools/mlock2/guest/%.plan tools/mlock2/arch/$(ARCH).mk
	@mkdir -p $(GUEST)
	@$(if $(NOT_TRIED),echo '$*.plan: not tried on $(ARCH) yet: $(NOT_TRIED)')
	@awk -v not=' $(NOT_TRIED) ' '!index(not, " " $$1 " ")' $< >$@.own
	@{ cat $@.own; for abi in $(COMPAT); do \
		awk -v abi=$$abi '/^[^#]/ && $$3 != "demo" { $$1 = $$1 "-" abi; $$3 = abi "/" $$3; print }' $@.own; \
	done; } >$@.new && mv $@.new $@

# With debug checks, some programs take minutes: run a part of them, for one ABI.
$(GUEST)/debug.plan: tools/mlock2/guest/test.plan
	@mkdir -p $(GUEST)
	@sed '/^mlock-secret\t/s/$$/ -v large_shmem/' $< >$@.new && mv $@.new $@

# Builds a crate for the guest, which has no libraries: guest_crate(its directory, where to, more
# options). Debian has no standard library for other machines, so build it from the source that the
# kernel needs anyway.
guest_crate = $(if $(RUST_LINKER),RUSTC=$(KRUSTC) RUSTC_BOOTSTRAP=1 \
		CARGO_TARGET_$(shell tr a-z- A-Z_ <<<'$(RUST_TARGET)')_LINKER=$(RUST_LINKER)) \
	RUSTFLAGS='-C target-feature=+crt-static' $(CARGO) build --release --locked --target $(RUST_TARGET) \
	$(if $(RUST_LINKER),-Zbuild-std=std$(comma)panic_abort) --manifest-path $(1)/Cargo.toml --target-dir $(2)/target $(3)

.PHONY: no-user-cc no-rust-target
no-user-cc:
	@echo 'error: there is no C library to build programs for ARCH=$(ARCH) with, so nothing to boot into; kernel and test work without' >&2; exit 1
no-rust-target:
	@echo 'error: the program for this is in Rust, and was not ported to ARCH=$(ARCH)' >&2; exit 1

.PHONY: tool
tool:
	@$(CARGO) build --release --locked --manifest-path tools/mlock2/Cargo.toml --target-dir $(BUILD)/tool

# Data races in C code that CONFIG_MLOCK2=n has as well. rmap reads mm_cpumask() while a CPU changes
# it in code that is not instrumented; all Rust is. A fault looks up its vma in the maple tree
# without a lock, while a writer replaces a node. zsmalloc reads a bit field while another CPU
# writes to its neighbour.
RACES = data-race in set_tlb_ubc_flush_pending&unknown origin, with read \
	|data-race in try_to_migrate_one+&unknown origin, with read \
	|data-race in try_to_unmap_one+&unknown origin, with read \
	|data-race in &mas_state_walk+&lock_vma_under_rcu+ \
	|data-race in fix_fullness_group / zs_obj_write
KNOWN = $(if $(filter kcsan,$(KIND)),$(RACES))
# A machine whose time is the number of instructions. Its random numbers and its clock are the same
# in each boot: otherwise, one kernel does not run the same twice.
ICOUNT = -icount shift=0$(comma)sleep=off -seed 1 -rtc base=2026-01-01$(comma)clock=vm
# machine(build tree, more arguments of QEMU, more kernel parameters): options of all boots
machine = $(TOOL) boot --image $(1)/$(KIMAGE_FILE) --gen-init-cpio $(1)/usr/gen_init_cpio \
	$(module_files) $(QEMU:%=--qemu %) --qemu-args='$(QEMU_ARGS) $(2)' --tcg $(TCG) \
	--console $(CONSOLE) --init $(GUEST)/init \
	$(CPUS:%=--cpus %) $(MEM:%=--mem %) $(if $(KNOWN),--known '$(KNOWN)') --name '$(call name_of,$(1))' --append '$(KPARAMS) $(3)'
# Kernels with the events of include/trace/events/mlock.h
TRACED = $(filter-out %-c %-fair,$(filter $(BUILD)/x86_64%,$(1)))
# What only kernels with mlock2-features.config have, and what was tried on some architectures only
FEATURES = no protection keys|no soft-dirty tracking|no NUMA balancing|no idle page tracking|no memory failure
TRIED = no write protection by userfaultfd|no anonymous folios of other sizes
# boot(build tree, plan, name of this boot, more kernel parameters)
boot = $(call machine,$(1),,$(KNODES) $(4)) $(if $(ABSENT),--absent '$(ABSENT)') \
	$(if $(call TRACED,$(1)),,--absent 'no trace events of mlock') \
	$(if $(filter %-features %-features-c %-debug %-debug-c %-debug-mutant,$(1)),,--absent '$(FEATURES)') \
	$(if $(filter x86_64 arm64,$(ARCH)),,--absent '$(TRIED)') \
	$(if $(filter %-lru_gen %-lru_gen-c,$(1)),,--absent 'no multi-gen LRU') \
	--absent 'no PID namespaces' --accel $(ACCEL) \
	--bin $(GUEST) --file $(GUEST)/mlock-why --plan $(2) --work $(1)/$(3)
# The name of a build tree in the results, such as "x86_64-debug MLOCK2=n"
name_of = $(patsubst %-fair,%,$(patsubst %-c,%,$(notdir $(1)))) $(if $(filter %-c %-fair,$(1)),MLOCK2=n,MLOCK2=y)$(if $(filter %-fair,$(1)), FAIR=1)
# A debug kernel is slow.
SLOW = --limit 1800 --timeout 2400
# A stress run may be set to last an hour.
LOAD = --limit 4500 --timeout 4800

.PHONY: run run-built
run: linux
	@$(MAKE) run-built
run-built: $(if $(USER_CC),,no-user-cc) kernel-built guest tool
	@$(call boot,$(O),$(GUEST)/run.plan,run)

#
# A shell in the guest, on this machine's files
#

VNG = $(BUILD)/venv/bin/vng
$(VNG):
	@echo 'shell: installing virtme-ng into $(BUILD)/venv'
	@python3 -m venv $(BUILD)/venv
	@$(BUILD)/venv/bin/pip install --quiet --disable-pip-version-check virtme-ng==$(VNG_VERSION)

.PHONY: shell shell-built
shell: linux
	@$(MAKE) shell-built
shell-built: kernel-built $(VNG)
	@PATH=$(BUILD)/venv/bin:$$PATH $(VNG) --run $(O)/$(KIMAGE_FILE) --user root --cpus 2 --memory 1G \
		--force-9p $(KVNG) $(if $(filter kvm,$(ACCEL)),,--disable-kvm)
