// SPDX-License-Identifier: GPL-2.0
/*
 * Mappings that mlock() skips: mappings of the kernel and of drivers, hugetlb,
 * MAP_DROPPABLE and memfd_secret(). They count against the limit all the same.
 *
 * The tests describe what the kernel does, quirks included, rather than what a
 * manual page promises, so that other implementations can be compared with it.
 *
 * Run as root.
 *
 * Not tested: DAX mappings, which need a suitable device.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <linux/perf_event.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "mlock-helpers.h"
#include "mlock-huge.h"

/* Constants that the C library may lack. */
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif

/* A root process that may lock anything and has nothing locked. */
FIXTURE(mlock_special)
{
	int unused;
};

FIXTURE_SETUP(mlock_special)
{
	if (geteuid())
		SKIP(return, "needs root");
	ASSERT_EQ(0, start_unlocked());
}

FIXTURE_TEARDOWN(mlock_special)
{
}

TEST_F(mlock_special, vvar_and_vdso_are_skipped)
{
	static const char * const names[] = { "[vvar]", "[vdso]" };
	unsigned long start, end;
	unsigned int found = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(names); i++) {
		if (!find_mapping(names[i], &start, &end))
			continue;
		found++;
		EXPECT_EQ(0, do_mlock((void *)start, end - start));
		EXPECT_EQ(0, do_mlock((void *)start, P(1)));
		EXPECT_EQ(0, do_mlock2((void *)start, end - start,
				       MLOCK_ONFAULT));
		EXPECT_EQ(0, look_bytes(start, end).lo);
		EXPECT_EQ(0, look_bytes(start, end).lf);
		EXPECT_EQ(1, look_bytes(start, end).vmas);
		EXPECT_EQ(0, charged());
		EXPECT_EQ(0, do_munlock((void *)start, end - start));
	}
	if (!found)
		SKIP(return, "neither [vvar] nor [vdso]");
	/* Not locked, but subject to the limit. */
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(1) - 1));
	EXPECT_EQ(-ENOMEM, do_mlock((void *)start, end - start));
}

TEST_F(mlock_special, gate_is_not_part_of_the_address_space)
{
	unsigned long start, end;

	if (find_mapping("[vsyscall]", &start, &end)) {
		EXPECT_EQ(-ENOMEM, do_mlock((void *)start, end - start));
		EXPECT_EQ(-ENOMEM, do_munlock((void *)start, end - start));
		EXPECT_EQ(0, charged());
	} else {
#ifdef __x86_64__
		SKIP(return, "no [vsyscall]");
#endif
	}
}

/* A mapping with pages that a driver put there: VM_SPECIAL. */
static char *map_special(char *at, int extra)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_SW_DUMMY,
		.disabled = 1,
	};
	int fd = syscall(__NR_perf_event_open, &attr, 0, -1, -1, 0);

	if (fd < 0)
		return NULL;
	return mmap(at, P(2), RW, MAP_SHARED | MAP_FIXED | extra, fd, 0);
}

TEST_F(mlock_special, driver_mapping_is_skipped)
{
	char *p = hole(2);
	long before;

	ASSERT_NE(NULL, p);
	if (!map_special(p, 0))
		SKIP(return, "no perf events");
	/* perf has its own accounting, which VmLck does not show. */
	EXPECT_EQ(0, charged());
	UNLOCKED(p, 2);
	EXPECT_EQ(0, do_mlock(p, P(2)));
	UNLOCKED(p, 2);
	EXPECT_EQ(0, do_mlock(p + P(1), P(1)));
	EXPECT_EQ(0, do_mlock2(p, P(2), MLOCK_ONFAULT));
	UNLOCKED(p, 2);
	EXPECT_EQ(0, do_munlock(p, P(1)));
	EXPECT_EQ(0, charged());
	EXPECT_EQ(0, munmap(p, P(2)));

	/* Neither MAP_LOCKED nor MCL_FUTURE locks it. */
	ASSERT_EQ(p, map_special(p, MAP_LOCKED));
	UNLOCKED(p, 2);
	EXPECT_EQ(0, charged());
	EXPECT_EQ(0, munmap(p, P(2)));
	EXPECT_EQ(0, charged());
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT));
	before = charged();
	ASSERT_EQ(p, map_special(p, 0));
	UNLOCKED(p, 2);
	EXPECT_EQ(before, charged());
	EXPECT_EQ(0, munmap(p, P(2)));
	EXPECT_EQ(before, charged());
	/* But it must stay below the limit. */
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(before + 1)));
	EXPECT_EQ(MAP_FAILED, map_special(p, 0));
	EXPECT_EQ(EAGAIN, errno);
}

