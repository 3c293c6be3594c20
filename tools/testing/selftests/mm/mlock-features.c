// SPDX-License-Identifier: GPL-2.0
/*
 * Features that change which pages mlock() may access, or what it finds there:
 * protection keys, tagged addresses, soft-dirty tracking, NUMA balancing, idle
 * page tracking, RWF_DONTCACHE, folios of all sizes, pins and memory failure.
 *
 * The tests describe what the kernel does, quirks included, rather than what a
 * manual page promises, so that other implementations can be compared with it.
 *
 * Run as root, and alone: the counters are global, so nobody else may lock or
 * unlock memory. The tests change settings, which they restore, and leave two
 * pages of memory unusable.
 *
 * mlock-populate.c tests write protection by userfaultfd.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/mman.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include "mlock-counters.h"
#include "mlock-helpers.h"
#include "mlock-huge.h"
#include "mlock-swap.h"

/* Constants that the C library may lack. */
#ifndef MADV_HWPOISON
#define MADV_HWPOISON 100
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif
#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE 0x80
#endif
/* A bit of /proc/kpageflags */
#ifndef KPF_REFERENCED
#define KPF_REFERENCED 2
#endif

#define CLEAR_REFS "/proc/self/clear_refs"

FIXTURE(mlock_features)
{
	struct events base;
	long proactive;		/* a setting, or -1 */
};

FIXTURE_SETUP(mlock_features)
{
	self->proactive = -1;
	if (geteuid())
		SKIP(return, "needs root");
	ASSERT_EQ(0, start_unlocked());
	ASSERT_EQ(true, compaction_stop(&self->proactive));
	self->base = first_count();
	ASSERT_LE(0, self->base.nr_mlock);
}

FIXTURE_TEARDOWN_PARENT(mlock_features)
{
	compaction_restore(self->proactive);
}

/*
 * Protection keys: populating is subject to the rights of the thread
 */

TEST_F(mlock_features, key_that_denies_access_is_enomem)
{
	char *p = region(4);
	int key;

	ASSERT_NE(NULL, p);
	touch(p, 4);
	key = pkey_alloc(0, PKEY_DISABLE_ACCESS);
	if (key < 0)
		SKIP(return, "no protection keys");
	ASSERT_EQ(0, pkey_mprotect(p, P(2), RW, key));
	/* Present or not, and locked all the same. */
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(2)));
	LOCKED(p, 2);
	EXPECT_EQ(2, charged());
	EXPECT_EQ(2, look(p, 2).locked);
	EXPECT_EQ(2, mlocked(p, 2));

	/* What comes after it is locked, but not accessed. */
	ASSERT_EQ(0, write_str(CLEAR_REFS, "1"));
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(4)));
	LOCKED(p + P(2), 2);
	EXPECT_EQ(4, charged());
	EXPECT_EQ(2, look(p + P(2), 2).locked);
	EXPECT_EQ(0, look(p + P(2), 2).referenced);
	EXPECT_EQ(0, do_munlock(p, P(4)));

	/* No error where nothing is populated, or nobody is told. */
	EXPECT_EQ(0, do_mlock2(p, P(4), MLOCK_ONFAULT));
	EXPECT_VMAS(p, 4, 2, 2, 2);
	EXPECT_EQ(0, do_munlock(p, P(4)));
	EXPECT_EQ(0, do_mlockall(MCL_CURRENT));
	EXPECT_VMAS(p, 4, 2, 2, 0);
	EXPECT_EQ(0, do_munlockall());

	ASSERT_EQ(0, pkey_set(key, 0));
	EXPECT_EQ(0, do_mlock(p, P(4)));
	EXPECT_EQ(4, look(p, 4).locked);
	EXPECT_EQ(0, do_munlock(p, P(4)));
	NR_MLOCK_IS(0);
}

TEST_F(mlock_features, key_that_denies_access_to_absent_pages)
{
	char *p = region(2);
	int key;

	ASSERT_NE(NULL, p);
	key = pkey_alloc(0, PKEY_DISABLE_ACCESS);
	if (key < 0)
		SKIP(return, "no protection keys");
	ASSERT_EQ(0, pkey_mprotect(p, P(2), RW, key));
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(2)));
	LOCKED(p, 2);
	EXPECT_EQ(0, present(p, 2));
	ASSERT_EQ(0, pkey_set(key, 0));
	EXPECT_EQ(0, do_mlock(p, P(2)));
	EXPECT_EQ(2, look(p, 2).locked);
	EXPECT_EQ(0, do_munlock(p, P(2)));
}

