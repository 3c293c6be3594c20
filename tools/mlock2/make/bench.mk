# SPDX-License-Identifier: GPL-2.0
# What operations cost: in C, in the best C, and in Rust.

BENCH = $(BUILD)/bench
BENCH_BIN = $(BENCH)/target/$(RUST_TARGET)/release
KVM ?=
SCALE ?= 1/32
# 'mlock2 bench', on the machine for all kernels
bench_tool = $(BENCH)/tool/release/mlock2 bench --c $(O_C) --rust $(O) --fair $(O_FAIR) --image-file $(KIMAGE_FILE) \
	--qemu $(QEMU) --qemu-args='$(if $(KVM),$(KVM_QEMU_ARGS),$(1))' --console $(CONSOLE) \
	--init $(GUEST)/init --bin $(BENCH_BIN) --append '$(KPARAMS)' --icount '$(ICOUNT)' --append-icount '$(KICOUNT)' \
	$(if $(KVM),--kvm) --out $(BENCH)$(if $(KVM),/kvm)$(GCC:%=/gcc)

.PHONY: bench-programs bench-crates
bench-programs: kernel-fair-built $(GUEST)/init bench-crates
bench-crates:
	@$(call guest_crate,tools/mlock2/bench,$(BENCH))
	@$(CARGO) build --release --locked --features bench \
		--manifest-path tools/mlock2/Cargo.toml --target-dir $(BENCH)/tool

# With --only, only that row.
.PHONY: bench bench-rows bench-sweep bench-stress-ng bench-growth bench-cpus bench-paper
bench: $(if $(findstring --only,$(BENCH_ARGS)),bench-rows,bench-rows bench-growth bench-cpus)
bench-stress-ng: export KARCH_PACKAGES += stress-ng
bench-rows bench-sweep bench-stress-ng bench-growth bench-cpus bench-paper: linux
	@$(MAKE) $@-built

.PHONY: bench-rows-built bench-sweep-built bench-stress-ng-built bench-growth-built bench-cpus-built bench-paper-built
bench-rows-built: bench-programs
	@echo 'bench: what each operation costs'
	@$(call bench_tool,$(QEMU_ARGS)) rows -- $(BENCH_ARGS)
bench-sweep-built: bench-programs
	@echo 'bench: every call, with every outcome'
	@$(call bench_tool,$(QEMU_ARGS)) sweep -- $(SWEEP_ARGS)
bench-stress-ng-built: bench-programs
	@[ '$(ARCH)' = "$$(uname -m)" ] || { echo "bench: error: the stress-ng of this machine runs with ARCH=$$(uname -m) only" >&2; exit 1; }
	@echo 'bench: the stressors of stress-ng with which LKP watches mlock'
	@$(call bench_tool,$(QEMU_ARGS)) stress-ng -- $(STRESS_NG_BENCH_ARGS)
bench-growth-built: bench-programs
	@echo 'bench: how cost grows'
	@$(call bench_tool,$(QEMU_ARGS)) growth $(GROWTH_ARGS)
bench-cpus-built: bench-programs
	@echo 'bench: several CPUs at once'
	@$(call bench_tool,$(QEMU_ARGS)) cpus $(CPUS_ARGS)
bench-paper-built: bench-programs
	@echo 'bench: the experiment of the 2015 letter, at scale $(SCALE)'
	@$(call bench_tool,$(QEMU_ARGS)) paper --scale '$(SCALE)' --linux $(LINUX) --cc $(USER_CC)

# Natively on this machine: kernels that are programs, with memory that fits in the caches, and, for
# a few operations, with more.
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

# The cost of large folios that are locked in part, on the C kernel
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
	@$(call machine,$(O_C),$(ICOUNT),$(KICOUNT) norandmaps) --cpus 1 --accel tcg \
		--bin $(GUEST) --plan $(BENCH)/large.plan --work $(BENCH)/large
	@cat $(BENCH)/large/large-cost.log

# Profile the instructions of one row
PROFILE_ARGS ?= --size 1M --rounds 3 --calls 11
.PHONY: profile profile-built
profile: linux
	@[ -n '$(ROW)$(CALL)' ] || { echo "profile: error: which row? ROW=mlock_resident_page, or another of 'make bench'; or CALL=, one of 'make bench-sweep'" >&2; exit 1; }
	@$(MAKE) profile-built
profile-built: bench-programs
	@$(call bench_tool,$(PROFILE_QEMU_ARGS)) profile --row '$(ROW)$(CALL)' $(if $(CALL),--sweep) --objdump $(KOBJDUMP) -- $(PROFILE_ARGS)
