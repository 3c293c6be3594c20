// SPDX-License-Identifier: GPL-2.0
/*
 * mlock(), mlock2(), munlock(), mlockall() and munlockall(): the arguments they
 * accept, the precedence of errors, rounding, the end of a range, and locks
 * across fork() and exec().
 *
 * The tests describe what the kernel does, quirks included, rather than what a
 * manual page promises, so that other implementations can be compared with it.
 *
 * Run as root.
 *
 * Not tested: EINTR, which only a dying task gets, and that munlock() clears a
 * vma's flags before it walks the pages, which only a race would show.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"
#include <errno.h>
#include <limits.h>
#include <linux/mman.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "mlock-helpers.h"

/* A root process that may lock anything and has nothing locked. */
FIXTURE(mlock_calls)
{
	int unused;
};

FIXTURE_SETUP(mlock_calls)
{
	if (geteuid())
		SKIP(return, "needs root");
	ASSERT_EQ(0, start_unlocked());
}

FIXTURE_TEARDOWN(mlock_calls)
{
}

/*
 * Errors and their order
 */

TEST_F(mlock_calls, mlock2_knows_only_the_onfault_flag)
{
	char *p = region(1);

	ASSERT_NE(NULL, p);
	for (int bit = 0; bit < 32; bit++) {
		if ((1U << bit) == MLOCK_ONFAULT)
			continue;
		EXPECT_EQ(-EINVAL, do_mlock2(p, P(1), 1U << bit));
		EXPECT_EQ(-EINVAL, do_mlock2(p, P(1), 1U << bit | MLOCK_ONFAULT));
	}
	EXPECT_EQ(-EINVAL, do_mlock2(p, P(1), UINT_MAX));
	UNLOCKED(p, 1);
	EXPECT_EQ(0, charged());

	EXPECT_EQ(0, do_mlock2(p, P(1), MLOCK_ONFAULT));
	ONFAULT(p, 1);
	EXPECT_EQ(0, do_mlock2(p, P(1), 0));
	LOCKED(p, 1);
}

TEST_F(mlock_calls, mlock2_flags_are_an_int)
{
	char *p = region(1);

	ASSERT_NE(NULL, p);
#if ULONG_MAX > UINT_MAX
	EXPECT_EQ(0, do_mlock2(p, P(1), 1UL << 32));
	LOCKED(p, 1);
	EXPECT_EQ(0, do_mlock2(p, P(1), 1UL << 63 | MLOCK_ONFAULT));
	ONFAULT(p, 1);
#endif
}

TEST_F(mlock_calls, mlock2_unknown_flag_comes_before_everything)
{
	char *gone = hole(2);

	ASSERT_NE(NULL, gone);
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(0));
	/* Unknown flags take precedence over all other errors. */
	EXPECT_EQ(-EINVAL, do_mlock2(gone, P(2), 2));
	EXPECT_EQ(-EINVAL, do_mlock2(gone, 0, 2));
	EXPECT_EQ(-EINVAL, do_mlock2((void *)-P(1), P(1), 2));
	EXPECT_EQ(-EPERM, do_mlock2(gone, P(2), MLOCK_ONFAULT));
	EXPECT_EQ(-EPERM, do_mlock2(gone, P(2), 0));
}

/*
 * A subset of the three flags, by number, since their bits differ between
 * architectures.
 */
static unsigned int mcl(unsigned int subset)
{
	return (subset & 1 ? MCL_CURRENT : 0) | (subset & 2 ? MCL_FUTURE : 0) |
	       (subset & 4 ? MCL_ONFAULT : 0);
}

#define MCL_SUBSETS	8

