// SPDX-License-Identifier: GPL-2.0
/*
 * RLIMIT_MEMLOCK: what is charged and when, who is subject to the limit, and
 * how mlock(), mlock2(), mlockall() and mmap() fail above it. mlock-shm.c tests
 * SHM_LOCK, which is charged to the user. mlock-vmas.c tests the limit for
 * brk(), mremap() and growing stacks.
 *
 * The tests describe what the kernel does, quirks included, rather than what a
 * manual page promises, so that other implementations can be compared with it.
 *
 * Run as root.
 *
 * Not tested: account_locked_vm(), which only drivers call (vfio, iommufd and
 * others).
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"
#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/mman.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "mlock-helpers.h"

/* The other value that the kernel treats as no limit. */
#if defined(__mips__) && __SIZEOF_LONG__ == 4
#define COMPAT_INFINITY 0x7fffffffUL
#else
#define COMPAT_INFINITY RLIM_INFINITY
#endif

/* A root process that may lock anything and has nothing locked. */
FIXTURE(mlock_limits)
{
	int unused;
};

FIXTURE_SETUP(mlock_limits)
{
	if (geteuid())
		SKIP(return, "needs root");
	ASSERT_EQ(0, start_unlocked());
}

FIXTURE_TEARDOWN(mlock_limits)
{
}

static long total_vm(void)
{
	return status_pages("VmSize:");
}

/*
 * mlock(), mlock2() and mlockall()
 */

TEST_F(mlock_limits, limit_reached_and_exceeded)
{
	char *p = region(4), *q = region(4);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, q);
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(3)));
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(4)));
	EXPECT_EQ(-ENOMEM, do_mlock2(p, P(4), MLOCK_ONFAULT));
	EXPECT_EQ(-ENOMEM, do_mlock(p + 1, P(3)));
	UNLOCKED(p, 4);
	EXPECT_EQ(0, charged());
	EXPECT_EQ(0, present(p, 4));
	EXPECT_EQ(0, do_mlock(p, P(3)));
	EXPECT_EQ(3, charged());
	EXPECT_EQ(-ENOMEM, do_mlock(q, P(1)));
	EXPECT_EQ(-ENOMEM, do_mlock(p + P(3), 1));
	EXPECT_EQ(0, do_munlock(p, P(1)));
	EXPECT_EQ(-ENOMEM, do_mlock(q, P(2)));
	EXPECT_EQ(0, do_mlock(q, P(1)));
	EXPECT_EQ(3, charged());
}

