// SPDX-License-Identifier: GPL-2.0
/*
 * Pages that a real-time task locks stay unevictable while another task on the
 * same CPU, the locker, locks and unlocks the same pages.
 *
 * On PREEMPT_RT, the real-time task can preempt the locker in the middle of
 * munlock(), where other kernels hold a spinlock. If it faults a page into a
 * locked vma then, its mlock is pending in this CPU's batch. The munlock must
 * not overtake that mlock: it would take the last mlock_count, and the page
 * would become evictable. Compaction, which leaves unevictable pages alone,
 * could then migrate the page, and the real-time task would have to wait.
 *
 * Run as root: the test needs a real-time priority and /proc/kpageflags, and
 * changes settings of compaction, which it restores.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "mlock-helpers.h"

/* A debug kernel on an emulated machine is slow. */
#define TIMEOUT 600

/* How long a test runs; its result does not depend on this. */
#define SECONDS 8

/* The file that both tasks map */
#define PAGES 256UL
/* How many pages are locked at a time: fewer than a batch holds */
#define PART 8UL
/* Pages that are allocated between two of the file */
#define GAP 8UL

#define COMPACT "/proc/sys/vm/compact_memory"

/* What the test changes and restores */
static const struct {
	const char *path;
	long val;
} settings[] = {
	/* Compaction leaves unevictable pages alone, as it does on PREEMPT_RT. */
	{ "/proc/sys/vm/compact_unevictable_allowed", 0 },
	/*
	 * Only the test compacts memory: mlock_count may be too low for a page
	 * that is isolated while it is locked.
	 */
	{ "/proc/sys/vm/compaction_proactiveness", 0 },
	/*
	 * Keep few pages on per-CPU lists, where compaction does not find them.
	 */
	{ "/proc/sys/vm/percpu_pagelist_high_fraction", 1000000 },
};

/* Shared between the two tasks */
struct locker {
	pid_t pid;
	int fd;
	atomic_bool compact;	/* asks it to compact memory, until it has */
	atomic_bool unlocking;	/* set while it calls munlock() */
	atomic_uint rounds;	/* counts its calls of munlock() */
	int64_t period;		/* from one to the next, in ns */
};

#define SECOND 1000000000LL

static int64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * SECOND + ts.tv_nsec;
}

/* Returns only if a call fails. */
static int lock_and_unlock(struct locker *locker)
{
	char *p = mmap(NULL, P(PAGES), RW, MAP_SHARED, locker->fd, 0);

	if (p == MAP_FAILED)
		return 1;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		if (locker->compact) {
			if (write_str(COMPACT, "1"))
				return 2;
			locker->compact = false;
		}
		touch(p, PAGES);
		if (do_mlock2(p, P(PAGES), MLOCK_ONFAULT))
			return 3;
		locker->unlocking = true;
		if (do_munlock(p, P(PAGES)))
			return 4;
		locker->unlocking = false;
		locker->rounds++;
	}
}

/* Lets the locker run; false if it has ended. */
static bool sleep_ns(struct locker *locker, int64_t ns)
{
	struct timespec ts = { .tv_sec = ns / SECOND, .tv_nsec = ns % SECOND };

	nanosleep(&ts, NULL);
	return !waitpid(locker->pid, NULL, WNOHANG);
}

/* Waits until the locker has returned from munlock() that often. */
static bool wait_for(struct locker *locker, unsigned int rounds)
{
	unsigned int from = locker->rounds;

	while (locker->rounds - from < rounds) {
		if (!sleep_ns(locker, SECOND / 10000))
			return false;
	}
	return true;
}

FIXTURE(mlock_rt)
{
	struct locker *locker;
	long was[ARRAY_SIZE(settings)];	/* or -1 */
};

