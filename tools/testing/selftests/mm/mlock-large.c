// SPDX-License-Identifier: GPL-2.0
/*
 * Locked pages of a large shmem folio stay resident when the folio is split:
 * because a page is punched out, the file is truncated, or the other pages are
 * reclaimed.
 *
 * Run as root: the test changes the global setting for folio sizes, which it
 * restores, and reads /proc/kpageflags.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "mlock-helpers.h"

#define SETTING "/sys/kernel/mm/transparent_hugepage/hugepages-64kB/shmem_enabled"

#define FOLIO (64UL << 10)
#define FOLIOS 16UL
#define SIZE (FOLIOS * FOLIO)

FIXTURE(mlock_large)
{
	char was[32];		/* the setting, or empty */
	unsigned long step;	/* pages of a folio */
	unsigned long pages;
	char *p;
	int fd;
};

/* Maps shared memory at an address that is aligned for large folios. */
static char *map_aligned(int fd)
{
	char *all = mmap(NULL, SIZE + 2 * FOLIO, PROT_NONE, ANON, -1, 0);
	char *p;

	if (all == MAP_FAILED)
		return NULL;
	p = (char *)(((unsigned long)all + FOLIO) & ~(FOLIO - 1));
	p = mmap(p, SIZE, RW, MAP_SHARED | MAP_FIXED, fd, 0);
	return p == MAP_FAILED ? NULL : p;
}

static void put_back(const char *was)
{
	if (*was)
		write_str(SETTING, was);
}

FIXTURE_SETUP(mlock_large)
{
	unsigned long heads, tails;

	memset(self, 0, sizeof(*self));
	if (geteuid())
		SKIP(return, "needs root");
	if (psize() * 4 > FOLIO || !read_setting(SETTING, self->was, sizeof(self->was)))
		SKIP(return, "no large folios of shared memory");
	/* Ask drop_caches not to log each call. */
	write_str("/proc/sys/vm/drop_caches", "4");
	self->step = FOLIO / psize();
	self->pages = SIZE / psize();
	ASSERT_EQ(0, set_limit(RLIM_INFINITY));
	ASSERT_EQ(0, write_str(SETTING, "always"));
	self->fd = memfd_create("mlock-large", MFD_CLOEXEC);
	if (self->fd >= 0 && !ftruncate(self->fd, SIZE))
		self->p = map_aligned(self->fd);
	if (self->p)
		memset(self->p, 1, SIZE);
	put_back(self->was);
	ASSERT_NE(NULL, self->p);
	heads = count_kpageflag(self->p, self->pages, HEAD_BIT);
	tails = count_kpageflag(self->p, self->pages, TAIL_BIT);
	if (heads != FOLIOS || heads + tails != self->pages)
		SKIP(return, "no memory for large folios");
}

FIXTURE_TEARDOWN(mlock_large)
{
	if (self->p)
		munmap(self->p, SIZE);
	if (self->fd > 0)
		close(self->fd);
}

/* These pages are present, mlocked, and unchanged. */
#define EXPECT_LOCKED(addr, nr) do {					\
	char *a_ = (addr);						\
	unsigned long n_ = (nr), broken_ = 0;				\
									\
	EXPECT_EQ(true, drain());					\
	EXPECT_EQ(n_, present(a_, n_));					\
	EXPECT_EQ(n_, mlocked(a_, n_));					\
	EXPECT_EQ(n_, unevictable(a_, n_));				\
	for (unsigned long i_ = 0; i_ < n_; i_++)			\
		broken_ += *(volatile char *)(a_ + P(i_)) != 1;		\
	EXPECT_EQ(0, broken_);						\
} while (0)

/* No lock is left over. */
#define EXPECT_UNLOCKED(self) do {					\
	EXPECT_EQ(0, do_munlockall());					\
	EXPECT_EQ(true, drain());					\
	EXPECT_EQ(0, mlocked((self)->p, (self)->pages));		\
	EXPECT_EQ(0, unevictable((self)->p, (self)->pages));		\
} while (0)

