// SPDX-License-Identifier: GPL-2.0
/*
 * The pages of a locked mapping: which pages mlock() faults in and which it
 * cannot, faults that userfaultfd handles, copies made so that no write faults
 * later, and operations that must not remove locked pages.
 *
 * The tests describe what the kernel does, quirks included, rather than what a
 * manual page promises, so that other implementations can be compared with it.
 *
 * Run as root.
 *
 * Not tested: that a vma is marked VM_IO while its pages are mlocked, which
 * only a race would show. mlock-memcg.c tests EAGAIN, for a page that could not
 * be allocated.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "mlock-helpers.h"

/* Constants that the C library may lack. */
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

/* A root process that may lock anything and has nothing locked. */
FIXTURE(mlock_populate)
{
	int unused;
};

FIXTURE_SETUP(mlock_populate)
{
	if (geteuid())
		SKIP(return, "needs root");
	ASSERT_EQ(0, start_unlocked());
}

FIXTURE_TEARDOWN(mlock_populate)
{
}

/*
 * Mappings that cannot be populated
 */

TEST_F(mlock_populate, prot_none_is_enomem_yet_stays_locked)
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

	/* mprotect() to writable faults its pages in. */
	ASSERT_EQ(0, mprotect(p, P(2), RW));
	EXPECT_EQ(2, present(p, 2));
	EXPECT_EQ(2, look(p, 2).locked);

	EXPECT_EQ(0, do_munlock(p, P(2)));
	UNLOCKED(p, 2);
	EXPECT_EQ(0, charged());
}

TEST_F(mlock_populate, prot_none_on_fault_succeeds)
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
	/* It stays locked on fault when it becomes writable. */
	ASSERT_EQ(0, mprotect(p, P(2), RW));
	EXPECT_EQ(0, present(p, 2));
}

TEST_F(mlock_populate, prot_none_stops_populating)
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

TEST_F(mlock_populate, prot_none_is_enomem_for_present_pages_too)
{
	char *p = region(4);

	ASSERT_NE(NULL, p);
	touch(p, 4);
	ASSERT_EQ(0, mprotect(p, P(2), PROT_NONE));
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(2)));
	LOCKED(p, 2);
	EXPECT_EQ(2, look(p, 2).locked);

	/* The pages behind it are not accessed. */
	ASSERT_EQ(0, write_str("/proc/self/clear_refs", "1"));
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(4)));
	LOCKED(p + P(2), 2);
	EXPECT_EQ(2, look(p + P(2), 2).locked);
	EXPECT_EQ(0, look(p + P(2), 2).referenced);
}

TEST_F(mlock_populate, populating_past_the_end_of_file_is_enomem)
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

TEST_F(mlock_populate, populating_a_guard_region_is_enomem)
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

TEST_F(mlock_populate, present_pages_behind_a_guard_region_are_not_referenced)
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

TEST_F(mlock_populate, read_only_anonymous_gets_the_zero_page)
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
	/* mprotect() to writable breaks COW at once. */
	ASSERT_EQ(0, mprotect(p, P(3), RW));
	EXPECT_EQ(3, look(p, 3).locked);
}

/*
 * Shared and file mappings
 */

TEST_F(mlock_populate, private_file_breaks_cow_when_locked)
{
	int fd = memfd_create("mlock", MFD_CLOEXEC);
	char *p = hole(4), *warm = region(4);
	struct rusage before, after;

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, warm);
	ASSERT_LE(0, fd);
	ASSERT_EQ(P(4), pwrite(fd, warm, P(4), 0));
	ASSERT_EQ(p, mmap(p, P(4), RW, MAP_PRIVATE | MAP_FIXED, fd, 0));
	/* Locking on fault keeps the page of the file. */
	EXPECT_EQ(0, FORCE_READ(*p));
	EXPECT_EQ(0, do_mlock2(p, P(4), MLOCK_ONFAULT));
	EXPECT_EQ(1, count_pagemap(p, 1, PM_FILE));
	/*
	 * Locking in full replaces the page by the copy that a write would
	 * need.
	 */
	EXPECT_EQ(0, do_mlock(p, P(4)));
	EXPECT_EQ(4, present(p, 4));
	EXPECT_EQ(0, count_pagemap(p, 4, PM_FILE));
	EXPECT_EQ(4, look(p, 4).locked);
	EXPECT_EQ(4, charged());

	/* A warm-up round: only the second one has no other faults. */
	getrusage(RUSAGE_SELF, &after);
	getrusage(RUSAGE_SELF, &before);
	touch(warm, 4);
	getrusage(RUSAGE_SELF, &before);
	touch(p, 4);
	getrusage(RUSAGE_SELF, &after);
	EXPECT_EQ(before.ru_minflt, after.ru_minflt);
	EXPECT_EQ(before.ru_majflt, after.ru_majflt);
}

