# SPDX-License-Identifier: GPL-2.0
#
# The mlock family in Rust, laid over a stock Linux 7.3. 'make help' tells.

MAKEFLAGS += --no-builtin-rules --no-print-directory
SHELL := /bin/bash
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
include tools/mlock2/arch/$(ARCH).mk

export BUILD KSRC KARCH_PACKAGES
# Neither this Makefile's variables nor its flags are the kernel's.
unexport ARCH
# A clone in another directory finds the same objects in ccache.
KMAKE = env -u MAKEFLAGS -u MFLAGS CCACHE_BASEDIR=$(CURDIR) CCACHE_NOHASHDIR=1 $(MAKE) -C $(LINUX) ARCH=$(KARCH) $(KTOOLS) -j$(JOBS)

# tools.mk names the compilers; setup.sh makes it.
-include $(BUILD)/tools.mk

.PHONY: help
help:
	@echo 'make run        set up, build and boot the kernel; demonstration and selftests'
	@echo 'make test       all tests (host, KUnit, selftests on this kernel and on the C one)'
	@echo 'make bench      instructions for each operation in C and in Rust, how they grow, several CPUs'
	@echo 'make bench-paper   the experiment of the 2015 cover letter; at SCALE=1/32 of its size (3 minutes)'
	@echo 'make profile ROW=...  where the instructions of one row of it are, function by function'
	@echo 'make diff       random operations on this kernel and on the C one, compared (OPS=50000 SEED=1)'
	@echo 'make test-configs  compile mm/mlock2 in other configurations (an hour; CONFIGS="up rt" selects)'
	@echo 'make shell      a shell in that kernel, with the files of this machine'
	@echo 'make kernel     build the kernel with CONFIG_MLOCK2=y in build/$(ARCH)'
	@echo 'make kernel-c   the same with CONFIG_MLOCK2=n in build/$(ARCH)-c'
	@echo 'make linux      lay this repository over the stock source in build/linux'
	@echo 'make changes    show what that changes in the stock source'
	@echo 'make setup      install what is missing (as root, on Debian 12 or 13)'
	@echo 'make clean      remove the build trees; distclean: all of build/'
	@echo
	@echo 'KSRC=/path/to/linux   your own 7.3 tree instead of Debian'"'"'s (it is copied)'
	@echo 'ARCH=$(ARCH)           one of: $(ARCHS)'
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

.PHONY: kernel kernel-c
kernel kernel-c: linux
	@$(MAKE) $@-built

O = $(BUILD)/$(ARCH)
O_C = $(BUILD)/$(ARCH)-c

# Show where a build is, not every line of it; the log has them.
ifdef V
progress = tee $(1).log
else
progress = tools/mlock2/progress.sh $(1).log
endif

# config(tree, goals): configure and see that we got what the fragment says
define configure
	@echo 'config: $(1)'
	@mkdir -p $(1)
	@$(KMAKE) CC='$(KCC)' O=$(1) $(2) >$(1)/config.log 2>&1 || { tail -n 20 $(1)/config.log >&2; exit 1; }
endef

# The fragments that the kernel's build finds by the name $(1), and what they
# set but for what these compilers do not allow
fragments = $(wildcard $(patsubst %,kernel/configs/%,$(1)) $(patsubst %,arch/$(KSRCARCH)/configs/%,$(1)))
wanted = grep -hE '^CONFIG_[A-Z0-9_]*=' $(1) $(if $(filter y,$(INLINE_HELPERS)),,| grep -vE '^CONFIG_($(KINLINE))=')

