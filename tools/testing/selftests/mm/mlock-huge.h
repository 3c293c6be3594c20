/* SPDX-License-Identifier: GPL-2.0 */
/*
 * hugetlb pages and transparent huge pages for the mlock tests.
 *
 * Include this after kselftest_harness.h.
 */
#ifndef MLOCK_HUGE_H
#define MLOCK_HUGE_H

#include "hugepage_settings.h"
#include "mlock-helpers.h"

#define NR_HUGEPAGES "/proc/sys/vm/nr_hugepages"

/*
 * Reserves huge pages of the default size. Returns their size in pages, or 0.
 */
static inline unsigned long need_huge_pages(long nr)
{
	unsigned long size = default_huge_page_size();

	if (!size || write_ulong(NR_HUGEPAGES, read_knob(NR_HUGEPAGES) + nr) ||
	    find_number("/proc/meminfo", "HugePages_Free:") < nr)
		return 0;
	return size / psize();
}

/*
 * Maps an aligned huge page within an area of three. Returns its size in pages,
 * or 0.
 */
static inline unsigned long thp_size(void)
{
	if (file_says("/sys/kernel/mm/transparent_hugepage/enabled", "[never]"))
		return 0;
	return read_pmd_pagesize() / psize();
}

static inline char *thp_new(unsigned long n)
{
	char *p = region(3 * n), *huge;

	if (!p)
		return NULL;
	huge = (char *)(((unsigned long)p + P(n)) & -P(n));
	if (madvise(huge, P(n), MADV_HUGEPAGE))
		return NULL;
	touch(huge, 1);
	if (look(huge, n).thp != n) {
		touch(huge, n);
		if (madvise(huge, P(n), MADV_COLLAPSE))
			return NULL;
	}
	return look(huge, n).thp == n ? huge : NULL;
}

#endif
