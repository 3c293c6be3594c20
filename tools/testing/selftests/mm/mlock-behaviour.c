// SPDX-License-Identifier: GPL-2.0
/*
 * What user space can observe of mlock(), mlock2(), munlock(), mlockall(),
 * munlockall() and RLIMIT_MEMLOCK: return values and the order in which errors
 * are found, the flags, splits and merges of the mappings, what is charged and
 * when, and the counters of the pages that become unevictable.
 *
 * The tests describe what the kernel does, quirks included, rather than what a
 * manual page promises, so that another implementation can be held against it.
 *
 * Run as root. The tests of the machine-wide counters (the "counters" fixture)
 * need the machine to themselves: nobody else may lock or unlock memory.
 *
 * Out of reach from here, and so not tested:
 *  - DAX mappings, which need a device that offers them.
 *  - account_locked_vm(), whose callers are drivers (vfio, iommufd and alike).
 *  - A vma that mlockall() fails to change: it never splits one, so only an
 *    allocation failure could do that.
 *  - EAGAIN from mlock(), which stands for a page that could not be allocated,
 *    and EINTR, which only a dying task gets.
 *  - What only a race would show: that a vma is marked VM_IO while its pages are
 *    locked, and that munlock() clears its flags before it looks at the pages.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/mman.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "mlock-helpers.h"
#include "hugepage_settings.h"

/* What a C library may not have yet. */
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef SHM_LOCKED
#define SHM_LOCKED 02000
#endif
/* What the kernel takes for no limit at all, besides RLIM_INFINITY. */
#if defined(__mips__) && __SIZEOF_LONG__ == 4
#define COMPAT_INFINITY 0x7fffffffUL
#else
#define COMPAT_INFINITY RLIM_INFINITY
#endif
/* A bit of /proc/kpageflags. */
#ifndef KPF_KSM
#define KPF_KSM 21
#endif

/* Any user and group that owns nothing; SHM tests count up from here. */
#define SOMEBODY 54321

/* The argument that makes this program report on itself after an exec. */
#define AFTER_EXEC "after-exec"

/* mremap() that has to fail: the negative error. */
static long remap_error(char *addr, unsigned long old, unsigned long new,
			int flags, char *to)
{
	void *p = sys_mremap(addr, P(old), P(new), flags, to);

	return p == MAP_FAILED ? -errno : 0;
}

/*
 * Whether the end of the program's address space is that of the kernel's. It is
 * not for a 32-bit program where the kernel takes what it passes for a number
 * below 4G. msync() rounds a length up as mlock() does, and likes a length of 0.
 */
static bool lengths_wrap(void)
{
	return !syscall(__NR_msync, NULL, ULONG_MAX, MS_ASYNC);
}

/* Whether it takes a 32-bit program's length for a negative one from 2G on. */
static bool lengths_extend(void)
{
	return sizeof(long) == 4 && lengths_wrap() &&
	       file_says("/sys/kernel/address_bits", "64");
}

static long total_vm(void)
{
	return status_pages("VmSize:");
}

/* Where a mapping such as "[vvar]" is; false if there is none. */
static bool find_mapping(const char *name, unsigned long *start,
			 unsigned long *end)
{
	char line[512];
	bool found = false;

	if (!read_open("/proc/self/maps"))
		return false;
	while (read_line(line, sizeof(line))) {
		if (!found && strstr(line, name))
			found = sscanf(line, "%lx-%lx ", start, end) == 2;
	}
	return found;
}

static int set_cap_ipc_lock(bool on)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2];

	if (syscall(__NR_capget, &head, data))
		return -1;
	if (on)
		data[0].effective |= 1U << CAP_IPC_LOCK;
	else
		data[0].effective &= ~(1U << CAP_IPC_LOCK);
	return syscall(__NR_capset, &head, data);
}

/* Become subject to the limit. /proc/self stays readable. */
static int drop_cap(void)
{
	return set_cap_ipc_lock(false);
}

static int regain_cap(void)
{
	return set_cap_ipc_lock(true);
}

/* Become somebody else for good, without any capability. */
static int become(unsigned int id)
{
	if (setgroups(0, NULL) || setresgid(id, id, id) || setresuid(id, id, id))
		return -1;
	return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

#define EXPECT_VMAS(addr, pages, nr, nr_lo, nr_lf) do {			\
	struct range range_ = look(addr, pages);			\
									\
	EXPECT_EQ(nr, range_.vmas);					\
	EXPECT_EQ(nr_lo, range_.lo);					\
	EXPECT_EQ(nr_lf, range_.lf);					\
} while (0)

#define UNLOCKED(addr, pages)	EXPECT_VMAS(addr, pages, 1, 0, 0)
#define LOCKED(addr, pages)	EXPECT_VMAS(addr, pages, 1, 1, 0)
#define ONFAULT(addr, pages)	EXPECT_VMAS(addr, pages, 1, 1, 1)

/* Most tests: a process that is root, may lock anything and has not yet. */
FIXTURE(mlock_behaviour)
{
	int unused;
};

FIXTURE_SETUP(mlock_behaviour)
{
	if (geteuid())
		SKIP(return, "needs root");
	ASSERT_EQ(0, set_limit(RLIM_INFINITY));
	ASSERT_EQ(0, charged());
}

FIXTURE_TEARDOWN(mlock_behaviour)
{
}

/*
 * Errors and their order
 */

TEST_F(mlock_behaviour, mlock2_knows_only_the_onfault_flag)
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

TEST_F(mlock_behaviour, mlock2_flags_are_an_int)
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

TEST_F(mlock_behaviour, mlock2_unknown_flag_comes_before_everything)
{
	char *gone = hole(2);

	ASSERT_NE(NULL, gone);
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(0));
	/* Not permitted, over the limit, unmapped, wrapping: all come later. */
	EXPECT_EQ(-EINVAL, do_mlock2(gone, P(2), 2));
	EXPECT_EQ(-EINVAL, do_mlock2(gone, 0, 2));
	EXPECT_EQ(-EINVAL, do_mlock2((void *)-P(1), P(1), 2));
	EXPECT_EQ(-EPERM, do_mlock2(gone, P(2), MLOCK_ONFAULT));
	EXPECT_EQ(-EPERM, do_mlock2(gone, P(2), 0));
}

/* The bits differ between architectures: a subset of the three, by number. */
static unsigned int mcl(unsigned int subset)
{
	return (subset & 1 ? MCL_CURRENT : 0) | (subset & 2 ? MCL_FUTURE : 0) |
	       (subset & 4 ? MCL_ONFAULT : 0);
}

#define MCL_SUBSETS	8

TEST_F(mlock_behaviour, mlockall_flag_combinations)
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

TEST_F(mlock_behaviour, refused_mlockall_leaves_the_default_alone)
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

TEST_F(mlock_behaviour, mlockall_flags_come_before_permission)
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

TEST_F(mlock_behaviour, permission_comes_before_the_range)
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

TEST_F(mlock_behaviour, unlocking_needs_no_permission)
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

TEST_F(mlock_behaviour, limit_comes_before_the_range)
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

TEST_F(mlock_behaviour, address_and_length_are_rounded)
{
	char *p = region(4);

	ASSERT_NE(NULL, p);

	/* Down from the first byte and up from the last. */
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

TEST_F(mlock_behaviour, length_zero_does_nothing_if_aligned)
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

TEST_F(mlock_behaviour, length_zero_takes_a_page_if_unaligned)
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
 * Where a length of a 32-bit program does not wrap, it goes beyond what is
 * mapped, and all of it counts against the limit.
 */
#define TO_4G(p) do {							\
	EXPECT_EQ(-ENOMEM, do_mlock(p, ULONG_MAX));			\
	EXPECT_EQ(-ENOMEM, do_mlock2(p, -(unsigned long)(p),		\
				     MLOCK_ONFAULT));			\
	ONFAULT(p, 1);							\
	EXPECT_EQ(-ENOMEM, do_munlock(p, ULONG_MAX));			\
	UNLOCKED(p, 1);							\
	ASSERT_EQ(0, drop_cap());					\
	ASSERT_EQ(0, set_limit(P(2)));					\
	EXPECT_EQ(-ENOMEM, do_mlock(p, ULONG_MAX));			\
	UNLOCKED(p, 1);							\
} while (0)

TEST_F(mlock_behaviour, length_that_wraps_to_zero_locks_nothing)
{
	char *p = region(1), *gone = hole(1);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, gone);
	if (!lengths_wrap()) {
		TO_4G(p);
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

TEST_F(mlock_behaviour, unaligned_length_that_wraps_leaves_a_page)
{
	char *p = region(2);

	ASSERT_NE(NULL, p);
	if (!lengths_wrap()) {
		TO_4G(p);
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

TEST_F(mlock_behaviour, range_that_wraps_is_einval)
{
	char *p = region(1);

	ASSERT_NE(NULL, p);
	if (!lengths_wrap()) {
		TO_4G(p);
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

	/* One page less than to the end: that is only unmapped. */
	EXPECT_EQ(-ENOMEM, do_mlock(p, -(unsigned long)p - P(1)));
	LOCKED(p, 1);
}

TEST_F(mlock_behaviour, range_that_wraps_is_compared_with_the_limit_first)
{
	char *p = region(1);

	ASSERT_NE(NULL, p);
	if (!lengths_wrap()) {
		TO_4G(p);
		return;
	}
	ASSERT_EQ(0, do_mlock(p, P(1)));
	ASSERT_EQ(0, drop_cap());
	/* Enough for all from there to the end, not counting the page twice. */
	ASSERT_EQ(0, set_limit(-(unsigned long)p));
	EXPECT_EQ(lengths_extend() ? -ENOMEM : -EINVAL,
		  do_mlock(p, -(unsigned long)p));
	ASSERT_EQ(0, set_limit(-(unsigned long)p - P(1)));
	EXPECT_EQ(-ENOMEM, do_mlock(p, -(unsigned long)p));
	EXPECT_EQ(1, charged());
}

TEST_F(mlock_behaviour, hole_in_the_middle)
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

TEST_F(mlock_behaviour, hole_at_the_end)
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

TEST_F(mlock_behaviour, hole_at_the_start)
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

TEST_F(mlock_behaviour, nothing_mapped_at_all)
{
	char *p = hole(3);

	ASSERT_NE(NULL, p);
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(3)));
	EXPECT_EQ(-ENOMEM, do_mlock2(p, P(3), MLOCK_ONFAULT));
	EXPECT_EQ(-ENOMEM, do_munlock(p, P(3)));
	EXPECT_EQ(-ENOMEM, do_mlock(NULL, P(1)));
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_behaviour, munlock_stops_at_a_hole)
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

TEST_F(mlock_behaviour, range_over_several_mappings)
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

TEST_F(mlock_behaviour, munlock_of_unlocked_memory)
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
 * Mappings that cannot be populated
 */

TEST_F(mlock_behaviour, prot_none_is_enomem_yet_stays_locked)
{
	char *p = region(2);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, mprotect(p, P(2), PROT_NONE));
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(2)));
	LOCKED(p, 2);
	EXPECT_EQ(2, charged());
	EXPECT_EQ(0, present(p, 2));
	EXPECT_EQ(0, look(p, 2).locked);
	/* And again. */
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(2)));
	EXPECT_EQ(2, charged());

	/* Once it becomes writable its pages are faulted in. */
	ASSERT_EQ(0, mprotect(p, P(2), RW));
	EXPECT_EQ(2, present(p, 2));
	EXPECT_EQ(2, look(p, 2).locked);

	EXPECT_EQ(0, do_munlock(p, P(2)));
	UNLOCKED(p, 2);
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_behaviour, prot_none_on_fault_succeeds)
{
	char *p = region(2);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, mprotect(p, P(2), PROT_NONE));
	EXPECT_EQ(0, do_mlock2(p, P(2), MLOCK_ONFAULT));
	ONFAULT(p, 2);
	EXPECT_EQ(2, charged());
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(2)));
	LOCKED(p, 2);
	EXPECT_EQ(0, do_mlock2(p, P(2), MLOCK_ONFAULT));
	ONFAULT(p, 2);
	EXPECT_EQ(2, charged());
	/* Stays on fault when it becomes writable. */
	ASSERT_EQ(0, mprotect(p, P(2), RW));
	EXPECT_EQ(0, present(p, 2));
}

TEST_F(mlock_behaviour, prot_none_stops_populating)
{
	char *p = region(6);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, mprotect(p + P(2), P(2), PROT_NONE));
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(6)));
	/* All three are locked, but what follows is not populated. */
	EXPECT_VMAS(p, 6, 3, 3, 0);
	EXPECT_EQ(6, charged());
	EXPECT_EQ(2, present(p, 2));
	EXPECT_EQ(0, present(p + P(2), 4));
}

TEST_F(mlock_behaviour, prot_none_is_enomem_for_present_pages_too)
{
	char *p = region(4);

	ASSERT_NE(NULL, p);
	touch(p, 4);
	ASSERT_EQ(0, mprotect(p, P(2), PROT_NONE));
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(2)));
	LOCKED(p, 2);
	EXPECT_EQ(2, look(p, 2).locked);

	/* What comes after it has not been used by that. */
	ASSERT_EQ(0, write_str("/proc/self/clear_refs", "1"));
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(4)));
	LOCKED(p + P(2), 2);
	EXPECT_EQ(2, look(p + P(2), 2).locked);
	EXPECT_EQ(0, look(p + P(2), 2).referenced);
}

TEST_F(mlock_behaviour, populating_past_the_end_of_file_is_enomem)
{
	int fd = memfd_create("mlock", MFD_CLOEXEC);
	char *p;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, P(1)));
	p = mmap(NULL, P(3), RW, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(3)));
	LOCKED(p, 3);
	EXPECT_EQ(3, charged());
	EXPECT_EQ(1, present(p, 3));
	EXPECT_EQ(0, do_mlock2(p, P(3), MLOCK_ONFAULT));
	/* mmap() does not tell. */
	p = mmap(NULL, P(3), RW, MAP_SHARED | MAP_LOCKED, fd, 0);
	ASSERT_NE(MAP_FAILED, p);
	LOCKED(p, 3);
	EXPECT_EQ(6, charged());
}

TEST_F(mlock_behaviour, populating_a_guard_region_is_enomem)
{
	char *p = region(3);

	ASSERT_NE(NULL, p);
	if (madvise(p + P(1), P(1), MADV_GUARD_INSTALL))
		SKIP(return, "no guard regions");
	EXPECT_EQ(0, do_mlock2(p, P(3), MLOCK_ONFAULT));
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(3)));
	LOCKED(p, 3);
	EXPECT_EQ(3, charged());
	EXPECT_EQ(1, present(p, 1));
	EXPECT_EQ(0, present(p + P(2), 1));
}

TEST_F(mlock_behaviour, present_pages_behind_a_guard_region_are_not_referenced)
{
	char *p = region(4);

	ASSERT_NE(NULL, p);
	touch(p, 4);
	if (madvise(p + P(1), P(1), MADV_GUARD_INSTALL))
		SKIP(return, "no guard regions");
	ASSERT_EQ(0, write_str("/proc/self/clear_refs", "1"));
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(4)));
	EXPECT_EQ(3, look(p, 4).locked);
	EXPECT_EQ(has_lru_gen() ? 0 : 1, look(p, 4).referenced);
}

TEST_F(mlock_behaviour, read_only_anonymous_gets_the_zero_page)
{
	char *p = region(3);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, mprotect(p, P(3), PROT_READ));
	EXPECT_EQ(0, do_mlock(p, P(3)));
	LOCKED(p, 3);
	EXPECT_EQ(3, charged());
	EXPECT_EQ(3, present(p, 3));
	EXPECT_EQ(0, look(p, 3).locked);
	EXPECT_EQ(0, mlocked(p, 3));
	/* Becoming writable breaks COW at once. */
	ASSERT_EQ(0, mprotect(p, P(3), RW));
	EXPECT_EQ(3, look(p, 3).locked);
}

/*
 * RLIMIT_MEMLOCK
 */

TEST_F(mlock_behaviour, limit_reached_and_exceeded)
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

TEST_F(mlock_behaviour, limit_is_rounded_down_to_pages)
{
	char *p = region(3), *m = hole(1);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, m);
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(3) - 1));
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(3)));
	EXPECT_EQ(0, do_mlock(p, P(2)));
	EXPECT_EQ(0, do_munlock(p, P(2)));

	/* Less than a page is not 0: nothing fits, but that is not EPERM. */
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

TEST_F(mlock_behaviour, limit_zero_is_eperm)
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

TEST_F(mlock_behaviour, limit_does_not_bind_cap_ipc_lock)
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

TEST_F(mlock_behaviour, cap_ipc_lock_of_a_user_namespace_does_not_count)
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