TEST_F(mlock_features, key_that_denies_writes)
{
	char *p = region(2), *q = shared_region(2);
	int key;

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, q);
	touch(p, 2);
	key = pkey_alloc(0, PKEY_DISABLE_WRITE);
	if (key < 0)
		SKIP(return, "no protection keys");
	ASSERT_EQ(0, pkey_mprotect(p, P(2), RW, key));
	ASSERT_EQ(0, pkey_mprotect(q, P(2), RW, key));
	/* Private and writable memory is populated as by a write. */
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(2)));
	LOCKED(p, 2);
	EXPECT_EQ(2, look(p, 2).locked);
	/* Other memory is read. */
	EXPECT_EQ(0, do_mlock(q, P(2)));
	EXPECT_EQ(2, look(q, 2).locked);
	ASSERT_EQ(0, pkey_mprotect(p, P(2), PROT_READ, key));
	EXPECT_EQ(0, do_mlock(p, P(2)));
	EXPECT_EQ(4, charged());
	EXPECT_EQ(0, do_munlock(p, P(2)));
	EXPECT_EQ(0, do_munlock(q, P(2)));
}

/* The kernel has a key of its own for memory that can only be executed. */
TEST_F(mlock_features, execute_only_memory_is_enomem)
{
	char *p = region(2);
	int key = pkey_alloc(0, 0);

	if (key < 0)
		SKIP(return, "no protection keys");
	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, pkey_free(key));
	touch(p, 2);
	ASSERT_EQ(0, mprotect(p, P(2), PROT_EXEC));
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(2)));
	LOCKED(p, 2);
	EXPECT_EQ(2, look(p, 2).locked);
	EXPECT_EQ(0, do_munlock(p, P(2)));
	EXPECT_EQ(0, do_mlock2(p, P(2), MLOCK_ONFAULT));
	EXPECT_EQ(0, do_munlock(p, P(2)));
}

/*
 * Tagged addresses: the kernel ignores bits that the hardware ignores
 */

#ifdef __x86_64__
#define ARCH_ENABLE_TAGGED_ADDR 0x4002
#define TAG (0x15UL << 57)
#elif defined(__aarch64__)
#define TAG (0xa5UL << 56)
#endif

#ifdef TAG
static bool enable_tags(void)
{
#ifdef __x86_64__
	return !syscall(__NR_arch_prctl, ARCH_ENABLE_TAGGED_ADDR, 6UL);
#else
	return true;
#endif
}

static void *tagged(const char *p)
{
	return (void *)((unsigned long)p | TAG);
}

TEST_F(mlock_features, tagged_addresses)
{
	char *p = region(4);

	ASSERT_NE(NULL, p);
	if (!enable_tags())
		SKIP(return, "no tagged addresses");
	EXPECT_EQ(0, do_mlock(tagged(p + P(1)), P(2)));
	EXPECT_VMAS(p, 4, 3, 1, 0);
	LOCKED(p + P(1), 2);
	EXPECT_EQ(2, look(p, 4).locked);
	/* The end of the range has no tag. */
	EXPECT_EQ(0, do_mlock2(tagged(p + 1), P(3), MLOCK_ONFAULT));
	ONFAULT(p, 4);
	EXPECT_EQ(4, charged());
	EXPECT_EQ(0, do_munlock(tagged(p + P(1)), P(1)));
	EXPECT_VMAS(p, 4, 3, 2, 2);
	EXPECT_EQ(3, charged());
	EXPECT_EQ(0, do_munlock(tagged(p), P(4)));
	UNLOCKED(p, 4);

	/* Nothing is mapped there. */
	ASSERT_EQ(0, munmap(p + P(2), P(2)));
	EXPECT_EQ(-ENOMEM, do_mlock(tagged(p), P(3)));
	LOCKED(p, 2);
	EXPECT_EQ(-ENOMEM, do_munlock(tagged(p + P(2)), P(1)));
	EXPECT_EQ(0, do_munlock(tagged(p), P(2)));
	UNLOCKED(p, 2);
	EXPECT_EQ(0, charged());
}
#endif

