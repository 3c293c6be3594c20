#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Run the kernel's own checkers on the kernel part; print KTAP. The kernel in $O must be built: Rust
# and C are checked as its build compiles them.
#
#   check.sh
# with in the environment: LINUX the source, O the build, CHECK_KMAKE the kernel's make,
# CHECK_RUSTC what built it, CHECK_RUSTDOC, CHECK_RUSTFMT, CHECK_CLIPPY of the same compiler.
set -euo pipefail

LINUX=${LINUX:?} O=${O:?} KMAKE=${CHECK_KMAKE:?}
RUSTC=${CHECK_RUSTC:?} RUSTDOC=${CHECK_RUSTDOC:?} RUSTFMT=${CHECK_RUSTFMT:?} CLIPPY=${CHECK_CLIPPY:?}
# as the kernel's Makefile
export RUSTC_BOOTSTRAP=1
TOP=$(cd "$(dirname "$0")/../.." && pwd)
OUT=${OUT:-$O/check}
die() { printf 'check: error: %s\n' "$*" >&2; exit 1; }

for tool in sparse:sparse mandoc:mandoc rst2html:python3-docutils; do
	command -v "${tool%:*}" >/dev/null || die "no ${tool%:*} here: 'make setup' as root, or install ${tool#*:}"
done
# spdxcheck.py takes python3 from PATH, which may be one (pyenv's, say) without the modules of the
# distribution.
if ! python3 -c 'import git, ply' 2>/dev/null && /usr/bin/python3 -c 'import git, ply' 2>/dev/null; then
	python=$(mktemp -d)
	trap 'rm -r "$python"' EXIT
	ln -s /usr/bin/python3 "$python/python3"
	PATH=$python:$PATH
fi
python3 -c 'import docutils, git, ply' 2>/dev/null ||
	die "python3 has no GitPython, ply or docutils, which spdxcheck.py and the check of rst want: install python3-git, python3-ply and python3-docutils"
[ -f "$O/mm/mlock2/.mlock2.o.cmd" ] || die "$O is not built: 'make kernel' first"

rm -rf "$OUT"
mkdir -p "$OUT"
cd "$LINUX"
PART=(. ':!tools/mlock2' ':!tools/testing/mlock2')
git diff pristine HEAD -- "${PART[@]}" >"$OUT/kernel.patch"
mapfile -t files < <(git diff --name-only --diff-filter=A pristine HEAD -- "${PART[@]}")
mapfile -t changed < <(git diff --name-only --diff-filter=d pristine HEAD -- "${PART[@]}")

# Each check prints its findings, and fails if there are any.

check_checkpatch() {
	local used=$OUT/allow.used status=0
	: >"$used"
	LINUX=$LINUX "$TOP/tools/mlock2/checkpatch.sh" --used "$used" "$OUT/kernel.patch" \
		"$TOP"/mm-fixes/*.patch "$TOP"/rust-arch/*.patch || status=1
	grep -v '^#' "$TOP/tools/mlock2/checkpatch.allow" | grep . | grep -vxFf "$used" |
		sed 's/^/checkpatch.allow: not needed any more: /' | grep . && status=1
	return $status
}

# As 'make rustfmtcheck', but for our files only, each on its own, since the .rustfmt.toml of our
# tools sets edition 2024.
check_rustfmt() {
	local status=0
	mapfile -t rust < <(git diff --name-only --diff-filter=d pristine HEAD -- '*.rs')
	for f in "${rust[@]}"; do
		"$RUSTFMT" --check --quiet "$LINUX/$f" || status=1
	done
	return $status
}

# rustc NAME TOOL EXTRA: the command by which the build compiled NAME, with another tool
rust_command() {
	local cmd
	cmd=$(sed -n '1s/^savedcmd_[^ ]* := *//p' "$O/$1" | sed 's/ *;.*//')
	cmd=${cmd/" $RUSTC "/" $2 "}
	[[ $cmd = *" $2 "* ]] || { printf '%s was not compiled by %s\n' "$1" "$RUSTC"; return 1; }
	printf '%s %s' "$(sed -E 's/ --emit=[^ ]+//g; s/ --out-dir [^ ]+//; s/ -Zfunction-sections=n//' <<<"$cmd")" "$3"
}
RUST_OBJECTS='rust/.kernel.o.cmd rust/.mm.o.cmd mm/mlock2/.mlock2.o.cmd'

# As with CLIPPY=1
check_clippy() {
	local obj cmd status=0
	for obj in $RUST_OBJECTS; do
		cmd=$(rust_command "$obj" "$CLIPPY" "--emit=metadata --out-dir $OUT/clippy") || { printf '%s\n' "$cmd"; return 1; }
		(cd "$O" && CLIPPY_CONF_DIR=$LINUX eval "$cmd -Dwarnings") 2>&1 || status=1
	done
	return $status
}

check_rustdoc() {
	local obj cmd status=0
	for obj in $RUST_OBJECTS; do
		cmd=$(rust_command "$obj" "$RUSTDOC" "--output $OUT/rustdoc --document-private-items") || { printf '%s\n' "$cmd"; return 1; }
		# Private items of the kernel crate link to items that its public documentation
		# lacks.
		[[ $obj != rust/.kernel.* ]] || cmd=${cmd% --document-private-items}
		cmd=$(sed -E 's/ --crate-type [^ ]+//; s/ -C?(embed-bitcode|lto|codegen-units)[^ ]*//g; s/ --remap-path-scope=[^ ]*//' <<<"$cmd")
		(cd "$O" && eval "$cmd -Zunstable-options -Dwarnings -Arustdoc::private_intra_doc_links") 2>&1 || status=1
	done
	return $status
}