TEST_F(mlock_behaviour, locked_part_of_the_range_is_not_counted_twice)
{
	char *p = region(6);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(4)));
	ASSERT_EQ(0, do_mlock(p, P(4)));
	/* All of it, parts of it, in either way. */
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

	/* Reached exactly by a range that overlaps from either side. */
	ASSERT_EQ(0, set_limit(P(5)));
	EXPECT_EQ(0, do_mlock(p + P(2), P(3)));
	EXPECT_EQ(5, charged());
	EXPECT_EQ(0, do_munlock(p, P(1)));
	EXPECT_EQ(0, do_mlock(p, P(3)));
	EXPECT_EQ(5, charged());
	/* And by one that spans locked and unlocked mappings. */
	EXPECT_EQ(0, do_munlock(p + P(1), P(1)));
	EXPECT_EQ(0, do_munlock(p + P(3), P(1)));
	EXPECT_EQ(3, charged());
	EXPECT_EQ(0, do_mlock(p, P(5)));
	EXPECT_EQ(5, charged());
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(6)));
}

TEST_F(mlock_behaviour, hole_counts_against_the_limit)
{
	char *p = region(3);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, do_mlock(p, P(1)));
	ASSERT_EQ(0, munmap(p + P(2), P(1)));
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(2)));
	/* One locked, one not, one missing: over the limit, nothing is done. */
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(3)));
	UNLOCKED(p + P(1), 1);
	EXPECT_EQ(1, charged());
	/* Within the limit it is the hole that fails. */
	ASSERT_EQ(0, set_limit(P(3)));
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(3)));
	LOCKED(p + P(1), 1);
	EXPECT_EQ(2, charged());
}

TEST_F(mlock_behaviour, limit_lowered_below_the_charge)
{
	char *p = region(4), *m = hole(1);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, m);
	ASSERT_EQ(0, do_mlock(p, P(3)));
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(2)));
	EXPECT_EQ(3, charged());
	/* Locked already, but all of the charge is compared with the limit. */
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

TEST_F(mlock_behaviour, unlimited)
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

TEST_F(mlock_behaviour, huge_limits_do_not_overflow)
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
		 * As many pages as there are, which may be over the limit; if
		 * not, the end wraps, or is only unmapped.
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

TEST_F(mlock_behaviour, mlockall_compares_the_whole_address_space)
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
	/* What has been locked already makes no difference. */
	EXPECT_EQ(0, do_mlock(p, P(2)));
	EXPECT_EQ(-ENOMEM, do_mlockall(MCL_CURRENT));
	EXPECT_EQ(2, charged());
	/* Future alone is not compared with anything. */
	EXPECT_EQ(0, do_mlockall(MCL_FUTURE));
	EXPECT_EQ(0, do_munlockall());

	ASSERT_EQ(0, set_limit(P(vm)));
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT));
	LOCKED(p, 2);
	EXPECT_GE(vm, charged());
	EXPECT_EQ(0, do_munlockall());
}

/*
 * Locked on fault, locked in full, and the way between them
 */

TEST_F(mlock_behaviour, onfault_to_full_and_back_charges_once)
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

TEST_F(mlock_behaviour, onfault_locks_what_is_there_and_what_comes)
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

TEST_F(mlock_behaviour, onfault_does_not_fault_over_the_limit_either)
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
 * Splits and merges
 */

TEST_F(mlock_behaviour, lock_in_the_middle_splits_and_unlock_merges)
{
	char *p = region(5);

	ASSERT_NE(NULL, p);
	touch(p, 5);
	UNLOCKED(p, 5);
	EXPECT_EQ(0, do_mlock(p + P(2), P(1)));
	EXPECT_VMAS(p, 5, 3, 1, 0);
	EXPECT_EQ(0, do_mlock(p + P(1), P(1)));
	EXPECT_VMAS(p, 5, 3, 1, 0);
	LOCKED(p + P(1), 2);
	EXPECT_EQ(0, do_mlock2(p + P(2), P(1), MLOCK_ONFAULT));
	EXPECT_VMAS(p, 5, 4, 2, 1);
	EXPECT_EQ(2, charged());
	EXPECT_EQ(0, do_mlock(p + P(2), P(1)));
	EXPECT_VMAS(p, 5, 3, 1, 0);
	EXPECT_EQ(0, do_munlock(p + P(1), P(2)));
	UNLOCKED(p, 5);
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_behaviour, lock_at_the_edges)
{
	char *p = region(4);

	ASSERT_NE(NULL, p);
	touch(p, 4);
	EXPECT_EQ(0, do_mlock(p, P(1)));
	EXPECT_VMAS(p, 4, 2, 1, 0);
	EXPECT_EQ(0, do_mlock(p + P(3), P(1)));
	EXPECT_VMAS(p, 4, 3, 2, 0);
	/* Fills the gap: three become one. */
	EXPECT_EQ(0, do_mlock(p + P(1), P(2)));
	LOCKED(p, 4);
	EXPECT_EQ(4, charged());
	EXPECT_EQ(0, do_munlock(p, P(1)));
	EXPECT_EQ(0, do_munlock(p + P(3), P(1)));
	EXPECT_VMAS(p, 4, 3, 1, 0);
	EXPECT_EQ(0, do_munlock(p, P(4)));
	UNLOCKED(p, 4);
}

TEST_F(mlock_behaviour, unlock_in_the_middle_splits)
{
	char *p = region(5);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, do_mlock(p, P(5)));
	LOCKED(p, 5);
	EXPECT_EQ(0, do_munlock(p + P(1), P(3)));
	EXPECT_VMAS(p, 5, 3, 2, 0);
	EXPECT_EQ(2, charged());
	UNLOCKED(p + P(1), 3);
	LOCKED(p, 1);
	LOCKED(p + P(4), 1);
	EXPECT_EQ(0, do_mlock(p, P(5)));
	LOCKED(p, 5);
	EXPECT_EQ(5, charged());
}

TEST_F(mlock_behaviour, one_call_over_many_pieces_merges_them)
{
	char *p = region(7);

	ASSERT_NE(NULL, p);
	touch(p, 7);
	for (int i = 1; i < 7; i += 2)
		ASSERT_EQ(0, do_mlock2(p + P(i), P(1), MLOCK_ONFAULT));
	EXPECT_VMAS(p, 7, 7, 3, 3);
	EXPECT_EQ(0, do_mlock(p, P(7)));
	LOCKED(p, 7);
	EXPECT_EQ(7, charged());
	for (int i = 1; i < 7; i += 2)
		ASSERT_EQ(0, do_munlock(p + P(i), P(1)));
	EXPECT_VMAS(p, 7, 7, 4, 0);
	EXPECT_EQ(0, do_munlock(p + P(1), P(5)));
	EXPECT_VMAS(p, 7, 3, 2, 0);
	EXPECT_EQ(0, do_munlock(p, P(7)));
	UNLOCKED(p, 7);
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_behaviour, mlockall_and_munlockall_merge)
{
	char *p = region(7);

	ASSERT_NE(NULL, p);
	touch(p, 7);
	for (int i = 1; i < 7; i += 2)
		ASSERT_EQ(0, do_mlock(p + P(i), P(1)));
	EXPECT_VMAS(p, 7, 7, 3, 0);
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT | MCL_ONFAULT));
	ONFAULT(p, 7);
	EXPECT_EQ(0, do_munlock(p + P(3), P(1)));
	EXPECT_VMAS(p, 7, 3, 2, 2);
	EXPECT_EQ(0, do_munlockall());
	UNLOCKED(p, 7);
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_behaviour, mprotect_keeps_lock_and_charge)
{
	char *p = region(3);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, do_mlock2(p, P(3), MLOCK_ONFAULT));
	EXPECT_EQ(0, mprotect(p + P(1), P(1), PROT_READ));
	EXPECT_VMAS(p, 3, 3, 3, 3);
	EXPECT_EQ(3, charged());
	EXPECT_EQ(0, mprotect(p + P(1), P(1), RW));
	ONFAULT(p, 3);
	EXPECT_EQ(3, charged());
}

/*
 * mlockall() and its default for the future
 */

TEST_F(mlock_behaviour, current_locks_and_populates_everything)
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
	/* Memory without access is locked and charged, and no failure. */
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

TEST_F(mlock_behaviour, current_goes_on_after_prot_none)
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

TEST_F(mlock_behaviour, current_on_fault_populates_nothing)
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
	/* The same once more, in full: the charge does not change. */
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT));
	LOCKED(p, 3);
	EXPECT_EQ(3, present(p, 3));
	EXPECT_EQ(vm, charged());
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT | MCL_ONFAULT));
	ONFAULT(p, 3);
	EXPECT_EQ(vm, charged());
}

TEST_F(mlock_behaviour, future_is_about_new_mappings_only)
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

TEST_F(mlock_behaviour, future_on_fault_charges_when_mapped)
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
	/* MAP_POPULATE does not get past it, nor does MAP_LOCKED. */
	EXPECT_EQ(0, map_anon(m, 4, RW, MAP_POPULATE));
	EXPECT_EQ(0, present(m, 4));
	EXPECT_EQ(0, map_anon(m, 4, RW, MAP_LOCKED));
	ONFAULT(m, 4);
	EXPECT_EQ(0, present(m, 4));
	EXPECT_EQ(4, charged());
}

TEST_F(mlock_behaviour, second_mlockall_replaces_the_default)
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

TEST_F(mlock_behaviour, future_leaves_what_is_locked)
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

TEST_F(mlock_behaviour, munlock_does_not_change_the_default)
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

TEST_F(mlock_behaviour, future_and_current_together)
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
 * Mappings that come and go while locked
 */

TEST_F(mlock_behaviour, map_locked)
{
	char *m = hole(3);

	ASSERT_NE(NULL, m);
	EXPECT_EQ(0, map_anon(m, 3, RW, MAP_LOCKED));
	LOCKED(m, 3);
	EXPECT_EQ(3, charged());
	EXPECT_EQ(3, present(m, 3));
	EXPECT_EQ(0, munmap(m + P(1), P(1)));
	EXPECT_EQ(2, charged());
	EXPECT_EQ(0, munmap(m, P(3)));
	EXPECT_EQ(0, charged());
	/* Cannot be populated, which nobody hears of. */
	EXPECT_EQ(0, map_anon(m, 3, PROT_NONE, MAP_LOCKED));
	LOCKED(m, 3);
	EXPECT_EQ(3, charged());
	/* Populated whatever MAP_NONBLOCK says. */
	EXPECT_EQ(0, map_anon(m, 3, RW, MAP_LOCKED | MAP_NONBLOCK));
	EXPECT_EQ(3, present(m, 3));
	EXPECT_EQ(3, charged());
}

TEST_F(mlock_behaviour, map_locked_limits)
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
	/* What MAP_FIXED replaces is not taken off before the check. */
	EXPECT_EQ(-EAGAIN, map_anon(m, 1, RW, MAP_LOCKED));
	LOCKED(m, 2);
	/* But it is afterwards. */
	ASSERT_EQ(0, set_limit(P(4)));
	EXPECT_EQ(0, map_anon(m, 2, RW, MAP_LOCKED));
	EXPECT_EQ(2, charged());
	EXPECT_EQ(0, map_anon(m, 1, RW, 0));
	EXPECT_EQ(1, charged());
}

TEST_F(mlock_behaviour, map_under_future_limits)
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
		/* EPERM is only for those who ask for MAP_LOCKED. */
		ASSERT_EQ(0, set_limit(0));
		EXPECT_EQ(-EAGAIN, map_anon(m + P(2), 1, RW, 0));
		EXPECT_EQ(-EPERM, map_anon(m + P(2), 1, RW, MAP_LOCKED));
		EXPECT_EQ(0, munmap(m, P(4)));
		EXPECT_EQ(0, charged());
		EXPECT_EQ(0, do_munlockall());
	}
}

TEST_F(mlock_behaviour, munmap_uncharges)
{
	char *p = region(6);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, do_mlock(p, P(2)));
	ASSERT_EQ(0, do_mlock2(p + P(3), P(2), MLOCK_ONFAULT));
	EXPECT_EQ(4, charged());
	EXPECT_EQ(0, munmap(p + P(1), P(3)));
	EXPECT_EQ(2, charged());
	LOCKED(p, 1);
	ONFAULT(p + P(4), 1);
	EXPECT_EQ(0, munmap(p, P(6)));
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_behaviour, munmap_makes_room_below_the_limit)
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

static char *brk_now(void)
{
	return (char *)syscall(__NR_brk, 0);
}

/* Move the break by pages; true if it moved. */
static bool brk_to(char *to)
{
	return (char *)syscall(__NR_brk, to) == to;
}

TEST_F(mlock_behaviour, brk_under_future)
{
	char *old = brk_now(), *top;

	top = (char *)(((unsigned long)old + P(1) - 1) & -P(1));
	ASSERT_EQ(true, brk_to(top));
	ASSERT_EQ(0, do_mlockall(MCL_FUTURE));
	EXPECT_EQ(true, brk_to(top + P(2)));
	EXPECT_EQ(2, charged());
	LOCKED(top, 2);
	EXPECT_EQ(2, present(top, 2));
	EXPECT_EQ(2, look(top, 2).locked);
	/* Within the page that is there: no charge. */
	EXPECT_EQ(true, brk_to(top + P(2) - 1));
	EXPECT_EQ(true, brk_to(top + P(2)));
	EXPECT_EQ(2, charged());
	EXPECT_EQ(true, brk_to(top + P(2) + 1));
	EXPECT_EQ(3, charged());
	EXPECT_EQ(true, brk_to(top + P(1)));
	EXPECT_EQ(1, charged());

	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(3)));
	EXPECT_EQ(false, brk_to(top + P(4)));
	EXPECT_EQ(top + P(1), brk_now());
	EXPECT_EQ(1, charged());
	EXPECT_EQ(true, brk_to(top + P(3)));
	EXPECT_EQ(3, charged());
	/* Shrinking is never refused. */
	ASSERT_EQ(0, set_limit(0));
	EXPECT_EQ(false, brk_to(top + P(4)));
	EXPECT_EQ(true, brk_to(top));
	EXPECT_EQ(0, charged());

	ASSERT_EQ(0, regain_cap());
	ASSERT_EQ(0, do_mlockall(MCL_FUTURE | MCL_ONFAULT));
	EXPECT_EQ(true, brk_to(top + P(2)));
	EXPECT_EQ(2, charged());
	ONFAULT(top, 2);
	EXPECT_EQ(0, present(top, 2));
	EXPECT_EQ(true, brk_to(old));
}

TEST_F(mlock_behaviour, brk_next_to_a_locked_heap_is_not_locked)
{
	char *old = brk_now(), *top;

	top = (char *)(((unsigned long)old + P(1) - 1) & -P(1));
	ASSERT_EQ(true, brk_to(top + P(1)));
	ASSERT_EQ(0, do_mlock(top, P(1)));
	EXPECT_EQ(true, brk_to(top + P(2)));
	LOCKED(top, 1);
	UNLOCKED(top + P(1), 1);
	EXPECT_EQ(1, charged());
	EXPECT_EQ(true, brk_to(top));
	EXPECT_EQ(0, charged());
	EXPECT_EQ(true, brk_to(old));
}

TEST_F(mlock_behaviour, mremap_grows_in_place)
{
	char *p = region(6);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, munmap(p + P(2), P(4)));
	ASSERT_EQ(0, do_mlock(p, P(2)));
	EXPECT_EQ(p, sys_mremap(p, P(2), P(4), 0, NULL));
	EXPECT_EQ(4, charged());
	LOCKED(p, 4);
	EXPECT_EQ(4, present(p, 4));
	/* Exactly the limit, and a page more. */
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(5)));
	EXPECT_EQ(-EAGAIN, remap_error(p, 4, 6, 0, NULL));
	EXPECT_EQ(4, charged());
	EXPECT_EQ(p, sys_mremap(p, P(4), P(5), 0, NULL));
	EXPECT_EQ(5, charged());
	EXPECT_EQ(-EAGAIN, remap_error(p, 5, 6, MREMAP_MAYMOVE, NULL));
	/* Limit 0 is EAGAIN as well. */
	ASSERT_EQ(0, set_limit(0));
	EXPECT_EQ(-EAGAIN, remap_error(p, 5, 6, 0, NULL));
}

TEST_F(mlock_behaviour, mremap_grows_on_fault)
{
	char *p = region(4);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, munmap(p + P(2), P(2)));
	ASSERT_EQ(0, do_mlock2(p, P(2), MLOCK_ONFAULT));
	EXPECT_EQ(p, sys_mremap(p, P(2), P(4), 0, NULL));
	EXPECT_EQ(4, charged());
	ONFAULT(p, 4);
	EXPECT_EQ(0, present(p, 4));
}