/*
 * Soft-dirty: populating for a write counts as a write
 */

TEST_F(mlock_features, populating_is_a_write_for_soft_dirty)
{
	char *p = region(4), *q = shared_region(4);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, q);
	if (!softdirty_supported())
		SKIP(return, "no soft-dirty tracking");
	touch(p, 4);
	ASSERT_EQ(0, write_str(CLEAR_REFS, "4"));
	EXPECT_EQ(0, count_pagemap(p, 4, PM_SOFT_DIRTY));
	EXPECT_EQ(0, count_pagemap(q, 4, PM_SOFT_DIRTY));
	/* Locking on fault does not write, */
	EXPECT_EQ(0, do_mlock2(p, P(4), MLOCK_ONFAULT));
	EXPECT_EQ(0, count_pagemap(p, 4, PM_SOFT_DIRTY));
	EXPECT_EQ(4, mlocked(p, 4));
	EXPECT_EQ(0, do_munlock(p, P(4)));
	EXPECT_EQ(0, count_pagemap(p, 4, PM_SOFT_DIRTY));
	/* nor does locking shared memory. */
	EXPECT_EQ(0, do_mlock(q, P(4)));
	EXPECT_EQ(0, count_pagemap(q, 4, PM_SOFT_DIRTY));
	/* One page was written to, the others were not. */
	touch(p + P(1), 1);
	EXPECT_EQ(1, count_pagemap(p, 4, PM_SOFT_DIRTY));
	EXPECT_EQ(0, do_mlock(p, P(4)));
	EXPECT_EQ(4, count_pagemap(p, 4, PM_SOFT_DIRTY));
	EXPECT_EQ(4, mlocked(p, 4));
	EXPECT_EQ(0, do_munlock(p, P(4)));
	EXPECT_EQ(0, do_munlock(q, P(4)));
	NR_MLOCK_IS(0);
}

/*
 * NUMA balancing makes pages inaccessible for a while, to see who uses them
 */

#define NUMA_BALANCING "/proc/sys/kernel/numa_balancing"
#define HINTED 64UL

FIXTURE(mlock_numa)
{
	long was;
};

FIXTURE_SETUP(mlock_numa)
{
	self->was = read_knob(NUMA_BALANCING);
	if (geteuid())
		SKIP(return, "needs root");
	ASSERT_EQ(0, start_unlocked());
}

FIXTURE_TEARDOWN_PARENT(mlock_numa)
{
	if (self->was >= 0)
		write_ulong(NUMA_BALANCING, self->was);
}

static bool move_to_node(char *p, unsigned long pages, int node)
{
	for (unsigned long i = 0; i < pages; i++) {
		void *page = p + P(i);
		int status = -1;

		if (syscall(__NR_move_pages, 0, 1UL, &page, &node, &status,
			    MPOL_MF_MOVE) || status != node)
			return false;
	}
	return true;
}