FIXTURE_SETUP(mlock_rt)
{
	/* Not the locker's policy */
	const int policy = SCHED_FIFO | SCHED_RESET_ON_FORK;
	struct sched_param param = { .sched_priority = 1 };
	struct locker *locker;
	cpu_set_t set;
	int cpu = 0;
	int64_t begin;

	memset(self->was, -1, sizeof(self->was));
	if (geteuid())
		SKIP(return, "needs root");
	if (sched_setscheduler(0, policy, &param))
		SKIP(return, "no real-time priority");
	if (access("/proc/kpageflags", R_OK))
		SKIP(return, "no kpageflags");

	for (unsigned int i = 0; i < ARRAY_SIZE(settings); i++) {
		self->was[i] = find_number(settings[i].path, "");
		if (self->was[i] >= 0 && self->was[i] != settings[i].val)
			ASSERT_EQ(0, write_ulong(settings[i].path, settings[i].val));
	}
	/* Ask drop_caches not to log each call. */
	write_str("/proc/sys/vm/drop_caches", "4");
	ASSERT_EQ(0, set_limit(RLIM_INFINITY));
	ASSERT_EQ(0, sched_getaffinity(0, sizeof(set), &set));
	while (!CPU_ISSET(cpu, &set))
		cpu++;
	ASSERT_EQ(0, run_on_cpu(cpu));

	locker = mmap(NULL, sizeof(*locker), RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, locker);
	self->locker = locker;
	locker->fd = memfd_create("mlock-rt", MFD_CLOEXEC);
	ASSERT_LE(0, locker->fd);
	ASSERT_EQ(0, ftruncate(locker->fd, P(PAGES)));
	locker->pid = fork();
	if (!locker->pid)
		_exit(lock_and_unlock(locker));
	ASSERT_LT(0, locker->pid);
	/* The first round faults pages in. */
	ASSERT_EQ(true, wait_for(locker, 2));
	begin = now();
	ASSERT_EQ(true, wait_for(locker, 8));
	locker->period = (now() - begin) / 8;
}

FIXTURE_TEARDOWN_PARENT(mlock_rt)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(settings); i++) {
		if (self->was[i] >= 0 && self->was[i] != settings[i].val)
			write_ulong(settings[i].path, self->was[i]);
	}
}

static struct rusage used(void)
{
	struct rusage usage = { 0 };

	getrusage(RUSAGE_SELF, &usage);
	return usage;
}

/*
 * Maps a part of the file, locks it on fault and faults it in while the locker
 * is in munlock().
 *
 * mlock2() drains this CPU's batch. If the deadline server of the scheduler
 * lets the locker run after that, a munlock may be pending before the mlock,
 * and rightly takes the last mlock_count: try again.
 */
static bool lock_part(struct locker *locker, char *p, unsigned long at)
{
	long preempted;

	do {
		do {
			if (!sleep_ns(locker, rand() % locker->period))
				return false;
		} while (!locker->unlocking);

		preempted = used().ru_nivcsw;
		if (mmap(p + P(at), P(PART), RW, MAP_SHARED | MAP_FIXED,
			 locker->fd, P(at)) == MAP_FAILED ||
		    do_mlock2(p + P(at), P(PART), MLOCK_ONFAULT))
			return false;
		touch(p + P(at), PART);
	} while (used().ru_nivcsw != preempted);
	/* Until the locker has munlocked everything */
	return wait_for(locker, 1);
}

/* Maps the file, and locks its first pages. */
static char *lock_pages(struct locker *locker, unsigned long pages)
{
	char *p = mmap(NULL, P(PAGES), RW, MAP_SHARED, locker->fd, 0);

	if (p == MAP_FAILED)
		return NULL;
	for (unsigned long at = 0; at < pages; at += PART) {
		if (!lock_part(locker, p, at))
			return NULL;
	}
	return p;
}

/*
 * munlock() drains this CPU's batch. munmap() of locked memory would leave
 * munlocks pending there, which could cancel the next mlocks of the locker.
 */
static bool unlock_pages(char *p)
{
	return !do_munlock(p, P(PAGES)) && !munmap(p, P(PAGES));
}