TEST_F(mlock_behaviour, mremap_does_not_tell_what_it_cannot_populate)
{
	int fd = memfd_create("mlock", MFD_CLOEXEC);
	char *p = hole(4);

	ASSERT_LE(0, fd);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ftruncate(fd, P(3)));
	ASSERT_EQ(p, mmap(p, P(2), RW, MAP_SHARED | MAP_FIXED, fd, 0));
	ASSERT_EQ(0, do_mlock(p, P(2)));
	EXPECT_EQ(p, sys_mremap(p, P(2), P(4), 0, NULL));
	LOCKED(p, 4);
	EXPECT_EQ(4, charged());
	EXPECT_EQ(3, present(p, 4));
}

TEST_F(mlock_behaviour, mremap_grow_of_unlocked_memory_is_free)
{
	char *p = region(4);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, munmap(p + P(2), P(2)));
	/* Even with the default set: the vma itself decides. */
	ASSERT_EQ(0, do_mlockall(MCL_FUTURE));
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(0));
	EXPECT_EQ(p, sys_mremap(p, P(2), P(4), 0, NULL));
	UNLOCKED(p, 4);
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_behaviour, mremap_shrinks)
{
	char *p = region(4);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, do_mlock(p, P(4)));
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(0));
	EXPECT_EQ(p, sys_mremap(p, P(4), P(1), 0, NULL));
	EXPECT_EQ(1, charged());
	LOCKED(p, 1);
}

TEST_F(mlock_behaviour, mremap_moves)
{
	char *p = region(4), *to = hole(8);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, to);
	ASSERT_EQ(0, do_mlock(p, P(4)));
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(4)));
	/* Without growing it is not a question of the limit. */
	EXPECT_EQ(to, sys_mremap(p, P(4), P(4),
				 MREMAP_MAYMOVE | MREMAP_FIXED, to));
	EXPECT_EQ(4, charged());
	LOCKED(to, 4);
	EXPECT_EQ(4, present(to, 4));
	EXPECT_EQ(4, mlocked(to, 4));
	EXPECT_VMAS(p, 4, 0, 0, 0);
	/* A part of it, to where it touches nothing. */
	EXPECT_EQ(to + P(6), sys_mremap(to + P(1), P(1), P(1),
					MREMAP_MAYMOVE | MREMAP_FIXED,
					to + P(6)));
	EXPECT_EQ(4, charged());
	LOCKED(to + P(6), 1);
	EXPECT_VMAS(to, 4, 2, 2, 0);
	EXPECT_EQ(0, munmap(to + P(6), P(1)));
	EXPECT_EQ(3, charged());
}

TEST_F(mlock_behaviour, mremap_moves_and_grows)
{
	char *p = region(2), *to = hole(4);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, to);
	ASSERT_EQ(0, do_mlock(p, P(2)));
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(3)));
	/* Only what is added counts. */
	EXPECT_EQ(-EAGAIN, remap_error(p, 2, 4, MREMAP_MAYMOVE | MREMAP_FIXED,
				       to));
	LOCKED(p, 2);
	EXPECT_EQ(to, sys_mremap(p, P(2), P(3),
				 MREMAP_MAYMOVE | MREMAP_FIXED, to));
	EXPECT_EQ(3, charged());
	LOCKED(to, 3);
	EXPECT_EQ(3, present(to, 3));
}

TEST_F(mlock_behaviour, mremap_replaces_a_locked_target)
{
	char *p = region(2), *to = region(2);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, to);
	ASSERT_EQ(0, do_mlock(to, P(2)));
	EXPECT_EQ(to, sys_mremap(p, P(2), P(2),
				 MREMAP_MAYMOVE | MREMAP_FIXED, to));
	UNLOCKED(to, 2);
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_behaviour, mremap_moves_several_mappings)
{
	char *p = region(4), *to = hole(4);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, to);
	ASSERT_EQ(0, do_mlock(p + P(1), P(2)));
	EXPECT_EQ(to, sys_mremap(p, P(4), P(4),
				 MREMAP_MAYMOVE | MREMAP_FIXED, to));
	EXPECT_VMAS(to, 4, 3, 1, 0);
	LOCKED(to + P(1), 2);
	EXPECT_EQ(2, charged());
}

TEST_F(mlock_behaviour, mremap_dontunmap_leaves_the_old_range_unlocked)
{
	char *p = region(3), *to = hole(3);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, to);
	ASSERT_EQ(0, do_mlock(p, P(3)));
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(3)));
	EXPECT_EQ(to, sys_mremap(p, P(3), P(3), MREMAP_MAYMOVE |
				 MREMAP_FIXED | MREMAP_DONTUNMAP, to));
	/* The charge goes with the pages. */
	EXPECT_EQ(3, charged());
	LOCKED(to, 3);
	EXPECT_EQ(3, present(to, 3));
	UNLOCKED(p, 3);
	EXPECT_EQ(0, present(p, 3));
	EXPECT_EQ(0, munmap(to, P(3)));
	EXPECT_EQ(0, charged());
	EXPECT_EQ(0, munmap(p, P(3)));
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_behaviour, mremap_dontunmap_of_a_part)
{
	char *p = region(3), *to = hole(1);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, to);
	ASSERT_EQ(0, do_mlock2(p, P(3), MLOCK_ONFAULT));
	touch(p, 3);
	EXPECT_EQ(to, sys_mremap(p + P(1), P(1), P(1), MREMAP_MAYMOVE |
				 MREMAP_FIXED | MREMAP_DONTUNMAP, to));
	EXPECT_EQ(3, charged());
	ONFAULT(to, 1);
	EXPECT_VMAS(p, 3, 3, 2, 2);
	UNLOCKED(p + P(1), 1);
	EXPECT_EQ(0, do_munlockall());
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_behaviour, mremap_duplicates_a_shared_mapping)
{
	int fd = memfd_create("mlock", MFD_CLOEXEC);
	char *p = hole(2), *q;

	ASSERT_NE(NULL, p);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, P(2)));
	ASSERT_EQ(p, mmap(p, P(2), RW, MAP_SHARED | MAP_FIXED, fd, 0));
	ASSERT_EQ(0, do_mlock(p, P(2)));
	q = sys_mremap(p, 0, P(2), MREMAP_MAYMOVE, NULL);
	ASSERT_NE(MAP_FAILED, q);
	EXPECT_EQ(4, charged());
	LOCKED(q, 2);
	LOCKED(p, 2);
	EXPECT_EQ(2, present(q, 2));
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(5)));
	EXPECT_EQ(-EAGAIN, remap_error(p, 0, 2, MREMAP_MAYMOVE, NULL));
	EXPECT_EQ(0, munmap(q, P(2)));
	EXPECT_EQ(2, charged());
}

#ifdef __NR_remap_file_pages
TEST_F(mlock_behaviour, remap_file_pages_keeps_the_lock)
{
	int fd = memfd_create("mlock", MFD_CLOEXEC);
	unsigned long n = SHMLBA / psize();
	char *p = hole(2);

	ASSERT_NE(NULL, p);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, P(n + 1)));
	ASSERT_EQ(p, mmap(p, P(2), RW, MAP_SHARED | MAP_FIXED, fd, 0));
	ASSERT_EQ(0, do_mlock(p, P(2)));
	if (syscall(__NR_remap_file_pages, p, P(1), 0, n, 0) && errno == ENOSYS)
		SKIP(return, "no remap_file_pages()");
	EXPECT_VMAS(p, 2, 2, 2, 0);
	EXPECT_EQ(2, charged());
	/* It maps anew, so the limit has to allow for both. */
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(2)));
	EXPECT_EQ(-EAGAIN, neg_errno(syscall(__NR_remap_file_pages, p, P(1),
					     0, 0, 0)));
	ASSERT_EQ(0, set_limit(0));
	EXPECT_EQ(-EPERM, neg_errno(syscall(__NR_remap_file_pages, p, P(1),
					    0, 0, 0)));
	EXPECT_EQ(2, charged());
}
#endif

/*
 * Stacks, here the ones that grow down
 */
#ifndef __hppa__

/* A growing vma of @pages with room for @room pages to grow. */
static char *growing(unsigned long pages, unsigned long room)
{
	char *p = hole(pages + room);

	if (!p || map_anon(p + P(room), pages, RW, MAP_GROWSDOWN))
		return NULL;
	return p + P(room);
}

TEST_F(mlock_behaviour, stack_growth_is_charged)
{
	char *p = growing(2, 8);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, do_mlock(p, P(2)));
	EXPECT_EQ(2, charged());
	/* The fault brings one page, the growth charges all of them. */
	touch(p - P(3), 1);
	EXPECT_EQ(5, charged());
	LOCKED(p - P(3), 5);
	EXPECT_EQ(3, present(p - P(3), 5));
	EXPECT_EQ(3, look(p, 2).locked);
	EXPECT_EQ(3, mlocked(p - P(3), 5));
	/* Below it, mlock() finds nothing and does not make it grow. */
	EXPECT_EQ(-ENOMEM, do_mlock(p - P(4), P(1)));
	EXPECT_EQ(5, charged());
	EXPECT_EQ(0, munmap(p - P(3), P(5)));
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_behaviour, stack_growth_on_fault_is_charged)
{
	char *p = growing(2, 8);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, do_mlock2(p, P(2), MLOCK_ONFAULT));
	touch(p - P(3), 1);
	EXPECT_EQ(5, charged());
	ONFAULT(p - P(3), 5);
	EXPECT_EQ(1, present(p - P(3), 5));
}

TEST_F(mlock_behaviour, stack_growth_of_unlocked_stack_is_free)
{
	char *p = growing(2, 8);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, do_mlockall(MCL_FUTURE));
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(0));
	touch(p - P(3), 1);
	EXPECT_EQ(0, charged());
	UNLOCKED(p - P(3), 5);
}

TEST_F(mlock_behaviour, stack_growth_over_the_limit_is_sigsegv)
{
	struct rlimit no_core = { 0, 0 };
	char *p;
	pid_t pid;
	int status;

	ASSERT_EQ(0, setrlimit(RLIMIT_CORE, &no_core));
	for (int over = 0; over <= 1; over++) {
		pid = fork();
		if (!pid) {
			p = growing(2, 8);
			ASSERT_NE(NULL, p);
			ASSERT_EQ(0, drop_cap());
			ASSERT_EQ(0, set_limit(P(4)));
			ASSERT_EQ(0, do_mlock(p, P(2)));
			touch(p - P(2), 1);
			EXPECT_EQ(4, charged());
			if (over)
				touch(p - P(3), 1);
			CHILD_DONE();
		}
		status = reap(pid);
		if (over) {
			EXPECT_EQ(true, WIFSIGNALED(status));
			EXPECT_EQ(SIGSEGV, WTERMSIG(status));
		} else {
			EXPECT_EQ(0, status);
		}
	}
}

TEST_F(mlock_behaviour, main_stack_grows_locked_after_mlockall)
{
	unsigned long start, end;
	struct range r;
	long before;

	ASSERT_EQ(true, find_mapping("[stack]", &start, &end));
	/* Only new mappings: the stack is not one. */
	ASSERT_EQ(0, do_mlockall(MCL_FUTURE));
	touch((char *)start - P(2), 1);
	r = look((char *)start - P(2), 1);
	EXPECT_EQ(1, r.vmas);
	EXPECT_EQ(0, r.lo);
	EXPECT_EQ(0, charged());

	ASSERT_EQ(0, do_mlockall(MCL_CURRENT | MCL_ONFAULT));
	before = charged();
	start = r.start;
	touch((char *)start - P(3), 1);
	EXPECT_EQ(before + 3, charged());
	ONFAULT((char *)start - P(3), 3);
	EXPECT_EQ(1, present((char *)start - P(3), 3));
}
#endif

/*
 * fork and exec
 */

TEST_F(mlock_behaviour, fork_clears_locks_charge_and_default)
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
		/* Flags are cleared, what they had split stays split. */
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

/* What main() does when told that it has been executed by the test below. */
static int after_exec(void)
{
	char *m = hole(2);
	int ret = 0;

	if (charged())
		ret |= 1;
	if (look_all().lo || look_all().lf)
		ret |= 2;
	if (!m || map_anon(m, 2, RW, 0) || look(m, 2).lo || present(m, 2))
		ret |= 4;
	if (charged())
		ret |= 8;
	return ret;
}

TEST_F(mlock_behaviour, exec_clears_locks_charge_and_default)
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
			execl("/proc/self/exe", "mlock-behaviour", AFTER_EXEC,
			      NULL);
			_exit(99);
		}
		REAP(pid);
	}
}

/*
 * Shared and file mappings
 */

TEST_F(mlock_behaviour, private_file_breaks_cow_when_locked)
{
	int fd = memfd_create("mlock", MFD_CLOEXEC);
	char *p = hole(4), *warm = region(4);
	struct rusage before, after;

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, warm);
	ASSERT_LE(0, fd);
	ASSERT_EQ(P(4), pwrite(fd, warm, P(4), 0));
	ASSERT_EQ(p, mmap(p, P(4), RW, MAP_PRIVATE | MAP_FIXED, fd, 0));
	/* Locking on fault takes the page of the file as it is. */
	EXPECT_EQ(0, FORCE_READ(*p));
	EXPECT_EQ(0, do_mlock2(p, P(4), MLOCK_ONFAULT));
	EXPECT_EQ(1, count_pagemap(p, 1, PM_FILE));
	/* Locking in full replaces it by the copy that a write would need. */
	EXPECT_EQ(0, do_mlock(p, P(4)));
	EXPECT_EQ(4, present(p, 4));
	EXPECT_EQ(0, count_pagemap(p, 4, PM_FILE));
	EXPECT_EQ(4, look(p, 4).locked);
	EXPECT_EQ(4, charged());

	/* Once for practice: only the second round is free of other faults. */
	getrusage(RUSAGE_SELF, &after);
	getrusage(RUSAGE_SELF, &before);
	touch(warm, 4);
	getrusage(RUSAGE_SELF, &before);
	touch(p, 4);
	getrusage(RUSAGE_SELF, &after);
	EXPECT_EQ(before.ru_minflt, after.ru_minflt);
	EXPECT_EQ(before.ru_majflt, after.ru_majflt);
}

TEST_F(mlock_behaviour, pages_shared_by_fork_are_copied_when_locked)
{
	struct rusage before, after;
	char *p = region(6), c;
	int until[2];
	pid_t pid;

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, pipe(until));
	touch(p, 6);
	pid = fork();
	if (!pid) {
		close(until[1]);
		EXPECT_EQ(0, read(until[0], &c, 1));
		CHILD_DONE();
	}
	EXPECT_EQ(0, count_pagemap(p, 6, PM_MMAP_EXCLUSIVE));
	/* One page is written to, and so is the parent's own. */
	touch(p + P(2), 1);
	EXPECT_EQ(1, count_pagemap(p, 6, PM_MMAP_EXCLUSIVE));
	/* Locking on fault takes what is present as it is. */
	EXPECT_EQ(0, do_mlock2(p + P(4), P(2), MLOCK_ONFAULT));
	EXPECT_EQ(0, count_pagemap(p + P(4), 2, PM_MMAP_EXCLUSIVE));
	EXPECT_EQ(2, mlocked(p + P(4), 2));
	/* Locking in full leaves nothing to be copied later. */
	EXPECT_EQ(0, do_mlock(p, P(4)));
	EXPECT_EQ(4, count_pagemap(p, 4, PM_MMAP_EXCLUSIVE));
	EXPECT_EQ(4, look(p, 4).locked);
	EXPECT_EQ(4, mlocked(p, 4));
	EXPECT_EQ(0, do_mlock(p, P(6)));
	EXPECT_EQ(6, count_pagemap(p, 6, PM_MMAP_EXCLUSIVE));
	EXPECT_EQ(6, mlocked(p, 6));
	close(until[1]);
	REAP(pid);
	close(until[0]);

	/* The same once the child is gone: a write has to find nothing to do. */
	EXPECT_EQ(0, do_munlock(p, P(6)));
	pid = fork();
	if (!pid)
		CHILD_DONE();
	REAP(pid);
	EXPECT_EQ(0, do_mlock(p, P(6)));
	/* What the fork left shared of the stack is copied first. */
	getrusage(RUSAGE_SELF, &after);
	getrusage(RUSAGE_SELF, &before);
	getrusage(RUSAGE_SELF, &before);
	touch(p, 6);
	getrusage(RUSAGE_SELF, &after);
	EXPECT_EQ(before.ru_minflt, after.ru_minflt);
}

TEST_F(mlock_behaviour, present_pages_count_as_referenced_when_locked)
{
	char *p = region(4), *q = region(4);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, q);
	touch(p, 4);
	touch(q, 4);
	ASSERT_EQ(0, write_str("/proc/self/clear_refs", "1"));
	EXPECT_EQ(0, look(p, 4).referenced);
	EXPECT_EQ(0, do_mlock(p, P(4)));
	EXPECT_EQ(has_lru_gen() ? 0 : 4, look(p, 4).referenced);
	/* Nobody has used what is only locked on fault. */
	EXPECT_EQ(0, do_mlock2(q, P(4), MLOCK_ONFAULT));
	EXPECT_EQ(0, look(q, 4).referenced);
	EXPECT_EQ(4, look(q, 4).locked);
}

