// SPDX-License-Identifier: GPL-2.0
/*
 * System V shared memory. SHM_LOCK is charged to the user, not to the process:
 * below and above the limit, in user namespaces, and when the segment is
 * removed. The other tests cover shmat() under mlockall(MCL_FUTURE),
 * SHM_HUGETLB, and the pages that SHM_LOCK makes unevictable.
 *
 * The tests describe what the kernel does, quirks included, rather than what a
 * manual page promises, so that other implementations can be compared with it.
 *
 * Run as root. "mlock_shm_counters" needs an idle machine: nobody else may lock
 * or unlock memory.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>
#include "mlock-counters.h"
#include "mlock-helpers.h"
#include "mlock-huge.h"

#ifndef SHM_LOCKED
#define SHM_LOCKED 02000
#endif

/* A user and group that owns nothing; the tests count up from here. */
#define SOMEBODY 54321

/* Becomes another user for good, without any capability. */
static int become(unsigned int id)
{
	if (setgroups(0, NULL) || setresgid(id, id, id) || setresuid(id, id, id))
		return -1;
	return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

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

/* A root process that may lock anything and has nothing locked. */
FIXTURE(mlock_shm)
{
	int unused;
};

FIXTURE_SETUP(mlock_shm)
{
	if (geteuid())
		SKIP(return, "needs root");
	ASSERT_EQ(0, start_unlocked());
}

FIXTURE_TEARDOWN(mlock_shm)
{
}

TEST_F(mlock_shm, shm_lock_within_and_over_the_limit)
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
	/* Locking twice charges once; a refused lock charges nothing. */
	EXPECT_EQ(0, shm_do(a, SHM_LOCK));
	ASSERT_EQ(0, set_limit(P(5)));
	EXPECT_EQ(0, shm_do(b, SHM_LOCK));
	EXPECT_EQ(0, shm_do(a, SHM_UNLOCK));
	EXPECT_EQ(false, shm_locked(a));
	EXPECT_EQ(0, shm_do(a, SHM_UNLOCK));
	/* Three pages stay charged, whatever is unlocked twice. */
	ASSERT_EQ(0, set_limit(P(4)));
	EXPECT_EQ(-ENOMEM, shm_do(a, SHM_LOCK));
	EXPECT_EQ(0, shm_do(b, SHM_UNLOCK));
	EXPECT_EQ(0, shm_do(a, SHM_LOCK));
	EXPECT_EQ(0, shm_do(a, IPC_RMID));
	EXPECT_EQ(0, shm_do(b, IPC_RMID));
}

TEST_F(mlock_shm, shm_lock_rounds_up_and_the_limit_down)
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
	/* A limit below a page is not 0: not EPERM. */
	ASSERT_EQ(0, set_limit(1));
	EXPECT_EQ(-ENOMEM, shm_do(id, SHM_LOCK));
	ASSERT_EQ(0, set_limit(RLIM_INFINITY));
	EXPECT_EQ(0, shm_do(id, SHM_LOCK));
	ASSERT_EQ(0, shm_do(id, SHM_UNLOCK));
	ASSERT_EQ(0, set_limit(ULONG_MAX - 1));
	EXPECT_EQ(0, shm_do(id, SHM_LOCK));
	EXPECT_EQ(0, shm_do(id, IPC_RMID));
}

TEST_F(mlock_shm, shm_lock_limit_zero_is_eperm)
{
	int id;

	ASSERT_EQ(0, become(SOMEBODY + 2));
	id = shm_new(P(1));
	ASSERT_LE(0, id);
	ASSERT_EQ(0, set_limit(0));
	EXPECT_EQ(-EPERM, shm_do(id, SHM_LOCK));
	EXPECT_EQ(false, shm_locked(id));
	/* Unlocking is always allowed, locked or not. */
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

TEST_F(mlock_shm, shm_removal_uncharges)
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
	/* The charge stays until the last attachment is gone. */
	p = shmat(a, NULL, 0);
	EXPECT_NE((void *)-1, p);
	EXPECT_EQ(0, shm_do(a, IPC_RMID));
	EXPECT_EQ(-ENOMEM, shm_do(b, SHM_LOCK));
	EXPECT_EQ(0, shmdt(p));
	EXPECT_EQ(0, shm_do(b, SHM_LOCK));
	EXPECT_EQ(0, shm_do(b, IPC_RMID));
}

TEST_F(mlock_shm, shm_lock_is_for_the_owner)
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

	/*
	 * Root locks a segment of another user: charged to root, without a
	 * limit.
	 */
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
		/*
		 * The owner may unlock it, which does not change the owner's
		 * charge.
		 */
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