TEST_F(mlock_populate, pages_shared_by_fork_are_copied_when_locked)
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
	/* A write gives the parent its own copy of one page. */
	touch(p + P(2), 1);
	EXPECT_EQ(1, count_pagemap(p, 6, PM_MMAP_EXCLUSIVE));
	/* Locking on fault keeps the present pages. */
	EXPECT_EQ(0, do_mlock2(p + P(4), P(2), MLOCK_ONFAULT));
	EXPECT_EQ(0, count_pagemap(p + P(4), 2, PM_MMAP_EXCLUSIVE));
	EXPECT_EQ(2, mlocked(p + P(4), 2));
	/* Locking in full copies the pages now. */
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

	/* The same after the child has exited: a later write must not fault. */
	EXPECT_EQ(0, do_munlock(p, P(6)));
	pid = fork();
	if (!pid)
		CHILD_DONE();
	REAP(pid);
	EXPECT_EQ(0, do_mlock(p, P(6)));
	/* First copies the stack pages that fork() left shared. */
	getrusage(RUSAGE_SELF, &after);
	getrusage(RUSAGE_SELF, &before);
	getrusage(RUSAGE_SELF, &before);
	touch(p, 6);
	getrusage(RUSAGE_SELF, &after);
	EXPECT_EQ(before.ru_minflt, after.ru_minflt);
}

TEST_F(mlock_populate, present_pages_count_as_referenced_when_locked)
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
	/* Locking on fault does not mark pages as referenced. */
	EXPECT_EQ(0, do_mlock2(q, P(4), MLOCK_ONFAULT));
	EXPECT_EQ(0, look(q, 4).referenced);
	EXPECT_EQ(4, look(q, 4).locked);
}

TEST_F(mlock_populate, locking_again_brings_back_what_was_dropped)
{
	char *p = region(6);

	ASSERT_NE(NULL, p);
	/* Two pages present and locked, two absent and locked, two unlocked. */
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

TEST_F(mlock_populate, read_only_private_file_keeps_the_file_pages)
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
	/* mprotect() to writable copies them. */
	ASSERT_EQ(0, mprotect(p, P(3), RW));
	EXPECT_EQ(0, count_pagemap(p, 3, PM_FILE));
	EXPECT_EQ(3, look(p, 3).locked);
}

TEST_F(mlock_populate, shared_file_mapping)
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

	/* "Locked" is a proportional share; the charge is not. */
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

TEST_F(mlock_populate, shared_anonymous_mapping)
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

TEST_F(mlock_populate, truncation_does_not_unlock_the_mapping)
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

TEST_F(mlock_populate, msync_invalidate_is_ebusy)
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

TEST_F(mlock_populate, madvise_of_locked_memory)
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

TEST_F(mlock_populate, madvise_remove_of_locked_memory)
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

TEST_F(mlock_populate, guard_regions_in_locked_memory)
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

TEST_F(mlock_populate, userfault_that_fails_is_enomem)
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
	/* A page that userfaultfd installs is mlocked at once. */
	EXPECT_EQ(0, uffd_copy(fd, p + P(1), from, 1));
	EXPECT_EQ(2, look(p, 3).locked);
	EXPECT_EQ(2, mlocked(p, 3));
	EXPECT_EQ(3, charged());
}