TEST_F(mlock_behaviour, locking_again_brings_back_what_was_dropped)
{
	char *p = region(6);

	ASSERT_NE(NULL, p);
	/* Present and locked, absent and locked, and two that are new. */
	EXPECT_EQ(0, do_mlock2(p, P(4), MLOCK_ONFAULT));
	touch(p, 2);
	EXPECT_EQ(0, do_mlock(p, P(2)));
	touch(p + P(4), 1);
	EXPECT_EQ(3, present(p, 6));
	EXPECT_EQ(0, do_mlock(p, P(6)));
	EXPECT_EQ(6, present(p, 6));
	EXPECT_EQ(6, look(p, 6).locked);
	ASSERT_EQ(0, do_munlock(p, P(6)));
	ASSERT_EQ(0, madvise(p + P(1), P(2), MADV_DONTNEED));
	EXPECT_EQ(0, do_mlock(p, P(6)));
	EXPECT_EQ(6, present(p, 6));
	EXPECT_EQ(6, look(p, 6).locked);
}

TEST_F(mlock_behaviour, read_only_private_file_keeps_the_file_pages)
{
	int fd = memfd_create("mlock", MFD_CLOEXEC);
	char *p = hole(3);

	ASSERT_NE(NULL, p);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, P(3)));
	ASSERT_EQ(p, mmap(p, P(3), PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0));
	EXPECT_EQ(0, do_mlock(p, P(3)));
	EXPECT_EQ(3, present(p, 3));
	EXPECT_EQ(3, count_pagemap(p, 3, PM_FILE));
	EXPECT_EQ(3, look(p, 3).locked);
	/* Until it becomes writable, which is the time to copy them. */
	ASSERT_EQ(0, mprotect(p, P(3), RW));
	EXPECT_EQ(0, count_pagemap(p, 3, PM_FILE));
	EXPECT_EQ(3, look(p, 3).locked);
}

TEST_F(mlock_behaviour, shared_file_mapping)
{
	int fd = memfd_create("mlock", MFD_CLOEXEC), ro;
	char *p = hole(3), *q = hole(3), path[64];

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, q);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, P(3)));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, ro);
	ASSERT_EQ(p, mmap(p, P(3), PROT_READ, MAP_SHARED | MAP_FIXED, ro, 0));
	EXPECT_EQ(0, do_mlock(p, P(3)));
	LOCKED(p, 3);
	EXPECT_EQ(3, charged());
	EXPECT_EQ(3, present(p, 3));
	EXPECT_EQ(3, count_pagemap(p, 3, PM_FILE));
	EXPECT_EQ(3, look(p, 3).locked);

	/* "Locked" is a proportional share, the charge is not. */
	ASSERT_EQ(q, mmap(q, P(3), RW, MAP_SHARED | MAP_FIXED, fd, 0));
	EXPECT_EQ(0, do_mlock(q, P(2)));
	EXPECT_EQ(5, charged());
	EXPECT_EQ(2, present(q, 3));
	EXPECT_EQ(1, look(q, 2).locked);
	EXPECT_EQ(2, look(p, 3).locked);
	EXPECT_EQ(0, do_munlock(p, P(3)));
	EXPECT_EQ(0, look(p, 3).locked);
	EXPECT_EQ(1, look(q, 2).locked);
	EXPECT_EQ(2, charged());
}

TEST_F(mlock_behaviour, shared_anonymous_mapping)
{
	char *p = hole(3);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(p, mmap(p, P(3), RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED,
			  -1, 0));
	touch(p, 1);
	EXPECT_EQ(0, do_mlock2(p, P(3), MLOCK_ONFAULT));
	ONFAULT(p, 3);
	EXPECT_EQ(1, look(p, 3).locked);
	EXPECT_EQ(0, do_mlock(p, P(3)));
	LOCKED(p, 3);
	EXPECT_EQ(3, look(p, 3).locked);
	EXPECT_EQ(3, charged());
	EXPECT_EQ(0, do_munlock(p + P(1), P(1)));
	EXPECT_VMAS(p, 3, 3, 2, 0);
	EXPECT_EQ(0, do_munlock(p, P(3)));
	UNLOCKED(p, 3);
}

TEST_F(mlock_behaviour, truncation_does_not_unlock_the_mapping)
{
	int fd = memfd_create("mlock", MFD_CLOEXEC);
	char *p = hole(3);

	ASSERT_NE(NULL, p);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, P(3)));
	ASSERT_EQ(p, mmap(p, P(3), RW, MAP_SHARED | MAP_FIXED, fd, 0));
	ASSERT_EQ(0, do_mlock(p, P(3)));
	ASSERT_EQ(0, ftruncate(fd, P(1)));
	LOCKED(p, 3);
	EXPECT_EQ(3, charged());
	EXPECT_EQ(1, present(p, 3));
	EXPECT_EQ(1, look(p, 3).locked);
}

/*
 * What a locked mapping refuses
 */

TEST_F(mlock_behaviour, msync_invalidate_is_ebusy)
{
	char *p = region(3);

	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, msync(p, P(3), MS_INVALIDATE));
	ASSERT_EQ(0, do_mlock(p + P(1), P(1)));
	EXPECT_EQ(-EBUSY, neg_errno(msync(p, P(3), MS_INVALIDATE)));
	EXPECT_EQ(-EBUSY, neg_errno(msync(p, P(3), MS_SYNC | MS_INVALIDATE)));
	EXPECT_EQ(0, msync(p, P(1), MS_INVALIDATE));
	EXPECT_EQ(0, msync(p, P(3), MS_ASYNC));
	EXPECT_EQ(0, msync(p, P(3), MS_SYNC));
	ASSERT_EQ(0, do_mlock2(p + P(1), P(1), MLOCK_ONFAULT));
	EXPECT_EQ(-EBUSY, neg_errno(msync(p, P(3), MS_INVALIDATE)));
	ASSERT_EQ(0, do_munlock(p, P(3)));
	EXPECT_EQ(0, msync(p, P(3), MS_INVALIDATE));
}

TEST_F(mlock_behaviour, madvise_of_locked_memory)
{
	static const int refused[] = {
		MADV_DONTNEED, MADV_FREE, MADV_COLD, MADV_PAGEOUT,
	};
	char *p = region(4);

	ASSERT_NE(NULL, p);
	for (int flags = 0; flags <= MLOCK_ONFAULT; flags++) {
		touch(p, 4);
		ASSERT_EQ(0, do_mlock2(p, P(4), flags));
		for (unsigned int i = 0; i < ARRAY_SIZE(refused); i++) {
			EXPECT_EQ(-EINVAL, neg_errno(madvise(p, P(4),
							     refused[i]))) {
				TH_LOG("madvise(%d)", refused[i]);
			}
		}
		EXPECT_EQ(4, look(p, 4).locked);
		EXPECT_EQ(0, madvise(p, P(2), MADV_DONTNEED_LOCKED));
		EXPECT_EQ(2, present(p, 4));
		EXPECT_EQ(2, look(p, 4).locked);
		EXPECT_VMAS(p, 4, 1, 1, flags);
		EXPECT_EQ(4, charged());
		/* The pages come back locked. */
		touch(p, 1);
		EXPECT_EQ(3, look(p, 4).locked);
		EXPECT_EQ(1, mlocked(p, 1));
		ASSERT_EQ(0, do_munlock(p, P(4)));
		for (unsigned int i = 0; i < ARRAY_SIZE(refused); i++)
			EXPECT_EQ(0, madvise(p, P(4), refused[i]));
	}
}

TEST_F(mlock_behaviour, madvise_remove_of_locked_memory)
{
	char *p = hole(2);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(p, mmap(p, P(2), RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED,
			  -1, 0));
	ASSERT_EQ(0, do_mlock(p, P(2)));
	EXPECT_EQ(-EINVAL, neg_errno(madvise(p, P(2), MADV_REMOVE)));
	EXPECT_EQ(2, present(p, 2));
	ASSERT_EQ(0, do_munlock(p, P(2)));
	EXPECT_EQ(0, madvise(p, P(2), MADV_REMOVE));
	EXPECT_EQ(0, present(p, 2));
}

TEST_F(mlock_behaviour, guard_regions_in_locked_memory)
{
	char *p = region(3);

	ASSERT_NE(NULL, p);
	if (madvise(p, P(1), MADV_GUARD_INSTALL))
		SKIP(return, "no guard regions");
	ASSERT_EQ(0, do_mlock2(p, P(3), MLOCK_ONFAULT));
	EXPECT_EQ(-EINVAL, neg_errno(madvise(p + P(1), P(1),
					     MADV_GUARD_INSTALL)));
	EXPECT_EQ(0, madvise(p, P(3), MADV_GUARD_REMOVE));
	ONFAULT(p, 3);
	EXPECT_EQ(0, do_mlock(p, P(3)));
	EXPECT_EQ(3, look(p, 3).locked);
}

/*
 * Mappings that are never locked
 */

TEST_F(mlock_behaviour, vvar_and_vdso_are_skipped)
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
	/* Not locked, and yet subject to the limit. */
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(1) - 1));
	EXPECT_EQ(-ENOMEM, do_mlock((void *)start, end - start));
}

TEST_F(mlock_behaviour, gate_is_not_part_of_the_address_space)
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

TEST_F(mlock_behaviour, driver_mapping_is_skipped)
{
	char *p = hole(2);
	long before;

	ASSERT_NE(NULL, p);
	if (!map_special(p, 0))
		SKIP(return, "no perf events");
	/* It has accounting of its own, which VmLck does not show. */
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

	/* Neither locked by MAP_LOCKED nor by the default. */
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
	/* But it has to fit below the limit. */
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(before + 1)));
	EXPECT_EQ(MAP_FAILED, map_special(p, 0));
	EXPECT_EQ(EAGAIN, errno);
}

TEST_F(mlock_behaviour, skipped_mapping_does_not_stop_the_walk)
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

TEST_F(mlock_behaviour, droppable_is_skipped)
{
	int type = MAP_DROPPABLE | MAP_ANONYMOUS | MAP_FIXED;
	char *p = hole(2);

	ASSERT_NE(NULL, p);
	if (mmap(p, P(2), RW, type, -1, 0) != p)
		SKIP(return, "no MAP_DROPPABLE");
	EXPECT_EQ(0, do_mlock(p, P(2)));
	UNLOCKED(p, 2);
	EXPECT_EQ(0, charged());
	/* But populated, on fault or not: the flag is not there to tell. */
	EXPECT_EQ(2, present(p, 2));
	EXPECT_EQ(0, mlocked(p, 2));
	ASSERT_EQ(p, mmap(p, P(2), RW, type, -1, 0));
	EXPECT_EQ(0, present(p, 2));
	EXPECT_EQ(0, do_mlock2(p, P(2), MLOCK_ONFAULT));
	UNLOCKED(p, 2);
	EXPECT_EQ(2, present(p, 2));
	EXPECT_EQ(0, do_munlock(p, P(2)));

	/* Asking for both is an error, the default is not. */
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
	/* And permission comes before the contradiction. */
	ASSERT_EQ(0, set_limit(0));
	EXPECT_EQ(MAP_FAILED, mmap(p, P(2), RW, type | MAP_LOCKED, -1, 0));
	EXPECT_EQ(EPERM, errno);
}

#ifdef __NR_memfd_secret
TEST_F(mlock_behaviour, secretmem_is_locked_when_mapped_or_never)
{
	int fd = syscall(__NR_memfd_secret, O_CLOEXEC);
	int type = MAP_SHARED | MAP_FIXED;
	char *p = hole(2);

	if (fd < 0)
		SKIP(return, "no memfd_secret()");
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, ftruncate(fd, P(2)));

	/*
	 * Mapped without: mlock() skips it, and then fails to populate it, for
	 * the kernel does not touch such memory on behalf of a user.
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

	/* Locked by MAP_LOCKED, and not to be unlocked again. */
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

	/* And by the default; locked on fault, there is nothing to populate. */
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
 * userfaultfd: populating faults like any access
 */

static int uffd_open(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = syscall(__NR_userfaultfd, O_CLOEXEC);

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api)) {
		close(fd);
		return -1;
	}
	return fd;
}

static long uffd_copy(int fd, void *to, void *from, unsigned long pages)
{
	struct uffdio_copy copy = {
		.dst = (unsigned long)to,
		.src = (unsigned long)from,
		.len = P(pages),
	};

	return neg_errno(ioctl(fd, UFFDIO_COPY, &copy));
}

TEST_F(mlock_behaviour, userfault_that_fails_is_enomem)
{
	char *p = region(3), *from = region(1);
	int fd = uffd_open(UFFD_FEATURE_SIGBUS);

	if (fd < 0)
		SKIP(return, "no userfaultfd");
	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, from);
	touch(p, 1);
	ASSERT_EQ(0, uffd_register(fd, p, P(3), true, false, false));
	EXPECT_EQ(0, do_mlock2(p, P(3), MLOCK_ONFAULT));
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(3)));
	LOCKED(p, 3);
	EXPECT_EQ(3, charged());
	EXPECT_EQ(1, present(p, 3));
	/* A page that is put there is locked at once. */
	EXPECT_EQ(0, uffd_copy(fd, p + P(1), from, 1));
	EXPECT_EQ(2, look(p, 3).locked);
	EXPECT_EQ(2, mlocked(p, 3));
	EXPECT_EQ(3, charged());
}

TEST_F(mlock_behaviour, populating_uses_what_userfault_tracks)
{
	int fd = uffd_open(UFFD_FEATURE_RWP | UFFD_FEATURE_RWP_ASYNC);
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_RWP };
	struct uffdio_rwprotect protect = { .mode = UFFDIO_RWPROTECT_MODE_RWP };
	char *p = hole(4);

	if (fd < 0)
		SKIP(return, "no userfaultfd with RWP");
	ASSERT_NE(NULL, p);
	ASSERT_EQ(p, mmap(p, P(4), RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED,
			  -1, 0));
	touch(p, 4);
	reg.range.start = (unsigned long)p;
	reg.range.len = P(4);
	protect.range = reg.range;
	ASSERT_EQ(0, ioctl(fd, UFFDIO_REGISTER, &reg));
	ASSERT_EQ(0, ioctl(fd, UFFDIO_RWPROTECT, &protect));
	EXPECT_EQ(4, count_pagemap(p, 4, PM_UFFD_WP));
	/* Locked on fault, they are not used; locked in full, they are. */
	EXPECT_EQ(0, do_mlock2(p, P(4), MLOCK_ONFAULT));
	EXPECT_EQ(4, count_pagemap(p, 4, PM_UFFD_WP));
	EXPECT_EQ(0, do_munlock(p, P(4)));
	EXPECT_EQ(4, count_pagemap(p, 4, PM_UFFD_WP));
	EXPECT_EQ(0, do_mlock(p, P(4)));
	EXPECT_EQ(0, count_pagemap(p, 4, PM_UFFD_WP));
	EXPECT_EQ(4, look(p, 4).locked);
}

struct uffd_server {
	int fd;
	char *from;
	unsigned int pages;
	long error;
};

static void *uffd_serve(void *arg)
{
	struct uffd_server *s = arg;

	while (s->pages--) {
		struct uffd_msg msg;

		if (read(s->fd, &msg, sizeof(msg)) != sizeof(msg)) {
			s->error = -errno;
			break;
		}
		s->error = uffd_copy(s->fd, (void *)((unsigned long)
				     msg.arg.pagefault.address & -P(1)),
				     s->from, 1);
		if (s->error)
			break;
	}
	return NULL;
}

TEST_F(mlock_behaviour, populating_waits_for_userfaults)
{
	struct uffd_server s = { .fd = uffd_open(0), .pages = 3 };
	char *p = region(3);
	pthread_t thread;

	if (s.fd < 0)
		SKIP(return, "no userfaultfd");
	s.from = region(1);
	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, s.from);
	memset(s.from, 'x', P(1));
	ASSERT_EQ(0, uffd_register(s.fd, p, P(3), true, false, false));
	ASSERT_EQ(0, pthread_create(&thread, NULL, uffd_serve, &s));
	EXPECT_EQ(0, do_mlock(p, P(3)));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, s.error);
	EXPECT_EQ(3, look(p, 3).locked);
	EXPECT_EQ('x', p[P(2)]);
	EXPECT_EQ(3, charged());
}

static int lock_three_pages(void *p)
{
	return !!do_mlock(p, P(3));
}

