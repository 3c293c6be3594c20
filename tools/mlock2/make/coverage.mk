# SPDX-License-Identifier: GPL-2.0
#
# Which lines of the Rust no test executes

# Rust alone has debug information: C as the kernel builds it, and the helpers
# that are inlined into Rust count as the line that calls them.
kernel-coverage-built: KMAKE += KRUSTFLAGS=-Cdebuginfo=2