TEST_F(mlock_calls, mlockall_flag_combinations)
{
	for (unsigned int i = 0; i < MCL_SUBSETS; i++) {
		bool ok = mcl(i) & (MCL_CURRENT | MCL_FUTURE);

		EXPECT_EQ(ok ? 0 : -EINVAL, do_mlockall(mcl(i))) {
			TH_LOG("mlockall(%#x)", mcl(i));
		}
		EXPECT_EQ(0, do_munlockall());
	}
	for (unsigned int bit = 0; bit < 32; bit++) {
		if (1U << bit & mcl(MCL_SUBSETS - 1))
			continue;
		for (unsigned int i = 0; i < MCL_SUBSETS; i++)
			EXPECT_EQ(-EINVAL, do_mlockall(1U << bit | mcl(i)));
	}
	EXPECT_EQ(-EINVAL, do_mlockall(UINT_MAX));
	EXPECT_EQ(0, charged());
	EXPECT_EQ(0, look_all().lo);
}

TEST_F(mlock_calls, refused_mlockall_leaves_the_default_alone)
{
	char *p = hole(3);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, do_mlockall(MCL_FUTURE));
	EXPECT_EQ(-EINVAL, do_mlockall(0));
	EXPECT_EQ(-EINVAL, do_mlockall(MCL_ONFAULT));
	EXPECT_EQ(-EINVAL, do_mlockall(8));
	EXPECT_EQ(0, map_anon(p, 1, RW, 0));
	LOCKED(p, 1);

	/* Not permitted. */
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(0));
	EXPECT_EQ(-EPERM, do_mlockall(MCL_CURRENT));
	ASSERT_EQ(0, regain_cap());
	EXPECT_EQ(0, map_anon(p + P(1), 1, PROT_READ, 0));
	LOCKED(p + P(1), 1);

	/* Over the limit. */
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(1)));
	EXPECT_EQ(-ENOMEM, do_mlockall(MCL_CURRENT));
	ASSERT_EQ(0, regain_cap());
	EXPECT_EQ(0, map_anon(p + P(2), 1, RW, 0));
	LOCKED(p + P(2), 1);
}

TEST_F(mlock_calls, mlockall_flags_come_before_permission)
{
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(0));
	for (unsigned int i = 0; i < MCL_SUBSETS; i++) {
		bool ok = mcl(i) & (MCL_CURRENT | MCL_FUTURE);

		EXPECT_EQ(ok ? -EPERM : -EINVAL, do_mlockall(mcl(i))) {
			TH_LOG("mlockall(%#x)", mcl(i));
		}
		for (unsigned int bit = 0; bit < 32; bit++) {
			if (!(1U << bit & mcl(MCL_SUBSETS - 1)))
				EXPECT_EQ(-EINVAL, do_mlockall(1U << bit | mcl(i)));
		}
	}
}

TEST_F(mlock_calls, permission_comes_before_the_range)
{
	char *p = region(2), *gone = hole(1);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, gone);
	ASSERT_EQ(0, do_mlock(p, P(1)));
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(0));
	EXPECT_EQ(-EPERM, do_mlock(p, P(1)));
	EXPECT_EQ(-EPERM, do_mlock(p, 0));
	EXPECT_EQ(-EPERM, do_mlock(p, ULONG_MAX));
	EXPECT_EQ(-EPERM, do_mlock(gone, P(1)));
	EXPECT_EQ(-EPERM, do_mlock((void *)-P(1), P(1)));
	EXPECT_EQ(-EPERM, do_mlock2(p, 0, MLOCK_ONFAULT));
	EXPECT_EQ(1, charged());
}

TEST_F(mlock_calls, unlocking_needs_no_permission)
{
	char *p = region(2);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, do_mlock(p, P(2)));
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(0));
	EXPECT_EQ(0, do_munlock(p, P(1)));
	EXPECT_EQ(1, charged());
	EXPECT_EQ(0, do_munlockall());
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_calls, limit_comes_before_the_range)
{
	/* The last page of the address space: its end wraps to 0. */
	long wrapped = lengths_wrap() ? -EINVAL : -ENOMEM;
	unsigned long start, end;

	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(1)));
	/* Arm programs have their vectors there if pages are large. */
	if (!find_mapping("[vectors]", &start, &end) || start != -P(1))
		EXPECT_EQ(wrapped, do_mlock((void *)-P(1), P(1)));
	EXPECT_EQ(-ENOMEM, do_mlock((void *)-P(2), P(2)));
	ASSERT_EQ(0, regain_cap());
	EXPECT_EQ(wrapped, do_mlock((void *)-P(2), P(2)));
}