/* Only who shares the address space of the dead can tell. */
TEST_F(mlock_behaviour, killed_while_populating_leaves_all_of_it_locked)
{
	char *p = region(3), *stack = region(16);
	int fd = uffd_open(0);
	struct uffd_msg msg;
	pid_t pid;

	if (fd < 0)
		SKIP(return, "no userfaultfd");
	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, stack);
	touch(stack, 16);
	touch(p, 1);
	ASSERT_EQ(0, uffd_register(fd, p, P(3), true, false, false));
	pid = clone(lock_three_pages, stack + P(16), CLONE_VM | SIGCHLD, p);
	ASSERT_LT(0, pid);
	/* It waits for the second page, which nobody brings. */
	ASSERT_EQ(sizeof(msg), read(fd, &msg, sizeof(msg)));
	EXPECT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(SIGKILL, reap(pid));
	LOCKED(p, 3);
	EXPECT_EQ(3, charged());
	EXPECT_EQ(1, present(p, 3));
	EXPECT_EQ(0, do_munlock(p, P(3)));
	EXPECT_EQ(0, charged());
}

/*
 * System V shared memory: SHM_LOCK is charged to the user
 */

static bool shm_locked(int id)
{
	struct shmid_ds ds;

	return !shmctl(id, IPC_STAT, &ds) && ds.shm_perm.mode & SHM_LOCKED;
}

static int shm_new(unsigned long bytes)
{
	return shmget(IPC_PRIVATE, bytes, IPC_CREAT | 0600);
}

static long shm_do(int id, int cmd)
{
	return neg_errno(shmctl(id, cmd, NULL));
}

TEST_F(mlock_behaviour, shm_lock_within_and_over_the_limit)
{
	int a, b;

	ASSERT_EQ(0, become(SOMEBODY));
	ASSERT_EQ(0, set_limit(P(4)));
	a = shm_new(P(2));
	b = shm_new(P(3));
	ASSERT_LE(0, a);
	ASSERT_LE(0, b);
	EXPECT_EQ(0, shm_do(a, SHM_LOCK));
	EXPECT_EQ(true, shm_locked(a));
	/* Not the process. */
	EXPECT_EQ(0, charged());
	EXPECT_EQ(-ENOMEM, shm_do(b, SHM_LOCK));
	EXPECT_EQ(false, shm_locked(b));
	/* Twice is charged once, and so is the refusal: not at all. */
	EXPECT_EQ(0, shm_do(a, SHM_LOCK));
	ASSERT_EQ(0, set_limit(P(5)));
	EXPECT_EQ(0, shm_do(b, SHM_LOCK));
	EXPECT_EQ(0, shm_do(a, SHM_UNLOCK));
	EXPECT_EQ(false, shm_locked(a));
	EXPECT_EQ(0, shm_do(a, SHM_UNLOCK));
	/* Three pages left, whatever has been unlocked twice. */
	ASSERT_EQ(0, set_limit(P(4)));
	EXPECT_EQ(-ENOMEM, shm_do(a, SHM_LOCK));
	EXPECT_EQ(0, shm_do(b, SHM_UNLOCK));
	EXPECT_EQ(0, shm_do(a, SHM_LOCK));
	EXPECT_EQ(0, shm_do(a, IPC_RMID));
	EXPECT_EQ(0, shm_do(b, IPC_RMID));
}

TEST_F(mlock_behaviour, shm_lock_rounds_up_and_the_limit_down)
{
	int id;

	ASSERT_EQ(0, become(SOMEBODY + 1));
	id = shm_new(P(1) + 1);
	ASSERT_LE(0, id);
	ASSERT_EQ(0, set_limit(P(2) - 1));
	EXPECT_EQ(-ENOMEM, shm_do(id, SHM_LOCK));
	ASSERT_EQ(0, set_limit(P(2)));
	EXPECT_EQ(0, shm_do(id, SHM_LOCK));
	EXPECT_EQ(0, shm_do(id, SHM_UNLOCK));
	/* Less than a page is more than nothing: not EPERM. */
	ASSERT_EQ(0, set_limit(1));
	EXPECT_EQ(-ENOMEM, shm_do(id, SHM_LOCK));
	ASSERT_EQ(0, set_limit(RLIM_INFINITY));
	EXPECT_EQ(0, shm_do(id, SHM_LOCK));
	ASSERT_EQ(0, shm_do(id, SHM_UNLOCK));
	ASSERT_EQ(0, set_limit(ULONG_MAX - 1));
	EXPECT_EQ(0, shm_do(id, SHM_LOCK));
	EXPECT_EQ(0, shm_do(id, IPC_RMID));
}

TEST_F(mlock_behaviour, shm_lock_limit_zero_is_eperm)
{
	int id;

	ASSERT_EQ(0, become(SOMEBODY + 2));
	id = shm_new(P(1));
	ASSERT_LE(0, id);
	ASSERT_EQ(0, set_limit(0));
	EXPECT_EQ(-EPERM, shm_do(id, SHM_LOCK));
	EXPECT_EQ(false, shm_locked(id));
	/* To unlock it is always allowed, locked or not. */
	EXPECT_EQ(0, shm_do(id, SHM_UNLOCK));
	ASSERT_EQ(0, set_limit(P(1)));
	EXPECT_EQ(0, shm_do(id, SHM_LOCK));
	ASSERT_EQ(0, set_limit(0));
	EXPECT_EQ(-EPERM, shm_do(id, SHM_LOCK));
	EXPECT_EQ(true, shm_locked(id));
	EXPECT_EQ(0, shm_do(id, SHM_UNLOCK));
	EXPECT_EQ(false, shm_locked(id));
	EXPECT_EQ(0, shm_do(id, IPC_RMID));
}

TEST_F(mlock_behaviour, shm_removal_uncharges)
{
	int a, b;
	void *p;

	ASSERT_EQ(0, become(SOMEBODY + 3));
	ASSERT_EQ(0, set_limit(P(2)));
	a = shm_new(P(2));
	b = shm_new(P(2));
	ASSERT_LE(0, a);
	ASSERT_LE(0, b);
	EXPECT_EQ(0, shm_do(a, SHM_LOCK));
	EXPECT_EQ(-ENOMEM, shm_do(b, SHM_LOCK));
	/* Not before the last attachment is gone. */
	p = shmat(a, NULL, 0);
	EXPECT_NE((void *)-1, p);
	EXPECT_EQ(0, shm_do(a, IPC_RMID));
	EXPECT_EQ(-ENOMEM, shm_do(b, SHM_LOCK));
	EXPECT_EQ(0, shmdt(p));
	EXPECT_EQ(0, shm_do(b, SHM_LOCK));
	EXPECT_EQ(0, shm_do(b, IPC_RMID));
}

TEST_F(mlock_behaviour, shm_lock_is_for_the_owner)
{
	struct shmid_ds ds;
	pid_t pid;
	int id;

	id = shm_new(P(2));
	ASSERT_LE(0, id);
	pid = fork();
	if (!pid) {
		ASSERT_EQ(0, become(SOMEBODY + 4));
		EXPECT_EQ(-EPERM, shm_do(id, SHM_LOCK));
		EXPECT_EQ(-EPERM, shm_do(id, SHM_UNLOCK));
		CHILD_DONE();
	}
	REAP(pid);

	/* Locked by root for somebody: charged to root, who is not limited. */
	ASSERT_EQ(0, shmctl(id, IPC_STAT, &ds));
	ds.shm_perm.uid = SOMEBODY + 4;
	ASSERT_EQ(0, shmctl(id, IPC_SET, &ds));
	ASSERT_EQ(0, set_limit(0));
	EXPECT_EQ(0, shm_do(id, SHM_LOCK));
	pid = fork();
	if (!pid) {
		int own;

		ASSERT_EQ(0, become(SOMEBODY + 4));
		ASSERT_EQ(0, set_limit(P(2)));
		own = shm_new(P(2));
		ASSERT_LE(0, own);
		EXPECT_EQ(0, shm_do(own, SHM_LOCK));
		/* The owner may unlock it, which changes nothing for him. */
		EXPECT_EQ(0, shm_do(id, SHM_UNLOCK));
		EXPECT_EQ(-ENOMEM, shm_do(id, SHM_LOCK));
		EXPECT_EQ(0, shm_do(own, SHM_UNLOCK));
		EXPECT_EQ(0, shm_do(id, SHM_LOCK));
		EXPECT_EQ(-ENOMEM, shm_do(own, SHM_LOCK));
		EXPECT_EQ(0, shm_do(own, IPC_RMID));
		CHILD_DONE();
	}
	REAP(pid);
	EXPECT_EQ(0, shm_do(id, IPC_RMID));
}

TEST_F(mlock_behaviour, shm_lock_is_charged_to_the_user)
{
	pid_t pid;
	int a, b;
	char *p = region(2);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, become(SOMEBODY + 5));
	ASSERT_EQ(0, set_limit(P(2)));
	a = shm_new(P(2));
	b = shm_new(P(1));
	ASSERT_LE(0, a);
	ASSERT_LE(0, b);
	pid = fork();
	if (!pid) {
		EXPECT_EQ(0, shm_do(a, SHM_LOCK));
		CHILD_DONE();
	}
	REAP(pid);
	/* That process is gone, its charge is not. */
	EXPECT_EQ(-ENOMEM, shm_do(b, SHM_LOCK));
	/* mlock() is counted for itself. */
	EXPECT_EQ(0, do_mlock(p, P(2)));
	EXPECT_EQ(0, shm_do(a, SHM_UNLOCK));
	EXPECT_EQ(0, shm_do(b, SHM_LOCK));
	EXPECT_EQ(2, charged());
	EXPECT_EQ(0, shm_do(a, IPC_RMID));
	EXPECT_EQ(0, shm_do(b, IPC_RMID));
}

TEST_F(mlock_behaviour, shm_lock_is_not_refused_for_what_another_wants)
{
	unsigned int *tries = mmap(NULL, psize(), RW,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int small, large, refused = 0;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, tries);
	ASSERT_EQ(0, become(SOMEBODY + 8));
	ASSERT_EQ(0, set_limit(P(2)));
	small = shm_new(P(1));
	large = shm_new(P(64));
	ASSERT_LE(0, small);
	ASSERT_LE(0, large);
	pid = fork();
	if (!pid) {
		/* Refused each time, so never to be seen in the charge. */
		while (shm_do(large, SHM_LOCK) == -ENOMEM)
			__atomic_add_fetch(tries, 1, __ATOMIC_SEQ_CST);
		_exit(1);
	}
	while (__atomic_load_n(tries, __ATOMIC_SEQ_CST) < 50000 &&
	       !waitpid(pid, NULL, WNOHANG)) {
		refused += !!shm_do(small, SHM_LOCK);
		shm_do(small, SHM_UNLOCK);
	}
	EXPECT_EQ(0, refused);
	EXPECT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(pid, waitpid(pid, NULL, 0));
	EXPECT_EQ(0, shm_do(small, IPC_RMID));
	EXPECT_EQ(0, shm_do(large, IPC_RMID));
}

TEST_F(mlock_behaviour, shm_lock_in_a_user_namespace)
{
	pid_t pid;
	int status;

	/*
	 * The limit in force when the namespace is made bounds all that its
	 * users lock together, in whole pages.
	 */
	const unsigned long limit[] = { 0, P(1) - 1, P(1), P(2) - 1 };

	for (unsigned int i = 0; i < ARRAY_SIZE(limit); i++) {
		unsigned long outer = limit[i] / psize();

		pid = fork();
		if (!pid) {
			int a, b;

			ASSERT_EQ(0, become(SOMEBODY + 6));
			ASSERT_EQ(0, set_limit(limit[i]));
			if (unshare(CLONE_NEWUSER))
				_exit(100);
			ASSERT_EQ(0, set_limit(RLIM_INFINITY));
			a = shm_new(P(1));
			b = shm_new(P(1));
			ASSERT_LE(0, a);
			ASSERT_LE(0, b);
			EXPECT_EQ(outer ? 0 : -ENOMEM, shm_do(a, SHM_LOCK));
			EXPECT_EQ(-ENOMEM, shm_do(b, SHM_LOCK));
			EXPECT_EQ(0, shm_do(a, SHM_UNLOCK));
			EXPECT_EQ(outer ? 0 : -ENOMEM, shm_do(b, SHM_LOCK));
			EXPECT_EQ(0, shm_do(b, SHM_UNLOCK));
			ASSERT_EQ(0, set_limit(P(8)));
			EXPECT_EQ(outer ? 0 : -ENOMEM, shm_do(a, SHM_LOCK));
			EXPECT_EQ(-ENOMEM, shm_do(b, SHM_LOCK));
			EXPECT_EQ(0, shm_do(a, IPC_RMID));
			EXPECT_EQ(0, shm_do(b, IPC_RMID));
			CHILD_DONE();
		}
		status = reap(pid);
		if (status == 100 << 8)
			SKIP(return, "no user namespaces");
		EXPECT_EQ(0, status);
	}
}

TEST_F(mlock_behaviour, shm_lock_limit_of_a_user_namespace_is_in_pages)
{
	const struct {
		unsigned long limit;
		long over;
	} outer[] = {
		{ P(8), -ENOMEM },
		{ RLIM_INFINITY, 0 },
	};
	pid_t pid;
	int status;

	for (unsigned int i = 0; i < ARRAY_SIZE(outer); i++) {
		pid = fork();
		if (!pid) {
			int a, b;

			ASSERT_EQ(0, become(SOMEBODY + 9));
			ASSERT_EQ(0, set_limit(outer[i].limit));
			if (unshare(CLONE_NEWUSER))
				_exit(100);
			ASSERT_EQ(0, set_limit(RLIM_INFINITY));
			a = shm_new(P(8));
			b = shm_new(P(9));
			ASSERT_LE(0, a);
			ASSERT_LE(0, b);
			EXPECT_EQ(0, shm_do(a, SHM_LOCK));
			EXPECT_EQ(0, shm_do(a, SHM_UNLOCK));
			EXPECT_EQ(outer[i].over, shm_do(b, SHM_LOCK));
			EXPECT_EQ(0, shm_do(a, IPC_RMID));
			EXPECT_EQ(0, shm_do(b, IPC_RMID));
			CHILD_DONE();
		}
		status = reap(pid);
		if (status == 100 << 8)
			SKIP(return, "no user namespaces");
		EXPECT_EQ(0, status);
	}
}

TEST_F(mlock_behaviour, shmat_under_future)
{
	char *at = hole(2), *p;
	int id;

	ASSERT_NE(NULL, at);
	id = shm_new(P(2));
	ASSERT_LE(0, id);
	EXPECT_EQ(0, do_mlockall(MCL_FUTURE));
	p = shmat(id, NULL, 0);
	EXPECT_NE((void *)-1, p);
	LOCKED(p, 2);
	EXPECT_EQ(2, present(p, 2));
	EXPECT_EQ(2, charged());
	EXPECT_EQ(0, drop_cap());
	EXPECT_EQ(0, set_limit(P(3)));
	EXPECT_EQ((void *)-1, shmat(id, NULL, 0));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(0, shmdt(p));
	EXPECT_EQ(0, charged());
	EXPECT_EQ(0, shm_do(id, IPC_RMID));
}

TEST_F(mlock_behaviour, shm_hugetlb_is_not_a_matter_of_the_limit)
{
	unsigned long size = default_huge_page_size();
	int id, own;

	if (!size)
		SKIP(return, "no hugetlb");
	/* Nobody: neither the capability nor the group, which is 0. */
	ASSERT_EQ(0, become(SOMEBODY + 7));
	ASSERT_EQ(0, set_limit(RLIM_INFINITY));
	id = shmget(IPC_PRIVATE, size, IPC_CREAT | SHM_HUGETLB | 0600);
	EXPECT_EQ(-1, id);
	EXPECT_EQ(EPERM, errno);
	ASSERT_EQ(0, set_limit(P(1)));
	id = shmget(IPC_PRIVATE, size, IPC_CREAT | SHM_HUGETLB | 0600);
	EXPECT_EQ(-1, id);
	EXPECT_EQ(EPERM, errno);
	/* The attempts have left no charge behind. */
	own = shm_new(P(1));
	ASSERT_LE(0, own);
	EXPECT_EQ(0, shm_do(own, SHM_LOCK));
	EXPECT_EQ(0, shm_do(own, IPC_RMID));
}

/*
 * Tests that turn a knob of the machine, which is put back afterwards
 */

#define CPU1_ONLINE	"/sys/devices/system/cpu/cpu1/online"
#define MAX_MAP_COUNT	"/proc/sys/vm/max_map_count"
#define NR_HUGEPAGES	"/proc/sys/vm/nr_hugepages"

static long read_knob(const char *path)
{
	return find_number(path, "");
}

FIXTURE(mlock_knobs)
{
	long cpu1_online;
	long max_map_count;
	long nr_hugepages;
};

