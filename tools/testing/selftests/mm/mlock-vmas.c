// SPDX-License-Identifier: GPL-2.0
/*
 * How locked vmas split and merge, and how lock and charge change in mmap(),
 * munmap(), mprotect(), brk(), mremap(), remap_file_pages() and stack growth.
 *
 * The tests describe what the kernel does, quirks included, rather than what a
 * manual page promises, so that other implementations can be compared with it.
 *
 * Run as root.
 *
 * Not tested: a vma that mlockall() fails to change. mlockall() never splits a
 * vma, so only an allocation failure could cause that.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"
#include <errno.h>
#include <linux/mman.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "mlock-helpers.h"

/* Constants that the C library may lack. */
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

/* A root process that may lock anything and has nothing locked. */
FIXTURE(mlock_vmas)
{
	int unused;
};

FIXTURE_SETUP(mlock_vmas)
{
	if (geteuid())
		SKIP(return, "needs root");
	ASSERT_EQ(0, start_unlocked());
}

FIXTURE_TEARDOWN(mlock_vmas)
{
}

/*
 * Splits and merges
 */

TEST_F(mlock_vmas, lock_in_the_middle_splits_and_unlock_merges)
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

TEST_F(mlock_vmas, lock_at_the_edges)
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

TEST_F(mlock_vmas, unlock_in_the_middle_splits)
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

TEST_F(mlock_vmas, one_call_over_many_pieces_merges_them)
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

TEST_F(mlock_vmas, mlockall_and_munlockall_merge)
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

TEST_F(mlock_vmas, mprotect_keeps_lock_and_charge)
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
 * mmap() and munmap()
 */

TEST_F(mlock_vmas, map_locked)
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
	/* Cannot be populated, but mmap() does not fail. */
	EXPECT_EQ(0, map_anon(m, 3, PROT_NONE, MAP_LOCKED));
	LOCKED(m, 3);
	EXPECT_EQ(3, charged());
	/* Populated whatever MAP_NONBLOCK says. */
	EXPECT_EQ(0, map_anon(m, 3, RW, MAP_LOCKED | MAP_NONBLOCK));
	EXPECT_EQ(3, present(m, 3));
	EXPECT_EQ(3, charged());
}

TEST_F(mlock_vmas, munmap_uncharges)
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

/*
 * brk()
 */

static char *brk_now(void)
{
	return (char *)syscall(__NR_brk, 0);
}

/* Moves the break by pages. Returns true if it moved. */
static bool brk_to(char *to)
{
	return (char *)syscall(__NR_brk, to) == to;
}

TEST_F(mlock_vmas, brk_under_future)
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
	/* Within the same page: no charge. */
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

TEST_F(mlock_vmas, brk_next_to_a_locked_heap_is_not_locked)
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

/*
 * mremap() and remap_file_pages()
 */

/* mremap() that must fail: returns the negative error. */
static long remap_error(char *addr, unsigned long old, unsigned long new,
			int flags, char *to)
{
	void *p = sys_mremap(addr, P(old), P(new), flags, to);

	return p == MAP_FAILED ? -errno : 0;
}

TEST_F(mlock_vmas, mremap_grows_in_place)
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

TEST_F(mlock_vmas, mremap_grows_on_fault)
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

TEST_F(mlock_vmas, mremap_does_not_tell_what_it_cannot_populate)
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

TEST_F(mlock_vmas, mremap_grow_of_unlocked_memory_is_free)
{
	char *p = region(4);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, munmap(p + P(2), P(2)));
	/* Even with MCL_FUTURE: the vma itself decides. */
	ASSERT_EQ(0, do_mlockall(MCL_FUTURE));
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(0));
	EXPECT_EQ(p, sys_mremap(p, P(2), P(4), 0, NULL));
	UNLOCKED(p, 4);
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_vmas, mremap_shrinks)
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

TEST_F(mlock_vmas, mremap_moves)
{
	char *p = region(4), *to = hole(8);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, to);
	ASSERT_EQ(0, do_mlock(p, P(4)));
	ASSERT_EQ(0, drop_cap());
	ASSERT_EQ(0, set_limit(P(4)));
	/* Without growth, the limit does not matter. */
	EXPECT_EQ(to, sys_mremap(p, P(4), P(4),
				 MREMAP_MAYMOVE | MREMAP_FIXED, to));
	EXPECT_EQ(4, charged());
	LOCKED(to, 4);
	EXPECT_EQ(4, present(to, 4));
	EXPECT_EQ(4, mlocked(to, 4));
	EXPECT_VMAS(p, 4, 0, 0, 0);
	/* Move a part to where it cannot merge. */
	EXPECT_EQ(to + P(6), sys_mremap(to + P(1), P(1), P(1),
					MREMAP_MAYMOVE | MREMAP_FIXED,
					to + P(6)));
	EXPECT_EQ(4, charged());
	LOCKED(to + P(6), 1);
	EXPECT_VMAS(to, 4, 2, 2, 0);
	EXPECT_EQ(0, munmap(to + P(6), P(1)));
	EXPECT_EQ(3, charged());
}

TEST_F(mlock_vmas, mremap_moves_and_grows)
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

TEST_F(mlock_vmas, mremap_replaces_a_locked_target)
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

TEST_F(mlock_vmas, mremap_moves_several_mappings)
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

TEST_F(mlock_vmas, mremap_dontunmap_leaves_the_old_range_unlocked)
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