static double seconds(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/*
 * Waits until NUMA balancing has been at all pages of this process. It scans
 * after a second or more of its CPU time, several times.
 */
static bool wait_for_scans(unsigned long pages)
{
	long before = read_vmstat("numa_pte_updates ");
	double until = seconds(CLOCK_MONOTONIC) + 300;

	while (read_vmstat("numa_pte_updates ") - before < (long)pages) {
		double busy = seconds(CLOCK_PROCESS_CPUTIME_ID) + 0.1;

		while (seconds(CLOCK_PROCESS_CPUTIME_ID) < busy)
			;
		if (seconds(CLOCK_MONOTONIC) > until)
			return false;
	}
	return true;
}

static long hint_faults(void)
{
	return read_vmstat("numa_hint_faults ");
}

TEST_F_TIMEOUT(mlock_numa, pages_that_numa_balancing_watches, 600)
{
	char *p = region(2 * HINTED), *q = shared_region(2 * HINTED);
	unsigned int cpu, node;
	long before;

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, q);
	if (self->was < 0)
		SKIP(return, "no NUMA balancing");
	if (access("/sys/devices/system/node/node1", F_OK))
		SKIP(return, "only one node");
	ASSERT_EQ(0, run_on_cpu(0));
	ASSERT_EQ(0, syscall(__NR_getcpu, &cpu, &node, NULL));
	touch(p, 2 * HINTED);
	/* Pages of the node where this process runs are left alone. */
	ASSERT_EQ(true, move_to_node(p, 2 * HINTED, !node));
	ASSERT_EQ(true, move_to_node(q, 2 * HINTED, !node));
	ASSERT_EQ(0, write_str(NUMA_BALANCING, "1"));
	if (!wait_for_scans(4 * HINTED))
		SKIP(return, "NUMA balancing has not scanned this process");
	/* Entries stay as they are from now on. */
	ASSERT_EQ(0, write_str(NUMA_BALANCING, "0"));

	/* Locking on fault leaves the entries alone. */
	before = hint_faults();
	EXPECT_EQ(0, do_mlock2(p, P(HINTED), MLOCK_ONFAULT));
	EXPECT_GT((long)HINTED, hint_faults() - before);
	EXPECT_EQ(HINTED, look(p, HINTED).locked);
	EXPECT_EQ(0, do_munlock(p, P(HINTED)));
	/* As a write, populating faults on each; */
	before = hint_faults();
	EXPECT_EQ(0, do_mlock(p, P(HINTED)));
	EXPECT_LE((long)HINTED, hint_faults() - before);
	EXPECT_EQ(HINTED, look(p, HINTED).locked);
	/* after that, the process does not. */
	before = hint_faults();
	touch(p, HINTED);
	EXPECT_GT((long)HINTED, hint_faults() - before);

	/* As a read, populating takes the page behind the entry. */
	before = hint_faults();
	EXPECT_EQ(0, do_mlock(q, P(HINTED)));
	EXPECT_GT((long)HINTED, hint_faults() - before);
	EXPECT_EQ(HINTED, look(q, HINTED).locked);
	before = hint_faults();
	touch(q, HINTED);
	EXPECT_LE((long)HINTED, hint_faults() - before);

	/* All pages were watched, or the above has proved nothing. */
	before = hint_faults();
	touch(p + P(HINTED), HINTED);
	EXPECT_LE((long)HINTED, hint_faults() - before);
	before = hint_faults();
	touch(q + P(HINTED), HINTED);
	EXPECT_LE((long)HINTED, hint_faults() - before);
	EXPECT_EQ(2 * HINTED, charged());
	EXPECT_EQ(0, do_munlock(p, P(2 * HINTED)));
	EXPECT_EQ(0, do_munlock(q, P(2 * HINTED)));
}

/*
 * Idle page tracking: populating accesses pages
 */

#define IDLE_BITMAP "/sys/kernel/mm/page_idle/bitmap"

/* Marks pages as idle, if @set. Returns how many are. */
static unsigned long idle_pages(char *p, unsigned long pages, bool set)
{
	int fd = open(IDLE_BITMAP, O_RDWR | O_CLOEXEC);
	int map = open_pagemap();
	unsigned long n = 0;

	for (unsigned long i = 0; i < pages; i++) {
		uint64_t entry, bits, bit;
		off_t at;

		read_pagemap(map, p + P(i), 1, &entry);
		bit = BIT_ULL(PAGEMAP_PFN(entry) % 64);
		at = PAGEMAP_PFN(entry) / 64 * sizeof(bits);
		if (set && pwrite(fd, &bit, sizeof(bit), at) != sizeof(bit))
			break;
		if (pread(fd, &bits, sizeof(bits), at) != sizeof(bits))
			break;
		n += !!(bits & bit);
	}
	close(map);
	close(fd);
	return n;
}