TEST_F(mlock_limits, limit_is_rounded_down_to_pages)
{
	char *p = region(3), *m = hole(1);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, m);
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(3) - 1));
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(3)));
	EXPECT_EQ(0, do_mlock(p, P(2)));
	EXPECT_EQ(0, do_munlock(p, P(2)));

	/*
	 * A limit below a page is not 0: nothing fits, but the error is not
	 * EPERM.
	 */
	ASSERT_EQ(0, set_limit(P(1) - 1));
	EXPECT_EQ(-ENOMEM, do_mlock(p, 1));
	EXPECT_EQ(0, do_mlock(p, 0));
	EXPECT_EQ(-ENOMEM, do_mlockall(MCL_CURRENT));
	EXPECT_EQ(-EAGAIN, map_anon(m, 1, RW, MAP_LOCKED));
	EXPECT_EQ(0, do_mlockall(MCL_FUTURE));
	EXPECT_EQ(-EAGAIN, map_anon(m, 1, RW, 0));
	ASSERT_EQ(0, set_limit(1));
	EXPECT_EQ(-ENOMEM, do_mlock(p, 1));
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_limits, limit_zero_is_eperm)
{
	char *p = region(1), *m = hole(1);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, m);
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(0));
	EXPECT_EQ(-EPERM, do_mlock(p, P(1)));
	EXPECT_EQ(-EPERM, do_mlock2(p, P(1), 0));
	EXPECT_EQ(-EPERM, do_mlock2(p, P(1), MLOCK_ONFAULT));
	EXPECT_EQ(-EPERM, do_mlockall(MCL_CURRENT));
	EXPECT_EQ(-EPERM, do_mlockall(MCL_FUTURE));
	EXPECT_EQ(-EPERM, map_anon(m, 1, RW, MAP_LOCKED));
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_limits, limit_does_not_bind_cap_ipc_lock)
{
	char *p = region(4), *m = hole(4);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, m);
	ASSERT_EQ(0, set_limit(0));
	EXPECT_EQ(0, do_mlock(p, P(4)));
	EXPECT_EQ(0, map_anon(m, 2, RW, MAP_LOCKED));
	EXPECT_EQ(6, charged());
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT));
	EXPECT_EQ(0, map_anon(m + P(2), 2, RW, 0));
	EXPECT_LT(8, charged());
	EXPECT_EQ(0, do_munlockall());
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_limits, cap_ipc_lock_of_a_user_namespace_does_not_count)
{
	char *p = region(2), *m = hole(2);
	pid_t pid;

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, m);
	pid = fork();
	if (!pid) {
		struct __user_cap_header_struct head = {
			.version = _LINUX_CAPABILITY_VERSION_3,
		};
		struct __user_cap_data_struct data[2];

		if (unshare(CLONE_NEWUSER) == -1)
			_exit(100);
		ASSERT_EQ(0, prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
		ASSERT_EQ(0, syscall(__NR_capget, &head, data));
		EXPECT_NE(0, data[0].effective & (1U << CAP_IPC_LOCK));
		ASSERT_EQ(0, set_limit(0));
		EXPECT_EQ(-EPERM, do_mlock(p, P(1)));
		EXPECT_EQ(-EPERM, do_mlockall(MCL_FUTURE));
		EXPECT_EQ(-EPERM, map_anon(m, 1, RW, MAP_LOCKED));
		ASSERT_EQ(0, set_limit(P(1)));
		EXPECT_EQ(-ENOMEM, do_mlock(p, P(2)));
		EXPECT_EQ(-ENOMEM, do_mlockall(MCL_CURRENT));
		EXPECT_EQ(-EAGAIN, map_anon(m, 2, RW, MAP_LOCKED));
		EXPECT_EQ(0, do_mlock(p, P(1)));
		CHILD_DONE();
	}

	int status = reap(pid);

	if (status == 100 << 8)
		SKIP(return, "no user namespaces");
	EXPECT_EQ(0, status);
}

TEST_F(mlock_limits, locked_part_of_the_range_is_not_counted_twice)
{
	char *p = region(6);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(4)));
	ASSERT_EQ(0, do_mlock(p, P(4)));
	/* Lock all of it and parts of it again, in both modes. */
	EXPECT_EQ(0, do_mlock(p, P(4)));
	EXPECT_EQ(0, do_mlock(p + P(1), P(2)));
	EXPECT_EQ(0, do_mlock(p, P(1)));
	EXPECT_EQ(0, do_mlock(p + P(3), P(1)));
	LOCKED(p, 4);
	EXPECT_EQ(0, do_mlock2(p + P(1), P(2), MLOCK_ONFAULT));
	EXPECT_EQ(0, do_mlock2(p, P(4), MLOCK_ONFAULT));
	EXPECT_EQ(0, do_mlock(p, P(4)));
	EXPECT_EQ(4, charged());
	/* One page more is too much. */
	EXPECT_EQ(-ENOMEM, do_mlock(p + P(3), P(2)));
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(5)));
	LOCKED(p, 4);
	UNLOCKED(p + P(4), 2);
	EXPECT_EQ(4, charged());

	/* A range that overlaps at either side reaches the limit exactly. */
	ASSERT_EQ(0, set_limit(P(5)));
	EXPECT_EQ(0, do_mlock(p + P(2), P(3)));
	EXPECT_EQ(5, charged());
	EXPECT_EQ(0, do_munlock(p, P(1)));
	EXPECT_EQ(0, do_mlock(p, P(3)));
	EXPECT_EQ(5, charged());
	/* So does one that spans locked and unlocked mappings. */
	EXPECT_EQ(0, do_munlock(p + P(1), P(1)));
	EXPECT_EQ(0, do_munlock(p + P(3), P(1)));
	EXPECT_EQ(3, charged());
	EXPECT_EQ(0, do_mlock(p, P(5)));
	EXPECT_EQ(5, charged());
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(6)));
}