TEST_F(mlock_populate, populating_uses_what_userfault_tracks)
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
	/* Locking on fault does not access the pages; locking in full does. */
	EXPECT_EQ(0, do_mlock2(p, P(4), MLOCK_ONFAULT));
	EXPECT_EQ(4, count_pagemap(p, 4, PM_UFFD_WP));
	EXPECT_EQ(0, do_munlock(p, P(4)));
	EXPECT_EQ(4, count_pagemap(p, 4, PM_UFFD_WP));
	EXPECT_EQ(0, do_mlock(p, P(4)));
	EXPECT_EQ(0, count_pagemap(p, 4, PM_UFFD_WP));
	EXPECT_EQ(4, look(p, 4).locked);
}

static long uffd_protect(int fd, void *p, unsigned long pages)
{
	struct uffdio_writeprotect protect = {
		.range.start = (unsigned long)p,
		.range.len = P(pages),
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	return neg_errno(ioctl(fd, UFFDIO_WRITEPROTECT, &protect));
}

TEST_F(mlock_populate, populating_is_a_write_for_userfault)
{
	int fd = uffd_open(UFFD_FEATURE_WP_ASYNC);
	char *p = region(4), *q = shared_region(4);

	if (fd < 0)
		SKIP(return, "no write protection by userfaultfd");
	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, q);
	touch(p, 4);
	ASSERT_EQ(0, uffd_register(fd, p, P(4), false, true, false));
	ASSERT_EQ(0, uffd_register(fd, q, P(4), false, true, false));
	ASSERT_EQ(0, uffd_protect(fd, p, 4));
	ASSERT_EQ(0, uffd_protect(fd, q, 4));
	EXPECT_EQ(4, count_pagemap(p, 4, PM_UFFD_WP));
	/* Locking on fault does not write to the pages; locking in full does, */
	EXPECT_EQ(0, do_mlock2(p, P(4), MLOCK_ONFAULT));
	EXPECT_EQ(4, count_pagemap(p, 4, PM_UFFD_WP));
	EXPECT_EQ(4, mlocked(p, 4));
	EXPECT_EQ(0, do_munlock(p, P(4)));
	EXPECT_EQ(0, do_mlock(p, P(4)));
	EXPECT_EQ(0, count_pagemap(p, 4, PM_UFFD_WP));
	EXPECT_EQ(4, look(p, 4).locked);
	/* but it only reads shared memory. */
	EXPECT_EQ(0, do_mlock(q, P(4)));
	EXPECT_EQ(4, count_pagemap(q, 4, PM_UFFD_WP));
	EXPECT_EQ(4, look(q, 4).locked);
}

TEST_F(mlock_populate, userfault_that_refuses_a_write_is_enomem)
{
	int fd = uffd_open(UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_SIGBUS);
	char *p = region(4);

	if (fd < 0)
		SKIP(return, "no write protection by userfaultfd");
	ASSERT_NE(NULL, p);
	touch(p, 4);
	ASSERT_EQ(0, uffd_register(fd, p, P(4), false, true, false));
	ASSERT_EQ(0, uffd_protect(fd, p + P(2), 1));
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(4)));
	LOCKED(p, 4);
	EXPECT_EQ(4, look(p, 4).locked);
	EXPECT_EQ(4, mlocked(p, 4));
	EXPECT_EQ(1, count_pagemap(p, 4, PM_UFFD_WP));
	EXPECT_EQ(0, do_mlock2(p, P(4), MLOCK_ONFAULT));
	EXPECT_EQ(4, charged());
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

TEST_F(mlock_populate, populating_waits_for_userfaults)
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

/* Only a process that shares the address space of the dead one can tell. */
TEST_F(mlock_populate, killed_while_populating_leaves_all_of_it_locked)
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
	/* The child waits for the second page, which nobody provides. */
	ASSERT_EQ(sizeof(msg), read(fd, &msg, sizeof(msg)));
	EXPECT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(SIGKILL, reap(pid));
	LOCKED(p, 3);
	EXPECT_EQ(3, charged());
	EXPECT_EQ(1, present(p, 3));
	EXPECT_EQ(0, do_munlock(p, P(3)));
	EXPECT_EQ(0, charged());
}

TEST_HARNESS_MAIN