/*
 * The range
 */

TEST_F(mlock_calls, address_and_length_are_rounded)
{
	char *p = region(4);

	ASSERT_NE(NULL, p);

	/* The start is rounded down, and the end is rounded up. */
	EXPECT_EQ(0, do_mlock(p + P(1) - 1, 2));
	EXPECT_EQ(2, charged());
	LOCKED(p, 2);
	UNLOCKED(p + P(2), 2);
	EXPECT_EQ(0, do_munlock(p + P(1) - 1, 1));
	EXPECT_EQ(1, charged());
	UNLOCKED(p, 1);
	EXPECT_EQ(0, do_munlock(p + P(1) + 7, 1));
	EXPECT_EQ(0, charged());

	EXPECT_EQ(0, do_mlock(p + 1, P(1)));
	EXPECT_EQ(2, charged());
	EXPECT_EQ(0, do_munlock(p + 1, P(1)));
	EXPECT_EQ(0, charged());

	EXPECT_EQ(0, do_mlock(p + 1, P(1) - 1));
	EXPECT_EQ(1, charged());
	EXPECT_EQ(0, do_munlock(p, 1));
	EXPECT_EQ(0, charged());

	EXPECT_EQ(0, do_mlock2(p + P(1) + 1, P(1), MLOCK_ONFAULT));
	EXPECT_EQ(2, charged());
	ONFAULT(p + P(1), 2);
	UNLOCKED(p, 1);
	UNLOCKED(p + P(3), 1);
}

TEST_F(mlock_calls, length_zero_does_nothing_if_aligned)
{
	char *p = region(1), *gone = hole(1);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, gone);
	EXPECT_EQ(0, do_mlock(p, 0));
	EXPECT_EQ(0, do_mlock2(p, 0, MLOCK_ONFAULT));
	EXPECT_EQ(0, do_munlock(p, 0));
	EXPECT_EQ(0, do_mlock(gone, 0));
	EXPECT_EQ(0, do_munlock(gone, 0));
	EXPECT_EQ(0, do_mlock(NULL, 0));
	EXPECT_EQ(0, do_mlock((void *)-P(1), 0));
	UNLOCKED(p, 1);
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_calls, length_zero_takes_a_page_if_unaligned)
{
	char *p = region(2), *gone = hole(1);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, gone);
	EXPECT_EQ(0, do_mlock(p + 1, 0));
	EXPECT_EQ(1, charged());
	LOCKED(p, 1);
	EXPECT_EQ(0, do_munlock(p + P(1) - 1, 0));
	EXPECT_EQ(0, charged());
	EXPECT_EQ(-ENOMEM, do_mlock(gone + 1, 0));
	EXPECT_EQ(-ENOMEM, do_munlock(gone + 1, 0));
}

/*
 * If the length of a 32-bit program does not wrap, the range extends beyond the
 * mappings, and all of it counts against the limit.
 */
static void lock_to_4g(struct __test_metadata *_metadata, char *p)
{
	EXPECT_EQ(-ENOMEM, do_mlock(p, ULONG_MAX));
	EXPECT_EQ(-ENOMEM, do_mlock2(p, -(unsigned long)p,
				     MLOCK_ONFAULT));
	ONFAULT(p, 1);
	EXPECT_EQ(-ENOMEM, do_munlock(p, ULONG_MAX));
	UNLOCKED(p, 1);
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(2)));
	EXPECT_EQ(-ENOMEM, do_mlock(p, ULONG_MAX));
	UNLOCKED(p, 1);
}