static int punch(int fd, unsigned long page)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 P(page), P(1));
}

TEST_F(mlock_large, hole_at_the_start)
{
	ASSERT_EQ(0, do_mlock(self->p, SIZE));
	EXPECT_LOCKED(self->p, self->pages);
	for (unsigned long i = 0; i < self->pages; i += self->step) {
		ASSERT_EQ(0, punch(self->fd, i));
		EXPECT_EQ(0, present(self->p + P(i), 1));
	}
	for (unsigned long i = 0; i < self->pages; i += self->step)
		EXPECT_LOCKED(self->p + P(i + 1), self->step - 1);
	EXPECT_UNLOCKED(self);
}

TEST_F(mlock_large, hole_in_the_middle)
{
	unsigned long at = self->step / 2 - 1;

	ASSERT_EQ(0, do_mlock(self->p, SIZE));
	EXPECT_LOCKED(self->p, self->pages);
	for (unsigned long i = 0; i < self->pages; i += self->step) {
		ASSERT_EQ(0, punch(self->fd, i + at));
		EXPECT_EQ(0, present(self->p + P(i + at), 1));
	}
	for (unsigned long i = 0; i < self->pages; i += self->step) {
		EXPECT_LOCKED(self->p + P(i), at);
		EXPECT_LOCKED(self->p + P(i + at + 1), self->step - at - 1);
	}
	EXPECT_UNLOCKED(self);
}

TEST_F(mlock_large, truncated)
{
	unsigned long left = self->pages - 1;

	ASSERT_EQ(0, do_mlock(self->p, SIZE));
	EXPECT_LOCKED(self->p, self->pages);
	/* Truncate page by page, from the end. */
	for (; left > self->pages - 2 * self->step; left--) {
		ASSERT_EQ(0, ftruncate(self->fd, P(left)));
		EXPECT_EQ(0, present(self->p + P(left), self->pages - left));
		EXPECT_LOCKED(self->p, left);
	}
	EXPECT_UNLOCKED(self);
}

TEST_F(mlock_large, neighbours_paged_out)
{
	unsigned long part = self->step / 4;

	for (unsigned long i = 0; i < self->pages; i += self->step)
		ASSERT_EQ(0, do_mlock(self->p + P(i + part), P(part)));
	for (unsigned long i = 0; i < self->pages; i += self->step) {
		char *p = self->p + P(i);

		EXPECT_EQ(0, madvise(p, P(part), MADV_PAGEOUT));
		EXPECT_EQ(0, madvise(p + P(2 * part), P(2 * part), MADV_PAGEOUT));
	}
	for (unsigned long i = 0; i < self->pages; i += self->step)
		EXPECT_LOCKED(self->p + P(i + part), part);
	EXPECT_UNLOCKED(self);
}

/* A page with two locked mappings is munlocked when both are unlocked. */
TEST_F(mlock_large, hole_with_two_mappings)
{
	char *q = map_aligned(self->fd);

	ASSERT_NE(NULL, q);
	ASSERT_EQ(0, do_mlock(self->p, SIZE));
	ASSERT_EQ(0, do_mlock(q, SIZE));
	for (unsigned long i = 0; i < self->pages; i += self->step)
		ASSERT_EQ(0, punch(self->fd, i));
	for (unsigned long i = 0; i < self->pages; i += self->step) {
		EXPECT_LOCKED(self->p + P(i + 1), self->step - 1);
		EXPECT_LOCKED(q + P(i + 1), self->step - 1);
	}
	EXPECT_EQ(0, do_munlock(self->p, SIZE));
	for (unsigned long i = 0; i < self->pages; i += self->step)
		EXPECT_EQ(self->step - 1, present(q + P(i + 1), self->step - 1));
	EXPECT_UNLOCKED(self);
	EXPECT_EQ(0, munmap(q, SIZE));
}

TEST_HARNESS_MAIN