FIXTURE_SETUP(mlock_knobs)
{
	self->cpu1_online = read_knob(CPU1_ONLINE);
	self->max_map_count = read_knob(MAX_MAP_COUNT);
	self->nr_hugepages = read_knob(NR_HUGEPAGES);
	if (geteuid())
		SKIP(return, "needs root");
	ASSERT_EQ(0, set_limit(RLIM_INFINITY));
	ASSERT_EQ(0, charged());
}

FIXTURE_TEARDOWN_PARENT(mlock_knobs)
{
	if (self->cpu1_online == 1 && read_knob(CPU1_ONLINE) == 0)
		write_ulong(CPU1_ONLINE, 1);
	if (self->max_map_count > 0)
		write_ulong(MAX_MAP_COUNT, self->max_map_count);
	if (self->nr_hugepages >= 0)
		write_ulong(NR_HUGEPAGES, self->nr_hugepages);
}

/*
 * Allow a few more mappings than there are and use up all but @spare: every
 * second page of an area gets another protection until that fails.
 */
static bool use_up_mappings(unsigned int spare)
{
	unsigned long pages = 64, used = 0;
	char *p = region(pages);

	if (!p || write_ulong(MAX_MAP_COUNT, look_all().vmas + pages / 2))
		return false;
	/* Each page, from the end, splits off one mapping. */
	while (++used < pages) {
		if (mprotect(p + P(pages - used), P(1),
			     used & 1 ? PROT_READ : PROT_NONE))
			break;
	}
	if (used == pages || errno != ENOMEM)
		return false;
	/* Each one that is gone again makes room for another. */
	for (used--; spare; spare--, used--) {
		if (munmap(p + P(pages - used), P(1)))
			return false;
	}
	return true;
}

TEST_F(mlock_knobs, split_that_fails_locks_nothing)
{
	char *p = region(3);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(true, use_up_mappings(0));
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(1)));
	EXPECT_EQ(-ENOMEM, do_mlock(p + P(1), P(1)));
	EXPECT_EQ(-ENOMEM, do_mlock(p + P(2), P(1)));
	EXPECT_EQ(-ENOMEM, do_mlock2(p, P(2), MLOCK_ONFAULT));
	UNLOCKED(p, 3);
	EXPECT_EQ(0, charged());
	EXPECT_EQ(0, present(p, 3));
	/* No split, no problem. */
	EXPECT_EQ(0, do_mlock(p, P(3)));
	LOCKED(p, 3);
	EXPECT_EQ(3, charged());
	/* Nor can a part of it be unlocked, or locked in another way. */
	EXPECT_EQ(-ENOMEM, do_munlock(p, P(1)));
	EXPECT_EQ(-ENOMEM, do_munlock(p + P(1), P(1)));
	EXPECT_EQ(-ENOMEM, do_mlock2(p, P(1), MLOCK_ONFAULT));
	LOCKED(p, 3);
	EXPECT_EQ(3, charged());
	EXPECT_EQ(0, do_mlock(p, P(1)));
	EXPECT_EQ(0, do_munlock(p, P(3)));
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_knobs, split_that_fails_leaves_what_came_before)
{
	char *p = region(4);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, mprotect(p, P(2), PROT_READ));
	touch(p + P(2), 1);
	ASSERT_EQ(true, use_up_mappings(0));
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(3)));
	LOCKED(p, 2);
	UNLOCKED(p + P(2), 2);
	EXPECT_EQ(2, charged());
	EXPECT_EQ(0, present(p, 2));
	EXPECT_EQ(0, mlocked(p + P(2), 1));
	/* The same on the way back. */
	EXPECT_EQ(0, do_mlock(p, P(4)));
	EXPECT_EQ(-ENOMEM, do_munlock(p, P(3)));
	UNLOCKED(p, 2);
	LOCKED(p + P(2), 2);
	EXPECT_EQ(2, charged());
}

TEST_F(mlock_knobs, second_split_that_fails_leaves_the_first)
{
	char *p = region(3);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(true, use_up_mappings(1));
	EXPECT_EQ(-ENOMEM, do_mlock(p + P(1), P(1)));
	EXPECT_VMAS(p, 3, 2, 0, 0);
	EXPECT_EQ(0, charged());
	/* Which leaves no room, and merges when locked with the rest. */
	EXPECT_EQ(-ENOMEM, do_mlock(p + P(2), P(1)));
	EXPECT_EQ(0, do_mlock(p, P(3)));
	LOCKED(p, 3);
	EXPECT_EQ(3, charged());
}

TEST_F(mlock_knobs, mlockall_does_not_mind_too_many_mappings)
{
	char *p = region(3);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, do_mlock(p + P(1), P(1)));
	ASSERT_EQ(true, use_up_mappings(0));
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT | MCL_FUTURE));
	EXPECT_VMAS(p, 3, look(p, 3).vmas, look(p, 3).vmas, 0);
	EXPECT_EQ(3, look(p, 3).locked);
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT | MCL_ONFAULT));
	EXPECT_EQ(look(p, 3).vmas, look(p, 3).lf);
	EXPECT_EQ(0, do_munlockall());
	EXPECT_EQ(0, look_all().lo);
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_knobs, batch_of_a_cpu_that_goes_offline)
{
	char *p = region(3);

	ASSERT_NE(NULL, p);
	if (self->cpu1_online != 1)
		SKIP(return, "no second CPU to take offline");
	/* Too few to fill the batch, which is left behind. */
	EXPECT_EQ(0, do_mlock2(p, P(3), MLOCK_ONFAULT));
	ASSERT_EQ(0, run_on_cpu(1));
	touch(p, 3);
	ASSERT_EQ(0, run_on_cpu(0));
	ASSERT_EQ(0, write_ulong(CPU1_ONLINE, 0));
	EXPECT_EQ(3, mlocked(p, 3));
	EXPECT_EQ(3, unevictable(p, 3));
}

/* Reserve huge pages of the default size; their size in pages, or 0. */
static unsigned long need_huge_pages(long nr)
{
	unsigned long size = default_huge_page_size();

	if (!size || write_ulong(NR_HUGEPAGES, read_knob(NR_HUGEPAGES) + nr) ||
	    find_number("/proc/meminfo", "HugePages_Free:") < nr)
		return 0;
	return size / psize();
}

static char *map_huge(unsigned long pages, int extra)
{
	return mmap(NULL, P(pages), RW, ANON | MAP_HUGETLB | extra, -1, 0);
}

TEST_F(mlock_knobs, hugetlb_is_skipped)
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
	/* On fault as well, for the flag is not there to tell. */
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

TEST_F(mlock_knobs, hugetlb_has_to_fit_below_the_limit)
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
	/* As often as one likes, since it is never charged. */
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

TEST_F(mlock_knobs, hugetlb_between_other_mappings)
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

TEST_F(mlock_knobs, shm_hugetlb_is_not_locked_by_shm_lock)
{
	unsigned long n;
	pid_t pid;
	int id;

	if (!default_huge_page_size())
		SKIP(return, "no hugetlb");
	n = need_huge_pages(1);
	ASSERT_LT(0, n);
	id = shmget(IPC_PRIVATE, P(n), IPC_CREAT | SHM_HUGETLB | 0600);
	ASSERT_LE(0, id);
	EXPECT_EQ(0, shm_do(id, SHM_LOCK));
	EXPECT_EQ(false, shm_locked(id));
	EXPECT_EQ(0, shm_do(id, SHM_UNLOCK));
	EXPECT_EQ(0, shm_do(id, IPC_RMID));

	/* The group may have one too, whatever its limit. */
	if (read_knob("/proc/sys/vm/hugetlb_shm_group"))
		return;
	pid = fork();
	if (!pid) {
		ASSERT_EQ(0, setgroups(0, NULL));
		ASSERT_EQ(0, set_limit(0));
		ASSERT_EQ(0, setresuid(SOMEBODY, SOMEBODY, SOMEBODY));
		id = shmget(IPC_PRIVATE, P(n), IPC_CREAT | SHM_HUGETLB | 0600);
		EXPECT_LE(0, id);
		EXPECT_EQ(-EPERM, shm_do(id, SHM_LOCK));
		ASSERT_EQ(0, set_limit(1));
		EXPECT_EQ(0, shm_do(id, SHM_LOCK));
		EXPECT_EQ(0, shm_do(id, IPC_RMID));
		CHILD_DONE();
	}
	REAP(pid);
}

/*
 * The counters of the machine
 */

struct events {
	long nr_mlock;
	long mlocked;
	long munlocked;
	long culled;
	long rescued;
	long cleared;
	long stranded;
};

static struct events count_events(void)
{
	struct events c = { .nr_mlock = -1 };

	if (!drain())
		return c;
	c.nr_mlock = read_vmstat("nr_mlock ");
	c.mlocked = read_vmstat("unevictable_pgs_mlocked ");
	c.munlocked = read_vmstat("unevictable_pgs_munlocked ");
	c.culled = read_vmstat("unevictable_pgs_culled ");
	c.rescued = read_vmstat("unevictable_pgs_rescued ");
	c.cleared = read_vmstat("unevictable_pgs_cleared ");
	c.stranded = read_vmstat("unevictable_pgs_stranded ");
	return c;
}

#define PROACTIVE "/proc/sys/vm/compaction_proactiveness"

FIXTURE(mlock_counters)
{
	struct events base;
	long proactive;		/* a setting, or -1 */
};

FIXTURE_SETUP(mlock_counters)
{
	self->proactive = -1;
	if (geteuid())
		SKIP(return, "needs root");
	ASSERT_EQ(0, set_limit(RLIM_INFINITY));
	/* Ask drop_caches not to log each time. */
	write_str("/proc/sys/vm/drop_caches", "4");
	/*
	 * A page that kcompactd is migrating is mapped nowhere, is not counted,
	 * and stays mlocked if munlock() finds it so and migration fails.
	 */
	self->proactive = find_number(PROACTIVE, "");
	if (self->proactive > 0)
		ASSERT_EQ(0, write_str(PROACTIVE, "0"));
	/* Let the code and data of the helpers be there from now on. */
	self->base = count_events();
	self->base = count_events();
	ASSERT_LE(0, self->base.nr_mlock);
}

FIXTURE_TEARDOWN_PARENT(mlock_counters)
{
	if (self->proactive > 0)
		write_ulong(PROACTIVE, self->proactive);
}

#define NR_MLOCK_IS(n) do {						\
	struct events now_ = count_events();					\
									\
	EXPECT_EQ((long)(n), now_.nr_mlock - self->base.nr_mlock);	\
} while (0)

/* More than a batch holds, and not a multiple of one. */
#define MANY 70

TEST_F(mlock_counters, pages_present_when_locked)
{
	char *p = region(MANY);
	struct events c;

	ASSERT_NE(NULL, p);
	touch(p, MANY);
	self->base = count_events();
	EXPECT_EQ(0, do_mlock2(p, P(MANY), MLOCK_ONFAULT));
	c = count_events();
	EXPECT_EQ(MANY, c.nr_mlock - self->base.nr_mlock);
	EXPECT_EQ(MANY, c.mlocked - self->base.mlocked);
	EXPECT_EQ(MANY, c.culled - self->base.culled);
	EXPECT_EQ(0, c.munlocked - self->base.munlocked);
	EXPECT_EQ(0, c.rescued - self->base.rescued);
	EXPECT_EQ(MANY, mlocked(p, MANY));
	EXPECT_EQ(MANY, unevictable(p, MANY));

	EXPECT_EQ(0, do_munlock(p, P(MANY)));
	c = count_events();
	EXPECT_EQ(0, c.nr_mlock - self->base.nr_mlock);
	EXPECT_EQ(MANY, c.mlocked - self->base.mlocked);
	EXPECT_EQ(MANY, c.culled - self->base.culled);
	EXPECT_EQ(MANY, c.munlocked - self->base.munlocked);
	EXPECT_EQ(MANY, c.rescued - self->base.rescued);
	EXPECT_EQ(0, c.stranded - self->base.stranded);
	EXPECT_EQ(0, c.cleared - self->base.cleared);
	EXPECT_EQ(0, mlocked(p, MANY));
	EXPECT_EQ(0, unevictable(p, MANY));
}

TEST_F(mlock_counters, pages_populated_by_mlock)
{
	char *p = region(MANY);
	struct events c;

	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, do_mlock(p, P(MANY)));
	c = count_events();
	EXPECT_EQ(MANY, c.nr_mlock - self->base.nr_mlock);
	EXPECT_EQ(MANY, c.mlocked - self->base.mlocked);
	EXPECT_EQ(MANY, c.culled - self->base.culled);
	EXPECT_EQ(MANY, mlocked(p, MANY));
	EXPECT_EQ(MANY, unevictable(p, MANY));
	/* Unmapped instead of unlocked. */
	EXPECT_EQ(0, munmap(p, P(MANY)));
	c = count_events();
	EXPECT_EQ(0, c.nr_mlock - self->base.nr_mlock);
	EXPECT_EQ(MANY, c.munlocked - self->base.munlocked +
			c.cleared - self->base.cleared);
}

TEST_F(mlock_counters, pages_faulted_in_later)
{
	char *p = region(MANY);

	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, do_mlock2(p, P(MANY), MLOCK_ONFAULT));
	NR_MLOCK_IS(0);
	touch(p, MANY / 2);
	NR_MLOCK_IS(MANY / 2);
	EXPECT_EQ(MANY / 2, unevictable(p, MANY));
	touch(p, MANY);
	NR_MLOCK_IS(MANY);
	EXPECT_EQ(MANY, unevictable(p, MANY));
	EXPECT_EQ(0, madvise(p, P(MANY / 2), MADV_DONTNEED_LOCKED));
	NR_MLOCK_IS(MANY - MANY / 2);
	EXPECT_EQ(0, do_munlock(p, P(MANY)));
	NR_MLOCK_IS(0);
	EXPECT_EQ(0, unevictable(p, MANY));
}

TEST_F(mlock_counters, faults_count_before_they_are_worked_on)
{
	/* Fewer than a batch holds: they wait there. */
	const int few = 5;
	char *p = region(few);
	long mlocked;

	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, do_mlock2(p, P(few), MLOCK_ONFAULT));
	mlocked = count_events().mlocked;
	touch(p, few);
	EXPECT_EQ(few, read_vmstat("unevictable_pgs_mlocked ") - mlocked);
	/* What each CPU has of the counter, not of the batch */
	write_str("/proc/sys/vm/stat_refresh", "1");
	EXPECT_EQ(few, read_vmstat("nr_mlock ") - self->base.nr_mlock);
	EXPECT_EQ(0, do_munlock(p, P(few)));
	NR_MLOCK_IS(0);
}

TEST_F(mlock_counters, locking_again_counts_once)
{
	char *p = region(MANY);

	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, do_mlock(p, P(MANY)));
	EXPECT_EQ(0, do_mlock2(p, P(MANY), MLOCK_ONFAULT));
	EXPECT_EQ(0, do_mlock(p, P(MANY)));
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT | MCL_ONFAULT));
	EXPECT_EQ(MANY, mlocked(p, MANY));
	EXPECT_EQ(0, do_munlock(p, P(MANY)));
	ASSERT_EQ(true, drain());
	EXPECT_EQ(0, mlocked(p, MANY));
	EXPECT_EQ(0, unevictable(p, MANY));
	EXPECT_EQ(0, do_munlockall());
	NR_MLOCK_IS(0);
}

TEST_F(mlock_counters, unlock_of_a_part)
{
	char *p = region(MANY);

	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, do_mlock(p, P(MANY)));
	EXPECT_EQ(0, do_munlock(p + P(10), P(20)));
	NR_MLOCK_IS(MANY - 20);
	EXPECT_EQ(0, unevictable(p + P(10), 20));
	EXPECT_EQ(10, unevictable(p, 10));
	EXPECT_EQ(MANY - 30, unevictable(p + P(30), MANY - 30));
	EXPECT_EQ(0, munmap(p, P(5)));
	NR_MLOCK_IS(MANY - 25);
	EXPECT_EQ(0, do_munlockall());
	NR_MLOCK_IS(0);
}

TEST_F(mlock_counters, exit_gives_back_what_was_locked)
{
	pid_t pid = fork();

	if (!pid) {
		char *p = region(MANY);

		ASSERT_NE(NULL, p);
		EXPECT_EQ(0, do_mlock(p, P(MANY)));
		NR_MLOCK_IS(MANY);
		CHILD_DONE();
	}
	REAP(pid);
	NR_MLOCK_IS(0);
}

TEST_F(mlock_counters, exec_gives_back_what_was_locked)
{
	pid_t pid = fork();

	if (!pid) {
		ASSERT_EQ(0, do_mlockall(MCL_CURRENT | MCL_FUTURE));
		execl("/proc/self/exe", "mlock-behaviour", AFTER_EXEC, NULL);
		_exit(99);
	}
	REAP(pid);
	NR_MLOCK_IS(0);
}