TEST_F(mlock_vmas, mremap_dontunmap_of_a_part)
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

TEST_F(mlock_vmas, mremap_duplicates_a_shared_mapping)
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
TEST_F(mlock_vmas, remap_file_pages_keeps_the_lock)
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
	/* It creates a new mapping, so both must fit below the limit. */
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
 * Stacks, here those that grow down
 */
#ifndef __hppa__

/* A growable vma of @pages, with space for @room more pages. */
static char *growing(unsigned long pages, unsigned long room)
{
	char *p = hole(pages + room);

	if (!p || map_anon(p + P(room), pages, RW, MAP_GROWSDOWN))
		return NULL;
	return p + P(room);
}

TEST_F(mlock_vmas, stack_growth_is_charged)
{
	char *p = growing(2, 8);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, do_mlock(p, P(2)));
	EXPECT_EQ(2, charged());
	/* CAP_IPC_LOCK lifts the limit. */
	ASSERT_EQ(0, set_limit(0));
	/* The fault brings in one page, but the growth charges all of them. */
	touch(p - P(3), 1);
	EXPECT_EQ(5, charged());
	LOCKED(p - P(3), 5);
	EXPECT_EQ(3, present(p - P(3), 5));
	EXPECT_EQ(3, look(p, 2).locked);
	EXPECT_EQ(3, mlocked(p - P(3), 5));
	/*
	 * mlock() below the stack finds no vma, and does not make the stack
	 * grow.
	 */
	EXPECT_EQ(-ENOMEM, do_mlock(p - P(4), P(1)));
	EXPECT_EQ(5, charged());
	EXPECT_EQ(0, munmap(p - P(3), P(5)));
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_vmas, stack_growth_on_fault_is_charged)
{
	char *p = growing(2, 8);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, do_mlock2(p, P(2), MLOCK_ONFAULT));
	touch(p - P(3), 1);
	EXPECT_EQ(5, charged());
	ONFAULT(p - P(3), 5);
	EXPECT_EQ(1, present(p - P(3), 5));
}

TEST_F(mlock_vmas, stack_growth_of_unlocked_stack_is_free)
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

TEST_F(mlock_vmas, stack_growth_over_the_limit_is_sigsegv)
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

TEST_F(mlock_vmas, main_stack_grows_locked_after_mlockall)
{
	unsigned long start, end;
	struct range r;
	long before;

	ASSERT_EQ(true, find_mapping("[stack]", &start, &end));
	/* MCL_FUTURE affects only new mappings; the stack is not new. */
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
 * Too many mappings for a split
 */

/* Restores the setting afterwards. */
FIXTURE(mlock_max_map_count)
{
	long was;
};

FIXTURE_SETUP(mlock_max_map_count)
{
	self->was = read_knob(MAX_MAP_COUNT);
	if (geteuid())
		SKIP(return, "needs root");
	ASSERT_EQ(0, start_unlocked());
}

FIXTURE_TEARDOWN_PARENT(mlock_max_map_count)
{
	if (self->was > 0)
		write_ulong(MAX_MAP_COUNT, self->was);
}

/*
 * Allows a few more mappings than exist, and uses up all but @spare: changes
 * the protection of every second page of an area until that fails.
 */
static bool use_up_mappings(unsigned int spare)
{
	unsigned long pages = 64, used = 0;
	char *p = region(pages);

	if (!p || write_ulong(MAX_MAP_COUNT, look_all().vmas + pages / 2))
		return false;
	/* Each page, from the end, adds one mapping. */
	while (++used < pages) {
		if (mprotect(p + P(pages - used), P(1),
			     used & 1 ? PROT_READ : PROT_NONE))
			break;
	}
	if (used == pages || errno != ENOMEM)
		return false;
	/* Removing one makes room for another. */
	for (used--; spare; spare--, used--) {
		if (munmap(p + P(pages - used), P(1)))
			return false;
	}
	return true;
}

TEST_F(mlock_max_map_count, split_that_fails_locks_nothing)
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
	/* Nor can a part of it be unlocked, or change its mode. */
	EXPECT_EQ(-ENOMEM, do_munlock(p, P(1)));
	EXPECT_EQ(-ENOMEM, do_munlock(p + P(1), P(1)));
	EXPECT_EQ(-ENOMEM, do_mlock2(p, P(1), MLOCK_ONFAULT));
	LOCKED(p, 3);
	EXPECT_EQ(3, charged());
	EXPECT_EQ(0, do_mlock(p, P(1)));
	EXPECT_EQ(0, do_munlock(p, P(3)));
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_max_map_count, split_that_fails_leaves_what_came_before)
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

TEST_F(mlock_max_map_count, second_split_that_fails_leaves_the_first)
{
	char *p = region(3);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(true, use_up_mappings(1));
	EXPECT_EQ(-ENOMEM, do_mlock(p + P(1), P(1)));
	EXPECT_VMAS(p, 3, 2, 0, 0);
	EXPECT_EQ(0, charged());
	/*
	 * This uses the last mapping; locked like the rest, the vma merges.
	 */
	EXPECT_EQ(-ENOMEM, do_mlock(p + P(2), P(1)));
	EXPECT_EQ(0, do_mlock(p, P(3)));
	LOCKED(p, 3);
	EXPECT_EQ(3, charged());
}

TEST_F(mlock_max_map_count, mlockall_does_not_mind_too_many_mappings)
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

TEST_HARNESS_MAIN
