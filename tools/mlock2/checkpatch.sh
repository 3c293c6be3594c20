#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# checkpatch.pl --strict over patches, less what checkpatch.allow has a reason for.
#
#   checkpatch.sh [--used FILE] PATCH...
#
# Prints what is left; --used adds the lines of checkpatch.allow that were needed.
set -euo pipefail

LINUX=${LINUX:?}
TOP=$(cd "$(dirname "$0")/../.." && pwd)
used=/dev/null
if [ "$1" = --used ]; then
	used=$2
	shift 2
fi
# The history and MAINTAINERS are not checked here: there is no history, and
# get_maintainer.pl is asked for each file.
said=$(cd "$LINUX" && for patch; do
	./scripts/checkpatch.pl --strict --terse --showfile --show-types --no-summary --root=. \
		--ignore UNKNOWN_COMMIT_ID,FILE_PATH_CHANGES ${SIGNED:---no-signoff} "$patch" || true
done)
status=0
while IFS= read -r line; do
	[[ $line =~ ^([^:]+):[0-9]+:\ [A-Z]+:([A-Z_]+): ]] || { [ -z "$line" ] || { printf '%s\n' "$line"; status=1; }; continue; }
	file=${BASH_REMATCH[1]} type=${BASH_REMATCH[2]} allowed=
	while read -r glob what; do
		# shellcheck disable=SC2053
		[[ $what = "$type" && $file = $glob ]] || continue
		allowed=1
		printf '%s %s\n' "$glob" "$what" >>"$used"
	done < <(grep -v '^#' "$TOP/tools/mlock2/checkpatch.allow" | grep .)
	[ -n "$allowed" ] || { printf '%s\n' "$line"; status=1; }
done <<<"$said"
exit $status