TEST_F(mlock_counters, read_only_anonymous_is_not_counted)
{
	char *p = region(MANY);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, mprotect(p, P(MANY), PROT_READ));
	EXPECT_EQ(0, do_mlock(p, P(MANY)));
	EXPECT_EQ(MANY, present(p, MANY));
	NR_MLOCK_IS(0);
	EXPECT_EQ(0, do_munlock(p, P(MANY)));
	NR_MLOCK_IS(0);
}

TEST_F(mlock_counters, page_locked_by_two_mappings)
{
	int fd = memfd_create("mlock", MFD_CLOEXEC);
	char *p = hole(MANY), *q = hole(MANY);
	struct events c;

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, q);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, P(MANY)));
	ASSERT_EQ(p, mmap(p, P(MANY), RW, MAP_SHARED | MAP_FIXED, fd, 0));
	ASSERT_EQ(q, mmap(q, P(MANY), RW, MAP_SHARED | MAP_FIXED, fd, 0));
	touch(p, MANY);
	touch(q, MANY);
	ASSERT_EQ(true, drain());
	EXPECT_EQ(0, do_mlock(p, P(MANY)));
	NR_MLOCK_IS(MANY);
	EXPECT_EQ(0, do_mlock(q, P(MANY)));
	c = count_events();
	EXPECT_EQ(MANY, c.nr_mlock - self->base.nr_mlock);
	EXPECT_EQ(MANY, c.mlocked - self->base.mlocked);
	/* The one keeps what the other gives up. */
	EXPECT_EQ(0, do_munlock(p, P(MANY)));
	NR_MLOCK_IS(MANY);
	EXPECT_EQ(MANY, unevictable(q, MANY));
	EXPECT_EQ(0, munmap(q, P(MANY)));
	NR_MLOCK_IS(0);
	EXPECT_EQ(0, unevictable(p, MANY));
}

TEST_F(mlock_counters, page_cache_is_locked_by_faults)
{
	int fd = memfd_create("mlock", MFD_CLOEXEC);
	char *p = hole(MANY), *fill = region(MANY);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, fill);
	ASSERT_LE(0, fd);
	ASSERT_EQ(P(MANY), write(fd, fill, P(MANY)));
	ASSERT_EQ(p, mmap(p, P(MANY), PROT_READ, MAP_SHARED | MAP_FIXED, fd,
			  0));
	ASSERT_EQ(true, drain());
	EXPECT_EQ(0, do_mlock(p, P(MANY)));
	NR_MLOCK_IS(MANY);
	EXPECT_EQ(MANY, unevictable(p, MANY));
	/* Punched out of the file, they are not locked either. */
	ASSERT_EQ(0, ftruncate(fd, P(10)));
	NR_MLOCK_IS(10);
	EXPECT_EQ(0, munmap(p, P(MANY)));
	NR_MLOCK_IS(0);
}

TEST_F(mlock_counters, copy_on_write_in_a_locked_mapping)
{
	char *p = region(MANY);
	int go[2];
	pid_t pid;

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, pipe(go));
	EXPECT_EQ(0, do_mlock(p, P(MANY)));
	NR_MLOCK_IS(MANY);
	pid = fork();
	if (!pid) {
		char c;

		close(go[1]);
		_exit(read(go[0], &c, 1) != 0);
	}
	/* The parent gets new pages, the child is left the old ones. */
	touch(p, MANY);
	NR_MLOCK_IS(MANY);
	EXPECT_EQ(MANY, unevictable(p, MANY));
	close(go[1]);
	REAP(pid);
	NR_MLOCK_IS(MANY);
	EXPECT_EQ(0, do_munlock(p, P(MANY)));
	NR_MLOCK_IS(0);
}

TEST_F(mlock_counters, fork_does_not_lock_the_pages_again)
{
	char *p = region(MANY);
	pid_t pid;

	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, do_mlock(p, P(MANY)));
	pid = fork();
	if (!pid) {
		EXPECT_EQ(MANY, mlocked(p, MANY));
		EXPECT_EQ(0, look(p, MANY).locked);
		/* Unlocking what is not locked here changes nothing there. */
		EXPECT_EQ(0, do_munlock(p, P(MANY)));
		EXPECT_EQ(0, munmap(p, P(MANY)));
		CHILD_DONE();
	}
	REAP(pid);
	NR_MLOCK_IS(MANY);
	EXPECT_EQ(0, do_munlock(p, P(MANY)));
	NR_MLOCK_IS(0);
}

TEST_F(mlock_counters, mremap_takes_the_pages_along)
{
	char *p = region(MANY), *to = hole(MANY);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, to);
	EXPECT_EQ(0, do_mlock(p, P(MANY)));
	EXPECT_EQ(to, sys_mremap(p, P(MANY), P(MANY),
				 MREMAP_MAYMOVE | MREMAP_FIXED, to));
	NR_MLOCK_IS(MANY);
	EXPECT_EQ(p, sys_mremap(to, P(MANY), P(MANY), MREMAP_MAYMOVE |
				MREMAP_FIXED | MREMAP_DONTUNMAP, p));
	NR_MLOCK_IS(MANY);
	EXPECT_EQ(0, do_munlock(p, P(MANY)));
	NR_MLOCK_IS(0);
}

TEST_F(mlock_counters, compaction_keeps_pages_locked)
{
	char *p = region(MANY);

	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, do_mlock(p, P(MANY)));
	if (write_str("/proc/sys/vm/compact_memory", "1"))
		SKIP(return, "no compaction");
	NR_MLOCK_IS(MANY);
	EXPECT_EQ(MANY, mlocked(p, MANY));
	EXPECT_EQ(MANY, unevictable(p, MANY));
	EXPECT_EQ(0, do_munlock(p, P(MANY)));
	NR_MLOCK_IS(0);
	EXPECT_EQ(0, mlocked(p, MANY));
}

TEST_F(mlock_counters, batch_of_another_cpu_is_drained)
{
	char *p = region(3);

	ASSERT_NE(NULL, p);
	if (run_on_cpu(1))
		SKIP(return, "only one CPU");
	/* Too few to fill the batch, which is left behind. */
	EXPECT_EQ(0, do_mlock2(p, P(3), MLOCK_ONFAULT));
	touch(p, 3);
	ASSERT_EQ(0, run_on_cpu(0));
	ASSERT_EQ(true, drain());
	EXPECT_EQ(3, unevictable(p, 3));
	EXPECT_EQ(0, madvise(p, P(2), MADV_DONTNEED_LOCKED));
	ASSERT_EQ(0, run_on_cpu(1));
	NR_MLOCK_IS(1);
	EXPECT_EQ(0, do_munlock(p, P(3)));
	ASSERT_EQ(0, run_on_cpu(0));
	NR_MLOCK_IS(0);
}

TEST_F(mlock_counters, unlocked_while_waiting_on_another_cpu)
{
	char *p = region(3);
	struct events c;

	ASSERT_NE(NULL, p);
	if (run_on_cpu(1))
		SKIP(return, "only one CPU");
	EXPECT_EQ(0, do_mlock2(p, P(3), MLOCK_ONFAULT));
	touch(p, 3);
	ASSERT_EQ(0, run_on_cpu(0));
	EXPECT_EQ(0, do_munlock(p, P(3)));
	EXPECT_EQ(0, mlocked(p, 3));
	c = count_events();
	EXPECT_EQ(0, c.nr_mlock - self->base.nr_mlock);
	EXPECT_EQ(3, c.mlocked - self->base.mlocked);
	EXPECT_EQ(3, c.munlocked - self->base.munlocked);
	EXPECT_EQ(0, c.stranded - self->base.stranded);
	EXPECT_EQ(0, unevictable(p, 3));
}

TEST_F(mlock_counters, locked_while_waiting_on_another_cpu)
{
	char *p = region(3);

	ASSERT_NE(NULL, p);
	if (run_on_cpu(1))
		SKIP(return, "only one CPU");
	touch(p, 3);
	ASSERT_EQ(0, run_on_cpu(0));
	EXPECT_EQ(0, do_mlock2(p, P(3), MLOCK_ONFAULT));
	NR_MLOCK_IS(3);
	EXPECT_EQ(3, mlocked(p, 3));
	EXPECT_EQ(3, unevictable(p, 3));
	/* The lock may not have been counted; the unlock takes it all the same. */
	EXPECT_EQ(0, do_munlock(p, P(3)));
	NR_MLOCK_IS(0);
	EXPECT_EQ(0, mlocked(p, 3));
	EXPECT_EQ(0, unevictable(p, 3));
}

/*
 * What waits on another CPU counts after all if the page is locked again by the
 * time its turn comes. One unlock is not enough then, and the page stays
 * unevictable until it is freed.
 */
TEST_F(mlock_counters, locked_again_while_waiting_on_another_cpu)
{
	int fd = memfd_create("mlock", MFD_CLOEXEC);
	char *p = hole(3);

	ASSERT_NE(NULL, p);
	ASSERT_LE(0, fd);
	if (run_on_cpu(1))
		SKIP(return, "only one CPU");
	ASSERT_EQ(0, ftruncate(fd, P(3)));
	ASSERT_EQ(p, mmap(p, P(3), RW, MAP_SHARED | MAP_FIXED, fd, 0));
	/* Somebody else may have the other CPU drain its batch too early. */
	for (int n = 0; n < 10 && mlocked(p, 3) < 3; n++) {
		/* It takes faults to lock them, so they are on their list, and not mapped. */
		ASSERT_EQ(0, run_on_cpu(1));
		touch(p, 3);
		NR_MLOCK_IS(0);
		EXPECT_EQ(0, madvise(p, P(3), MADV_DONTNEED));
		EXPECT_EQ(0, do_mlock2(p, P(3), MLOCK_ONFAULT));
		touch(p, 3);
		ASSERT_EQ(0, run_on_cpu(0));
		EXPECT_EQ(0, do_munlock(p, P(3)));
		EXPECT_EQ(0, mlocked(p, 3));
		EXPECT_EQ(0, do_mlock2(p, P(3), MLOCK_ONFAULT));
		EXPECT_EQ(3, unevictable(p, 3));
		NR_MLOCK_IS(3);
		EXPECT_EQ(0, do_munlock(p, P(3)));
		ASSERT_EQ(true, drain());
	}
	NR_MLOCK_IS(3);
	EXPECT_EQ(3, mlocked(p, 3));
	EXPECT_EQ(3, unevictable(p, 3));
	EXPECT_EQ(0, munmap(p, P(3)));
	NR_MLOCK_IS(3);
	EXPECT_EQ(0, close(fd));
	NR_MLOCK_IS(0);
}

/*
 * Whatever was counted too often, nothing stays mlocked when the last vma that
 * had it locked unmaps it.
 */
TEST_F(mlock_counters, unmapped_after_waiting_on_another_cpu)
{
	int fd = memfd_create("mlock", MFD_CLOEXEC);
	char *p = hole(3);

	ASSERT_NE(NULL, p);
	ASSERT_LE(0, fd);
	if (run_on_cpu(1))
		SKIP(return, "only one CPU");
	ASSERT_EQ(0, ftruncate(fd, P(3)));
	/* Somebody else may have the other CPU drain its batch too early. */
	for (int n = 0; n < 10; n++) {
		ASSERT_EQ(0, run_on_cpu(1));
		ASSERT_EQ(p, mmap(p, P(3), RW, MAP_SHARED | MAP_FIXED, fd, 0));
		touch(p, 3);
		NR_MLOCK_IS(0);
		EXPECT_EQ(0, madvise(p, P(3), MADV_DONTNEED));
		EXPECT_EQ(0, do_mlock2(p, P(3), MLOCK_ONFAULT));
		touch(p, 3);
		ASSERT_EQ(0, run_on_cpu(0));
		EXPECT_EQ(0, do_munlock(p, P(3)));
		EXPECT_EQ(0, do_mlock2(p, P(3), MLOCK_ONFAULT));
		/* The first CPU's mlocks count now. */
		ASSERT_EQ(true, drain());
		EXPECT_EQ(3, unevictable(p, 3));
		EXPECT_EQ(0, munmap(p, P(3)));
		NR_MLOCK_IS(0);
	}
	EXPECT_EQ(0, close(fd));
}

/* A bit of /proc/kpageflags. */
#ifndef KPF_ACTIVE
#define KPF_ACTIVE 6
#endif

TEST_F(mlock_counters, active_pages_become_inactive)
{
	int fd = memfd_create("mlock", MFD_CLOEXEC);
	char *p = hole(MANY), *fill = region(MANY);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, fill);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, run_on_cpu(0));
	ASSERT_EQ(P(MANY), write(fd, fill, P(MANY)));
	ASSERT_EQ(p, mmap(p, P(MANY), RW, MAP_SHARED | MAP_FIXED, fd, 0));
	touch(p, MANY);
	ASSERT_EQ(true, drain());
	/* Used often enough, they become active. */
	for (int n = 0; n < 3; n++)
		ASSERT_EQ(P(MANY), pread(fd, fill, P(MANY), 0));
	/* Locking anything brings to the lists what waits on this CPU. */
	touch(fill, 1);
	ASSERT_EQ(0, do_mlock(fill, P(1)));
	EXPECT_EQ(has_lru_gen() ? 0 : MANY, count_kpageflag(p, MANY, KPF_ACTIVE));
	EXPECT_EQ(0, do_mlock2(p, P(MANY), MLOCK_ONFAULT));
	EXPECT_EQ(MANY, unevictable(p, MANY));
	EXPECT_EQ(0, count_kpageflag(p, MANY, KPF_ACTIVE));
	EXPECT_EQ(0, do_munlock(p, P(MANY)));
	EXPECT_EQ(0, unevictable(p, MANY));
	EXPECT_EQ(0, count_kpageflag(p, MANY, KPF_ACTIVE));
	EXPECT_EQ(0, do_munlock(fill, P(1)));
	NR_MLOCK_IS(0);
}

TEST_F(mlock_counters, shm_lock_is_unevictable_but_not_mlocked)
{
	int id = shm_new(P(MANY));
	char *p;

	ASSERT_LE(0, id);
	p = shmat(id, NULL, 0);
	EXPECT_EQ(0, shm_do(id, SHM_LOCK));
	touch(p, MANY);
	NR_MLOCK_IS(0);
	EXPECT_EQ(0, mlocked(p, MANY));
	EXPECT_EQ(MANY, unevictable(p, MANY));
	/* Locked by both, released by both. */
	EXPECT_EQ(0, do_mlock(p, P(MANY)));
	NR_MLOCK_IS(MANY);
	EXPECT_EQ(0, shm_do(id, SHM_UNLOCK));
	NR_MLOCK_IS(MANY);
	EXPECT_EQ(MANY, unevictable(p, MANY));
	EXPECT_EQ(0, do_munlock(p, P(MANY)));
	NR_MLOCK_IS(0);
	EXPECT_EQ(0, unevictable(p, MANY));
	/* The other way round. */
	EXPECT_EQ(0, do_mlock(p, P(MANY)));
	EXPECT_EQ(0, shm_do(id, SHM_LOCK));
	EXPECT_EQ(0, do_munlock(p, P(MANY)));
	NR_MLOCK_IS(0);
	EXPECT_EQ(MANY, unevictable(p, MANY));
	EXPECT_EQ(0, shm_do(id, SHM_UNLOCK));
	EXPECT_EQ(true, drain());
	EXPECT_EQ(0, unevictable(p, MANY));
	EXPECT_EQ(0, shmdt(p));
	EXPECT_EQ(0, shm_do(id, IPC_RMID));
}

#define KSM_RUN "/sys/kernel/mm/ksm/run"

TEST_F(mlock_counters, ksm_page_counts_once)
{
	char *p = region(2);
	bool merged = false;
	long run;

	ASSERT_NE(NULL, p);
	memset(p, 0x5a, P(2));
	run = find_number(KSM_RUN, "");
	if (run < 0 || madvise(p, P(2), MADV_MERGEABLE))
		SKIP(return, "no KSM");
	/* It waits for two scans, which is not enough on Arm. */
	for (int i = 0; i < 3 && !merged; i++) {
		ASSERT_EQ(0, ksm_start());
		merged = ksm_get_self_merging_pages() == 2;
	}
	/* Leave them merged. */
	EXPECT_EQ(0, write_str(KSM_RUN, "0"));
	EXPECT_EQ(true, merged);
	EXPECT_EQ(2, count_kpageflag(p, 2, KPF_KSM));

	/* One page, mapped twice. */
	EXPECT_EQ(0, do_mlock2(p, P(2), MLOCK_ONFAULT));
	EXPECT_EQ(2, count_kpageflag(p, 2, KPF_KSM));
	NR_MLOCK_IS(1);
	EXPECT_EQ(0, do_munlock(p, P(2)));
	NR_MLOCK_IS(0);
	/* Locked in full it is copied, as if written to. */
	EXPECT_EQ(0, do_mlock(p, P(2)));
	EXPECT_EQ(0, count_kpageflag(p, 2, KPF_KSM));
	NR_MLOCK_IS(2);
	EXPECT_EQ(0, do_munlock(p, P(2)));
	NR_MLOCK_IS(0);
	EXPECT_EQ(0, write_str(KSM_RUN, "2"));
	EXPECT_EQ(0, write_ulong(KSM_RUN, run));
}