TEST_F(mlock_calls, length_that_wraps_to_zero_locks_nothing)
{
	char *p = region(1), *gone = hole(1);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, gone);
	if (!lengths_wrap()) {
		lock_to_4g(_metadata, p);
		return;
	}
	/* Rounded up to a page, each of these lengths is 0. */
	EXPECT_EQ(0, do_mlock(p, ULONG_MAX));
	EXPECT_EQ(0, do_mlock(p, ULONG_MAX - P(1) + 2));
	EXPECT_EQ(0, do_mlock(p + 1, ULONG_MAX));
	EXPECT_EQ(0, do_mlock(p + 1, ULONG_MAX - P(1) + 1));
	EXPECT_EQ(0, do_mlock2(p, ULONG_MAX, MLOCK_ONFAULT));
	EXPECT_EQ(0, do_mlock(gone, ULONG_MAX));
	UNLOCKED(p, 1);
	EXPECT_EQ(0, charged());

	ASSERT_EQ(0, do_mlock(p, P(1)));
	EXPECT_EQ(0, do_munlock(p, ULONG_MAX));
	EXPECT_EQ(0, do_munlock(p + 1, ULONG_MAX));
	LOCKED(p, 1);
	EXPECT_EQ(1, charged());

	/* Nor does it count against the limit. */
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(1)));
	EXPECT_EQ(0, do_mlock(p, ULONG_MAX));
}

TEST_F(mlock_calls, unaligned_length_that_wraps_leaves_a_page)
{
	char *p = region(2);

	ASSERT_NE(NULL, p);
	if (!lengths_wrap()) {
		lock_to_4g(_metadata, p);
		return;
	}
	/* The offset in the page is added first, and the sum wraps to 1. */
	EXPECT_EQ(0, do_mlock(p + 2, ULONG_MAX));
	EXPECT_EQ(1, charged());
	LOCKED(p, 1);
	UNLOCKED(p + P(1), 1);
	EXPECT_EQ(0, do_munlock(p + 2, ULONG_MAX));
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_calls, range_that_wraps_is_einval)
{
	char *p = region(1);

	ASSERT_NE(NULL, p);
	if (!lengths_wrap()) {
		lock_to_4g(_metadata, p);
		return;
	}
	EXPECT_EQ(-EINVAL, do_mlock(p, -P(1)));
	EXPECT_EQ(-EINVAL, do_mlock(p, ULONG_MAX - P(1)));
	EXPECT_EQ(-EINVAL, do_mlock(p, -(unsigned long)p));
	EXPECT_EQ(-EINVAL, do_mlock2(p, -P(1), MLOCK_ONFAULT));
	EXPECT_EQ(-EINVAL, do_munlock(p, -P(1)));
	EXPECT_EQ(-EINVAL, do_munlock((void *)-P(1), P(1)));
	EXPECT_EQ(-EINVAL, do_mlock((void *)-P(1), 1));
	UNLOCKED(p, 1);
	EXPECT_EQ(0, charged());

	/* One page less does not reach the end: the range is only unmapped. */
	EXPECT_EQ(-ENOMEM, do_mlock(p, -(unsigned long)p - P(1)));
	LOCKED(p, 1);
}

TEST_F(mlock_calls, range_that_wraps_is_compared_with_the_limit_first)
{
	char *p = region(1);

	ASSERT_NE(NULL, p);
	if (!lengths_wrap()) {
		lock_to_4g(_metadata, p);
		return;
	}
	ASSERT_EQ(0, do_mlock(p, P(1)));
	ASSERT_EQ(0, drop_cap());
	/*
	 * Enough for the rest of the address space, without counting the page
	 * twice.
	 */
	ASSERT_EQ(0, set_limit(-(unsigned long)p));
	EXPECT_EQ(lengths_extend() ? -ENOMEM : -EINVAL,
		  do_mlock(p, -(unsigned long)p));
	ASSERT_EQ(0, set_limit(-(unsigned long)p - P(1)));
	EXPECT_EQ(-ENOMEM, do_mlock(p, -(unsigned long)p));
	EXPECT_EQ(1, charged());
}

