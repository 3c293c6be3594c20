#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Print a hash of the code under test and of its tests: the kernel source with the overlay, the
# Makefile and the best C, without documentation. Results with the same hash are results of the same
# code.
#
#   code-hash.sh LINUX
set -euo pipefail

cd "$(dirname "$0")/../.."
{
	git -C "$1" ls-tree -r HEAD | grep -v '	Documentation/'
	for file in Makefile tools/mlock2/fair/*.patch; do
		[ ! -e "$file" ] || printf '%s %s\n' "$(git hash-object "$file")" "$file"
	done
} | git hash-object --stdin
