# SPDX-License-Identifier: GPL-2.0
#
# Write the series, and check that it is ready to send.

.PHONY: check check-built
# beside what builds the kernel
CHECK_PACKAGES = sparse mandoc python3-docutils python3-git python3-ply
check test: export KARCH_PACKAGES += $(CHECK_PACKAGES)
check: linux
	@$(MAKE) check-built
# What check.sh wants to know
check-built test-built: export CHECK_KMAKE = $(KMAKE) CC='$(KCC)'
check-built test-built: export CHECK_RUSTC = $(KRUSTC)
check-built test-built: export CHECK_RUSTDOC = $(KRUSTDOC)
check-built test-built: export CHECK_RUSTFMT = $(KRUSTFMT)
check-built test-built: export CHECK_CLIPPY = $(KCLIPPY)
check-built: kernel-built
	@LINUX=$(LINUX) O=$(O) tools/mlock2/check.sh

# QUICK=1: do not build and boot the kernel after each patch. ONTO=/path/to/linux: report which
# patches conflict with another tree.
QUICK ?=
ONTO ?=
SERIES = $(BUILD)/series
# What any kernel passes, with and without the patches
SERIES_TESTS = mlock2-tests mlock-random-test on-fault-limit mlock-calls mlock-limits
.PHONY: series series-built
series: linux
	@$(MAKE) series-built
series-built: $(if $(QUICK),,guest tool)
	@rm -rf $(SERIES)/mail && mkdir -p $(SERIES)
	@LINUX=$(LINUX) tools/mlock2/series.py $(ONTO:%=--onto '%') $(SERIES)/mail
	@LINUX=$(LINUX) SIGNED=--signoff tools/mlock2/checkpatch.sh $$(find $(SERIES)/mail -name '*.patch' ! -name '0000-*' | sort)
	@$(if $(QUICK),echo 'series: not built (QUICK=1)',LINUX=$(LINUX) OUT=$(SERIES) CONFIG=$(O)/.config IMAGE=$(KIMAGE) \
		KMAKE="$(subst -C $(LINUX),-C $(SERIES)/tree,$(KMAKE)) CC='$(KCC)'" \
		BOOT_QUICK="$(call boot,$(SERIES)/obj,$(GUEST)/test.plan,quick,kunit.enable=1) $(addprefix --only ,$(SERIES_TESTS))" \
		BOOT="$(call boot,$(SERIES)/obj,$(GUEST)/test.plan,test,kunit.enable=1) $(SLOW)" tools/mlock2/series-build.sh)

# What CI of mm runs
KSFT = $(BUILD)/ksft
.PHONY: ksft ksft-built
ksft: export KARCH_PACKAGES += libcap-dev libnuma-dev
ksft: linux
	@$(MAKE) ksft-built
ksft-built: kernel-built $(O)/headers/$(call headers_of,native)/.done $(VNG)
	@LINUX=$(LINUX) OUT=$(KSFT) CC='$(USER_CC)' HEADERS='$(call headers,$(call headers_of,native))' ARCH=$(KSRCARCH) \
		VNG='PATH=$(BUILD)/venv/bin:$$PATH $(VNG) --run $(O)/$(KIMAGE_FILE) --user root --cpus 2 --memory 2G --force-9p $(KVNG) $(if $(filter kvm,$(ACCEL)),,--disable-kvm)' \
		tools/mlock2/ksft.sh