TEST_F(mlock_calls, hole_in_the_middle)
{
	char *p = region(5);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, munmap(p + P(2), P(1)));
	touch(p, 1);
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(5)));
	LOCKED(p, 2);
	UNLOCKED(p + P(3), 2);
	EXPECT_EQ(2, charged());
	/* Locked, but not populated. */
	EXPECT_EQ(1, present(p, 5));
	EXPECT_EQ(1, look(p, 2).locked);

	ASSERT_EQ(0, do_munlockall());
	EXPECT_EQ(-ENOMEM, do_mlock2(p, P(5), MLOCK_ONFAULT));
	ONFAULT(p, 2);
	UNLOCKED(p + P(3), 2);
	EXPECT_EQ(2, charged());
}

TEST_F(mlock_calls, hole_at_the_end)
{
	char *p = region(3);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, munmap(p + P(2), P(1)));
	EXPECT_EQ(-ENOMEM, do_mlock(p + P(1), P(2)));
	UNLOCKED(p, 1);
	LOCKED(p + P(1), 1);
	EXPECT_EQ(1, charged());
	EXPECT_EQ(0, present(p, 2));
}

TEST_F(mlock_calls, hole_at_the_start)
{
	char *p = region(3);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, munmap(p, P(1)));
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(3)));
	EXPECT_EQ(-ENOMEM, do_mlock2(p, P(3), MLOCK_ONFAULT));
	UNLOCKED(p + P(1), 2);
	EXPECT_EQ(0, charged());
	EXPECT_EQ(-ENOMEM, do_munlock(p, P(3)));
}

TEST_F(mlock_calls, nothing_mapped_at_all)
{
	char *p = hole(3);

	ASSERT_NE(NULL, p);
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(3)));
	EXPECT_EQ(-ENOMEM, do_mlock2(p, P(3), MLOCK_ONFAULT));
	EXPECT_EQ(-ENOMEM, do_munlock(p, P(3)));
	EXPECT_EQ(-ENOMEM, do_mlock(NULL, P(1)));
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_calls, munlock_stops_at_a_hole)
{
	char *p = region(6);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, do_mlock(p, P(6)));
	ASSERT_EQ(0, munmap(p + P(3), P(1)));
	EXPECT_EQ(5, charged());
	EXPECT_EQ(-ENOMEM, do_munlock(p + P(1), P(5)));
	LOCKED(p, 1);
	UNLOCKED(p + P(1), 2);
	LOCKED(p + P(4), 2);
	EXPECT_EQ(3, charged());

	EXPECT_EQ(-ENOMEM, do_munlock(p + P(3), P(3)));
	LOCKED(p + P(4), 2);
	EXPECT_EQ(3, charged());
	EXPECT_EQ(0, do_munlock(p + P(4), P(2)));
	EXPECT_EQ(1, charged());
}

TEST_F(mlock_calls, range_over_several_mappings)
{
	char *p = region(4);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, mprotect(p + P(1), P(1), PROT_READ));
	ASSERT_EQ(0, mprotect(p + P(2), P(1), PROT_READ | PROT_EXEC));
	EXPECT_EQ(0, do_mlock(p, P(4)));
	EXPECT_VMAS(p, 4, 4, 4, 0);
	EXPECT_EQ(4, charged());
	EXPECT_EQ(4, present(p, 4));
	EXPECT_EQ(0, do_munlock(p + P(1), P(2)));
	EXPECT_VMAS(p, 4, 4, 2, 0);
	EXPECT_EQ(2, charged());
	EXPECT_EQ(0, do_munlock(p, P(4)));
	EXPECT_VMAS(p, 4, 4, 0, 0);
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_calls, munlock_of_unlocked_memory)
{
	char *p = region(2);

	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, do_munlock(p, P(2)));
	EXPECT_EQ(0, do_munlock(p, P(1)));
	UNLOCKED(p, 2);
	EXPECT_EQ(0, do_munlockall());
	EXPECT_EQ(0, charged());
}

/*
 * Locked on fault, locked in full, and changes between the two
 */