TEST_F(mlock_features, idle_pages_are_accessed_when_locked)
{
	/* The multi-gen LRU does not count this as an access. */
	unsigned long left = has_lru_gen() ? 4 : 0;
	char *p = region(4), *q = region(4);

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, q);
	if (access(IDLE_BITMAP, F_OK))
		SKIP(return, "no idle page tracking");
	touch(p, 4);
	touch(q, 4);
	/* Only pages on the LRU lists can be marked as idle. */
	ASSERT_EQ(true, drain());
	ASSERT_EQ(4, idle_pages(p, 4, true));
	ASSERT_EQ(4, idle_pages(q, 4, true));
	EXPECT_EQ(0, do_mlock(p, P(4)));
	EXPECT_EQ(left, idle_pages(p, 4, false));
	/* Locking on fault is no access. */
	EXPECT_EQ(0, do_mlock2(q, P(4), MLOCK_ONFAULT));
	EXPECT_EQ(4, idle_pages(q, 4, false));
	EXPECT_EQ(0, do_mlock(q, P(4)));
	EXPECT_EQ(left, idle_pages(q, 4, false));
	/* Nor is munlock(). */
	ASSERT_EQ(4, idle_pages(p, 4, true));
	EXPECT_EQ(0, do_munlock(p, P(4)));
	EXPECT_EQ(4, idle_pages(p, 4, false));
	EXPECT_EQ(0, do_munlock(q, P(4)));
	NR_MLOCK_IS(0);
}

TEST_F(mlock_features, some_pages_are_idle)
{
	char *p = region(6);

	ASSERT_NE(NULL, p);
	if (access(IDLE_BITMAP, F_OK))
		SKIP(return, "no idle page tracking");
	touch(p, 6);
	ASSERT_EQ(true, drain());
	ASSERT_EQ(0, write_str(CLEAR_REFS, "1"));
	ASSERT_EQ(1, idle_pages(p + P(1), 1, true));
	ASSERT_EQ(1, idle_pages(p + P(4), 1, true));
	EXPECT_EQ(0, do_mlock(p, P(6)));
	EXPECT_EQ(has_lru_gen() ? 2 : 0, idle_pages(p, 6, false));
	/* So are the pages before, between and after them. */
	EXPECT_EQ(has_lru_gen() ? 0 : 6, count_kpageflag(p, 6, KPF_REFERENCED));
	EXPECT_EQ(6, mlocked(p, 6));
	EXPECT_EQ(0, do_munlock(p, P(6)));
	NR_MLOCK_IS(0);
}

TEST_F(mlock_features, idle_huge_page_is_accessed_when_locked)
{
	unsigned long n = thp_size();
	char *p;

	if (!n)
		SKIP(return, "no transparent huge pages");
	if (access(IDLE_BITMAP, F_OK))
		SKIP(return, "no idle page tracking");
	p = thp_new(n);
	ASSERT_NE(NULL, p);
	ASSERT_EQ(true, drain());
	ASSERT_EQ(1, idle_pages(p, 1, true));
	EXPECT_EQ(0, do_mlock2(p, P(n), MLOCK_ONFAULT));
	EXPECT_EQ(1, idle_pages(p, 1, false));
	EXPECT_EQ(0, do_munlock(p, P(n)));
	EXPECT_EQ(1, idle_pages(p, 1, false));
	EXPECT_EQ(0, do_mlock(p, P(n)));
	EXPECT_EQ(0, idle_pages(p, 1, false));
	EXPECT_EQ(n, look(p, n).thp);
	EXPECT_EQ(0, do_munlock(p, P(n)));
	NR_MLOCK_IS(0);
}

/*
 * RWF_DONTCACHE: pages of a file that should not stay in the page cache
 */

/* A block device, since not all file systems support it */
FIXTURE(mlock_dontcache)
{
	struct swap disk;
	int fd;
};

FIXTURE_SETUP(mlock_dontcache)
{
	memset(self, 0, sizeof(*self));
	self->fd = -1;
	if (geteuid())
		SKIP(return, "needs root");
	ASSERT_EQ(0, start_unlocked());
}

FIXTURE_TEARDOWN(mlock_dontcache)
{
	if (self->fd >= 0)
		close(self->fd);
	swap_stop(&self->disk);
}

/*
 * Reads the first page, maps the third and fourth, which were read ahead, and
 * locks them. Returns how many of them count as referenced.
 */
