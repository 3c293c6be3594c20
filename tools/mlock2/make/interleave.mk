# SPDX-License-Identifier: GPL-2.0
# Every interleaving of the page part with the rest of mm, in Rust and in C.

# --triples N: three tasks at once, with at most N preemptions, or all; --stock: the C without fixes
# as well
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

# Check a model of the protocol, for the Rust and for the C
.PHONY: spin
spin: setup
	@CC='$(KCC)' $(INTERLEAVE_CRATE)/spin.sh $(INTERLEAVE)/spin
