# SPDX-License-Identifier: GPL-2.0
#
# KIND=distro: a distribution kernel. Debian's configuration, or the user's own, with
# CONFIG_MLOCK2=y, compiled by gcc as Debian's kernel is; and packages of it.

# From the command line only, since the names are common. They stay in effect until others are
# given.
DISTRO_GIVEN = $(strip $(foreach v,CONFIG FLAVOUR LOCALMODCONFIG LSMOD DEBUG_INFO,$(if $(filter command,$(origin $(v))),$(v)='$($(v))')))
DISTRO_OPTIONS = $(BUILD)/distro.options
ifeq ($(KIND),distro)
# Debian's configurations exist for the machine's own architecture only.
ifneq ($(ARCH),$(patsubst aarch64,arm64,$(shell uname -m)))
$(error KIND=distro and make deb are for this machine's architecture, so not for ARCH=$(ARCH))
endif
$(shell mkdir -p $(BUILD); echo "$(DISTRO_GIVEN)" >$(DISTRO_OPTIONS).new; \
	if [ ! -e $(DISTRO_OPTIONS) ] || { [ -n "$(DISTRO_GIVEN)" ] && ! cmp -s $(DISTRO_OPTIONS).new $(DISTRO_OPTIONS); }; \
	then mv $(DISTRO_OPTIONS).new $(DISTRO_OPTIONS); else rm $(DISTRO_OPTIONS).new; fi)
# The kernel names come from a file in their trees, without a suffix.
KMAKE += LOCALVERSION=
# The tests want two nodes, and Debian's kernel emulates none; it has no [vsyscall] by default.
ifeq ($(ARCH),x86_64)
QEMU_ARGS += $(foreach n,0 1,-object memory-backend-ram$(comma)id=node$(n)$(comma)size=512M) \
	-numa node$(comma)memdev=node0 -numa node$(comma)memdev=node1
KPARAMS += vsyscall=xonly
endif
KEXTRA += $$(call modules,$$(@:kernel%-built=$(O)%))
endif

# modules(build tree): the modules that the selftests need. The guest's init loads them from the
# root directory.
modules = $(if $(findstring -distro,$(notdir $(1))),$(shell tools/mlock2/distro-config.sh --modules $(1) \
	drivers/block/zram/zram.ko lib/lz4/lz4hc_compress.ko))
module_files = $(addprefix --file $(1)/,$(modules))

# As configure, but for the goals
define configure_distro
	@echo 'config: $(1)'
	@mkdir -p $(1)
	@LINUX=$(LINUX) O=$(1) OPTIONS=$(DISTRO_OPTIONS) KMAKE="$(KMAKE) CC='$(KCC)' O=$(1)" \
		INLINE_HELPERS=$(INLINE_HELPERS) GCC=$(GCC) tools/mlock2/distro-config.sh
endef
$(eval $(call KERNEL,-distro,mlock2-distro.config,configure_distro))
$(O)-distro/.configured: $(DISTRO_OPTIONS)

# So that both can be installed
$(O)-distro-c/localversion: $(O)-distro-c/.configured
	@echo -mlock2-c >$@
kernel-distro-c-built: $(O)-distro-c/localversion

.PHONY: deb deb-c deb-built deb-c-built
deb deb-c: export KARCH_PACKAGES += debhelper dpkg-dev libdw-dev kmod zstd
deb deb-c: linux
	@$(MAKE) KIND=distro $@-built

# package(build tree): the kernel's own bindeb-pkg puts them beside the tree.
define package
	@echo 'deb: $(1), with all modules of its configuration (hours, the first time)'
	@rm -f $(BUILD)/linux-*.deb $(BUILD)/linux-upstream_*
	@DEB_BUILD_OPTIONS=terse DEB_BUILD_PROFILES='pkg.linux-upstream.nokernelheaders pkg.linux-upstream.nokerneldbg' \
		KDEB_CHANGELOG_DIST=unstable KDEB_PKGVERSION=$$(. tools/mlock2/overlay.sh; version $(LINUX))-$$(date -u +%Y%m%d%H%M) \
		$(KMAKE) CC='$(KCC)' O=$(1) bindeb-pkg 2>&1 | $(call progress,$(1)/deb)
	@mkdir -p $(BUILD)/deb && mv $(BUILD)/linux-image-*.deb $(BUILD)/deb
	@rm -f $(BUILD)/linux-*.deb $(BUILD)/linux-upstream_*
	@ls -sh $(BUILD)/deb/linux-image-*.deb
endef
deb-built: kernel-distro-built
	$(call package,$(O)-distro)
deb-c-built: kernel-distro-c-built
	$(call package,$(O)-distro-c)

# Try kernels and compilers (COMPILERS="clang-22:rustc:bindgen ...", VERSIONS="trixie-backports/7.2
# ...")
COMPILERS ?=
VERSIONS ?=
.PHONY: versions
versions: setup
	@COMPILERS='$(COMPILERS)' JOBS=$(JOBS) tools/mlock2/versions.sh $(VERSIONS)

# Apply the overlay to your own tree; see tools/mlock2/apply
.PHONY: test-apply
test-apply: linux
	@tools/mlock2/apply-test.sh $(LINUX) $(BUILD)/apply-test