# sparse complains about most headers: only findings that the stock source lacks count
check_sparse() {
	local objects=(mm/mlock2/syscalls.o mm/mmap.o mm/mremap.o mm/util.o) log=$OUT/sparse.log
	eval "$KMAKE O=$O C=2 CHECK='sparse -Wno-context' ${objects[*]}" >"$log" 2>&1 || { tail -n 20 "$log"; return 1; }
	grep -E '(warning|error):' "$log" | sed "s,^.*$LINUX/,," |
		grep -E "^($(git diff --name-only pristine HEAD -- '*.[ch]' | paste -sd'|'))" | sort -u >"$OUT/sparse.ours" || true
	changed_lines sparse.ours
}
# changed_lines FILE: filter messages of the form path:line:... for lines that we changed
changed_lines() {
	local path line rest status=0
	while IFS=: read -r path line rest; do
		if git blame -s -L "$line,$line" pristine..HEAD -- "$path" | grep -qv '^^'; then
			printf '%s:%s:%s\n' "$path" "$line" "$rest"
			status=1
		fi
	done <"$OUT/$1"
	return $status
}

check_spdx() {
	python3 scripts/spdxcheck.py "${files[@]}"
}

# The reviewers of memory mapping or of Rust in mm are notified of each new file.
check_maintainers() {
	local f said status=0
	for f in "${files[@]}"; do
		case $f in arch/*|kernel/configs/*|Documentation/*|tools/mm/*) wanted=linux-mm@kvack.org ;;
		rust/kernel/capability.rs|rust/helpers/capability.c|rust/*rlimit*) wanted=rust-for-linux@vger.kernel.org ;;
		rust/*) wanted='MEMORY MANAGEMENT - RUST' ;;
		mm/gup.h) wanted='MEMORY MANAGEMENT - GUP' ;;
		*) wanted='MEMORY MAPPING' ;;
		esac
		# Keep the line of the section as well, so that its reviewers count under its name
		said=$(./scripts/get_maintainer.pl --no-tree --no-git --no-git-fallback --sections -f "$f" 2>&1;
			./scripts/get_maintainer.pl --no-tree --no-git --no-git-fallback -f "$f" 2>&1)
		grep -qF "$wanted" <<<"$said" || { printf '%s does not reach %s\n' "$f" "$wanted"; status=1; }
	done
	return $status
}

check_kernel_doc() {
	local c=()
	for f in "${files[@]}"; do
		case $f in tools/testing/*|*.c|*.h) [[ $f != *.[ch] ]] || c+=("$f") ;; esac
	done
	./scripts/kernel-doc -none -Wall "${c[@]}" 2>&1 | grep . && return 1
	return 0
}

# docutils lacks the roles and directives of Sphinx; check the rest.
check_rst() {
	local f status=0
	for f in $(git diff --name-only --diff-filter=d pristine HEAD -- 'Documentation/*.rst' ':!*/index.rst'); do
		python3 - "$f" <<-'END' || status=1
		import sys
		from docutils.core import publish_doctree
		from docutils.parsers.rst import directives, roles, Directive
		from docutils import nodes

		class Any(Directive):
		    optional_arguments, final_argument_whitespace, has_content = 9, True, True
		    option_spec = None

		    def run(self):
		        return []

		for name in ("toctree", "kernel-doc", "code-block", "c:function"):
		    directives.register_directive(name, Any)
		for name in ("ref", "doc", "c:func", "c:type", "manpage"):
		    roles.register_local_role(name, lambda n, raw, text, *a, **k: ([nodes.literal(raw, text)], []))
		publish_doctree(open(sys.argv[1]).read(), source_path=sys.argv[1], settings_overrides={"report_level": 2, "halt_level": 5, "exit_status_level": 2, "file_insertion_enabled": False})
		END
	done 2>&1 | grep . && return 1
	./tools/docs/documentation-file-ref-check 2>/dev/null | grep -E '^(Documentation/(mm|admin-guide/mm)/mlock|mm/mlock2|rust/)' && return 1
	return $status
}

check_man() {
	local f
	for f in "${files[@]}"; do
		[[ $f != *.[0-9] ]] || mandoc -T lint -W style "$f" 2>&1 | grep -v 'referenced manual not found' || true
	done | grep . && return 1
	return 0
}

checks=(checkpatch rustfmt clippy rustdoc sparse spdx maintainers kernel_doc rst man)
printf '1..%d\n' "${#checks[@]}"
status=0 n=0
for c in "${checks[@]}"; do
	n=$((n + 1)) start=$SECONDS
	if "check_$c" >"$OUT/$c.log" 2>&1; then
		printf 'ok %d %s (%d s)\n' "$n" "$c" $((SECONDS - start))
	else
		printf 'not ok %d %s (%d s)\n' "$n" "$c" $((SECONDS - start))
		head -n 40 "$OUT/$c.log" | sed 's/^/#   /'
		status=1
	fi
done
exit $status
