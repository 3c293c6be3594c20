# SPDX-License-Identifier: GPL-2.0
# Locked memory under load.

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

# Another stress test: the stressors of Debian's stress-ng that lock memory. It is not static, so
# run its loader, and add the libraries.
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