/* A huge page at a boundary in an area of three; its size in pages, or 0. */
static unsigned long thp_size(void)
{
	if (file_says("/sys/kernel/mm/transparent_hugepage/enabled", "[never]"))
		return 0;
	return read_pmd_pagesize() / psize();
}

static char *thp_new(unsigned long n)
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

/*
 * What smaps says is locked of a huge page of n pages that are. It counts bytes << 12 in a
 * long: where that has 32 bits, nothing is left of 2 MiB.
 */
static unsigned long smaps_locked(unsigned long n)
{
	bool narrow = file_says("/sys/kernel/address_bits", "32");

	return narrow ? ((P(n) << 12) & UINT32_MAX) / P(1) >> 12 : n;
}

TEST_F(mlock_counters, huge_page_counts_as_a_whole)
{
	unsigned long n = thp_size();
	struct events c;
	char *p;

	if (!n)
		SKIP(return, "no transparent huge pages");
	p = thp_new(n);
	ASSERT_NE(NULL, p);
	self->base = count_events();
	EXPECT_EQ(0, do_mlock(p, P(n)));
	c = count_events();
	EXPECT_EQ((long)n, c.nr_mlock - self->base.nr_mlock);
	EXPECT_EQ((long)n, c.mlocked - self->base.mlocked);
	EXPECT_EQ((long)n, c.culled - self->base.culled);
	EXPECT_EQ(n, charged());
	EXPECT_EQ(smaps_locked(n), look(p, n).locked);
	EXPECT_EQ(n, look(p, n).thp);
	EXPECT_EQ(0, do_munlock(p, P(n)));
	c = count_events();
	EXPECT_EQ(0, c.nr_mlock - self->base.nr_mlock);
	EXPECT_EQ((long)n, c.munlocked - self->base.munlocked);
	EXPECT_EQ((long)n, c.rescued - self->base.rescued);
	EXPECT_EQ(n, look(p, n).thp);

	/* Unmapped while locked. */
	EXPECT_EQ(0, do_mlock(p, P(n)));
	NR_MLOCK_IS(n);
	EXPECT_EQ(0, munmap(p, P(n)));
	NR_MLOCK_IS(0);
}

TEST_F(mlock_counters, huge_page_faulted_into_a_locked_mapping)
{
	unsigned long n = thp_size();
	char *p;

	if (!n)
		SKIP(return, "no transparent huge pages");
	p = thp_new(n);
	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, madvise(p, P(n), MADV_DONTNEED));
	EXPECT_EQ(0, do_mlock(p, P(n)));
	EXPECT_EQ(smaps_locked(n), look(p, n).locked);
	NR_MLOCK_IS(n);
	EXPECT_EQ(0, do_munlock(p, P(n)));
	NR_MLOCK_IS(0);
}

TEST_F(mlock_counters, huge_page_does_not_wait_in_a_batch)
{
	unsigned long n = thp_size();
	char *p;

	if (!n)
		SKIP(return, "no transparent huge pages");
	p = thp_new(n);
	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, madvise(p, P(n), MADV_DONTNEED));
	EXPECT_EQ(0, do_mlock2(p, P(n), MLOCK_ONFAULT));
	touch(p, 1);
	if (look(p, n).thp != n)
		SKIP(return, "no huge page");
	/* Without draining first. */
	EXPECT_EQ(1, unevictable(p, 1));
	EXPECT_EQ(1, mlocked(p, 1));
	EXPECT_EQ(0, do_munlock(p, P(n)));
	NR_MLOCK_IS(0);
}

TEST_F(mlock_counters, huge_page_behind_absent_pages)
{
	unsigned long n = thp_size();
	char *p;

	if (!n)
		SKIP(return, "no transparent huge pages");
	p = thp_new(n);
	ASSERT_NE(NULL, p);
	/* Of the same mapping. */
	p -= P(1);
	ASSERT_EQ(0, madvise(p, P(1), MADV_HUGEPAGE));
	EXPECT_EQ(0, do_mlock(p, P(n + 1)));
	LOCKED(p, n + 1);
	EXPECT_EQ(n + 1, present(p, n + 1));
	EXPECT_EQ(0, do_munlock(p, P(n + 1)));
	NR_MLOCK_IS(0);
}

TEST_F(mlock_counters, huge_page_shared_by_fork_is_copied_when_locked)
{
	unsigned long n = thp_size();
	int until[2];
	pid_t pid;
	char *p, c;

	if (!n)
		SKIP(return, "no transparent huge pages");
	p = thp_new(n);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, pipe(until));
	pid = fork();
	if (!pid) {
		close(until[1]);
		_exit(read(until[0], &c, 1) != 0);
	}
	EXPECT_EQ(0, count_pagemap(p, n, PM_MMAP_EXCLUSIVE));
	EXPECT_EQ(0, do_mlock(p, P(n)));
	EXPECT_EQ(n, count_pagemap(p, n, PM_MMAP_EXCLUSIVE));
	EXPECT_EQ(n, look(p, n).locked);
	close(until[1]);
	REAP(pid);
	close(until[0]);
	EXPECT_EQ(0, do_munlock(p, P(n)));
	NR_MLOCK_IS(0);
}

TEST_F(mlock_counters, part_of_a_huge_page_is_not_mlocked)
{
	unsigned long n = thp_size();
	char *p;

	if (!n)
		SKIP(return, "no transparent huge pages");
	p = thp_new(n);
	ASSERT_NE(NULL, p);
	/* Charged and shown as locked, but the huge page stays as it was. */
	EXPECT_EQ(0, do_mlock(p + P(1), P(1)));
	EXPECT_EQ(1, charged());
	EXPECT_EQ(1, look(p + P(1), 1).locked);
	EXPECT_EQ(0, look(p, n).thp);
	NR_MLOCK_IS(0);
	/* Nor is it when the rest is locked bit by bit. */
	EXPECT_EQ(0, do_mlock(p + P(2), P(n - 2)));
	EXPECT_EQ(0, do_mlock(p, P(1)));
	EXPECT_EQ(n, charged());
	NR_MLOCK_IS(0);
	EXPECT_EQ(0, do_munlock(p, P(n)));
	NR_MLOCK_IS(0);
	/* In one go it is, though mapped by small entries by now. */
	EXPECT_EQ(0, do_mlock(p, P(n)));
	EXPECT_EQ(0, look(p, n).thp);
	NR_MLOCK_IS(n);
	/* To unlock a part is enough to lose all of it. */
	EXPECT_EQ(0, do_munlock(p, P(1)));
	EXPECT_EQ(n - 1, charged());
	NR_MLOCK_IS(0);
	EXPECT_EQ(0, do_munlock(p, P(n)));
	NR_MLOCK_IS(0);
}

TEST_F(mlock_counters, huge_page_that_is_not_fully_mapped)
{
	unsigned long n = thp_size();
	char *p;

	if (!n)
		SKIP(return, "no transparent huge pages");
	p = thp_new(n);
	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, madvise(p + P(3), P(1), MADV_DONTNEED));
	EXPECT_EQ(0, do_mlock2(p, P(n), MLOCK_ONFAULT));
	EXPECT_EQ(n, charged());
	EXPECT_EQ(n - 1, look(p, n).locked);
	NR_MLOCK_IS(0);
	/* What takes the place of the missing page is a page of its own. */
	touch(p + P(3), 1);
	EXPECT_EQ(n, look(p, n).locked);
	NR_MLOCK_IS(1);
	EXPECT_EQ(0, do_munlock(p, P(n)));
	NR_MLOCK_IS(0);
}

TEST_F(mlock_counters, huge_page_locked_by_two_processes)
{
	unsigned long n = thp_size();
	pid_t pid;
	char *p;

	if (!n)
		SKIP(return, "no transparent huge pages");
	p = thp_new(n);
	ASSERT_NE(NULL, p);
	/* Mapped by one large entry first, then by small ones. */
	for (int small = 0; small <= 1; small++) {
		if (small) {
			EXPECT_EQ(0, do_mlock(p, P(1)));
			EXPECT_EQ(0, do_munlock(p, P(1)));
#if defined(__aarch64__) || defined(__arm__)
			/*
			 * The fork has left them without write access, which
			 * this gave back to the first. Entries of which some
			 * are contiguous PTEs, and others are not, do not count
			 * as one folio.
			 */
			touch(p, n);
#endif
		}
		EXPECT_EQ(small ? 0 : n, look(p, n).thp);
		EXPECT_EQ(0, do_mlock2(p, P(n), MLOCK_ONFAULT));
		NR_MLOCK_IS(n);
		pid = fork();
		if (!pid) {
			EXPECT_EQ(0, do_mlock2(p, P(n), MLOCK_ONFAULT));
			NR_MLOCK_IS(n);
			EXPECT_EQ(0, do_munlock(p, P(n)));
			NR_MLOCK_IS(n);
			CHILD_DONE();
		}
		REAP(pid);
		NR_MLOCK_IS(n);
		EXPECT_EQ(0, do_munlock(p, P(n)));
		NR_MLOCK_IS(0);
	}
}

/*
 * memory cgroups
 */

FIXTURE(mlock_memcg)
{
	struct events base;
	char mnt[64];
	char group[96];
	char stat[128];
	bool mounted;
	bool enabled;
};

FIXTURE_SETUP(mlock_memcg)
{
	char path[128];

	if (geteuid())
		SKIP(return, "needs root");
	ASSERT_EQ(0, set_limit(RLIM_INFINITY));
	write_str("/proc/sys/vm/drop_caches", "4");
	snprintf(self->mnt, sizeof(self->mnt), "/tmp/mlock-behaviour-XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->mnt));
	self->mounted = !mount("none", self->mnt, "cgroup2", 0, NULL);
	if (!self->mounted)
		SKIP(return, "no cgroup2");
	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", self->mnt);
	if (!file_says(path, "memory"))
		self->enabled = !write_str(path, "+memory");
	snprintf(self->group, sizeof(self->group), "%s/mlock-behaviour-%d",
		 self->mnt, getpid());
	ASSERT_EQ(0, mkdir(self->group, 0755));
	snprintf(self->stat, sizeof(self->stat), "%s/memory.stat",
		 self->group);
	if (access(self->stat, R_OK))
		SKIP(return, "no memory controller");
	self->base = count_events();
}

FIXTURE_TEARDOWN_PARENT(mlock_memcg)
{
	char path[128];

	if (self->group[0])
		rmdir(self->group);
	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", self->mnt);
	if (self->enabled)
		write_str(path, "-memory");
	if (self->mounted)
		umount(self->mnt);
	if (self->mnt[0])
		rmdir(self->mnt);
}

/*
 * The statistics are summed up only when enough has changed, so change enough:
 * each fault counts, and the threshold is 64 for each CPU.
 */
static long memcg_unevictable(const char *stat)
{
	unsigned long pages = 64 * (sysconf(_SC_NPROCESSORS_CONF) + 4);
	char *p = mmap(NULL, P(pages), RW, ANON, -1, 0);
	long bytes;

	if (p == MAP_FAILED || !drain())
		return -1;
	touch(p, pages);
	munmap(p, P(pages));
	bytes = find_number(stat, "unevictable ");
	return bytes < 0 ? bytes : bytes / (long)psize();
}

TEST_F(mlock_memcg, unevictable_follows_the_locks)
{
	char path[128], *p;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/cgroup.procs", self->group);
	pid = fork();
	if (!pid) {
		ASSERT_EQ(0, write_str(path, "0"));
		p = region(MANY);
		ASSERT_NE(NULL, p);
		touch(p, MANY);
		EXPECT_EQ(0, memcg_unevictable(self->stat));
		EXPECT_EQ(0, do_mlock(p, P(MANY)));
		EXPECT_EQ(MANY, memcg_unevictable(self->stat));
		EXPECT_EQ(0, do_munlock(p + P(10), P(20)));
		EXPECT_EQ(MANY - 20, memcg_unevictable(self->stat));
		EXPECT_EQ(0, munmap(p, P(10)));
		EXPECT_EQ(MANY - 30, memcg_unevictable(self->stat));
		EXPECT_EQ(0, do_munlock(p + P(30), P(MANY - 30)));
		EXPECT_EQ(0, memcg_unevictable(self->stat));
		/* Pages that are new. */
		EXPECT_EQ(0, map_anon(p, MANY, RW, MAP_LOCKED));
		EXPECT_EQ(MANY, memcg_unevictable(self->stat));
		CHILD_DONE();
	}
	REAP(pid);
	NR_MLOCK_IS(0);
}

TEST_F(mlock_memcg, unevictable_counts_huge_pages)
{
	unsigned long n = thp_size();
	char path[128], *p;
	pid_t pid;

	if (!n)
		SKIP(return, "no transparent huge pages");
	snprintf(path, sizeof(path), "%s/cgroup.procs", self->group);
	pid = fork();
	if (!pid) {
		ASSERT_EQ(0, write_str(path, "0"));
		p = thp_new(n);
		ASSERT_NE(NULL, p);
		EXPECT_EQ(0, do_mlock(p, P(n)));
		EXPECT_EQ((long)n, memcg_unevictable(self->stat));
		EXPECT_EQ(0, do_munlock(p, P(n)));
		EXPECT_EQ(0, memcg_unevictable(self->stat));
		CHILD_DONE();
	}
	REAP(pid);
	NR_MLOCK_IS(0);
}

TEST_F(mlock_memcg, pages_of_two_groups_in_turn)
{
	int fd = memfd_create("mlock", MFD_CLOEXEC);
	char path[128], *p = hole(MANY);
	pid_t pid;

	ASSERT_NE(NULL, p);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, P(MANY)));
	ASSERT_EQ(p, mmap(p, P(MANY), RW, MAP_SHARED | MAP_FIXED, fd, 0));
	for (int i = 0; i < MANY; i += 2)
		touch(p + P(i), 1);
	snprintf(path, sizeof(path), "%s/cgroup.procs", self->group);
	pid = fork();
	if (!pid) {
		ASSERT_EQ(0, write_str(path, "0"));
		touch(p, MANY);
		EXPECT_EQ(0, memcg_unevictable(self->stat));
		EXPECT_EQ(0, do_mlock2(p, P(MANY), MLOCK_ONFAULT));
		EXPECT_EQ(MANY / 2, memcg_unevictable(self->stat));
		EXPECT_EQ(0, do_munlock(p, P(MANY)));
		EXPECT_EQ(0, memcg_unevictable(self->stat));
		/* By way of the batch. */
		EXPECT_EQ(0, do_mlock2(p, P(MANY), MLOCK_ONFAULT));
		EXPECT_EQ(0, madvise(p, P(MANY), MADV_DONTNEED_LOCKED));
		EXPECT_EQ(0, memcg_unevictable(self->stat));
		touch(p, MANY);
		EXPECT_EQ(MANY / 2, memcg_unevictable(self->stat));
		EXPECT_EQ(0, munmap(p, P(MANY)));
		EXPECT_EQ(0, memcg_unevictable(self->stat));
		CHILD_DONE();
	}
	REAP(pid);
	NR_MLOCK_IS(0);
}

TEST_F(mlock_memcg, populating_without_memory_is_eagain)
{
	unsigned long pages = (16UL << 20) / psize();
	char path[128], *p;
	pid_t pid;
	long ret;
	int max;

	pid = fork();
	if (!pid) {
		/* Nobody in the group may be killed for it. */
		ASSERT_EQ(0, write_str("/proc/self/oom_score_adj", "-1000"));
		snprintf(path, sizeof(path), "%s/memory.max", self->group);
		ASSERT_EQ(0, write_ulong(path, P(pages / 4)));
		max = open(path, O_WRONLY | O_CLOEXEC);
		ASSERT_LE(0, max);
		snprintf(path, sizeof(path), "%s/cgroup.procs", self->group);
		ASSERT_EQ(0, write_str(path, "0"));
		p = region(pages);
		ASSERT_NE(NULL, p);
		ret = do_mlock(p, P(pages));
		/* A fault of ours would try for ever now. */
		ASSERT_EQ(3, write(max, "max", 3));
		EXPECT_EQ(-EAGAIN, ret);
		LOCKED(p, pages);
		EXPECT_EQ(pages, charged());
		EXPECT_LT(0, present(p, pages));
		EXPECT_GT(pages, present(p, pages));
		CHILD_DONE();
	}
	REAP(pid);
	NR_MLOCK_IS(0);
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], AFTER_EXEC))
		return after_exec();
	return test_harness_run(argc, argv);
}