TEST_F(mlock_shm, shm_lock_is_charged_to_the_user)
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
	/* The process is gone, but its charge stays. */
	EXPECT_EQ(-ENOMEM, shm_do(b, SHM_LOCK));
	/* mlock() has its own count. */
	EXPECT_EQ(0, do_mlock(p, P(2)));
	EXPECT_EQ(0, shm_do(a, SHM_UNLOCK));
	EXPECT_EQ(0, shm_do(b, SHM_LOCK));
	EXPECT_EQ(2, charged());
	EXPECT_EQ(0, shm_do(a, IPC_RMID));
	EXPECT_EQ(0, shm_do(b, IPC_RMID));
}

TEST_F(mlock_shm, shm_lock_is_not_refused_for_what_another_wants)
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
		/* Always refused, so it must never show in the charge. */
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

/* Exit status of a child for which there are no user namespaces. */
#define NO_NAMESPACE 100

/* Makes a child a user with a limit, in a user namespace of its own without one. */
static int enter_user_namespace(unsigned int id, unsigned long limit)
{
	int error = become(id);

	if (!error)
		error = set_limit(limit);
	if (error)
		return error;
	if (unshare(CLONE_NEWUSER))
		_exit(NO_NAMESPACE);
	return set_limit(RLIM_INFINITY);
}

TEST_F(mlock_shm, shm_lock_in_a_user_namespace)
{
	pid_t pid;
	int status;

	/*
	 * The limit at the creation of the namespace applies to the sum of what
	 * its users lock, in whole pages.
	 */
	const unsigned long limit[] = { 0, P(1) - 1, P(1), P(2) - 1 };

	for (unsigned int i = 0; i < ARRAY_SIZE(limit); i++) {
		unsigned long outer = limit[i] / psize();

		pid = fork();
		if (!pid) {
			int a, b;

			ASSERT_EQ(0, enter_user_namespace(SOMEBODY + 6, limit[i]));
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
		if (status == NO_NAMESPACE << 8)
			SKIP(return, "no user namespaces");
		EXPECT_EQ(0, status);
	}
}

TEST_F(mlock_shm, shm_lock_limit_of_a_user_namespace_is_in_pages)
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

			ASSERT_EQ(0, enter_user_namespace(SOMEBODY + 9, outer[i].limit));
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
		if (status == NO_NAMESPACE << 8)
			SKIP(return, "no user namespaces");
		EXPECT_EQ(0, status);
	}
}

TEST_F(mlock_shm, shmat_under_future)
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

TEST_F(mlock_shm, shm_hugetlb_is_not_a_matter_of_the_limit)
{
	unsigned long size = default_huge_page_size();
	int id, own;

	if (!size)
		SKIP(return, "no hugetlb");
	/* This user has neither the capability nor the group, which is 0. */
	ASSERT_EQ(0, become(SOMEBODY + 7));
	ASSERT_EQ(0, set_limit(RLIM_INFINITY));
	id = shmget(IPC_PRIVATE, size, IPC_CREAT | SHM_HUGETLB | 0600);
	EXPECT_EQ(-1, id);
	EXPECT_EQ(EPERM, errno);
	ASSERT_EQ(0, set_limit(P(1)));
	id = shmget(IPC_PRIVATE, size, IPC_CREAT | SHM_HUGETLB | 0600);
	EXPECT_EQ(-1, id);
	EXPECT_EQ(EPERM, errno);
	/* The attempts left no charge behind. */
	own = shm_new(P(1));
	ASSERT_LE(0, own);
	EXPECT_EQ(0, shm_do(own, SHM_LOCK));
	EXPECT_EQ(0, shm_do(own, IPC_RMID));
}

/*
 * SHM_HUGETLB with huge pages; restores their number afterwards
 */

FIXTURE(mlock_shm_hugetlb)
{
	long was;
};

FIXTURE_SETUP(mlock_shm_hugetlb)
{
	self->was = read_knob(NR_HUGEPAGES);
	if (geteuid())
		SKIP(return, "needs root");
	ASSERT_EQ(0, start_unlocked());
}

FIXTURE_TEARDOWN_PARENT(mlock_shm_hugetlb)
{
	if (self->was >= 0)
		write_ulong(NR_HUGEPAGES, self->was);
}

TEST_F(mlock_shm_hugetlb, shm_hugetlb_is_not_locked_by_shm_lock)
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

	/* The group is also allowed, whatever its limit. */
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
 * The pages, and the global counters
 */

FIXTURE(mlock_shm_counters)
{
	struct events base;
	long proactive;
};

FIXTURE_SETUP(mlock_shm_counters)
{
	if (geteuid())
		SKIP(return, "needs root");
	START_COUNTING();
}

FIXTURE_TEARDOWN_PARENT(mlock_shm_counters)
{
	compaction_restore(self->proactive);
}

TEST_F(mlock_shm_counters, shm_lock_is_unevictable_but_not_mlocked)
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
	/* Locked by both, until both unlock. */
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

TEST_HARNESS_MAIN
