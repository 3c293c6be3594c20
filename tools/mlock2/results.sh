#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Writes Documentation/mm/mlock2-results.rst from what the benchmarks left in
# build/bench. Tables that were not made are left out, and named at the end.
#
# results.sh DIRECTORY, with the page on standard output
set -euo pipefail

from=$1
missing=

# table FILE TITLE COMMAND [ROWS]: the text for it is on standard input
table() {
	local text file=$from/$1
	text=$(cat)
	if [ ! -f "$file" ]; then
		[[ $missing == *"\`$3\`"* ]] || missing+="- $2: \`\`$3\`\`"$'\n'
		return
	fi
	printf '\n%s\n%s\n\n' "$2" "${2//?/=}"
	printf '``%s``, %s.\n\n%s\n\n' "$3" "$(date -u -r "$file" '+%-d %B %Y')" "$text"
	printf '.. csv-table::\n   :header-rows: 1\n   :delim: tab\n\n'
	head -n "$((${4:-1000000} + 1))" "$file" | sed 's/^/   /'
}

cat <<'END'
.. SPDX-License-Identifier: GPL-2.0

===================================
What the mlock family in Rust costs
===================================

Made by ``make results`` from what the benchmarks left in ``build/bench``, not edited
by hand. Each table says of which day it is. *C* is ``mm/mlock.c`` of the same kernel,
*fair* the best C that does the same as the Rust (``tools/mlock2/fair/``), *ratio*
Rust over C, and *ratio_fair* Rust over that best C; ``-`` where one of the two is not
above zero, or was not measured. ``make bench`` draws charts of its tables beside them
in ``build/bench``, as SVG and PNG; README.md shows that of the first table.

Instructions are counted in a guest under QEMU's ``-icount shift=0``, the clock
of which advances one nanosecond for each of them, whatever else the host does.
The program first measures a loop of known length, and gives up if its clock does
not do that. Instructions are not time: one that misses the cache counts as one, too.
END
if [ -f "$from/native.tsv" ]; then
	printf 'Nanoseconds are measured natively, see below.\n'
else
	printf 'Nothing on this page was measured natively.\n'
fi

table results.tsv 'Each operation' 'make bench-rows' <<'END'
Instructions for each unit, the mean of two boots. In every row the boots must
agree within 0.5 %, or the command fails and names the row. A row with ``overhead``
is what the operation costs more than the plain one: both costs have errors, so
such a difference must also agree within one instruction, or 0.5 % of itself if that
is more. A first touch that is locked costs less than one that is not, since the
page goes to the batch of mlock in place of that of folio_add_lru().
END
table sweep.tsv 'Each call with each outcome' 'make bench-sweep' 40 <<'END'
Instructions for each call: errors, holes, splits, merges, 1 to 512 pages, limits.
The 40 with the highest ratio; all of them are in ``sweep.tsv``. Where the call frees
locked pages, the C leaves them in a batch, and a later call pays for that.
END
table stress-ng.tsv 'The stressors of LKP' 'make bench-stress-ng' <<'END'
Instructions for each of stress-ng's operations, of the program and of the kernel;
both stressors run a fixed number of them. *mlock* locks one to three pages, and now
and then all that it has; *remap* maps 4096 pages in another order by
remap_file_pages(), and locks and unlocks each. The third stressor of LKP, mlockmany,
counts forks, so its rate says little of mlock.
END
table gcc/results.tsv 'With a kernel made by gcc' 'make bench-rows GCC=1' <<'END'
As Debian makes its kernel. No helper can be inlined into Rust there: each is a
call.
END
table native.tsv 'Time on the machine itself' 'make bench-native' <<'END'
Nanoseconds. The kernels are programs (User-Mode Linux), which take turns; the
ratios are those of runs of one turn. The memory, 2 MiB, stays in the caches. What
this cannot show: interrupt flags cost nothing there, a page table is the host's
mmap(), which is most of touching and unmapping; and no helper is inlined into Rust,
which the kernel forbids for UML. So a vma that is locked with few pages in it takes
longer than in the C: each helper is a call.
END
table native-cold.tsv 'The same with cold memory' 'make bench-native' <<'END'
512 MiB, which no cache holds.
END
table growth.tsv 'How cost grows' 'make bench-growth' <<'END'
Instructions for a call. Up to 256 pages it is the median of up to 31 rounds; the
large ones run once. mlockall() and munlockall() also take the program's own 20
vmas and 200 pages, which is most of the cost with 10 vmas.
END
table cpus.tsv 'Several CPUs at once' 'make bench-cpus' <<'END'
Wall time. A guest with each kernel is up at the same time, and they take turns; the
ratio is that of each pair of rounds. Each CPU has a process with memory of its own,
so they meet at the lruvec locks, not at one mm. With more virtual CPUs than the
host has, they also wait for each other to be run.
END
table paper.tsv 'The experiment of 2015' 'make bench-paper' <<'END'
Of the letter that brought ``MLOCK_ONFAULT``. A millisecond is 10^6 instructions. The
letter's figures are the wall time of another machine with a disk; the file here is on
the guest's tmpfs. So compare how the rows stand to each other.
END
if [ -n "$missing" ]; then
	printf '\nNot measured for this page\n==========================\n\n%s' "$missing"
fi
