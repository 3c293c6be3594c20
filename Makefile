# SPDX-License-Identifier: GPL-2.0
#
# The mlock family in Rust, laid over a stock Linux 7.3. 'make help' tells.

MAKEFLAGS += --no-builtin-rules --no-print-directory
SHELL := /bin/bash
comma := ,
.SHELLFLAGS := -eo pipefail -c
.DELETE_ON_ERROR:

ifneq ($(words $(CURDIR)),1)
$(error The kernel does not build below a path with blanks: $(CURDIR))
endif
# The kernel's build runs jobs at once; what stands here comes one after the other.
.NOTPARALLEL:

ARCH ?= x86_64
ACCEL ?= auto
KSRC ?=
JOBS ?= $(shell nproc)
VNG_VERSION := 1.42

BUILD := $(CURDIR)/build
LINUX := $(BUILD)/linux

# All that one architecture has of its own
ARCHS := $(patsubst tools/mlock2/arch/%.mk,%,$(wildcard tools/mlock2/arch/*.mk))
ifeq ($(filter $(ARCH),$(ARCHS)),)
$(error ARCH=$(ARCH) is not supported; there are: $(ARCHS))
endif
# which sets these, not the environment
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

# A kind of kernel is what a fragment of its own makes of the smallest one.
KINDS := $(sort $(patsubst mlock2-%.config,%,$(notdir $(wildcard $(addsuffix /configs/mlock2-*.config,kernel arch/$(KSRCARCH))))))
KIND ?=
# FAIR=1: the C twin with tools/mlock2/fair/ in place of the Rust kernel
FAIR ?=
# With the checks go allocations that fail.
CHECKS = debug kcsan rt
ifneq ($(or $(filter-out $(KINDS),$(KIND)),$(word 2,$(KIND))),)
$(error KIND=$(KIND) is no kind of kernel for ARCH=$(ARCH); there are: $(KINDS))
endif
ifneq ($(and $(KIND),$(filter-out kernel% selftest% diff% inject% stress%,$(MAKECMDGOALS))),)
$(error KIND=$(KIND) is for kernel, selftest, diff, inject, stress and stress-ng)
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
ifneq ($(and $(filter-out x86_64,$(ARCH)),$(filter bench% profile% shell% stress-ng% mutants% test-programs%,$(MAKECMDGOALS))),)
$(error $(MAKECMDGOALS) is for ARCH=x86_64 only)
endif

export BUILD KSRC KARCH_PACKAGES
# Neither this Makefile's variables nor its flags are the kernel's.
unexport ARCH
# A clone in another directory finds the same objects in ccache.
KMAKE = env -u MAKEFLAGS -u MFLAGS CCACHE_BASEDIR=$(CURDIR) CCACHE_NOHASHDIR=1 $(MAKE) -C $(LINUX) ARCH=$(KARCH) $(KTOOLS) -j$(JOBS)

# tools.mk names the compilers; setup.sh makes it.
-include $(BUILD)/tools.mk
# Debian's kernel is compiled by gcc: then no helper can be inlined into Rust.
GCC ?=
ifneq ($(GCC),)
KTOOLS := $(filter-out LLVM=%,$(KTOOLS))
KCC = ccache gcc
INLINE_HELPERS =
endif

.PHONY: help
help:
	@echo 'make run        set up, build and boot the kernel; demonstration and selftests'
	@echo 'make test       all tests (host, KUnit, selftests on this kernel and on the C one, with all checks)'
	@echo 'make selftest   KUnit and the selftests alone'
	@echo 'make test-arch  make test for other architectures (TEST_ARCHS="$(TEST_ARCHS)")'
	@echo 'make bench      instructions for each operation in C and in Rust, how they grow, several CPUs'
	@echo '                (bench-rows, bench-growth, bench-cpus: one of the three)'
	@echo 'make bench-native  nanoseconds on this machine itself, with kernels that are programs (User-Mode Linux)'
	@echo 'make results    write Documentation/mm/mlock2-results.rst from what these have left'
	@echo 'make bench-sweep   each call of the family with each outcome, the dearest beside the C first'
	@echo 'make bench-large   large folios of which a part is locked: instructions to split, lock and reclaim them'
	@echo 'make bench-paper   the experiment of the 2015 cover letter; at SCALE=1/32 of its size (3 minutes)'
	@echo 'make profile ROW=...  where the instructions of one row of bench-rows are, function by function'
	@echo 'make diff       random operations on this kernel and on the C one, compared (OPS=50000 SEED=1)'
	@echo 'make diff-seeds  the same for many seeds, and on from where it was stopped (OPS=50000 SEEDS=1-200)'
	@echo 'make stress     locked memory under load (STRESS_ARGS="--seconds 120")'
	@echo 'make stress-ng  what Debian'"'"'s stress-ng has that locks memory'
	@echo 'make test-programs  programs of Debian 13 that lock memory, on both kernels (as root; PROGRAM="gpg qemu" selects)'
	@echo 'make inject     allocations of mlock and its relatives fail, one after the other, on both kernels'
	@echo 'make interleave every interleaving of the page part with the rest of mm, in Rust and in C, on the host'
	@echo 'make spin       the protocol of the batches on one page, checked by spin'
	@echo 'make mutants    mistakes put into the code one by one; does a test notice? (1 to 2 hours; MUTANT="walk-* batch-*" selects)'
	@echo 'make test-long  all of these at full length, other kinds of kernels, and a report (many hours; STEPS="rt rt-diff" selects)'
	@echo 'make test-configs  compile mm/ in other configurations (an hour; CONFIGS="up rt" selects)'
	@echo 'make shell      a shell in that kernel, with the files of this machine'
	@echo 'make kernel     build the kernel with CONFIG_MLOCK2=y in build/$(ARCH)'
	@echo 'make kernel-c   the same with CONFIG_MLOCK2=n in build/$(ARCH)-c'
	@echo 'make kernel-fair   that one with the best C, of tools/mlock2/fair/, in build/$(ARCH)-fair'
	@echo 'make linux      lay this repository over the stock source in build/linux'
	@echo 'make changes    show what that changes in the stock source'
	@echo 'make setup      install what is missing (as root, on Debian 12 or 13)'
	@echo 'make clean      remove the build trees; distclean: all of build/'
	@echo
	@echo 'GCC=1                 the kernel, and all goals that need one, with gcc in place of clang'
	@echo 'KSRC=/path/to/linux   your own 7.3 tree instead of Debian'"'"'s (it is copied)'
	@echo 'ARCH=$(ARCH)           one of: $(ARCHS)'
	@echo 'KIND=...              kernel, selftest, diff, inject, stress, stress-ng for another kind of kernel: $(KINDS)'
	@echo 'FAIR=1                selftest, diff, stress and stress-ng for the kernel with the best C'
	@echo 'ACCEL=auto|kvm|tcg    how QEMU runs the guest (auto tries KVM first)'
	@echo 'JOBS=$(JOBS)               how many jobs at once   V=1: show the whole build'

#
# Set-up and source
#

.PHONY: setup linux changes
setup:
	@tools/mlock2/setup.sh

linux: setup
	@tools/mlock2/linux.sh

changes: linux
	@# first the files that the kernel has, then ours
	@git -C $(LINUX) diff --diff-filter=M pristine HEAD || true
	@git -C $(LINUX) diff --diff-filter=d --stat pristine HEAD || true

#
# Kernels. Each goal below runs make anew, since setup may just have written
# tools.mk.
#

.PHONY: kernel kernel-c kernel-fair always
kernel kernel-c kernel-fair: linux
	@$(MAKE) $(@:kernel%=kernel$(KIND:%=-%)%)-built

O = $(BUILD)/$(ARCH)$(GCC:%=-gcc)
O_C = $(O)-c
O_FAIR = $(O)-fair

# Show where a build is, not every line of it; the log has them.
ifdef V
progress = tee $(1).log
else
progress = tools/mlock2/progress.sh $(1).log
endif

# configure(tree, goals)
define configure
	@echo 'config: $(1)'
	@mkdir -p $(1)
	@$(KMAKE) CC='$(KCC)' O=$(1) $(2) >$(1)/config.log 2>&1 || { tail -n 20 $(1)/config.log >&2; exit 1; }
endef

# The fragments that the kernel's build finds by the names $(1), and the options
# that they set in the end, but for what these compilers do not allow
fragments = $(foreach f,$(1),$(wildcard kernel/configs/$(f) arch/$(KSRCARCH)/configs/$(f)))
wanted = awk -F'[= ]' '/^CONFIG_/ { set[$$$$1] = $$$$0 } /^\# CONFIG_/ { delete set[$$$$2] } END { for (i in set) print set[i] }' \
	$(1) $(if $(filter y,$(INLINE_HELPERS)),,| grep -vE '^CONFIG_($(KINLINE))=')
# What they want to be off, as it would stand in .config if it were on
unwanted = awk -F'[= ]' '/^CONFIG_/ { delete off[$$$$1] } /^\# CONFIG_/ { off[$$$$2] } END { for (i in off) print i "=y" }' $(1)

# copy_tree(from, to): a build tree to start from, so that only what is different
# is built again. Some commands name the tree; had they changed, objtool would be
# made anew, and with it all objects.
define copy_tree
	@[ -d $(2) ] || { echo 'build: copying $(1) to $(2)'; rm -rf $(2).new; \
		cp -a $(1) $(2).new; rm -rf $(2).new/run $(2).new/test $(2).new/.configured; \
		{ grep -rlZ --include='.*.cmd' '$(1)/' $(2).new || true; } | xargs -0r sed -i 's|$(1)/|$(2)/|g'; \
		mv $(2).new $(2); }
endef

# The best C: patches to the mm/mlock.c that the C twin has
FAIR_PATCHES = $(sort $(wildcard tools/mlock2/fair/*.patch))

# KERNEL(suffix, fragments): the kernel $(BUILD)/$(ARCH)<suffix>, its C twin, and
# that with the best C.
#
# The twin is the same build with the one option off. The third kernel is the twin
# with one file of its own: make looks for a source in the build tree first.
#
# .configured says that .config is what was asked for: if make is interrupted in
# the middle of that, kconfig may leave a .config that is not.
define KERNEL
$(O)$(1)/.configured: $(call fragments,$(2)) Kconfig $(BUILD)/tools.mk $(if $(wildcard $(O)$(1)/.config),,always)
	$$(call configure,$(O)$(1),allnoconfig $(2))
	@# The kernel does not make the bindings again for another bindgen.
	@rm -f $(O)$(1)/rust/bindings/*_generated.rs
	@{ $(call wanted,$(call fragments,$(2))) | grep -vxFf $(O)$(1)/.config; \
	$(call unwanted,$(call fragments,$(2))) | grep -xFf $(O)$(1)/.config; } >$(O)$(1)/config.missing || true; \
	if [ -s $(O)$(1)/config.missing ]; then \
		{ echo 'config: error: Kconfig does not allow this; see $(O)$(1)/config.log:'; cat $(O)$(1)/config.missing; } >&2; \
		exit 1; \
	fi
	@touch $$@

.PHONY: kernel$(1)-built kernel$(1)-c-built
kernel$(1)-built: $(O)$(1)/.configured
	@echo 'build: $(O)$(1) (CONFIG_MLOCK2=y)'
	@$$(KMAKE) CC='$$(KCC)' O=$(O)$(1) $(KIMAGE) $(KEXTRA) 2>&1 | $$(call progress,$(O)$(1)/build)
	@if ! grep -q '_6mlock2' $(O)$(1)/System.map; then \
		echo 'build: error: $(O)$(1) has no mlock2 in it; make again to configure it anew' >&2; rm -f $(O)$(1)/.configured; exit 1; fi

$(O)$(1)-c/.configured: $(O)$(1)/.configured $$(wildcard $(O)$(1)/.config) | kernel$(1)-built
	$$(call copy_tree,$(O)$(1),$(O)$(1)-c)
	@cp $(O)$(1)/.config $$(@D)/.config.new
	@$(LINUX)/scripts/config --file $$(@D)/.config.new -d MLOCK2
	@mv $$(@D)/.config.new $$(@D)/.config
	$$(call configure,$(O)$(1)-c,olddefconfig)
	@if grep -q '^CONFIG_MLOCK2=' $$(@D)/.config; then echo 'config: error: CONFIG_MLOCK2 is still set' >&2; exit 1; fi
	@touch $$@

kernel$(1)-c-built: kernel$(1)-built $(O)$(1)-c/.configured
	@# Nothing else may be different, or more than that would be compared.
	@if ! diff <(grep -v MLOCK2 $(O)$(1)/.config) <(grep -v MLOCK2 $(O)$(1)-c/.config) >$(O)$(1)-c/config.diff; then \
		{ echo 'config: error: without CONFIG_MLOCK2, this is not the same:'; cat $(O)$(1)-c/config.diff; } >&2; exit 1; fi
	@echo 'build: $(O)$(1)-c (CONFIG_MLOCK2=n)'
	@$$(KMAKE) CC='$$(KCC)' O=$(O)$(1)-c $(KIMAGE) $(KEXTRA) 2>&1 | $$(call progress,$(O)$(1)-c/build)
	@if grep -q '_6mlock2' $(O)$(1)-c/System.map; then echo 'build: error: $(O)$(1)-c has mlock2 in it' >&2; exit 1; fi

$(O)$(1)-fair/.configured: $(O)$(1)-c/.configured $$(wildcard $(O)$(1)-c/.config) | kernel$(1)-c-built
	$$(call copy_tree,$(O)$(1)-c,$(O)$(1)-fair)
	@cp $(O)$(1)-c/.config $$(@D)/.config
	$$(call configure,$(O)$(1)-fair,olddefconfig)
	@touch $$@

$(O)$(1)-fair/mm/mlock.c: $(LINUX)/mm/mlock.c $(FAIR_PATCHES) | $(O)$(1)-fair/.configured
	@cp $$< $$@.new
	@for patch in $(FAIR_PATCHES); do patch -s --fuzz=0 --no-backup-if-mismatch -r - $$@.new $$$$patch || \
		{ echo "build: error: $$$$patch does not apply to mm/mlock.c" >&2; exit 1; }; done
	@mv $$@.new $$@

.PHONY: kernel$(1)-fair-built
kernel$(1)-fair-built: kernel$(1)-c-built $(O)$(1)-fair/.configured $(O)$(1)-fair/mm/mlock.c
	@if ! diff $(O)$(1)-c/.config $(O)$(1)-fair/.config >$(O)$(1)-fair/config.diff; then \
		{ echo 'config: error: this is not as in $(O)$(1)-c:'; cat $(O)$(1)-fair/config.diff; } >&2; exit 1; fi
	@echo 'build: $(O)$(1)-fair (CONFIG_MLOCK2=n, the best C)'
	@$$(KMAKE) CC='$$(KCC)' O=$(O)$(1)-fair $(KIMAGE) $(KEXTRA) 2>&1 | $$(call progress,$(O)$(1)-fair/build)
	@if ! grep -q ' munlock_pte_range$$$$' $(O)$(1)-fair/System.map; then echo 'build: error: $(O)$(1)-fair has not the best C in it' >&2; exit 1; fi
endef
$(eval $(call KERNEL,,$(KCONFIGS)))
$(foreach kind,$(KINDS),$(eval $(call KERNEL,-$(kind),$(KCONFIGS) $(if $(filter $(CHECKS),$(kind)),mlock2_fail.config) mlock2-$(kind).config)))

#
# The guest: PID 1, demonstration and selftests, and the tool that boots it
#

GUEST = $(O)/guest
SELFTESTS = mlock2-tests mlock-random-test on-fault-limit mlock-behaviour mlock-pressure mlock-large mlock-rt mlock-secret mlock-trace mlock-why-test
TOOL = $(BUILD)/tool/release/mlock2
CARGO = cargo --quiet

# The kernel's headers, as programs see them: headers(its name for the architecture)
headers = $(O)/headers/$(1)/usr/include
$(O)/headers/%/.done: $(BUILD)/tools.mk
	@echo 'headers: $(@D)'
	@mkdir -p $(@D)
	@$(KMAKE) ARCH=$* O=$(@D) headers >$(@D)/log 2>&1 || { tail -n 20 $(@D)/log >&2; exit 1; }
	@touch $@

# An ABI's own compiler and headers, or those of the kernel's own ABI
cc_of = $(or $(CC_$(1)),$(USER_CC))
headers_of = $(or $(HEADERS_$(1)),$(USER_HEADERS),$(KARCH))

# selftests(ABI, directory). The kernel's own Makefile builds them; static, so
# that the guest needs no libraries. Of libcap, they want two calls.
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

# What has not been tried on other architectures yet, and takes minutes on some
NOT_TRIED = $(if $(filter x86_64,$(ARCH)),,mlock-rt mlock-secret)
# The same programs once more for each other ABI
$(GUEST)/%.plan: tools/mlock2/guest/%.plan tools/mlock2/arch/$(ARCH).mk
	@mkdir -p $(GUEST)
	@$(if $(NOT_TRIED),echo '$*.plan: not tried on $(ARCH) yet: $(NOT_TRIED)')
	@awk -v not=' $(NOT_TRIED) ' '!index(not, " " $$1 " ")' $< >$@.own
	@{ cat $@.own; for abi in $(COMPAT); do \
		awk -v abi=$$abi '/^[^#]/ && $$3 != "demo" { $$1 = $$1 "-" abi; $$3 = abi "/" $$3; print }' $@.own; \
	done; } >$@.new && mv $@.new $@

# With all checks, some take minutes: a part has to do, and one ABI.
$(GUEST)/debug.plan: tools/mlock2/guest/test.plan
	@mkdir -p $(GUEST)
	@sed '/^mlock-secret\t/s/$$/ -v large_shmem/' $< >$@.new && mv $@.new $@

# Builds a crate for the guest, which has no libraries: guest_crate(its directory,
# where to, more options). Debian has no standard library for another machine: it is
# built from the source that the kernel wants anyway.
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

# Data races between parts of the kernel that are the same C with CONFIG_MLOCK2=n: rmap looks at
# mm_cpumask() while a CPU enters or leaves it, in code that is not instrumented, so not in Rust,
# all of which is; a fault looks for its vma in the maple tree without a lock, while a writer replaces a
# node; zsmalloc reads a bit field beside one that writes to its neighbour.
RACES = data-race in set_tlb_ubc_flush_pending&unknown origin, with read \
	|data-race in try_to_migrate_one+&unknown origin, with read \
	|data-race in try_to_unmap_one+&unknown origin, with read \
	|data-race in &mas_state_walk+&lock_vma_under_rcu+ \
	|data-race in fix_fullness_group / zs_obj_write
KNOWN = $(if $(filter kcsan,$(KIND)),$(RACES))
# machine(build tree, more arguments of QEMU, more kernel parameters): what all boots have in common
machine = $(TOOL) boot --image $(1)/$(KIMAGE_FILE) --gen-init-cpio $(1)/usr/gen_init_cpio \
	$(QEMU:%=--qemu %) --qemu-args='$(QEMU_ARGS) $(2)' --tcg $(TCG) \
	--console $(CONSOLE) --init $(GUEST)/init \
	$(CPUS:%=--cpus %) $(MEM:%=--mem %) $(if $(KNOWN),--known '$(KNOWN)') --name '$(call name_of,$(1))' --append '$(KPARAMS) $(3)'
# The kernels that have the events of include/trace/events/mlock.h
TRACED = $(filter-out %-c %-fair,$(filter $(BUILD)/x86_64%,$(1)))
# boot(build tree, plan, name of this boot, more kernel parameters)
boot = $(call machine,$(1),,$(KNODES) $(4)) $(if $(ABSENT),--absent '$(ABSENT)') \
	$(if $(call TRACED,$(1)),,--absent 'no trace events of mlock') --accel $(ACCEL) \
	--bin $(GUEST) --file $(GUEST)/mlock-why --plan $(2) --work $(1)/$(3)
# What a build tree is called in the results, such as "x86_64-debug MLOCK2=n"
name_of = $(patsubst %-fair,%,$(patsubst %-c,%,$(notdir $(1)))) $(if $(filter %-c %-fair,$(1)),MLOCK2=n,MLOCK2=y)$(if $(filter %-fair,$(1)), FAIR=1)
# A kernel with checks takes its time.
SLOW = --limit 1800 --timeout 2400
# Under load it may be told to go on for an hour.
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

#
# Tests
#

# How much of the random operations 'make test' has, and of what takes long with all
# checks. Selftests do as well, so they run in the kernel's own ABI only there.
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

# KIND=, FAIR=: another kernel
O_KIND = $(O)$(KIND:%=-%)
O_TESTED = $(O_KIND)$(if $(FAIR),-fair)
.PHONY: kernel-tested
kernel-tested: kernel$(KIND:%=-%)$(if $(FAIR),-fair)-built

# The selftests and KUnit alone, on one kernel
.PHONY: selftest selftest-built
selftest: linux
	@$(MAKE) selftest-built
selftest-built: $(if $(USER_CC),,no-user-cc) kernel-tested guest tool
	@$(call boot,$(O_TESTED),$(GUEST)/test.plan,test,$(if $(FAIR),,kunit.enable=1)) $(SLOW)
	@# C has no KUnit test
	@$(if $(FAIR),,tools/mlock2/kunit.sh $(LINUX) $(O_TESTED)/test/console.log | tail -n 2)

# Those first that matter most to the series
TEST_ARCHS ?= arm64 mips64el riscv64 um mips64 powerpc64le s390 arm loongarch64

.PHONY: test-arch
test-arch:
	@tools/mlock2/test-arch.sh $(TEST_ARCHS)

# Hours
STEPS ?=
.PHONY: test-long
test-long: linux
	@O=$(O) tools/mlock2/test-long.sh $(STEPS)

#
# Instructions for each operation, in C, in the best C, and in Rust
#

BENCH = $(BUILD)/bench
BENCH_BIN = $(BENCH)/target/$(RUST_TARGET)/release
KVM ?=
SCALE ?= 1/32
# 'mlock2 bench', with the machine that all kernels run on
bench_tool = $(BENCH)/tool/release/mlock2 bench --c $(O_C) --rust $(O) --fair $(O_FAIR) --image-file $(KIMAGE_FILE) \
	--qemu $(QEMU) --qemu-args='$(if $(KVM),$(KVM_QEMU_ARGS),$(1))' --console $(CONSOLE) \
	--init $(GUEST)/init --bin $(BENCH_BIN) --append '$(KPARAMS)' --append-icount '$(KICOUNT)' \
	$(if $(KVM),--kvm) --out $(BENCH)$(if $(KVM),/kvm)$(GCC:%=/gcc)

.PHONY: bench-programs bench-crates
bench-programs: kernel-fair-built $(GUEST)/init bench-crates
bench-crates:
	@$(call guest_crate,tools/mlock2/bench,$(BENCH))
	@$(CARGO) build --release --locked --features bench \
		--manifest-path tools/mlock2/Cargo.toml --target-dir $(BENCH)/tool

# With --only, only that row and not the rest.
.PHONY: bench bench-rows bench-sweep bench-growth bench-cpus bench-paper
bench: $(if $(findstring --only,$(BENCH_ARGS)),bench-rows,bench-rows bench-growth bench-cpus)
bench-rows bench-sweep bench-growth bench-cpus bench-paper: linux
	@$(MAKE) $@-built

.PHONY: bench-rows-built bench-sweep-built bench-growth-built bench-cpus-built bench-paper-built
bench-rows-built: bench-programs
	@echo 'bench: what each operation costs'
	@$(call bench_tool,$(QEMU_ARGS)) rows -- $(BENCH_ARGS)
bench-sweep-built: bench-programs
	@echo 'bench: every call, with every outcome'
	@$(call bench_tool,$(QEMU_ARGS)) sweep -- $(SWEEP_ARGS)
bench-growth-built: bench-programs
	@echo 'bench: how cost grows'
	@$(call bench_tool,$(QEMU_ARGS)) growth $(GROWTH_ARGS)
bench-cpus-built: bench-programs
	@echo 'bench: several CPUs at once'
	@$(call bench_tool,$(QEMU_ARGS)) cpus $(CPUS_ARGS)
bench-paper-built: bench-programs
	@echo 'bench: the experiment of the 2015 letter, at scale $(SCALE)'
	@$(call bench_tool,$(QEMU_ARGS)) paper --scale '$(SCALE)' --linux $(LINUX) --cc $(USER_CC)

# On this machine itself: kernels that are programs, with memory that the caches hold and, for a few
# operations, with more than that.
UM = $(BUILD)/um
NATIVE_ARGS ?=
native = $(BENCH)/tool/release/mlock2 bench --c $(UM)-c --rust $(UM) --fair $(UM)-fair --image-file linux \
	--console tty0 --mem 1024 --init $(UM)/guest/init --bin $(BENCH_BIN) --append 'seccomp=on' --out $(BENCH) native $(NATIVE_ARGS)
.PHONY: bench-native bench-native-built
bench-native: linux
	@$(MAKE) ARCH=um kernel-fair-built guest
	@$(MAKE) $@-built
bench-native-built: bench-crates
	@echo 'bench: nanoseconds, memory that the caches hold'
	@$(native) -- --size 2M --rounds 31 $(foreach r,mlock_resident_page munlock_page touch_plain onfault_touch_overhead \
		munmap_plain munmap_locked_overhead file_cached_onfault_overhead tmpfs_write_onfault_overhead mlock_one_page munlock_one_page \
		mlockall_per_vma_1000 munlockall_per_vma_1000 mlockall_10_vmas munlockall_10_vmas mmap_munmap_plain,--only $(r))
	@echo 'bench: nanoseconds, 512 MiB'
	@$(native) --name native-cold -- --size 512M --rounds 3 $(foreach r,mlock_resident_page munlock_page \
		touch_plain onfault_touch_overhead munmap_plain munmap_locked_overhead,--only $(r))

.PHONY: results
results:
	@tools/mlock2/results.sh $(BENCH) >Documentation/mm/mlock2-results.rst.new
	@mv Documentation/mm/mlock2-results.rst.new Documentation/mm/mlock2-results.rst

# What large folios cost of which a part is locked, on the C kernel
SELFTEST_DIR = $(LINUX)/tools/testing/selftests
$(GUEST)/large-cost: tools/mlock2/guest/large-cost.c tools/testing/selftests/mm/mlock-helpers.h tools/testing/selftests/mm/mlock-swap.h \
		$(O)/headers/$(call headers_of,native)/.done
	@$(USER_CC) -static -O2 -Wall -isystem $(call headers,$(call headers_of,native)) -I$(LINUX)/tools/include \
		-I$(SELFTEST_DIR) -I$(SELFTEST_DIR)/mm -o $@ $< $(SELFTEST_DIR)/mm/vm_util.c
.PHONY: bench-large bench-large-built
bench-large: linux
	@$(MAKE) $@-built
bench-large-built: kernel-c-built tool $(GUEST)/init $(GUEST)/large-cost
	@mkdir -p $(BENCH) && printf 'large-cost\troot\tlarge-cost\n' >$(BENCH)/large.plan
	@$(call machine,$(O_C),-icount shift=0$(comma)sleep=off,$(KICOUNT) norandmaps) --cpus 1 --accel tcg \
		--bin $(GUEST) --plan $(BENCH)/large.plan --work $(BENCH)/large
	@cat $(BENCH)/large/large-cost.log

# Where the instructions of one row are
PROFILE_ARGS ?= --size 1M --rounds 3 --calls 11
.PHONY: profile profile-built
profile: linux
	@[ -n '$(ROW)' ] || { echo "profile: error: which row? ROW=mlock_resident_page, or another of 'make bench'" >&2; exit 1; }
	@$(MAKE) profile-built
profile-built: bench-programs
	@$(call bench_tool,$(PROFILE_QEMU_ARGS)) profile --row '$(ROW)' --objdump $(KOBJDUMP) -- $(PROFILE_ARGS)

#
# What user space sees of random operations, in C and in Rust
#

OPS ?= 50000
SEED ?= 1
SEEDS ?= 1-200
# SELF=c|rust: a kernel against itself, which must be clean
SELF ?=
DIFF = $(BUILD)/diff
DIFF_BIN = $(DIFF)/target/$(RUST_TARGET)/release
DIFF_TOOL = $(DIFF)/tool/release/mlock2-diff
# Both kernels do the same in the same order; without an emulator, as far as one CPU can.
DIFF_MACHINE = $(if $(QEMU),-icount shift=0$(comma)sleep=off)
CASES = --cases tools/testing/mlock2/diff/cases
diff_boot = $(call machine,$(1),$(DIFF_MACHINE),$(KICOUNT) $(KNODES) norandmaps $(2)) --accel tcg --cpus 1 \
	--bin $(DIFF_BIN) --plan tools/testing/mlock2/diff/diff.plan
# compare(name, build tree that is right, build tree that is tested, more kernel
# parameters): a command, to stand in double quotes
compare = $(DIFF_TOOL) $(if $(ABSENT),--absent '$(ABSENT)') $(if $(KNODES),$(if $(filter rt,$(KIND)),,--reach-all)) --work $(DIFF)/$(1) \
	--oracle \"$(call diff_boot,$(2),$(4))\" --tested \"$(call diff_boot,$(3),$(4))\"
# Of a kernel and its twin, those that SELF and FAIR say
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

# Every allocation fails once; the kernel needs fault injection for that.
INJECT_RANDOM ?= 20
INJECT_CASES = tools/testing/mlock2/diff/cases-inject

# inject(name, build tree)
inject = $(call compare,$(1),$(call right,$(2)),$(call tested,$(2)),slab_debug=F cgroup.memory=nokmem) --ops 0

.PHONY: inject inject-built
inject: linux
	@$(MAKE) inject-built KIND=$(or $(KIND),debug)
inject-built: kernel$(KIND:%=-%)-c-built guest tool diff-programs
	@eval "$(call inject,$(notdir $(O_KIND))-inject,$(O_KIND)) $(addprefix --cases $(INJECT_CASES)/,short more) --inject $(INJECT_RANDOM)"

#
# Mistakes on purpose, and which test notices
#

MUTANTS = $(BUILD)/mutants
# Beside the other trees, and no deeper: ccache finds their objects for it then.
O_MUTANT = $(O)-mutant
# which of tools/testing/mlock2/mutants/*.diff; FORCE=1: those that were noticed before, too
MUTANT ?= *
FORCE ?=
MUTANT_OPS ?= 5000
# mutant_boot(name, seconds for a program, entries of the plan, more kernel parameters)
mutant_boot = $(call boot,$(O_MUTANT),$(GUEST)/test.plan,run/$(1),oops=panic $(4)) \
	--limit $(2) --timeout $$(($(2) + 60)) $(addprefix --only ,$(3))

.PHONY: mutants mutants-built mutants-pure mutants-kernel mutants-debug
mutants: linux
	@$(MAKE) mutants-built
mutants-built: mutants-pure mutants-interleave-built
	@$(MAKE) mutants-kernel
	@survivors=$$($(SURVIVORS)) || { echo 'mutants: error: one is broken, see above' >&2; exit 1; }; \
	[ -z "$$survivors" ] || $(MAKE) mutants-debug

# What they notice is asked for again when these are newer.
mutant_tests = $(addprefix $(GUEST)/,$(SELFTESTS))

# One stage after the other, the quickest first. Those that nothing notices (status 1) go on below.
mutants-kernel: kernel-c-built guest tool diff-programs
	@$(TOOL) mutants --linux $(LINUX) --from $(O) --tree $(O_MUTANT) --work $(MUTANTS) $(if $(FORCE),--again) \
		$(addprefix --test ,$(mutant_tests) $(wildcard tools/testing/mlock2/diff/cases/*.case) $(DIFF_BIN)/mlock2-diff-guest) \
		--build "$(KMAKE) CC='$(KCC)' O=$(O_MUTANT) $(KIMAGE)" \
		--stage quick="$(call mutant_boot,quick,120,mlock2-tests mlock2-tests-nobody on-fault-limit,kunit.enable=1)" \
		--stage behaviour="$(call mutant_boot,behaviour,300,mlock-behaviour)" \
		--stage trace="$(call mutant_boot,trace,120,mlock-trace)" \
		--stage diff="$(call compare,mutant,$(O_C),$(O_MUTANT)) $(CASES) --ops $(MUTANT_OPS) --shrink 0" \
		--stage pressure="$(call mutant_boot,pressure,600,mlock-pressure mlock-random-test)" \
		$(wildcard $(MUTANT:%=tools/testing/mlock2/mutants/%.diff)) || [ $$? = 1 ]

# Those that nothing of that notices, with all checks, and under load
SURVIVORS = awk -F'\t' 'NR > 1 && $$1 != "(none)" { if ($$2 == "survived") print "tools/testing/mlock2/mutants/" $$1 ".diff"; else if ($$2 != "killed") exit 1 }' \
	$(MUTANTS)/results.tsv
debug_mutant_boot = $(call boot,$(O)-debug-mutant,tools/mlock2/guest/test.plan,run/$(1),kunit.enable=1) $(SLOW) $(addprefix --only ,$(2))
mutants-debug: kernel-debug-built guest tool stress-program
	@$(TOOL) mutants --linux $(LINUX) --from $(O)-debug --tree $(O)-debug-mutant --work $(MUTANTS)/debug $(if $(FORCE),--again) \
		$(addprefix --test ,$(mutant_tests) $(STRESS_BIN)/mlock2-stress) \
		--build "$(KMAKE) CC='$(KCC)' O=$(O)-debug-mutant $(KIMAGE)" \
		--stage quick="$(call debug_mutant_boot,quick,mlock2-tests mlock-random-test mlock-behaviour)" \
		--stage stress="$(call stress_boot,$(O)-debug-mutant,$(STRESS)/test.plan)" \
		--stage pressure="$(call debug_mutant_boot,pressure,mlock-pressure)" \
		$$($(SURVIVORS))

# The modules without kernel types, which a tool knows how to break
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
	@cp tools/testing/mlock2/mutants/pure.rs $(PURE)/src/lib.rs
	@PATH=$(BUILD)/tools/bin:$$PATH cargo mutants --dir $(PURE) --output $(PURE) --gitignore=false \
		--exclude-re 'replace \| with \^ in LockAll::from_mlockall_flags'

#
# Every interleaving of the page part with the rest of mm, in Rust and in C
#

# --triples N: three tasks at once, with N preemptions at most, or all; --stock: the C
# without fixes, too
INTERLEAVE_ARGS ?= --triples 2 --stock --paths $(INTERLEAVE)/paths.txt
TEST_INTERLEAVE = --triples 1
INTERLEAVE = $(BUILD)/interleave
INTERLEAVE_CRATE = tools/testing/mlock2/interleave

.PHONY: interleave interleave-built interleave-program
interleave: linux
	@$(MAKE) interleave-built
interleave-program:
	@LINUX=$(LINUX) CC='$(KCC)' $(CARGO) build --release --locked \
		--manifest-path $(INTERLEAVE_CRATE)/Cargo.toml --target-dir $(INTERLEAVE)
interleave-built: interleave-program
	@$(INTERLEAVE)/release/mlock2-interleave $(INTERLEAVE_ARGS)

# Those that only a race shows
.PHONY: mutants-interleave mutants-interleave-built
mutants-interleave: linux
	@$(MAKE) mutants-interleave-built
mutants-interleave-built:
	@LINUX=$(LINUX) CC='$(KCC)' $(INTERLEAVE_CRATE)/mutants.sh $(MUTANTS)/interleave $(foreach m,$(MUTANT),'$(m)')

# The same protocol, as a model: of the Rust, and of the C
.PHONY: spin
spin: setup
	@CC='$(KCC)' $(INTERLEAVE_CRATE)/spin.sh $(INTERLEAVE)/spin

#
# Locked memory under load
#

STRESS_ARGS ?= --seconds 120 --round 30 --watchdog 600
STRESS = $(BUILD)/stress
STRESS_BIN = $(STRESS)/target/$(RUST_TARGET)/release
# stress_boot(build tree, plan)
stress_boot = $(call machine,$(1),,$(KNODES)) --accel $(ACCEL) --mem 512 --cpus 4 $(LOAD) \
	--bin $(STRESS_BIN) --plan $(2) --work $(1)/stress

.PHONY: stress-program
stress-program: $(if $(RUST_TARGET),,no-rust-target) $(GUEST)/init
	@$(call guest_crate,tools/testing/mlock2/stress,$(STRESS))
	@echo 'stress root mlock2-stress $(STRESS_ARGS)' >$(STRESS)/plan
	@echo 'stress root mlock2-stress $(TEST_STRESS)' >$(STRESS)/test.plan

.PHONY: stress stress-built
stress: linux
	@$(MAKE) stress-built
stress-built: kernel-tested guest tool stress-program
	@$(call stress_boot,$(O_TESTED),$(STRESS)/plan)

# A second opinion: what Debian's stress-ng has that locks memory. It is not
# static, so its loader is the program and the libraries come along.
STRESS_NG = $(BUILD)/stress-ng
STRESS_NG_ARGS ?= -t 60
STRESS_NG_LOCKS = --mlock 2 --mlockmany 2 --mlockmany-procs 32 --mremap 1 --mremap-bytes 16M --mremap-mlock \
	--vm 1 --vm-bytes 32M --vm-locked --brk 1 --brk-mlock --shm-sysv 1 --madvise 1

.PHONY: stress-ng stress-ng-built
stress-ng: export KARCH_PACKAGES += stress-ng
stress-ng: linux
	@$(MAKE) stress-ng-built
stress-ng-built: kernel-tested guest tool
	@rm -rf $(STRESS_NG) && mkdir -p $(STRESS_NG)
	@cp -L $$(ldd /usr/bin/stress-ng | sed -n 's,^[[:space:]]*\(/[^ ]*ld-linux[^ ]*\) .*,\1,p') $(STRESS_NG)/ld.so
	@echo 'stress-ng root ld.so --library-path / /stress-ng --pathological $(STRESS_NG_LOCKS) --verify --oomable --temp-path /tmp $(STRESS_NG_ARGS)' \
		>$(STRESS_NG)/plan
	@$(call machine,$(O_TESTED)) --accel $(ACCEL) --mem 512 --cpus 4 $(LOAD) --bin $(STRESS_NG) --plan $(STRESS_NG)/plan \
		--file /usr/bin/stress-ng $$(ldd /usr/bin/stress-ng | sed -n 's/.*=> \([^ ]*\) .*/--file \1/p') --work $(O_TESTED)/stress-ng

include tools/mlock2/make/programs.mk

.PHONY: test-configs test-configs-built
test-configs: linux
	@$(MAKE) test-configs-built
test-configs-built:
	@LINUX=$(LINUX) KEEP='$(KEEP)' ALWAYS='$(if $(filter y,$(INLINE_HELPERS)),$(KINLINE:%=%=y))' \
		tools/mlock2/configs.sh "$(KMAKE) CC='$(KCC)'" $(CONFIGS)

.PHONY: clean distclean
clean:
	rm -rf $(O) $(addprefix $(O)-,c fair mutant mutant.pristine debug-mutant debug-mutant.pristine $(KINDS) $(addsuffix -c,$(KINDS)) $(addsuffix -fair,$(KINDS))) $(MUTANTS)
distclean:
	rm -rf $(BUILD)