TEST_F(mlock_calls, onfault_to_full_and_back_charges_once)
{
	char *p = region(4);

	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, do_mlock2(p, P(4), MLOCK_ONFAULT));
	ONFAULT(p, 4);
	EXPECT_EQ(4, charged());
	EXPECT_EQ(0, present(p, 4));
	EXPECT_EQ(0, do_mlock(p, P(4)));
	LOCKED(p, 4);
	EXPECT_EQ(4, charged());
	EXPECT_EQ(4, present(p, 4));
	EXPECT_EQ(0, do_mlock2(p, P(4), MLOCK_ONFAULT));
	ONFAULT(p, 4);
	EXPECT_EQ(4, charged());
	EXPECT_EQ(4, present(p, 4));
	EXPECT_EQ(4, look(p, 4).locked);
	EXPECT_EQ(0, do_mlock(p + P(1), P(2)));
	EXPECT_VMAS(p, 4, 3, 3, 2);
	EXPECT_EQ(4, charged());
	EXPECT_EQ(0, do_munlock(p, P(4)));
	UNLOCKED(p, 4);
	EXPECT_EQ(0, charged());
	EXPECT_EQ(0, look(p, 4).locked);
	EXPECT_EQ(4, present(p, 4));
}

TEST_F(mlock_calls, onfault_locks_what_is_there_and_what_comes)
{
	char *p = region(4);

	ASSERT_NE(NULL, p);
	touch(p, 1);
	EXPECT_EQ(0, do_mlock2(p, P(4), MLOCK_ONFAULT));
	EXPECT_EQ(4, charged());
	EXPECT_EQ(1, present(p, 4));
	EXPECT_EQ(1, look(p, 4).rss);
	EXPECT_EQ(1, look(p, 4).locked);
	EXPECT_EQ(1, mlocked(p, 4));
	touch(p + P(2), 1);
	EXPECT_EQ(2, present(p, 4));
	EXPECT_EQ(2, look(p, 4).locked);
	EXPECT_EQ(2, mlocked(p, 4));
	/* The fault charges nothing. */
	EXPECT_EQ(4, charged());
	EXPECT_EQ(0, do_munlock(p, P(4)));
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_calls, onfault_does_not_fault_over_the_limit_either)
{
	char *p = region(2);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, do_mlock2(p, P(2), MLOCK_ONFAULT));
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(0));
	touch(p, 2);
	EXPECT_EQ(2, look(p, 2).locked);
	EXPECT_EQ(2, charged());
}

/*
 * mlockall(), and MCL_FUTURE
 */

TEST_F(mlock_calls, current_locks_and_populates_everything)
{
	char *p = region(3), *none = region(1), *m = hole(1);
	unsigned long vvar, vvar_end;
	struct range all;

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, none);
	ASSERT_NE(NULL, m);
	ASSERT_EQ(0, mprotect(none, P(1), PROT_NONE));
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT));
	LOCKED(p, 3);
	EXPECT_EQ(3, look(p, 3).locked);
	EXPECT_EQ(3, present(p, 3));
	/* PROT_NONE memory is locked and charged, without an error. */
	LOCKED(none, 1);
	EXPECT_EQ(0, present(none, 1));
	all = look_all();
	EXPECT_EQ(0, all.lf);
	EXPECT_LT(3, all.lo);
	if (find_mapping("[vvar]", &vvar, &vvar_end))
		EXPECT_EQ(0, look_bytes(vvar, vvar_end).lo);
	/* Not the future. */
	EXPECT_EQ(0, map_anon(m, 1, RW, 0));
	UNLOCKED(m, 1);
	EXPECT_EQ(0, present(m, 1));

	EXPECT_EQ(0, do_munlockall());
	EXPECT_EQ(0, charged());
	EXPECT_EQ(0, look_all().lo);
}

TEST_F(mlock_calls, current_goes_on_after_prot_none)
{
	char *p = region(6);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, mprotect(p + P(2), P(2), PROT_NONE));
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT));
	EXPECT_VMAS(p, 6, 3, 3, 0);
	EXPECT_EQ(2, present(p, 2));
	EXPECT_EQ(0, present(p + P(2), 2));
	EXPECT_EQ(2, present(p + P(4), 2));
}

