# SPDX-License-Identifier: GPL-2.0
# The source and the kernels: set-up, overlay, and the build trees of MLOCK2=y, its
# C twin, and the twin with the best C. The public goals run make anew, since setup
# may just have written tools.mk.

export BUILD KSRC KARCH_PACKAGES GCC
# Do not pass the variables and flags of this Makefile to the kernel's make.
unexport ARCH
# Let clones in other directories share objects in ccache.
KMAKE = env -u MAKEFLAGS -u MFLAGS CCACHE_BASEDIR=$(CURDIR) CCACHE_NOHASHDIR=1 $(MAKE) -C $(LINUX) ARCH=$(KARCH) $(KTOOLS) -j$(JOBS)

# tools.mk names the compilers; setup.sh makes it.
-include $(BUILD)/tools.mk
# gcc compiles Debian's kernel, so no helper can be inlined into Rust.
GCC ?=
ifneq ($(GCC),)
KTOOLS := $(filter-out LLVM=%,$(KTOOLS))
KCC = ccache gcc
INLINE_HELPERS =
endif

.PHONY: setup linux changes
setup:
	@tools/mlock2/setup.sh

linux: setup
	@tools/mlock2/linux.sh

changes: linux
	@# first the files that the kernel has, then ours
	@git -C $(LINUX) diff --diff-filter=M pristine HEAD || true
	@git -C $(LINUX) diff --diff-filter=d --stat pristine HEAD || true

.PHONY: kernel kernel-c kernel-fair always
kernel kernel-c kernel-fair: linux
	@$(MAKE) $(@:kernel%=kernel$(KIND:%=-%)%)-built

O = $(BUILD)/$(ARCH)$(GCC:%=-gcc)
O_C = $(O)-c
O_FAIR = $(O)-fair

# Show the progress of a build; the log has every line.
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

# The fragments that the kernel build finds under the names $(1), and the options that they set,
# except those that these compilers do not support
fragments = $(foreach f,$(1),$(wildcard kernel/configs/$(f) arch/$(KSRCARCH)/configs/$(f)))
wanted = awk -F'[= ]' '/^CONFIG_/ { set[$$$$1] = $$$$0 } /^\# CONFIG_/ { delete set[$$$$2] } END { for (i in set) print set[i] }' \
	$(1) $(if $(filter y,$(INLINE_HELPERS)),,| grep -vE '^CONFIG_($(KINLINE))=')
# The options that they disable, in the form that .config would enable them
unwanted = awk -F'[= ]' '/^CONFIG_/ { delete off[$$$$1] } /^\# CONFIG_/ { off[$$$$2] } END { for (i in off) print i "=y" }' $(1)

# copy_tree(from, to): copy a build tree, so that only differences are built again. Some commands
# contain the name of the tree; if they changed, objtool would be rebuilt, and with it all objects.
define copy_tree
	@[ -d $(2) ] || { echo 'build: copying $(1) to $(2)'; rm -rf $(2).new; \
		cp -a $(1) $(2).new; rm -rf $(2).new/run $(2).new/test $(2).new/.configured; \
		{ grep -rlZ --include='.*.cmd' '$(1)/' $(2).new || true; } | xargs -0r sed -i 's|$(1)/|$(2)/|g'; \
		mv $(2).new $(2); }
endef

# The best C: patches for mm/mlock.c of the C twin
FAIR_PATCHES = $(sort $(wildcard tools/mlock2/fair/*.patch))

# image(build tree, modules): the image, then the modules. For both at once, the kernel's make builds
# each goal alone, and so a module without another one that it needs.
image = { $(KMAKE) CC='$(KCC)' O=$(1) $(KIMAGE) $(if $(strip $(2)),&& $(KMAKE) CC='$(KCC)' O=$(1) $(2)); } 2>&1 | \
	$(call progress,$(1)/build)

# KERNEL(suffix, fragments, what configures it): the kernel $(BUILD)/$(ARCH)<suffix>, its C twin,
# and the twin with the best C.
#
# The twin is the same build with one option disabled. The third kernel is the twin with its own
# mm/mlock.c: make looks for sources in the build tree first.
#
# .configured marks a complete .config: if make is interrupted, kconfig may leave one that is not.
define KERNEL
$(O)$(1)/.configured: $(call fragments,$(2)) Kconfig $(BUILD)/tools.mk $(wildcard $(LINUX)/.git/pristine.moved) $(if $(wildcard $(O)$(1)/.config),,always)
	$$(call $(or $(3),configure),$(O)$(1),allnoconfig $(2))
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
	@$$(call image,$(O)$(1),$(KEXTRA))
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
	@$$(call image,$(O)$(1)-c,$(KEXTRA))
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
	@$$(call image,$(O)$(1)-fair,$(KEXTRA))
	@if ! grep -q ' munlock_pte_range$$$$' $(O)$(1)-fair/System.map; then echo 'build: error: $(O)$(1)-fair has not the best C in it' >&2; exit 1; fi
endef
$(eval $(call KERNEL,,$(KCONFIGS)))
$(foreach kind,$(filter-out distro,$(KINDS)),$(eval $(call KERNEL,-$(kind),$(KCONFIGS) $(if $(filter $(CHECKS),$(kind)),mlock2_fail.config) $(if $(filter debug,$(kind)),mlock2-features.config) mlock2-$(kind).config)))

# KIND=, FAIR=: another kernel
O_KIND = $(O)$(KIND:%=-%)
O_TESTED = $(O_KIND)$(if $(FAIR),-fair)
.PHONY: kernel-tested
kernel-tested: kernel$(KIND:%=-%)$(if $(FAIR),-fair)-built

.PHONY: test-configs test-configs-built
test-configs: linux
	@$(MAKE) test-configs-built
test-configs-built:
	@LINUX=$(LINUX) KEEP='$(KEEP)' ALWAYS='$(if $(filter y,$(INLINE_HELPERS)),$(KINLINE:%=%=y))' \
		tools/mlock2/configs.sh "$(KMAKE) CC='$(KCC)'" $(CONFIGS)
