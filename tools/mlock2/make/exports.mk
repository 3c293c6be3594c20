# SPDX-License-Identifier: GPL-2.0
# What modules get of the Rust: no more than without CONFIG_MLOCK2, but the public part

.PHONY: test-exports test-exports-built
test-exports: linux
	@$(MAKE) test-exports-built
test-exports-built:
	@LINUX=$(LINUX) INLINE='$(filter y,$(INLINE_HELPERS))' tools/mlock2/exports.sh "$(KMAKE) CC='$(KCC)'"