# KERNEL(suffix, fragments): the kernel $(BUILD)/$(ARCH)<suffix> and its C twin.
#
# The twin is the same build with the one option off. It starts from a copy of
# the tree, so that what does not depend on the option need not be configured
# and generated again; most objects come from ccache.
define KERNEL
$(O)$(1)/.config: $(call fragments,$(2)) Kconfig $(BUILD)/tools.mk
	$$(call configure,$(O)$(1),allnoconfig $(2))
	@# The kernel does not make the bindings again for another bindgen.
	@rm -f $(O)$(1)/rust/bindings/*_generated.rs
	@$(call wanted,$(call fragments,$(2))) | grep -vxFf $$@ >$(O)$(1)/config.missing || true; \
	if [ -s $(O)$(1)/config.missing ]; then \
		{ echo 'config: error: Kconfig does not allow this; see $(O)$(1)/config.log:'; cat $(O)$(1)/config.missing; } >&2; \
		rm -f $$@; exit 1; \
	fi

.PHONY: kernel$(1)-built kernel$(1)-c-built
kernel$(1)-built: $(O)$(1)/.config
	@echo 'build: $(O)$(1) (CONFIG_MLOCK2=y)'
	@$$(KMAKE) CC='$$(KCC)' O=$(O)$(1) $(KIMAGE) $(KEXTRA) 2>&1 | $$(call progress,$(O)$(1)/build)

$(O)$(1)-c/.config: $(O)$(1)/.config | kernel$(1)-built
	@[ -d $$(@D) ] || { echo 'build: copying $(O)$(1) to $$(@D)'; rm -rf $$(@D).new; \
		cp -a $(O)$(1) $$(@D).new; rm -rf $$(@D).new/run $$(@D).new/test; mv $$(@D).new $$(@D); }
	@cp $(O)$(1)/.config $$@.new
	@$(LINUX)/scripts/config --file $$@.new -d MLOCK2
	@mv $$@.new $$@
	$$(call configure,$(O)$(1)-c,olddefconfig)
	@if grep -q '^CONFIG_MLOCK2=' $$@; then echo 'config: error: CONFIG_MLOCK2 is still set' >&2; rm -f $$@; exit 1; fi

kernel$(1)-c-built: kernel$(1)-built $(O)$(1)-c/.config
	@echo 'build: $(O)$(1)-c (CONFIG_MLOCK2=n)'
	@$$(KMAKE) CC='$$(KCC)' O=$(O)$(1)-c $(KIMAGE) $(KEXTRA) 2>&1 | $$(call progress,$(O)$(1)-c/build)
endef
$(eval $(call KERNEL,,mlock2.config))
$(eval $(call KERNEL,-debug,mlock2.config mlock2-debug.config))

#
# The guest: PID 1, demonstration and selftests, and the tool that boots it
#

GUEST = $(O)/guest
SELFTESTS = mlock2-tests mlock-random-test on-fault-limit mlock-behaviour mlock-pressure
HEADERS = $(O)/usr/include/.installed
TOOL = $(BUILD)/tool/release/mlock2
CARGO = cargo --quiet

$(HEADERS): $(O)/.config
	@echo 'headers: $(O)/usr/include'
	@$(KMAKE) O=$(O) headers >$(O)/headers.log 2>&1 || { tail -n 20 $(O)/headers.log >&2; exit 1; }
	@touch $@

# The kernel's own Makefile builds the selftests; static, so that the guest
# needs no libraries.
.PHONY: guest
guest: $(HEADERS) $(GUEST)/init $(GUEST)/demo
	@env -u MAKEFLAGS -u MFLAGS $(MAKE) -s -C $(LINUX)/tools/testing/selftests/mm ARCH=$(KARCH) CC='$(USER_CC)' \
		OUTPUT=$(GUEST) EXTRA_CFLAGS='-static -Wno-unused-result' KHDR_INCLUDES='-isystem $(O)/usr/include' \
		$(addprefix $(GUEST)/,$(SELFTESTS)) >$(O)/selftests.log 2>&1 || { cat $(O)/selftests.log >&2; exit 1; }

$(GUEST)/%: tools/mlock2/guest/%.c $(HEADERS)
	@mkdir -p $(GUEST)
	@$(USER_CC) -static -O2 -Wall -Wextra -isystem $(O)/usr/include -o $@ $<

.PHONY: tool
tool:
	@$(CARGO) build --release --locked --manifest-path tools/mlock2/Cargo.toml --target-dir $(BUILD)/tool

# boot(build tree, plan, name of this boot, more options)
boot = $(TOOL) boot --image $(1)/$(KIMAGE_FILE) --gen-init-cpio $(1)/usr/gen_init_cpio \
	--qemu $(QEMU) --qemu-args='$(QEMU_ARGS)' --console $(CONSOLE) --accel $(ACCEL) \
	--init $(GUEST)/init --bin $(GUEST) --plan $(2) --work $(1)/$(3) \
	--name '$(ARCH) $(if $(filter $(O_C),$(1)),MLOCK2=n,MLOCK2=y)' --append '$(KPARAMS) $(4)'

.PHONY: run run-built
run: linux
	@$(MAKE) run-built
run-built: kernel-built guest tool
	@$(call boot,$(O),tools/mlock2/guest/run.plan,run)

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

.PHONY: test test-built
test: linux
	@$(MAKE) test-built
test-built: kernel-c-built guest tool
	@LINUX=$(LINUX) O=$(O) O_C=$(O_C) TOOL=$(TOOL) CARGO='$(CARGO)' KSRCARCH=$(KSRCARCH) OBJDUMP='$(KOBJDUMP)' \
		tools/mlock2/test.sh '$(ARCH)' \
		"$(call boot,$(O),tools/mlock2/guest/test.plan,test,kunit.enable=1)" \
		"$(call boot,$(O_C),tools/mlock2/guest/test.plan,test)"

#
# Instructions for each operation, in C and in Rust
#

BENCH = $(BUILD)/bench
BENCH_BIN = $(BENCH)/target/$(RUST_TARGET)/release
KVM ?=
SCALE ?= 1/32
# 'mlock2 bench', with the machine that the C kernel and the Rust one run on
bench_tool = $(BENCH)/tool/release/mlock2 bench --c $(O_C) --rust $(O) --image-file $(KIMAGE_FILE) \
	--qemu $(QEMU) --qemu-args='$(if $(KVM),$(KVM_QEMU_ARGS),$(1))' --console $(CONSOLE) \
	--init $(GUEST)/init --bin $(BENCH_BIN) --append '$(KPARAMS)' --append-icount '$(KICOUNT)' \
	$(if $(KVM),--kvm) --out $(BENCH)$(if $(KVM),/kvm)

# The guest's program is static, so that the guest needs no libraries.
.PHONY: bench-programs
bench-programs: kernel-c-built $(GUEST)/init
	@RUSTFLAGS='-C target-feature=+crt-static' $(CARGO) build --release --locked --target $(RUST_TARGET) \
		--manifest-path tools/mlock2/bench/Cargo.toml --target-dir $(BENCH)/target
	@$(CARGO) build --release --locked --features bench \
		--manifest-path tools/mlock2/Cargo.toml --target-dir $(BENCH)/tool

# With --only, only that row and not the rest.
.PHONY: bench bench-rows bench-growth bench-cpus bench-paper
bench: $(if $(findstring --only,$(BENCH_ARGS)),bench-rows,bench-rows bench-growth bench-cpus)
bench-rows bench-growth bench-cpus bench-paper: linux
	@$(MAKE) $@-built

.PHONY: bench-rows-built bench-growth-built bench-cpus-built bench-paper-built
bench-rows-built: bench-programs
	@echo 'bench: what each operation costs'
	@$(call bench_tool,$(QEMU_ARGS)) rows -- $(BENCH_ARGS)
bench-growth-built: bench-programs
	@echo 'bench: how cost grows'
	@$(call bench_tool,$(QEMU_ARGS)) growth $(GROWTH_ARGS)
bench-cpus-built: bench-programs
	@echo 'bench: several CPUs at once'
	@$(call bench_tool,$(QEMU_ARGS)) cpus $(CPUS_ARGS)
bench-paper-built: bench-programs
	@echo 'bench: the experiment of the 2015 letter, at scale $(SCALE)'
	@$(call bench_tool,$(QEMU_ARGS)) paper --scale '$(SCALE)' --linux $(LINUX) --cc $(USER_CC)

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
# SELF=c|rust: a kernel against itself, which must be clean
SELF ?=
DIFF = $(BUILD)/diff
DIFF_BIN = $(DIFF)/target/$(RUST_TARGET)/release
diff_boot = $(TOOL) boot --image $(1)/$(KIMAGE_FILE) --gen-init-cpio $(1)/usr/gen_init_cpio \
	--qemu $(QEMU) --qemu-args='$(QEMU_ARGS) -icount shift=0,sleep=off' --console $(CONSOLE) --accel tcg --cpus 1 \
	--init $(GUEST)/init --bin $(DIFF_BIN) --plan tools/testing/mlock2/diff/diff.plan \
	--name '$(ARCH) $(2)' --append '$(KPARAMS) $(KICOUNT) norandmaps'
diff_c = $(call diff_boot,$(O_C),MLOCK2=n)
diff_rust = $(call diff_boot,$(O),MLOCK2=y)

.PHONY: diff diff-built
diff: linux
	@$(MAKE) diff-built
diff-built: kernel-c-built guest tool
	@RUSTFLAGS='-C target-feature=+crt-static' $(CARGO) build --release --locked --target $(RUST_TARGET) \
		--manifest-path tools/testing/mlock2/diff/Cargo.toml --target-dir $(DIFF)/target
	@$(DIFF_BIN)/mlock2-diff --ops $(OPS) --seed $(SEED) --work $(DIFF)/run --cases tools/testing/mlock2/diff/cases \
		--oracle "$(diff_$(if $(filter rust,$(SELF)),rust,c))" --tested "$(diff_$(if $(filter c,$(SELF)),c,rust))"

.PHONY: test-configs test-configs-built
test-configs: linux
	@$(MAKE) test-configs-built
test-configs-built:
	@LINUX=$(LINUX) KEEP='$(KEEP)' ALWAYS='$(if $(filter y,$(INLINE_HELPERS)),$(KINLINE:%=%=y))' \
		tools/mlock2/configs.sh "$(KMAKE) CC='$(KCC)'" $(CONFIGS)

.PHONY: clean distclean
clean:
	rm -rf $(O) $(O_C)
distclean:
	rm -rf $(BUILD)
