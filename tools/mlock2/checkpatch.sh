#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# checkpatch.pl --strict over patches, less what checkpatch.allow has a reason for.
#
#   checkpatch.sh [--used FILE] PATCH...
#
# Print the remaining findings; --used lists the lines of checkpatch.allow that were needed.
set -euo pipefail

LINUX=${LINUX:?}
TOP=$(cd "$(dirname "$0")/../.." && pwd)
used=/dev/null
if [ "$1" = --used ]; then
	used=$2
	shift 2
fi
[ $# -gt 0 ] || { echo 'checkpatch: error: no patches' >&2; exit 1; }
patches=()
for patch; do
	[ -r "$patch" ] || { echo "checkpatch: error: cannot read $patch" >&2; exit 1; }
	patches+=("$(realpath "$patch")")
done
# check.sh does by itself what takes checkpatch.pl a process for each file: SPDX tags
# and MAINTAINERS. There is no history to look up commits in.
said=$(cd "$LINUX" && for patch in "${patches[@]}"; do
	./scripts/checkpatch.pl --strict --terse --showfile --show-types --no-summary --no-tree \
		--ignore UNKNOWN_COMMIT_ID,FILE_PATH_CHANGES ${SIGNED:---no-signoff} "$patch" 2>&1 || true
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