TEST_F(mlock_limits, hole_counts_against_the_limit)
{
	char *p = region(3);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, do_mlock(p, P(1)));
	ASSERT_EQ(0, munmap(p + P(2), P(1)));
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(2)));
	/*
	 * One page locked, one not, one unmapped: over the limit, nothing
	 * changes.
	 */
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(3)));
	UNLOCKED(p + P(1), 1);
	EXPECT_EQ(1, charged());
	/* Within the limit, the call fails at the hole. */
	ASSERT_EQ(0, set_limit(P(3)));
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(3)));
	LOCKED(p + P(1), 1);
	EXPECT_EQ(2, charged());
}

TEST_F(mlock_limits, limit_lowered_below_the_charge)
{
	char *p = region(4), *m = hole(1);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, m);
	ASSERT_EQ(0, do_mlock(p, P(3)));
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(2)));
	EXPECT_EQ(3, charged());
	/* Locked already, but the whole charge is compared with the limit. */
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(1)));
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(3)));
	EXPECT_EQ(-ENOMEM, do_mlock(p + P(3), P(1)));
	EXPECT_EQ(-EAGAIN, map_anon(m, 1, RW, MAP_LOCKED));
	/* Even for nothing. */
	EXPECT_EQ(-ENOMEM, do_mlock(p, 0));
	EXPECT_EQ(-ENOMEM, do_mlock(p, ULONG_MAX));
	EXPECT_EQ(0, do_munlock(p, P(2)));
	EXPECT_EQ(0, do_mlock(p, P(1)));
	EXPECT_EQ(2, charged());
}

TEST_F(mlock_limits, unlimited)
{
	char *p = region(4), *m = hole(2);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, m);
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(RLIM_INFINITY));
	EXPECT_EQ(0, do_mlock(p, P(2)));
	EXPECT_EQ(0, do_mlock2(p, P(4), MLOCK_ONFAULT));
	EXPECT_EQ(4, charged());
	EXPECT_EQ(0, map_anon(m, 1, RW, MAP_LOCKED));
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT | MCL_FUTURE));
	EXPECT_EQ(0, map_anon(m + P(1), 1, RW, 0));
	EXPECT_EQ(0, do_munlockall());
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_limits, huge_limits_do_not_overflow)
{
	static const unsigned long limits[] = {
		ULONG_MAX - 1, ULONG_MAX / 2, ULONG_MAX / 2 + 1,
	};
	char *p = region(4), *m = hole(1);
	bool over;

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, m);
	ASSERT_EQ(0, drop_cap());
	for (unsigned int i = 0; i < ARRAY_SIZE(limits); i++) {
		ASSERT_EQ(0, set_limit(limits[i]));
		EXPECT_EQ(0, do_mlock(p, P(4)));
		EXPECT_EQ(0, do_mlock(p, P(4)));
		EXPECT_EQ(4, charged());
		/*
		 * The whole address space, which may be over the limit. If it
		 * is not, the end wraps, or is only unmapped.
		 */
		over = !lengths_wrap();
		if (limits[i] != RLIM_INFINITY && limits[i] != COMPAT_INFINITY)
			over |= lengths_extend() ||
				-(unsigned long)p / P(1) > limits[i] / P(1);
		EXPECT_EQ(over ? -ENOMEM : -EINVAL,
			  do_mlock(p, -(unsigned long)p));
		EXPECT_EQ(-ENOMEM, do_mlock(p, -(unsigned long)p - P(1)));
		EXPECT_EQ(0, do_munlockall());
		EXPECT_EQ(0, do_mlockall(MCL_CURRENT | MCL_FUTURE));
		EXPECT_EQ(0, map_anon(m, 1, RW, 0));
		EXPECT_EQ(0, do_munlockall());
		EXPECT_EQ(0, munmap(m, P(1)));
		EXPECT_EQ(0, charged());
	}
}