static long lock_what_was_read_ahead(struct __test_metadata *_metadata, int fd,
				     int flags)
{
	char *p = hole(2), *buf = region(1);
	struct iovec iov = { .iov_base = buf, .iov_len = P(1) };
	unsigned char in_core[2];
	long referenced;

	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, buf);
	ASSERT_EQ(true, drain());
	ASSERT_EQ(0, posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	if (preadv2(fd, &iov, 1, 0, flags) != (ssize_t)P(1))
		return -errno;
	ASSERT_EQ(p, mmap(p, P(2), PROT_READ, MAP_SHARED | MAP_FIXED, fd, P(2)));
	ASSERT_EQ(0, mincore(p, P(2), in_core));
	ASSERT_EQ(2, (in_core[0] & 1) + (in_core[1] & 1));
	/* A fault maps both, and does not look them up one by one. */
	FORCE_READ(*p);
	ASSERT_EQ(2, present(p, 2));
	ASSERT_EQ(true, drain());
	EXPECT_EQ(0, count_kpageflag(p, 2, KPF_REFERENCED));
	EXPECT_EQ(0, do_mlock2(p, P(2), MLOCK_ONFAULT));
	EXPECT_EQ(0, count_kpageflag(p, 2, KPF_REFERENCED));
	EXPECT_EQ(0, do_munlock(p, P(2)));
	EXPECT_EQ(0, count_kpageflag(p, 2, KPF_REFERENCED));
	EXPECT_EQ(0, do_mlock(p, P(2)));
	EXPECT_EQ(2, mlocked(p, 2));
	EXPECT_EQ(2, unevictable(p, 2));
	referenced = count_kpageflag(p, 2, KPF_REFERENCED);
	EXPECT_EQ(0, do_munlock(p, P(2)));
	EXPECT_EQ(0, mlocked(p, 2));
	EXPECT_EQ(0, munmap(p, P(2)));
	EXPECT_EQ(0, munmap(buf, P(1)));
	return referenced;
}