TEST_F(mlock_special, skipped_mapping_does_not_stop_the_walk)
{
	char *p = region(SHMLBA / psize() + 3);

	ASSERT_NE(NULL, p);
	p += SHMLBA - P(1);
	if (!map_special(p + P(1), 0))
		SKIP(return, "no perf events");
	EXPECT_EQ(0, do_mlock2(p, P(4), MLOCK_ONFAULT));
	EXPECT_VMAS(p, 4, 3, 2, 2);
	EXPECT_EQ(2, charged());
	EXPECT_EQ(0, do_munlock(p, P(4)));
	EXPECT_VMAS(p, 4, 3, 0, 0);
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_special, droppable_is_skipped)
{
	int type = MAP_DROPPABLE | MAP_ANONYMOUS | MAP_FIXED;
	char *p = hole(2);

	ASSERT_NE(NULL, p);
	if (mmap(p, P(2), RW, type, -1, 0) != p)
		SKIP(return, "no MAP_DROPPABLE");
	EXPECT_EQ(0, do_mlock(p, P(2)));
	UNLOCKED(p, 2);
	EXPECT_EQ(0, charged());
	/* But populated in both modes, since the vma has no VM_LOCKONFAULT. */
	EXPECT_EQ(2, present(p, 2));
	EXPECT_EQ(0, mlocked(p, 2));
	ASSERT_EQ(p, mmap(p, P(2), RW, type, -1, 0));
	EXPECT_EQ(0, present(p, 2));
	EXPECT_EQ(0, do_mlock2(p, P(2), MLOCK_ONFAULT));
	UNLOCKED(p, 2);
	EXPECT_EQ(2, present(p, 2));
	EXPECT_EQ(0, do_munlock(p, P(2)));

	/* MAP_LOCKED is an error here, MCL_FUTURE is not. */
	EXPECT_EQ(MAP_FAILED, mmap(p, P(2), RW, type | MAP_LOCKED, -1, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0, do_mlockall(MCL_FUTURE));
	EXPECT_EQ(p, mmap(p, P(2), RW, type, -1, 0));
	UNLOCKED(p, 2);
	EXPECT_EQ(0, charged());
	EXPECT_EQ(2, present(p, 2));
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT | MCL_FUTURE));
	UNLOCKED(p, 2);
	/* It has to fit all the same. */
	EXPECT_EQ(0, do_munlockall());
	EXPECT_EQ(0, do_mlockall(MCL_FUTURE));
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(1)));
	EXPECT_EQ(MAP_FAILED, mmap(p, P(2), RW, type, -1, 0));
	EXPECT_EQ(EAGAIN, errno);
	/* EPERM takes precedence over EINVAL. */
	ASSERT_EQ(0, set_limit(0));
	EXPECT_EQ(MAP_FAILED, mmap(p, P(2), RW, type | MAP_LOCKED, -1, 0));
	EXPECT_EQ(EPERM, errno);
}

#ifdef __NR_memfd_secret
TEST_F(mlock_special, secretmem_is_locked_when_mapped_or_never)
{
	int fd = syscall(__NR_memfd_secret, O_CLOEXEC);
	int type = MAP_SHARED | MAP_FIXED;
	char *p = hole(2);

	if (fd < 0)
		SKIP(return, "no memfd_secret()");
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ftruncate(fd, P(2)));

	/*
	 * Mapped without MAP_LOCKED: mlock() skips it, and then fails to
	 * populate it, since GUP refuses secret memory.
	 */
	ASSERT_EQ(p, mmap(p, P(2), RW, type, fd, 0));
	UNLOCKED(p, 2);
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(1)));
	EXPECT_EQ(-ENOMEM, do_mlock2(p, P(2), MLOCK_ONFAULT));
	UNLOCKED(p, 2);
	EXPECT_EQ(0, present(p, 2));
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT));
	UNLOCKED(p, 2);
	EXPECT_EQ(0, do_munlockall());
	EXPECT_EQ(0, do_munlock(p, P(2)));
	EXPECT_EQ(0, charged());
	ASSERT_EQ(0, munmap(p, P(2)));

	/* MAP_LOCKED locks it, and munlock() does not unlock it. */
	ASSERT_EQ(p, mmap(p, P(2), RW, type | MAP_LOCKED, fd, 0));
	LOCKED(p, 2);
	EXPECT_EQ(2, charged());
	EXPECT_EQ(0, present(p, 2));
	touch(p, 1);
	EXPECT_EQ(1, look(p, 2).locked);
	EXPECT_EQ(1, mlocked(p, 2));
	EXPECT_EQ(0, do_munlock(p, P(2)));
	EXPECT_EQ(0, do_munlock(p + P(1), P(1)));
	EXPECT_EQ(0, do_munlockall());
	LOCKED(p, 2);
	EXPECT_EQ(1, mlocked(p, 2));
	EXPECT_EQ(-ENOMEM, do_mlock2(p, P(2), MLOCK_ONFAULT));
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT | MCL_ONFAULT));
	LOCKED(p, 2);
	EXPECT_EQ(0, do_munlockall());
	EXPECT_EQ(2, charged());
	ASSERT_EQ(0, munmap(p, P(2)));
	EXPECT_EQ(0, charged());

	/* MCL_FUTURE locks it as well; locking on fault populates nothing. */
	EXPECT_EQ(0, do_mlockall(MCL_FUTURE | MCL_ONFAULT));
	ASSERT_EQ(p, mmap(p, P(2), RW, type, fd, 0));
	ONFAULT(p, 2);
	EXPECT_EQ(0, do_munlockall());
	EXPECT_EQ(0, do_munlock(p, P(2)));
	EXPECT_EQ(0, do_mlock(p, P(2)));
	ONFAULT(p, 2);
	EXPECT_EQ(2, charged());
}
#endif