TEST_F(mlock_calls, current_on_fault_populates_nothing)
{
	char *p = region(3);
	long vm;

	ASSERT_NE(NULL, p);
	touch(p + P(1), 1);
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT | MCL_ONFAULT));
	ONFAULT(p, 3);
	EXPECT_EQ(1, present(p, 3));
	EXPECT_EQ(1, look(p, 3).locked);
	vm = charged();
	EXPECT_LT(3, vm);
	/* The same again, in full: the charge does not change. */
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT));
	LOCKED(p, 3);
	EXPECT_EQ(3, present(p, 3));
	EXPECT_EQ(vm, charged());
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT | MCL_ONFAULT));
	ONFAULT(p, 3);
	EXPECT_EQ(vm, charged());
}

TEST_F(mlock_calls, future_is_about_new_mappings_only)
{
	char *p = region(2), *m = hole(2);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, m);
	EXPECT_EQ(0, do_mlockall(MCL_FUTURE));
	EXPECT_EQ(0, charged());
	EXPECT_EQ(0, look_all().lo);
	EXPECT_EQ(0, map_anon(m, 2, RW, 0));
	LOCKED(m, 2);
	EXPECT_EQ(2, charged());
	EXPECT_EQ(2, present(m, 2));
	UNLOCKED(p, 2);
	EXPECT_EQ(0, munmap(m, P(2)));
	EXPECT_EQ(0, charged());
	/* Without access: locked, charged, not populated. */
	EXPECT_EQ(0, map_anon(m, 2, PROT_NONE, 0));
	LOCKED(m, 2);
	EXPECT_EQ(2, charged());
	EXPECT_EQ(0, present(m, 2));
}

TEST_F(mlock_calls, future_on_fault_charges_when_mapped)
{
	char *m = hole(4);

	ASSERT_NE(NULL, m);
	EXPECT_EQ(0, do_mlockall(MCL_FUTURE | MCL_ONFAULT));
	EXPECT_EQ(0, map_anon(m, 4, RW, 0));
	ONFAULT(m, 4);
	EXPECT_EQ(4, charged());
	EXPECT_EQ(0, present(m, 4));
	EXPECT_EQ(0, look(m, 4).rss);
	touch(m, 1);
	EXPECT_EQ(4, charged());
	EXPECT_EQ(1, look(m, 4).rss);
	EXPECT_EQ(1, look(m, 4).locked);
	/* Neither MAP_POPULATE nor MAP_LOCKED overrides it. */
	EXPECT_EQ(0, map_anon(m, 4, RW, MAP_POPULATE));
	EXPECT_EQ(0, present(m, 4));
	EXPECT_EQ(0, map_anon(m, 4, RW, MAP_LOCKED));
	ONFAULT(m, 4);
	EXPECT_EQ(0, present(m, 4));
	EXPECT_EQ(4, charged());
}

TEST_F(mlock_calls, second_mlockall_replaces_the_default)
{
	char *m = hole(1);

	ASSERT_NE(NULL, m);
	EXPECT_EQ(0, do_mlockall(MCL_FUTURE));
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT));
	EXPECT_EQ(0, map_anon(m, 1, RW, 0));
	UNLOCKED(m, 1);

	EXPECT_EQ(0, do_mlockall(MCL_FUTURE | MCL_ONFAULT));
	EXPECT_EQ(0, map_anon(m, 1, RW, 0));
	ONFAULT(m, 1);
	EXPECT_EQ(0, do_mlockall(MCL_FUTURE));
	EXPECT_EQ(0, map_anon(m, 1, RW, 0));
	LOCKED(m, 1);
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT | MCL_ONFAULT));
	EXPECT_EQ(0, map_anon(m, 1, RW, 0));
	UNLOCKED(m, 1);

	EXPECT_EQ(0, do_mlockall(MCL_FUTURE));
	EXPECT_EQ(0, do_munlockall());
	EXPECT_EQ(0, map_anon(m, 1, RW, 0));
	UNLOCKED(m, 1);
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_calls, future_leaves_what_is_locked)
{
	char *p = region(4);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, do_mlock(p, P(2)));
	ASSERT_EQ(0, do_mlock2(p + P(2), P(1), MLOCK_ONFAULT));
	EXPECT_EQ(0, do_mlockall(MCL_FUTURE));
	EXPECT_VMAS(p, 4, 3, 2, 1);
	EXPECT_EQ(3, charged());
	EXPECT_EQ(0, do_mlockall(MCL_FUTURE | MCL_ONFAULT));
	EXPECT_VMAS(p, 4, 3, 2, 1);
	EXPECT_EQ(3, charged());
}