TEST_F(mlock_limits, mlockall_compares_the_whole_address_space)
{
	char *p = region(2), *m = hole(1);
	long vm;

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, m);
	ASSERT_EQ(0, drop_cap());
	vm = total_vm();
	ASSERT_LT(0, vm);

	ASSERT_EQ(0, set_limit(P(vm) - 1));
	EXPECT_EQ(-ENOMEM, do_mlockall(MCL_CURRENT));
	EXPECT_EQ(-ENOMEM, do_mlockall(MCL_CURRENT | MCL_FUTURE));
	EXPECT_EQ(-ENOMEM, do_mlockall(MCL_CURRENT | MCL_ONFAULT));
	UNLOCKED(p, 2);
	EXPECT_EQ(0, charged());
	/* Memory that is already locked makes no difference. */
	EXPECT_EQ(0, do_mlock(p, P(2)));
	EXPECT_EQ(-ENOMEM, do_mlockall(MCL_CURRENT));
	EXPECT_EQ(2, charged());
	/* MCL_FUTURE alone is not checked against the limit. */
	EXPECT_EQ(0, do_mlockall(MCL_FUTURE));
	EXPECT_EQ(0, do_munlockall());

	ASSERT_EQ(0, set_limit(P(vm)));
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT));
	LOCKED(p, 2);
	EXPECT_GE(vm, charged());
	EXPECT_EQ(0, do_munlockall());
}

/*
 * mmap() and munmap()
 */

TEST_F(mlock_limits, map_locked_limits)
{
	char *m = hole(4);

	ASSERT_NE(NULL, m);
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(0));
	EXPECT_EQ(-EPERM, map_anon(m, 1, RW, MAP_LOCKED));
	ASSERT_EQ(0, set_limit(P(2)));
	EXPECT_EQ(-EAGAIN, map_anon(m, 3, RW, MAP_LOCKED));
	EXPECT_EQ(0, map_anon(m, 2, RW, MAP_LOCKED));
	EXPECT_EQ(-EAGAIN, map_anon(m + P(2), 1, RW, MAP_LOCKED));
	EXPECT_EQ(2, charged());
	/* The check does not subtract the mapping that MAP_FIXED replaces. */
	EXPECT_EQ(-EAGAIN, map_anon(m, 1, RW, MAP_LOCKED));
	LOCKED(m, 2);
	/* That mapping is uncharged only afterwards. */
	ASSERT_EQ(0, set_limit(P(4)));
	EXPECT_EQ(0, map_anon(m, 2, RW, MAP_LOCKED));
	EXPECT_EQ(2, charged());
	EXPECT_EQ(0, map_anon(m, 1, RW, 0));
	EXPECT_EQ(1, charged());
}

TEST_F(mlock_limits, map_under_future_limits)
{
	char *m = hole(4);

	ASSERT_NE(NULL, m);
	ASSERT_EQ(0, drop_cap());
	for (unsigned int onfault = 0; onfault <= MCL_ONFAULT;
	     onfault += MCL_ONFAULT) {
		ASSERT_EQ(0, set_limit(P(2)));
		EXPECT_EQ(0, do_mlockall(MCL_FUTURE | onfault));
		EXPECT_EQ(-EAGAIN, map_anon(m, 3, RW, 0));
		EXPECT_EQ(-EAGAIN, map_anon(m, 3, PROT_NONE, 0));
		EXPECT_EQ(0, map_anon(m, 2, RW, 0));
		EXPECT_EQ(-EAGAIN, map_anon(m + P(2), 1, RW, 0));
		EXPECT_EQ(2, charged());
		/* Only MAP_LOCKED fails with EPERM. */
		ASSERT_EQ(0, set_limit(0));
		EXPECT_EQ(-EAGAIN, map_anon(m + P(2), 1, RW, 0));
		EXPECT_EQ(-EPERM, map_anon(m + P(2), 1, RW, MAP_LOCKED));
		EXPECT_EQ(0, munmap(m, P(4)));
		EXPECT_EQ(0, charged());
		EXPECT_EQ(0, do_munlockall());
	}
}

TEST_F(mlock_limits, munmap_makes_room_below_the_limit)
{
	char *p = region(2), *q = region(2);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, q);
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(2)));
	EXPECT_EQ(0, do_mlock(p, P(2)));
	EXPECT_EQ(-ENOMEM, do_mlock(q, P(2)));
	EXPECT_EQ(0, munmap(p, P(2)));
	EXPECT_EQ(0, do_mlock(q, P(2)));
}

TEST_HARNESS_MAIN
