// SPDX-License-Identifier: GPL-2.0
/*
 * The counters of locked pages: nr_mlock and the unevictable_pgs_* events in
 * /proc/vmstat, the flags in /proc/kpageflags, the per-CPU batches of pending
 * folios, and transparent huge pages.
 *
 * The tests describe what the kernel does, quirks included, rather than what a
 * manual page promises, so that other implementations can be compared with it.
 *
 * Run as root, and alone: the counters are global, so nobody else may lock or
 * unlock memory.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "mlock-counters.h"
#include "mlock-helpers.h"
#include "mlock-huge.h"

/* Bits of /proc/kpageflags. */
#ifndef KPF_ACTIVE
#define KPF_ACTIVE 6
#endif
#ifndef KPF_KSM
#define KPF_KSM 21
#endif

FIXTURE(mlock_counters)
{
	struct events base;
	long proactive;
};

FIXTURE_SETUP(mlock_counters)
{
	if (geteuid())
		SKIP(return, "needs root");
	START_COUNTING();
}

FIXTURE_TEARDOWN_PARENT(mlock_counters)
{
	compaction_restore(self->proactive);
}

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
	/* Unmap instead of unlocking. */
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
	/* Fewer than a batch holds, so that they stay pending. */
	const int few = 5;
	char *p = region(few);
	long mlocked;

	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, do_mlock2(p, P(few), MLOCK_ONFAULT));
	mlocked = count_events().mlocked;
	touch(p, few);
	EXPECT_EQ(few, read_vmstat("unevictable_pgs_mlocked ") - mlocked);
	/* Folds the per-CPU counters, but does not drain the batch */
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
		execl("/proc/self/exe", "mlock-counters", AFTER_EXEC, NULL);
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
	/* One mapping keeps locked what the other unlocks. */
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
	/* Pages punched out of the file are not locked either. */
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
	/* The parent gets new pages; the child keeps the old ones. */
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
		/* An munlock() in the child does not affect the parent. */
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
	/*
	 * The mlock may not have been counted; munlock() clears PG_mlocked all
	 * the same.
	 */
	EXPECT_EQ(0, do_munlock(p, P(3)));
	NR_MLOCK_IS(0);
	EXPECT_EQ(0, mlocked(p, 3));
	EXPECT_EQ(0, unevictable(p, 3));
}

/*
 * An mlock pending on another CPU counts after all if the page is mlocked again
 * before that CPU drains. Then one munlock is not enough, and the page stays
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
	/* Other code may make the other CPU drain its batch too early. */
	for (int n = 0; n < 10 && mlocked(p, 3) < 3; n++) {
		/*
		 * Only faults lock these pages: they are on their LRU list, and
		 * not mapped.
		 */
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
 * Whatever mlock_count is, a page is not mlocked any more when the last vma
 * that locked it unmaps it.
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
	/* Other code may make the other CPU drain its batch too early. */
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
		/* The mlocks of the first CPU count now. */
		ASSERT_EQ(true, drain());
		EXPECT_EQ(3, unevictable(p, 3));
		EXPECT_EQ(0, munmap(p, P(3)));
		NR_MLOCK_IS(0);
	}
	EXPECT_EQ(0, close(fd));
}

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
	/* Pages that are used often enough become active. */
	for (int n = 0; n < 3; n++)
		ASSERT_EQ(P(MANY), pread(fd, fill, P(MANY), 0));
	/* mlock() drains the batches of this CPU to the LRU lists. */
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
	/* ksm_start() waits for two scans, which is not enough on Arm. */
	for (int i = 0; i < 3 && !merged; i++) {
		ASSERT_EQ(0, ksm_start());
		merged = ksm_get_self_merging_pages() == 2;
	}
	/* Keep the pages merged. */
	EXPECT_EQ(0, write_str(KSM_RUN, "0"));
	EXPECT_EQ(true, merged);
	EXPECT_EQ(2, count_kpageflag(p, 2, KPF_KSM));

	/* One page, mapped twice. */
	EXPECT_EQ(0, do_mlock2(p, P(2), MLOCK_ONFAULT));
	EXPECT_EQ(2, count_kpageflag(p, 2, KPF_KSM));
	NR_MLOCK_IS(1);
	EXPECT_EQ(0, do_munlock(p, P(2)));
	NR_MLOCK_IS(0);
	/* Locking in full copies the page, as a write would. */
	EXPECT_EQ(0, do_mlock(p, P(2)));
	EXPECT_EQ(0, count_kpageflag(p, 2, KPF_KSM));
	NR_MLOCK_IS(2);
	EXPECT_EQ(0, do_munlock(p, P(2)));
	NR_MLOCK_IS(0);
	EXPECT_EQ(0, write_str(KSM_RUN, "2"));
	EXPECT_EQ(0, write_ulong(KSM_RUN, run));
}