/*
 * hugetlb
 */

/* Restores the number of huge pages afterwards. */
FIXTURE(mlock_hugetlb)
{
	long was;
};

FIXTURE_SETUP(mlock_hugetlb)
{
	self->was = read_knob(NR_HUGEPAGES);
	if (geteuid())
		SKIP(return, "needs root");
	ASSERT_EQ(0, start_unlocked());
}

FIXTURE_TEARDOWN_PARENT(mlock_hugetlb)
{
	if (self->was >= 0)
		write_ulong(NR_HUGEPAGES, self->was);
}

static char *map_huge(unsigned long pages, int extra)
{
	return mmap(NULL, P(pages), RW, ANON | MAP_HUGETLB | extra, -1, 0);
}

TEST_F(mlock_hugetlb, hugetlb_is_skipped)
{
	unsigned long n;
	char *p;

	if (!default_huge_page_size())
		SKIP(return, "no hugetlb");
	n = need_huge_pages(2);
	ASSERT_LT(0, n);
	p = map_huge(2 * n, 0);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(0, look(p, 2 * n).hugetlb);
	/* A part of a huge page: no split, not locked, but populated. */
	EXPECT_EQ(0, do_mlock(p + P(1), P(1)));
	UNLOCKED(p, 2 * n);
	EXPECT_EQ(n, look(p, 2 * n).hugetlb);
	/* On fault as well, since the vma has no VM_LOCKONFAULT. */
	EXPECT_EQ(0, do_mlock2(p, P(2 * n), MLOCK_ONFAULT));
	UNLOCKED(p, 2 * n);
	EXPECT_EQ(2 * n, look(p, 2 * n).hugetlb);
	EXPECT_EQ(0, charged());
	EXPECT_EQ(0, do_munlock(p, P(1)));
	EXPECT_EQ(0, do_munlock(p, P(2 * n)));
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT));
	UNLOCKED(p, 2 * n);
	EXPECT_EQ(0, do_munlockall());
	EXPECT_EQ(0, munmap(p, P(2 * n)));
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_hugetlb, hugetlb_has_to_fit_below_the_limit)
{
	unsigned long n;
	char *p;

	if (!default_huge_page_size())
		SKIP(return, "no hugetlb");
	n = need_huge_pages(2);
	ASSERT_LT(0, n);
	p = map_huge(n, MAP_LOCKED);
	ASSERT_NE(MAP_FAILED, p);
	UNLOCKED(p, n);
	EXPECT_EQ(0, charged());
	EXPECT_EQ(n, look(p, n).hugetlb);

	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(n) - 1));
	EXPECT_EQ(MAP_FAILED, map_huge(n, MAP_LOCKED));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(n)));
	EXPECT_EQ(0, do_mlock(p, P(n - 1)));
	ASSERT_EQ(0, do_mlockall(MCL_FUTURE));
	EXPECT_EQ(MAP_FAILED, map_huge(n, 0));
	EXPECT_EQ(EAGAIN, errno);
	/* Any number of times, since it is never charged. */
	ASSERT_EQ(0, set_limit(P(n)));
	EXPECT_EQ(0, do_mlock(p, P(n)));
	p = map_huge(n, 0);
	ASSERT_NE(MAP_FAILED, p);
	UNLOCKED(p, n);
	EXPECT_EQ(n, look(p, n).hugetlb);
	EXPECT_EQ(0, charged());
	ASSERT_EQ(0, set_limit(0));
	EXPECT_EQ(MAP_FAILED, map_huge(n, MAP_LOCKED));
	EXPECT_EQ(EPERM, errno);
}

TEST_F(mlock_hugetlb, hugetlb_between_other_mappings)
{
	unsigned long n;
	char *p, *huge;

	if (!default_huge_page_size())
		SKIP(return, "no hugetlb");
	n = need_huge_pages(1);
	ASSERT_LT(0, n);
	p = hole(3 * n);
	ASSERT_NE(NULL, p);
	/* The first boundary that has a page before it. */
	huge = (char *)(((unsigned long)p + P(n)) & -P(n));
	ASSERT_EQ(0, map_anon(huge - P(1), 1, RW, 0));
	ASSERT_EQ(huge, mmap(huge, P(n), RW, ANON | MAP_HUGETLB | MAP_FIXED,
			     -1, 0));
	ASSERT_EQ(0, map_anon(huge + P(n), 1, RW, 0));
	EXPECT_EQ(0, do_mlock(huge - P(1), P(n + 2)));
	EXPECT_VMAS(huge - P(1), n + 2, 3, 2, 0);
	EXPECT_EQ(2, charged());
	EXPECT_EQ(0, do_munlock(huge - P(1), P(n + 2)));
	EXPECT_EQ(0, charged());
}

TEST_HARNESS_MAIN