TEST_F(mlock_calls, munlock_does_not_change_the_default)
{
	char *m = hole(2);

	ASSERT_NE(NULL, m);
	EXPECT_EQ(0, do_mlockall(MCL_FUTURE));
	EXPECT_EQ(0, map_anon(m, 1, RW, 0));
	EXPECT_EQ(0, do_munlock(m, P(1)));
	EXPECT_EQ(0, map_anon(m + P(1), 1, RW, 0));
	EXPECT_VMAS(m, 2, 2, 1, 0);
	EXPECT_EQ(1, charged());
}

TEST_F(mlock_calls, future_and_current_together)
{
	char *p = region(2), *m = hole(2);
	long before;

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, m);
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT));
	ONFAULT(p, 2);
	before = charged();
	EXPECT_EQ(0, map_anon(m, 2, RW, 0));
	ONFAULT(m, 2);
	EXPECT_EQ(before + 2, charged());
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT | MCL_FUTURE));
	LOCKED(p, 2);
	LOCKED(m, 2);
	EXPECT_EQ(before + 2, charged());
	EXPECT_EQ(2, present(m, 2));
}

/*
 * fork() and exec()
 */

TEST_F(mlock_calls, fork_clears_locks_charge_and_default)
{
	char *p = region(4), *m = hole(2);
	pid_t pid;

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, m);
	ASSERT_EQ(0, do_mlock(p, P(2)));
	ASSERT_EQ(0, do_mlock2(p + P(2), P(2), MLOCK_ONFAULT));
	ASSERT_EQ(0, do_mlockall(MCL_FUTURE));
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(4)));
	pid = fork();
	if (!pid) {
		EXPECT_EQ(0, charged());
		/* The flags are cleared, but the vmas do not merge. */
		EXPECT_VMAS(p, 4, 2, 0, 0);
		EXPECT_EQ(0, look_all().lo);
		EXPECT_EQ(0, look_all().lf);
		EXPECT_EQ(0, look(p, 4).locked);
		EXPECT_EQ(0, map_anon(m, 2, RW, 0));
		UNLOCKED(m, 2);
		/* The limit is that of one address space. */
		EXPECT_EQ(0, do_mlock(p, P(4)));
		EXPECT_EQ(4, charged());
		EXPECT_VMAS(p, 4, 2, 2, 0);
		CHILD_DONE();
	}
	REAP(pid);
	EXPECT_EQ(4, charged());
	EXPECT_VMAS(p, 4, 2, 2, 1);
	EXPECT_EQ(-EAGAIN, map_anon(m, 1, RW, 0));
	ASSERT_EQ(0, regain_cap());
	EXPECT_EQ(0, map_anon(m, 1, RW, 0));
	LOCKED(m, 1);
}

TEST_F(mlock_calls, exec_clears_locks_charge_and_default)
{
	static const unsigned int flags[] = {
		MCL_FUTURE,
		MCL_FUTURE | MCL_ONFAULT,
		MCL_CURRENT | MCL_FUTURE,
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(flags); i++) {
		pid_t pid = fork();

		if (!pid) {
			ASSERT_EQ(0, do_mlockall(flags[i]));
			execl("/proc/self/exe", "mlock-calls", AFTER_EXEC, NULL);
			_exit(99);
		}
		REAP(pid);
	}
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], AFTER_EXEC))
		return after_exec();
	return test_harness_run(argc, argv);
}