/*
 * Transparent huge pages
 */

/*
 * What smaps shows as Locked for a locked huge page of n pages. It counts bytes
 * << 12 in a long: with 32 bits, nothing is left of 2 MiB.
 */
static unsigned long smaps_locked(unsigned long n)
{
	bool narrow = file_says("/sys/kernel/address_bits", "32");

	return narrow ? ((P(n) << 12) & UINT32_MAX) / P(1) >> 12 : n;
}

/*
 * Transparent huge pages
 */

FIXTURE(mlock_huge_page)
{
	struct events base;
	long proactive;
	char *p;
	unsigned long n;	/* pages at p */
};

FIXTURE_SETUP(mlock_huge_page)
{
	if (geteuid())
		SKIP(return, "needs root");
	self->n = thp_size();
	if (!self->n)
		SKIP(return, "no transparent huge pages");
	START_COUNTING();
	self->p = thp_new(self->n);
	ASSERT_NE(NULL, self->p);
}

FIXTURE_TEARDOWN_PARENT(mlock_huge_page)
{
	compaction_restore(self->proactive);
}

TEST_F(mlock_huge_page, huge_page_counts_as_a_whole)
{
	unsigned long n = self->n;
	struct events c;
	char *p = self->p;

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

TEST_F(mlock_huge_page, huge_page_faulted_into_a_locked_mapping)
{
	unsigned long n = self->n;
	char *p = self->p;

	EXPECT_EQ(0, madvise(p, P(n), MADV_DONTNEED));
	EXPECT_EQ(0, do_mlock(p, P(n)));
	EXPECT_EQ(smaps_locked(n), look(p, n).locked);
	NR_MLOCK_IS(n);
	EXPECT_EQ(0, do_munlock(p, P(n)));
	NR_MLOCK_IS(0);
}

TEST_F(mlock_huge_page, huge_page_does_not_wait_in_a_batch)
{
	unsigned long n = self->n;
	char *p = self->p;

	EXPECT_EQ(0, madvise(p, P(n), MADV_DONTNEED));
	EXPECT_EQ(0, do_mlock2(p, P(n), MLOCK_ONFAULT));
	touch(p, 1);
	if (look(p, n).thp != n)
		SKIP(return, "no huge page");
	/* Huge pages are not pending in a batch: do not drain. */
	EXPECT_EQ(1, unevictable(p, 1));
	EXPECT_EQ(1, mlocked(p, 1));
	EXPECT_EQ(0, do_munlock(p, P(n)));
	NR_MLOCK_IS(0);
}

TEST_F(mlock_huge_page, huge_page_behind_absent_pages)
{
	unsigned long n = self->n;
	char *p = self->p;

	/* The page before, in the same mapping. */
	p -= P(1);
	ASSERT_EQ(0, madvise(p, P(1), MADV_HUGEPAGE));
	EXPECT_EQ(0, do_mlock(p, P(n + 1)));
	LOCKED(p, n + 1);
	EXPECT_EQ(n + 1, present(p, n + 1));
	EXPECT_EQ(0, do_munlock(p, P(n + 1)));
	NR_MLOCK_IS(0);
}

TEST_F(mlock_huge_page, huge_page_shared_by_fork_is_copied_when_locked)
{
	unsigned long n = self->n;
	int until[2];
	pid_t pid;
	char *p = self->p, c;

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

TEST_F(mlock_huge_page, part_of_a_huge_page_is_not_mlocked)
{
	unsigned long n = self->n;
	char *p = self->p;

	/* Charged and shown as locked, but the huge page is not mlocked. */
	EXPECT_EQ(0, do_mlock(p + P(1), P(1)));
	EXPECT_EQ(1, charged());
	EXPECT_EQ(1, look(p + P(1), 1).locked);
	EXPECT_EQ(0, look(p, n).thp);
	NR_MLOCK_IS(0);
	/* Nor is it mlocked when the rest is locked piece by piece. */
	EXPECT_EQ(0, do_mlock(p + P(2), P(n - 2)));
	EXPECT_EQ(0, do_mlock(p, P(1)));
	EXPECT_EQ(n, charged());
	NR_MLOCK_IS(0);
	EXPECT_EQ(0, do_munlock(p, P(n)));
	NR_MLOCK_IS(0);
	/* Locking all of it at once mlocks it, though PTEs map it by now. */
	EXPECT_EQ(0, do_mlock(p, P(n)));
	EXPECT_EQ(0, look(p, n).thp);
	NR_MLOCK_IS(n);
	/* Unlocking a part munlocks the whole folio. */
	EXPECT_EQ(0, do_munlock(p, P(1)));
	EXPECT_EQ(n - 1, charged());
	NR_MLOCK_IS(0);
	EXPECT_EQ(0, do_munlock(p, P(n)));
	NR_MLOCK_IS(0);
}

TEST_F(mlock_huge_page, huge_page_that_is_not_fully_mapped)
{
	unsigned long n = self->n;
	char *p = self->p;

	EXPECT_EQ(0, madvise(p + P(3), P(1), MADV_DONTNEED));
	EXPECT_EQ(0, do_mlock2(p, P(n), MLOCK_ONFAULT));
	EXPECT_EQ(n, charged());
	EXPECT_EQ(n - 1, look(p, n).locked);
	NR_MLOCK_IS(0);
	/* A small folio replaces the missing page. */
	touch(p + P(3), 1);
	EXPECT_EQ(n, look(p, n).locked);
	NR_MLOCK_IS(1);
	EXPECT_EQ(0, do_munlock(p, P(n)));
	NR_MLOCK_IS(0);
}

TEST_F(mlock_huge_page, huge_page_locked_by_two_processes)
{
	unsigned long n = self->n;
	pid_t pid;
	char *p = self->p;

	/* Mapped by a PMD first, then by PTEs. */
	for (int small = 0; small <= 1; small++) {
		if (small) {
			EXPECT_EQ(0, do_mlock(p, P(1)));
			EXPECT_EQ(0, do_munlock(p, P(1)));
#if defined(__aarch64__) || defined(__arm__)
			/*
			 * fork() write-protected all entries, and mlock() made
			 * only the first one writable again. A mix of
			 * contiguous and other PTEs does not count as one fully
			 * mapped folio.
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
 * A CPU that goes offline with pages in its batch
 */

#define CPU1_ONLINE	"/sys/devices/system/cpu/cpu1/online"

FIXTURE(mlock_hotplug)
{
	long was;
};

FIXTURE_SETUP(mlock_hotplug)
{
	self->was = read_knob(CPU1_ONLINE);
	if (geteuid())
		SKIP(return, "needs root");
	ASSERT_EQ(0, start_unlocked());
}

FIXTURE_TEARDOWN_PARENT(mlock_hotplug)
{
	if (self->was == 1 && read_knob(CPU1_ONLINE) == 0)
		write_ulong(CPU1_ONLINE, 1);
}

TEST_F(mlock_hotplug, batch_of_a_cpu_that_goes_offline)
{
	char *p = region(3);

	ASSERT_NE(NULL, p);
	if (self->was != 1)
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

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], AFTER_EXEC))
		return after_exec();
	return test_harness_run(argc, argv);
}