TEST_F(mlock_dontcache, pages_to_drop_are_not_referenced_when_locked)
{
	const char *why = disk_start(&self->disk, 64);
	long referenced;

	if (why)
		SKIP(return, "%s", why);
	self->fd = open(self->disk.dev, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	referenced = lock_what_was_read_ahead(_metadata, self->fd, RWF_DONTCACHE);
	if (referenced == -EOPNOTSUPP)
		SKIP(return, "no RWF_DONTCACHE");
	EXPECT_EQ(0, referenced);
	/* Others are. */
	referenced = lock_what_was_read_ahead(_metadata, self->fd, 0);
	EXPECT_EQ(has_lru_gen() ? 0 : 2, referenced);
}

/*
 * Anonymous folios of each size
 */

#define FOLIOS 4UL

/* The setting for folios of a number of pages */
static const char *folio_setting(unsigned long pages)
{
	static char path[96];

	snprintf(path, sizeof(path),
		 "/sys/kernel/mm/transparent_hugepage/hugepages-%lukB/enabled",
		 pages * (psize() / 1024));
	return path;
}

/* FOLIOS folios of so many pages, or NULL if the kernel has none */
static char *map_folios(unsigned long pages)
{
	unsigned long all = FOLIOS * pages;
	char was[32], *p = NULL;

	if (!read_setting(folio_setting(pages), was, sizeof(was)))
		return NULL;
	if (!write_str(folio_setting(pages), "madvise"))
		p = region(all + pages);
	if (p) {
		p = (char *)(((unsigned long)p + P(pages) - 1) & -P(pages));
		if (madvise(p, P(all), MADV_HUGEPAGE))
			p = NULL;
		else
			touch(p, all);
	}
	write_str(folio_setting(pages), was);
	if (p && (count_kpageflag(p, all, HEAD_BIT) != FOLIOS ||
		  count_kpageflag(p, all, TAIL_BIT) != all - FOLIOS))
		p = NULL;
	return p;
}

TEST_F(mlock_features, folios_of_each_size)
{
	unsigned long most = thp_size(), sizes = 0;

	if (!most)
		SKIP(return, "no transparent huge pages");
	for (unsigned long n = 2; n < most; n *= 2) {
		unsigned long all = FOLIOS * n, half = n / 2;
		char *p = map_folios(n);

		if (!p)
			continue;
		sizes++;
		EXPECT_EQ(0, do_mlock(p, P(all)));
		NR_MLOCK_IS(all);
		EXPECT_EQ(all, mlocked(p, all));
		EXPECT_EQ(all, look(p, all).locked);
		EXPECT_EQ(0, do_munlock(p, P(all)));
		NR_MLOCK_IS(0);
		/* Only folios of which all is locked are mlocked, */
		for (int flags = 0; flags <= MLOCK_ONFAULT; flags++) {
			EXPECT_EQ(0, do_mlock2(p + P(half), P(all - n), flags));
			EXPECT_EQ(all - n, charged());
			EXPECT_EQ(all - n, look(p + P(half), all - n).locked);
			NR_MLOCK_IS(all - 2 * n);
			EXPECT_EQ(0, mlocked(p, n));
			EXPECT_EQ(all - 2 * n, mlocked(p + P(n), all - 2 * n));
			EXPECT_EQ(0, mlocked(p + P(all - n), n));
			/* and none that is no longer locked as a whole. */
			EXPECT_EQ(0, do_munlock(p + P(2 * n - 1), P(1)));
			NR_MLOCK_IS(all - 3 * n);
			EXPECT_EQ(0, mlocked(p + P(n), n));
			EXPECT_EQ(all - n - 1, charged());
			EXPECT_EQ(0, do_munlock(p, P(all)));
			NR_MLOCK_IS(0);
		}
		/* A page that is missing in the middle */
		ASSERT_EQ(0, madvise(p + P(n + half), P(1), MADV_DONTNEED));
		EXPECT_EQ(0, do_mlock(p, P(all)));
		EXPECT_EQ(all, look(p, all).locked);
		NR_MLOCK_IS(all - n + 1);
		EXPECT_EQ(0, do_munlock(p, P(all)));
		NR_MLOCK_IS(0);
		if (!__test_passed(_metadata)) {
			TH_LOG("with folios of %lu pages", n);
			break;
		}
	}
	if (!sizes)
		SKIP(return, "no anonymous folios of other sizes");
}

/*
 * Pinned pages: buffers registered with io_uring
 */

static int ring_new(void)
{
	struct io_uring_params params = { 0 };

	return neg_errno(syscall(__NR_io_uring_setup, 1, &params));
}

static long ring_pin(int fd, void *p, unsigned long pages)
{
	struct iovec iov = { .iov_base = p, .iov_len = P(pages) };

	return neg_errno(syscall(__NR_io_uring_register, fd,
				 IORING_REGISTER_BUFFERS, &iov, 1));
}

static long ring_unpin(int fd)
{
	return neg_errno(syscall(__NR_io_uring_register, fd,
				 IORING_UNREGISTER_BUFFERS, NULL, 0));
}

TEST_F(mlock_features, pinned_pages)
{
	char *p = region(4), *q = region(4);
	int ring;

	if (access("/proc/sys/kernel/io_uring_disabled", F_OK))
		SKIP(return, "no io_uring");
	ASSERT_NE(NULL, p);
	ASSERT_NE(NULL, q);
	/* Pins are counted for those who are subject to the limit. */
	ASSERT_EQ(0, drop_cap());
	ring = ring_new();
	ASSERT_LE(0, ring);
	/* But not as locked memory. */
	EXPECT_EQ(0, do_mlock(p, P(4)));
	ASSERT_EQ(0, ring_pin(ring, p, 4));
	EXPECT_EQ(4, status_pages("VmPin:"));
	EXPECT_EQ(4, charged());
	NR_MLOCK_IS(4);
	EXPECT_EQ(0, do_munlock(p, P(4)));
	EXPECT_EQ(0, mlocked(p, 4));
	EXPECT_EQ(4, present(p, 4));
	NR_MLOCK_IS(0);
	EXPECT_EQ(0, do_mlock2(p, P(4), MLOCK_ONFAULT));
	NR_MLOCK_IS(4);
	/* Pinned pages are munlocked when they are unmapped. */
	EXPECT_EQ(0, munmap(p, P(2)));
	NR_MLOCK_IS(2);
	EXPECT_EQ(0, ring_unpin(ring));
	EXPECT_EQ(0, status_pages("VmPin:"));
	EXPECT_EQ(2, mlocked(p + P(2), 2));
	EXPECT_EQ(0, do_munlock(p + P(2), P(2)));
	NR_MLOCK_IS(0);

	/* Pinning faults pages in, which are then locked. */
	EXPECT_EQ(0, do_mlock2(q, P(4), MLOCK_ONFAULT));
	EXPECT_EQ(0, present(q, 4));
	ASSERT_EQ(0, ring_pin(ring, q, 4));
	EXPECT_EQ(4, present(q, 4));
	EXPECT_EQ(4, look(q, 4).locked);
	NR_MLOCK_IS(4);
	EXPECT_EQ(0, do_munlock(q, P(4)));
	NR_MLOCK_IS(0);

	/* Locked memory has the limit to itself. */
	ASSERT_EQ(0, set_limit(P(4)));
	EXPECT_EQ(4, status_pages("VmPin:"));
	EXPECT_EQ(0, do_mlock(q, P(4)));
	EXPECT_EQ(-ENOMEM, do_mlock(p + P(2), P(1)));
	EXPECT_EQ(0, do_munlock(q, P(4)));
	ASSERT_EQ(0, regain_cap());
	EXPECT_EQ(0, ring_unpin(ring));
	EXPECT_EQ(0, close(ring));
	NR_MLOCK_IS(0);
}

/*
 * Memory failure
 */

static volatile sig_atomic_t errors;

static void count_error(int sig)
{
	(void)sig;
	errors++;
}

TEST_F(mlock_features, page_that_fails_while_locked)
{
	struct sigaction count = { .sa_handler = count_error };
	char *p = region(3);

	ASSERT_NE(NULL, p);
	ASSERT_EQ(0, sigaction(SIGBUS, &count, NULL));
	ASSERT_EQ(0, do_mlock(p, P(3)));
	NR_MLOCK_IS(3);
	if (neg_errno(madvise(p + P(1), P(1), MADV_HWPOISON)) == -EINVAL)
		SKIP(return, "no memory failure");
	EXPECT_EQ(1, errors);
	/*
	 * The page is gone. The lock and its charge stay. smaps still counts
	 * the page, since the entry in its place names it.
	 */
	EXPECT_EQ(2, present(p, 3));
	EXPECT_EQ(0, present(p + P(1), 1));
	EXPECT_EQ(2, mlocked(p, 3));
	LOCKED(p, 3);
	EXPECT_EQ(3, charged());
	NR_MLOCK_IS(2);
	/* There is nothing to lock in its place. */
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(3)));
	EXPECT_EQ(0, do_mlock2(p, P(3), MLOCK_ONFAULT));
	ONFAULT(p, 3);
	NR_MLOCK_IS(2);
	EXPECT_EQ(0, do_munlock(p, P(3)));
	UNLOCKED(p, 3);
	NR_MLOCK_IS(0);
	EXPECT_EQ(-ENOMEM, do_mlock(p, P(3)));
	LOCKED(p, 3);
	EXPECT_EQ(3, charged());
	NR_MLOCK_IS(2);
	EXPECT_EQ(1, errors);
	/* Until the entry that says so is dropped. */
	EXPECT_EQ(0, madvise(p + P(1), P(1), MADV_DONTNEED_LOCKED));
	EXPECT_EQ(0, do_mlock(p, P(3)));
	EXPECT_EQ(3, look(p, 3).locked);
	NR_MLOCK_IS(3);
	EXPECT_EQ(0, munmap(p, P(3)));
	NR_MLOCK_IS(0);
}

TEST_F(mlock_features, page_that_is_replaced_while_locked)
{
	uint64_t before, after;
	int map = open_pagemap();
	char *p = region(3);

	ASSERT_NE(NULL, p);
	ASSERT_LE(0, map);
	ASSERT_EQ(0, do_mlock(p, P(3)));
	memset(p, 'x', P(3));
	ASSERT_EQ(true, drain());
	read_pagemap(map, p + P(1), 1, &before);
	if (neg_errno(madvise(p + P(1), P(1), MADV_SOFT_OFFLINE)) == -EINVAL)
		SKIP(return, "no memory failure");
	read_pagemap(map, p + P(1), 1, &after);
	EXPECT_NE(PAGEMAP_PFN(before), PAGEMAP_PFN(after));
	EXPECT_EQ(3, present(p, 3));
	EXPECT_EQ(3, look(p, 3).locked);
	NR_MLOCK_IS(3);
	EXPECT_EQ(3, mlocked(p, 3));
	EXPECT_EQ(3, unevictable(p, 3));
	EXPECT_EQ('x', p[P(1)]);
	EXPECT_EQ(0, do_munlock(p, P(3)));
	NR_MLOCK_IS(0);
	close(map);
}

TEST_HARNESS_MAIN