TEST_F_TIMEOUT(mlock_rt, unevictable_when_preempting, TIMEOUT)
{
	struct locker *locker = self->locker;
	int64_t end = now() + SECONDS * SECOND;
	unsigned long rounds = 0, lost = 0;

	do {
		char *p = lock_pages(locker, PAGES);

		ASSERT_NE(NULL, p);
		ASSERT_EQ(true, drain());
		lost += PAGES - unevictable(p, PAGES);
		rounds++;
		ASSERT_EQ(true, unlock_pages(p));
	} while (now() < end);
	TH_LOG("%lu of %lu locked pages evictable", lost, rounds * PAGES);
	EXPECT_EQ(0, lost);
}

static void read_frames(char *p, uint64_t *frame)
{
	int map = open_pagemap();
	unsigned long i = 0;

	while (i < PAGES)
		i += read_pagemap(map, p + P(i), PAGES - i, frame + i);
	close(map);
	for (i = 0; i < PAGES; i++)
		frame[i] = PAGEMAP_PFN(frame[i]);
}

/*
 * Gives the file new pages, scattered over free memory, so that compaction
 * migrates most of them.
 */
static bool scatter_pages(int fd, char *gaps)
{
	char *p = mmap(NULL, P(PAGES), RW, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED || madvise(gaps, P(GAP * PAGES), MADV_DONTNEED) ||
	    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, P(PAGES)))
		return false;
	for (unsigned long i = 0; i < PAGES; i++) {
		touch(gaps + P(GAP * i), GAP);
		touch(p + P(i), 1);
	}
	/*
	 * Free all but one page of each gap: compaction does not fill free
	 * pageblocks.
	 */
	for (unsigned long i = 0; i < PAGES; i++) {
		if (madvise(gaps + P(GAP * i), P(GAP - 1), MADV_DONTNEED))
			return false;
	}
	return !munmap(p, P(PAGES));
}

TEST_F_TIMEOUT(mlock_rt, not_migrated_by_compaction, TIMEOUT)
{
	/* The rest of the file shows that compaction does migrate pages. */
	const unsigned long locked = PAGES / 4 * 3;
	static uint64_t before[PAGES], after[PAGES];
	unsigned long rounds = 0, moved = 0, others = 0;
	struct locker *locker = self->locker;
	int64_t end = now() + SECONDS * SECOND;
	long faults = 0;
	char *gaps;

	if (access(COMPACT, W_OK))
		SKIP(return, "no compaction");
	/* Compaction must not migrate any other memory of this task. */
	ASSERT_EQ(0, do_mlockall(MCL_CURRENT));
	gaps = mmap(NULL, P(GAP * PAGES), RW, ANON, -1, 0);
	ASSERT_NE(MAP_FAILED, gaps);
	madvise(gaps, P(GAP * PAGES), MADV_NOHUGEPAGE);
	do {
		char *p;

		ASSERT_EQ(true, scatter_pages(locker->fd, gaps));
		p = lock_pages(locker, locked);
		ASSERT_NE(NULL, p);
		touch(p, PAGES);
		read_frames(p, before);

		faults -= used().ru_minflt;
		locker->compact = true;
		while (locker->compact) {
			ASSERT_EQ(true, sleep_ns(locker, SECOND / 1000));
			touch(p, locked);
		}
		faults += used().ru_minflt;

		touch(p, PAGES);
		read_frames(p, after);
		for (unsigned long i = 0; i < PAGES; i++) {
			if (before[i] != after[i])
				++*(i < locked ? &moved : &others);
		}
		ASSERT_EQ(true, unlock_pages(p));
		rounds++;
		/* The first rounds may find little to migrate. */
	} while (now() < end || (!others && rounds < 10));
	TH_LOG("%lu of %lu locked pages migrated, %ld minor faults; %lu of %lu others migrated",
	       moved, rounds * locked, faults, others, rounds * (PAGES - locked));
	EXPECT_EQ(0, moved);
	EXPECT_EQ(0, faults);
	if (!moved && !others)
		SKIP(return, "compaction migrates nothing");
}

TEST_HARNESS_MAIN
