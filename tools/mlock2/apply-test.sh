#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Test tools/mlock2/apply on a kernel tree in all possible states, with a clone of the stock source
# that linux.sh has recorded.
#
#   apply-test.sh LINUX DIR     LINUX: build/linux; DIR: where the clone goes
set -euo pipefail

TOP=$(cd "$(dirname "$0")/../.." && pwd)
LINUX=$(realpath "$1")
rm -rf "$2"
mkdir -p "$2"
TREE=$(realpath "$2")/linux
LOG=$(realpath "$2")/log
failed=0 n=0

git clone -q --shared --no-checkout "$LINUX" "$TREE"
cd "$TREE"
git config user.name test
git config user.email test@localhost
git checkout -q -b mine pristine
stock=$(git rev-parse HEAD)

apply() { "$TOP/tools/mlock2/apply" --to "$TREE" "$@" >"$LOG" 2>&1; }
case_() {
	n=$((n + 1))
	if "${@:2}"; then echo "ok $n $1"; else echo "not ok $n $1"; sed 's/^/# /' "$LOG"; failed=1; fi
}
back() {
	git reset -q --hard "$stock"
	git clean -q -fdx
	git update-ref -d refs/mlock2/applied
	git update-ref -d refs/mlock2/base
}
unchanged() { [ "$(git rev-parse HEAD)" = "$1" ] && git diff --quiet HEAD; }
refused() {	# refused WORDS: with these words, and nothing has changed
	local head
	head=$(git rev-parse HEAD)
	! apply && grep -q "$1" "$LOG" && [ "$(git rev-parse HEAD)" = "$head" ]
}
commits() { [ "$(git rev-list --count "$stock..HEAD")" = "$1" ] && git diff --quiet HEAD; }
edit() { echo "/* $1 */" >>"$1"; }

fixes=$(find "$TOP/mm-fixes" -name '*.patch' | wc -l)
arch=$(find "$TOP/rust-arch" -name '*.patch' | wc -l)

stock_tree() { apply && commits $((fixes + 1)); }
own_only() { ! git diff --name-only "$stock" HEAD | grep -qE '^tools/(testing/)?mlock2/|/configs/mlock2'; }
maintained() {
	local pattern
	git show HEAD:MAINTAINERS | awk '/^MEMORY MAPPING - MLOCK2/ { on = 1 } /^$/ { on = 0 } on && /^F:/ { print $2 }' |
		while read -r pattern; do [ -n "$(git ls-files -- "${pattern%/}")" ] || return 1; done
}
again() { local head; head=$(git rev-parse HEAD); apply && grep -q 'has all of it' "$LOG" && unchanged "$head"; }
case_ 'a stock tree gets each fix as a commit, and one more commit' stock_tree
case_ 'only kernel files are added' own_only
case_ 'MAINTAINERS names only existing files' maintained
case_ 'a second run changes nothing' again

other_clone() { git update-ref -d refs/mlock2/applied; again; }
case_ 'nor does one where it was added in another way' other_clone
foreign() { edit mm/mlock2/batch.rs; git commit -qam mine; refused 'did not bring there'; }
case_ 'another mm/mlock2 is refused' foreign

back
git checkout -q --detach
case_ 'a detached HEAD works' stock_tree
git checkout -q mine
back
dirty() { edit mm/mincore.c; refused 'not committed'; }
case_ 'uncommitted changes are refused' dirty
back
untracked() { mkdir -p mm/mlock2; echo mine >mm/mlock2/walk.rs; refused 'overwritten' && [ "$(cat mm/mlock2/walk.rs)" = mine ]; }
case_ 'an untracked file is kept' untracked
back
old() { sed -i 's/^PATCHLEVEL = .*/PATCHLEVEL = 1/' Makefile; git commit -qam old; refused 'this is for'; }
case_ 'another version is refused' old
back
conflict() { sed -i 's/mmu_gather.o/gather.o/' mm/Makefile; git commit -qam mine; refused 'does not apply'; }
case_ 'nothing changes if a patch does not apply' conflict

# A newer overlay: the old one with a file's text changed
back
update() {
	apply
	edit mm/mincore.c
	git commit -qam mine
	newer=$(git rev-parse refs/mlock2/applied)
	# as if the overlay had been applied with another walk.rs
	export GIT_INDEX_FILE=$TREE/.git/test.index
	git read-tree "$newer"
	git update-index --cacheinfo "100644,$({ git show HEAD:mm/mlock2/walk.rs; echo '// older'; } | git hash-object -w --stdin),mm/mlock2/walk.rs"
	older=$(git write-tree)
	unset GIT_INDEX_FILE
	git update-ref refs/mlock2/applied "$(git commit-tree "$older" -p "$stock" -m older)"
	echo '// older' >>mm/mlock2/walk.rs
	git commit -qam 'mm/mlock2: what an older one had'
	apply && grep -q 'this is new' "$LOG" && cmp -s mm/mlock2/walk.rs "$TOP/mm/mlock2/walk.rs" && grep -q mincore mm/mincore.c
}
case_ 'an update is a commit on top of local commits' update

back
with_arch() { apply --rust-arch && commits $((fixes + arch + 1)) && again; }
case_ 'patches of --rust-arch stay' with_arch

echo "1..$n"
cd /
rm -rf "$TREE"
exit $failed
