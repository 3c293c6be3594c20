#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# The mistakes that the types are there to forbid do not compile. Each file
# here makes one with '--cfg mistake', and does it right without: the first
# must fail on the line below the comment '// error: CODE TEXT' and nowhere else,
# with that code and no other, and with TEXT in the message; the second must compile
# without a warning. They are compiled as mm/mlock2 was in the build tree,
# against its kernel crate, but no code is generated.
#
# Without FILE, also looks whether soundness.rst speaks of every public function, and of cases
# that there are.
#
#   run.sh BUILD-TREE [FILE...]
set -euo pipefail

dir=$(cd "$(dirname "$0")" && pwd)
O=$(realpath -- "${1:?usage: run.sh BUILD-TREE [FILE...]}")
shift
built=$O/mm/mlock2/.mlock2.o.cmd
for f in "$built" "$O/rust/libkernel.rmeta"; do
	[ -f "$f" ] || { printf 'compile-fail: error: there is no %s: build the kernel first (make kernel)\n' "$f" >&2; exit 2; }
done
list=
[ $# -gt 0 ] || { list=$dir/soundness.rst; set -- "$dir"/*.rs; }

# The compiler as the build called it, without its source, its outputs, and
# what came after it.
rustc=$(sed -n '1s/^savedcmd_[^ ]* := //p' "$built" | sed -E 's/ *;.*//; s/ [^ ]*\.rs *$//; s/ --(out-dir |emit=)[^ ]*//g; s/OBJTREE=[^ ]*//')
case $rustc in
*--crate-type*) ;;
*) printf 'compile-fail: error: %s does not call rustc as expected\n' "$built" >&2; exit 2 ;;
esac
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# compile FILE [OPTION...]: what the compiler says goes to $tmp/out, one line each
compile() {
	local file=$1
	shift
	(cd "$O" && RUSTC_BOOTSTRAP=1 OBJTREE=$O eval "$rustc" '--error-format=short --emit=metadata --crate-name=check --out-dir="$tmp"' \
		'--check-cfg="cfg(mistake)" -Amissing_docs -Adead_code "$@" "$file"') >"$tmp/out" 2>&1
}
n=0 failed=0
# result ok|'not ok' NAME
result() {
	n=$((n + 1))
	printf '%s %d %s\n' "$1" "$n" "$2"
	[ "$1" = ok ] && return
	failed=$((failed + 1))
	sed 's/^/# /' "$tmp/out"
}

printf 'TAP version 13\n1..%d\n' $(($# * 2 + ${list:+1} + 0))
for file; do
	file=$(realpath -- "$file")
	name=$(basename "$file" .rs)
	read -r line code text < <(sed -n '\,// error: ,{=;s,^ *// error: ,,p}' "$file" | paste -s -d ' ') || true

	status=0
	compile "$file" --cfg mistake || status=$?
	errors=$(grep -E '(^|: )error(\[|:)' "$tmp/out" | grep -v '^error: aborting due to' || true)
	# Some errors have no code, for which the comment says -.
	[ "$code" = - ] && code= || code="\[${code:-none}\]"
	here="$name.rs:$((${line:-0} + 1)):[0-9]*: error$code: "
	ok=ok
	grep -q "$here" <<<"$errors" && grep -qF -- "${text:-none}" <<<"$errors" || ok='not ok'
	! grep -qv "$here" <<<"$errors" || ok='not ok'
	[ "$status" != 0 ] || ok='not ok'
	result "$ok" "$name: ${code//[\\\[\]]/}: ${text:-no error stated}"

	status=0
	compile "$file" || status=$?
	# The compiler warns of some kernels' own options, whatever the file.
	sed -i -E '/^warning: (unknown and )?unstable feature specified for /d;/^warning: [0-9]+ warnings? emitted$/d' "$tmp/out"
	ok=ok
	[ "$status" = 0 ] && [ ! -s "$tmp/out" ] || ok='not ok'
	result "$ok" "$name: done right"
done
# said FILE: what the section of that file says
said() {
	awk -v file="$1" '{ if (/^====/) on = last == file; last = $0 } on' "$list"
}
if [ "$list" ]; then
	rust=$dir/../../../../rust
	: >"$tmp/out"
	for file in "$rust"/mm/*.rs "$rust"/kernel/mm/*.rs; do
		name=$(basename "$file")
		# those of traits are not said to be public
		for function in $(sed -nE 's/^ *pub (unsafe )?(const )?fn ([a-z_]+).*/\3/p; s/^    fn ([a-z_]+)\(.*;$/\1/p' "$file" | sort -u); do
			said "$name" | grep -qF "\`\`$function\`\`" || echo "$name: $function() is missing" >>"$tmp/out"
		done
	done
	for name in $(tr '\n' ' ' <"$list" | grep -oE '\*Case: [^*]*' | sed 's/\*Case: //; s/[,.]/ /g'); do
		[ -f "$dir/$name.rs" ] || echo "there is no $name.rs" >>"$tmp/out"
	done
	ok=ok
	[ ! -s "$tmp/out" ] || ok='not ok'
	result "$ok" 'soundness.rst: every public function'
fi
printf '# Totals: pass:%d fail:%d xfail:0 xpass:0 skip:0 error:0\n' $((n - failed)) "$failed"
[ "$failed" = 0 ]
