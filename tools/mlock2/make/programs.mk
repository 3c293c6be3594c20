# SPDX-License-Identifier: GPL-2.0
#
# Run Debian 13 programs that lock memory on this kernel and on the C one. Their root file system
# stays on this machine; the guest mounts it over 9P.

DISTRO = $(BUILD)/distro
O_PROGRAMS = $(O)-programs
# Which of them: PROGRAM="gpg qemu"
PROGRAM ?=

$(DISTRO)/bin/mlock-programs: tools/testing/mlock2/programs/mlock-programs.c \
		$(addprefix tools/testing/selftests/mm/,mlock-helpers.h mlock-swap.h) $(O)/headers/$(call headers_of,native)/.done
	@mkdir -p $(@D)
	@$(USER_CC) -static -O2 -Wall -isystem $(call headers,$(call headers_of,native)) -I$(LINUX)/tools/include \
		-I$(SELFTEST_DIR) -I$(SELFTEST_DIR)/mm -o $@ $< $(SELFTEST_DIR)/mm/vm_util.c

# programs_boot(build tree, name of this boot). The guest's clock counts instructions, so that no
# program times out on a busy machine; norandmaps gives the same mappings each time
VIRTFS = -virtfs local$(comma)path=$(DISTRO)/root$(comma)mount_tag=debian$(comma)security_model=none$(comma)readonly=on$(comma)multidevs=remap
programs_boot = $(call machine,$(1),$(VIRTFS) -icount shift=0$(comma)sleep=on,$(KICOUNT) norandmaps) \
	--absent 'it always locks$(if $(call TRACED,$(1)),,|no trace events of mlock)' --accel tcg --mem 1536 $(LOAD) \
	--bin $(DISTRO)/bin --file $(GUEST)/mlock-why --plan $(DISTRO)/programs.plan --work $(DISTRO)/$(2)
# The output that must be the same on both
same = sed -n 's/^\# same: //p' $(DISTRO)/$(1)/programs.log

.PHONY: test-programs test-programs-built
test-programs: export KARCH_PACKAGES += mmdebstrap
test-programs: linux
	@$(MAKE) $@-built
test-programs-built: kernel-programs-c-built tool $(GUEST)/init $(GUEST)/mlock-why $(DISTRO)/bin/mlock-programs
	@tools/mlock2/distro/root.sh $(DISTRO)/root
	@echo 'programs root mlock-programs $(addprefix -v ,$(PROGRAM))' >$(DISTRO)/programs.plan
	@status=0; \
	$(call programs_boot,$(O_PROGRAMS)-c,c) || status=1; \
	$(call programs_boot,$(O_PROGRAMS),rust) || status=1; \
	if diff -u <($(call same,c)) <($(call same,rust)); then \
		echo "programs: $$($(call same,rust) | wc -l) lines are the same on both kernels"; \
	else \
		echo 'programs: error: not the same on both kernels, see above' >&2; status=1; \
	fi; \
	exit $$status
