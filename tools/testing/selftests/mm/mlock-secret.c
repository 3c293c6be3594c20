// SPDX-License-Identifier: GPL-2.0
/*
 * Data in locked memory never reaches the swap device, whatever happens to that
 * memory. Each page has its own secret. The tests reclaim all that can be
 * reclaimed, and then read and search the device.
 *
 * The same secret in unlocked memory must be found on the device; otherwise the
 * test has proved nothing.
 *
 * Run as root, on an idle machine. Each test sets up a zram device for swap, a
 * cgroup to reclaim from, and the settings for large folios, and removes or
 * restores them.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include "mlock-helpers.h"
#include "mlock-swap.h"

#define KB (1UL << 10)
#define MB (1UL << 20)
#define TIMEOUT 600
#define MOST_PAGES 1024

#define THP "/sys/kernel/mm/transparent_hugepage/"
#define KHUGEPAGED THP "khugepaged/"
#define KSM "/sys/kernel/mm/ksm/"

/*
 * Areas of memory filled with secrets
 */

enum kind {
	PRIVATE_ANON,
	SHARED_ANON,
	LARGE_SHMEM,	/* folios of 64 KiB, or four pages */
	HUGE_ANON,
	HUGE_SHMEM,
};

#define WORDS 8		/* of 64 bits, in each block */

struct area {
	char *p;
	unsigned long pages;
	unsigned long same;	/* pages in a row that share a secret */
	uint64_t key[2];
	/* What the last search found, by the first page with that secret. */
	bool found[MOST_PAGES];
};

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

/*
 * The first word of a block identifies its page. Words are computed again each
 * time, so that unlocked memory never holds a whole secret.
 */
static uint64_t word(const struct area *a, unsigned long page, unsigned int i)
{
	page -= page % a->same;
	if (!i)
		return a->key[0] + page;
	return mix(a->key[1] ^ mix(page * WORDS + i));
}

static void write_secret(const struct area *a, unsigned long page)
{
	volatile uint64_t *p = (void *)(a->p + P(page));

	for (unsigned int i = 0; i < WORDS; i++)
		p[i] = word(a, page, i);
	for (unsigned int i = WORDS; i < psize() / sizeof(*p); i++)
		p[i] = p[i - WORDS];
}

static bool is_secret(const struct area *a, unsigned long page, const volatile uint64_t *p)
{
	for (unsigned int i = 0; i < WORDS; i++) {
		if (p[i] != word(a, page, i))
			return false;
	}
	return true;
}

static void area_fill(const struct area *a)
{
	for (unsigned long i = 0; i < a->pages; i++)
		write_secret(a, i);
}

/* Counts the pages of a part without their secret. Faults in missing pages. */
static unsigned long broken(const struct area *a, unsigned long from, unsigned long nr)
{
	unsigned long n = 0;

	for (unsigned long i = from; i < from + nr; i++)
		n += !is_secret(a, i, (void *)(a->p + P(i)));
	return n;
}

/* Counts the pages of a part that the last search found. */
static unsigned long found(const struct area *a, unsigned long from, unsigned long nr)
{
	unsigned long n = 0;

	for (unsigned long i = from; i < from + nr; i++)
		n += a->found[i - i % a->same];
	return n;
}

/*
 * Settings for large folios
 */

static unsigned long huge_size(void)
{
	long size = find_number(THP "hpage_pmd_size", "");

	return size > 0 ? size : 0;
}

struct setting {
	char path[96];
	char was[32];
};

/*
 * The stage
 */

FIXTURE(mlock_secret)
{
	struct swap swap;
	struct group group;
	struct setting setting[4];	/* that were changed */
	unsigned int settings;
	unsigned long align;		/* of an area */
	unsigned long pages;		/* of an area */
	unsigned long unit;		/* pages of a folio, or of some */
	long mlocked;			/* on the machine */
};

FIXTURE_VARIANT(mlock_secret)
{
	enum kind kind;
};

#define VARIANT(name, kind_)						\
FIXTURE_VARIANT_ADD(mlock_secret, name)					\
{									\
	.kind = kind_,							\
}

VARIANT(private_anon, PRIVATE_ANON);
VARIANT(shared_anon, SHARED_ANON);
VARIANT(large_shmem, LARGE_SHMEM);
VARIANT(huge_anon, HUGE_ANON);
VARIANT(huge_shmem, HUGE_SHMEM);

static long count_mlocked(void)
{
	if (!drain())
		return -1;
	return find_pages("/proc/meminfo", "Mlocked:");
}

static bool is_huge(enum kind kind)
{
	return kind == HUGE_ANON || kind == HUGE_SHMEM;
}

static bool is_large(enum kind kind)
{
	return is_huge(kind) || kind == LARGE_SHMEM;
}

static bool is_shared(enum kind kind)
{
	return kind == SHARED_ANON || kind == LARGE_SHMEM || kind == HUGE_SHMEM;
}

/* Until the end of the test. */
static bool set(FIXTURE_DATA(mlock_secret) *self, const char *path, const char *val)
{
	struct setting *s = &self->setting[self->settings];

	if (self->settings == ARRAY_SIZE(self->setting) ||
	    strlen(path) >= sizeof(s->path))
		return false;
	strcpy(s->path, path);
	if (!read_setting(path, s->was, sizeof(s->was)))
		return false;
	self->settings++;
	return !write_str(path, val);
}

static bool set_shmem(FIXTURE_DATA(mlock_secret) *self, unsigned long size)
{
	char path[96];

	snprintf(path, sizeof(path), THP "hugepages-%lukB/shmem_enabled", size / KB);
	return set(self, path, "always");
}

FIXTURE_SETUP(mlock_secret)
{
	unsigned long huge = huge_size(), folio = 64 * KB;
	const char *why;

	memset(self, 0, sizeof(*self));
	if (geteuid())
		SKIP(return, "needs root");
	/* Ask drop_caches not to log each call. */
	write_str("/proc/sys/vm/drop_caches", "4");
	self->align = huge && huge <= 4 * MB ? huge : 2 * MB;
	self->pages = self->align / psize() > 256 ? self->align / psize() : 256;
	if (self->pages > MOST_PAGES)
		SKIP(return, "more memory than this test wants to fill");
	if (is_large(variant->kind) && !huge)
		SKIP(return, "no transparent huge pages");
	if (folio < 4 * psize())
		folio = 4 * psize();
	if (is_huge(variant->kind)) {
		if (huge != self->align)
			SKIP(return, "more memory than this test wants to fill");
		folio = huge;
	}
	self->unit = is_large(variant->kind) ? folio / psize() : 16;
	ASSERT_EQ(0, set_limit(RLIM_INFINITY));
	self->mlocked = count_mlocked();
	ASSERT_LE(0, self->mlocked);
	why = swap_start(&self->swap, 4 * self->pages);
	if (why)
		SKIP(return, "%s", why);
	why = group_start(&self->group, 512 * MB / psize());
	if (why) {
		swap_stop(&self->swap);
		SKIP(return, "%s", why);
	}
	write_str("/proc/sys/vm/compact_memory", "1");
	if (variant->kind == HUGE_ANON)
		ASSERT_EQ(true, set(self, THP "enabled", "always"));
	if (is_large(variant->kind) && is_shared(variant->kind))
		ASSERT_EQ(true, set_shmem(self, folio));
}

FIXTURE_TEARDOWN_PARENT(mlock_secret)
{
	while (self->settings--)
		write_str(self->setting[self->settings].path,
			  self->setting[self->settings].was);
	group_stop(&self->group);
	swap_stop(&self->swap);
}

/* A free, aligned address range between PROT_NONE mappings. */
static char *reserve(unsigned long pages, unsigned long align)
{
	unsigned long len = P(pages) + 2 * align;
	char *all = mmap(NULL, len, PROT_NONE, ANON | MAP_NORESERVE, -1, 0);

	if (all == MAP_FAILED)
		return NULL;
	return (char *)(((unsigned long)all + align) & ~(align - 1));
}

/* Nothing of it is faulted in. */
static bool area_map(struct area *a, enum kind kind, unsigned long pages,
		     unsigned long align)
{
	int fd = -1, flags = is_shared(kind) ? MAP_SHARED : MAP_PRIVATE;
	char *p = reserve(pages, align);

	*a = (struct area){ .pages = pages, .same = 1 };
	if (!p || getrandom(a->key, sizeof(a->key), 0) != sizeof(a->key))
		return false;
	if (kind == LARGE_SHMEM || kind == HUGE_SHMEM) {
		fd = memfd_create("mlock-secret", MFD_CLOEXEC);
		if (fd < 0 || ftruncate(fd, P(pages)))
			return false;
	} else {
		flags |= MAP_ANONYMOUS;
	}
	a->p = mmap(p, P(pages), RW, flags | MAP_FIXED, fd, 0);
	if (fd >= 0)
		close(fd);
	if (a->p == MAP_FAILED)
		return false;
	if (!is_large(kind))
		madvise(a->p, P(pages), MADV_NOHUGEPAGE);
	return true;
}

/* Whether the area consists of folios of the expected size. */
static bool in_folios(const struct area *a, unsigned long unit)
{
	unsigned long heads = count_kpageflag(a->p, a->pages, HEAD_BIT);
	unsigned long tails = count_kpageflag(a->p, a->pages, TAIL_BIT);

	return heads == a->pages / unit && heads + tails == a->pages;
}

/*
 * Pressure
 */

static void reclaim(const struct group *g, const struct area *victim, int rounds)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/memory.reclaim", g->path);
	/* This always fails in the end, for there is not as much to reclaim. */
	for (int i = 0; i < rounds; i++) {
		madvise(victim->p, P(victim->pages), MADV_COLD);
		if (write_str(path, "256M swappiness=200") == -EINVAL)
			write_str(path, "256M");
	}
}

/* Reclaims all that can be reclaimed. Returns whether the victim is gone. */
static bool squeeze(const struct group *g, const struct area *victim)
{
	bool gone = false;

	for (int i = 0; !gone && i < 30; i++) {
		reclaim(g, victim, 1);
		gone = !present(victim->p, victim->pages);
	}
	reclaim(g, victim, 3);
	return gone;
}

/*
 * Searches all blocks of the device, bypassing the page cache. The buffer may
 * receive secrets, so it is locked, and erased before it is unmapped.
 */
#define CHUNK (256 * KB)

static bool search(const struct swap *s, struct area **area, unsigned int nr)
{
	int fd = open(s->dev, O_RDONLY | O_DIRECT | O_CLOEXEC);
	uint64_t *buf = mmap(NULL, CHUNK, RW, ANON, -1, 0);
	ssize_t got = -1;
	size_t sum = 0;

	if (fd < 0 || buf == MAP_FAILED || do_mlock(buf, CHUNK))
		return false;
	for (unsigned int i = 0; i < nr; i++)
		memset(area[i]->found, 0, sizeof(area[i]->found));
	while ((got = read(fd, buf, CHUNK)) > 0) {
		sum += got;
		for (size_t at = 0; at < got / sizeof(*buf); at += WORDS) {
			for (unsigned int i = 0; i < nr; i++) {
				uint64_t page = buf[at] - area[i]->key[0];

				if (page < area[i]->pages &&
				    is_secret(area[i], page, buf + at))
					area[i]->found[page] = true;
			}
		}
	}
	memset(buf, 0, CHUNK);
	munmap(buf, CHUNK);
	close(fd);
	return !got && sum == P(s->pages);
}

/*
 * Building blocks of the tests. Two areas have the same history, except that
 * only one is locked, before its secrets are written.
 */

struct areas {
	struct area plain, locked;
};

enum way {
	MLOCK,
	ONFAULT,
	MLOCKALL,
};

#define MAKE_PAIR(both, way_) do {					\
	struct areas *p_ = (both);					\
	enum way w_ = (way_);						\
									\
	ASSERT_EQ(true, area_map(&p_->plain, variant->kind, self->pages, self->align)); \
	area_fill(&p_->plain);						\
	if (w_ == MLOCKALL)						\
		ASSERT_EQ(0, do_mlockall(MCL_FUTURE));			\
	ASSERT_EQ(true, area_map(&p_->locked, variant->kind, self->pages, self->align)); \
	if (w_ == MLOCK)						\
		ASSERT_EQ(0, do_mlock(p_->locked.p, P(self->pages)));	\
	if (w_ == ONFAULT)						\
		ASSERT_EQ(0, do_mlock2(p_->locked.p, P(self->pages), MLOCK_ONFAULT)); \
	area_fill(&p_->locked);						\
	ASSERT_EQ(0, broken(&p_->locked, 0, self->pages));		\
	if (is_large(variant->kind)) {					\
		ASSERT_EQ(true, in_folios(&p_->plain, self->unit));	\
		ASSERT_EQ(true, in_folios(&p_->locked, self->unit));	\
	}								\
} while (0)

#define SQUEEZE(both) do {						\
	struct area *a_[] = { &(both)->plain, &(both)->locked };	\
									\
	EXPECT_EQ(true, squeeze(&self->group, a_[0]));			\
	ASSERT_EQ(true, search(&self->swap, a_, ARRAY_SIZE(a_)));	\
	/* Some may be in the swap cache. */				\
	EXPECT_LT(a_[0]->pages / 2, found(a_[0], 0, a_[0]->pages));	\
} while (0)

/* A part that was always locked is present, and was never swapped out. */
#define EXPECT_KEPT(kept, from, nr) do {				\
	struct area *k_ = (kept);					\
	unsigned long f_ = (from), n_ = (nr);				\
									\
	EXPECT_EQ(0, found(k_, f_, n_));				\
	EXPECT_EQ(n_, present(k_->p + P(f_), n_));			\
	EXPECT_EQ(0, broken(k_, f_, n_));				\
} while (0)

/* Runs code in a child process in the group. */
#define IN_GROUP(...)							\
do {									\
	pid_t pid_ = fork();						\
									\
	if (!pid_) {							\
		struct areas pair;					\
									\
		ASSERT_EQ(0, group_join(&self->group));			\
		__VA_ARGS__						\
		CHILD_DONE();						\
	}								\
	REAP(pid_);							\
	/* What is mapped nowhere is not mlocked. */			\
	EXPECT_EQ(self->mlocked, count_mlocked());			\
} while (0)

#define LOCKED_BY(way)							\
IN_GROUP({								\
	MAKE_PAIR(&pair, way);						\
	SQUEEZE(&pair);							\
	EXPECT_KEPT(&pair.locked, 0, self->pages);			\
})

TEST_F_TIMEOUT(mlock_secret, locked_by_mlock, TIMEOUT)
{
	LOCKED_BY(MLOCK);
}

TEST_F_TIMEOUT(mlock_secret, locked_on_fault, TIMEOUT)
{
	LOCKED_BY(ONFAULT);
}

TEST_F_TIMEOUT(mlock_secret, locked_by_mlockall, TIMEOUT)
{
	LOCKED_BY(MLOCKALL);
}

/*
 * A child inherits no locks. A page that it writes to becomes its own copy,
 * which it overwrites at once; it maps the other pages during reclaim.
 */
TEST_F_TIMEOUT(mlock_secret, forked, TIMEOUT)
{
	IN_GROUP({
		int ready[2], go[2];
		pid_t pid;
		char c;

		MAKE_PAIR(&pair, MLOCK);
		ASSERT_EQ(0, pipe(ready));
		ASSERT_EQ(0, pipe(go));
		pid = fork();
		if (!pid) {
			munmap(pair.plain.p, P(self->pages));
			if (!is_shared(variant->kind)) {
				for (unsigned long i = 0; i < self->pages; i += 2)
					memset(pair.locked.p + P(i), 1, P(1));
			}
			ASSERT_EQ(1, write(ready[1], "", 1));
			close(go[1]);
			ASSERT_EQ(1, read(go[0], &c, 1));
			CHILD_DONE();
		}
		close(ready[1]);
		EXPECT_EQ(1, read(ready[0], &c, 1));
		SQUEEZE(&pair);
		EXPECT_KEPT(&pair.locked, 0, self->pages);
		EXPECT_EQ(1, write(go[1], "", 1));
		REAP(pid);
		/* And when it is gone. */
		SQUEEZE(&pair);
		EXPECT_KEPT(&pair.locked, 0, self->pages);
	});
}

static bool move(struct area *a, unsigned long from, unsigned long nr, char *to)
{
	return mremap(a->p + P(from), P(nr), P(nr), MREMAP_MAYMOVE | MREMAP_FIXED,
		      to) == to;
}

TEST_F_TIMEOUT(mlock_secret, moved, TIMEOUT)
{
	IN_GROUP({
		char *to = reserve(self->pages, self->align);

		MAKE_PAIR(&pair, MLOCK);
		ASSERT_NE(NULL, to);
		ASSERT_EQ(true, move(&pair.locked, 0, self->pages, to));
		pair.locked.p = to;
		SQUEEZE(&pair);
		EXPECT_KEPT(&pair.locked, 0, self->pages);
	});
}

/* Moves a part to an address where folios are misaligned; the rest stays. */
TEST_F_TIMEOUT(mlock_secret, moved_in_part, TIMEOUT)
{
	unsigned long from = self->unit / 2 + 1, nr = self->pages / 4 + 1;

	IN_GROUP({
		char *to = reserve(self->pages, self->align);

		MAKE_PAIR(&pair, MLOCK);
		ASSERT_NE(NULL, to);
		ASSERT_EQ(true, move(&pair.locked, from, nr, to + P(from + 2)));
		SQUEEZE(&pair);
		EXPECT_KEPT(&pair.locked, 0, from);
		EXPECT_KEPT(&pair.locked, from + nr, self->pages - from - nr);
		EXPECT_EQ(0, found(&pair.locked, from, nr));
		EXPECT_EQ(nr, present(to + P(from + 2), nr));
	});
}

/* The second quarter of each folio stays locked. */
#define NEIGHBOURS(way_of_it)						\
IN_GROUP({								\
	unsigned long part = self->unit / 4;				\
	char *p;							\
									\
	MAKE_PAIR(&pair, MLOCK);					\
	for (unsigned long i = 0; i < self->pages; i += self->unit) {	\
		p = pair.locked.p + P(i);				\
		EXPECT_EQ(0, do_munlock(p, P(part)));			\
		EXPECT_EQ(0, do_munlock(p + P(2 * part),		\
					P(self->unit - 2 * part)));	\
	}								\
	for (unsigned long i = 0; i < self->pages; i += self->unit) {	\
		p = pair.locked.p + P(i);				\
		way_of_it(p, part);					\
		way_of_it(p + P(2 * part), self->unit - 2 * part);	\
	}								\
	SQUEEZE(&pair);							\
	for (unsigned long i = 0; i < self->pages; i += self->unit)	\
		EXPECT_KEPT(&pair.locked, i + part, part);			\
})

TEST_F_TIMEOUT(mlock_secret, neighbours_paged_out, TIMEOUT)
{
#define PAGE_OUT(p, nr) EXPECT_EQ(0, madvise(p, P(nr), MADV_PAGEOUT))
	NEIGHBOURS(PAGE_OUT);
}

TEST_F_TIMEOUT(mlock_secret, neighbours_unlocked, TIMEOUT)
{
#define LEAVE(p, nr) ((void)(p))
	NEIGHBOURS(LEAVE);
}

TEST_F_TIMEOUT(mlock_secret, neighbours_unmapped, TIMEOUT)
{
#define UNMAP(p, nr) EXPECT_EQ(0, munmap(p, P(nr)))
	NEIGHBOURS(UNMAP);
}

/* Changes a page in the middle of each folio; the other pages stay. */
#define ONE_OF_EACH(way_of_it)						\
IN_GROUP({								\
	unsigned long at = self->unit / 2 - 1;				\
									\
	MAKE_PAIR(&pair, MLOCK);					\
	for (unsigned long i = 0; i < self->pages; i += self->unit)	\
		EXPECT_EQ(0, way_of_it(pair.locked.p + P(i + at)));	\
	SQUEEZE(&pair);							\
	for (unsigned long i = 0; i < self->pages; i += self->unit) {	\
		EXPECT_KEPT(&pair.locked, i, at);				\
		EXPECT_KEPT(&pair.locked, i + at + 1, self->unit - at - 1);	\
	}								\
})

#define DROP(p) madvise(p, P(1), MADV_DONTNEED_LOCKED)

/*
 * Punches a page out of the file through a second mapping, since a locked
 * mapping refuses that.
 */
static int remove_page(char *p)
{
	char *q = mremap(p, 0, P(1), MREMAP_MAYMOVE);
	int ret;

	if (q == MAP_FAILED || do_munlock(q, P(1)))
		return -1;
	ret = madvise(q, P(1), MADV_REMOVE);
	munmap(q, P(1));
	return ret;
}

TEST_F_TIMEOUT(mlock_secret, one_dropped, TIMEOUT)
{
	ONE_OF_EACH(DROP);
}

TEST_F_TIMEOUT(mlock_secret, one_removed, TIMEOUT)
{
	if (is_shared(variant->kind))
		ONE_OF_EACH(remove_page);
	else
		ONE_OF_EACH(DROP);
}

TEST_F_TIMEOUT(mlock_secret, one_unmapped, TIMEOUT)
{
#define UNMAP_ONE(p) munmap(p, P(1))
	ONE_OF_EACH(UNMAP_ONE);
}

TEST_F_TIMEOUT(mlock_secret, one_unlocked, TIMEOUT)
{
#define UNLOCK_ONE(p) do_munlock(p, P(1))
	ONE_OF_EACH(UNLOCK_ONE);
}

TEST_F_TIMEOUT(mlock_secret, one_read_only, TIMEOUT)
{
#define PROTECT_ONE(p) mprotect(p, P(1), PROT_READ)
	ONE_OF_EACH(PROTECT_ONE);
}

/* Of which each area is one */
#define NEEDS_HUGE_PAGES() do {						\
	if (!huge_size())						\
		SKIP(return, "no transparent huge pages");		\
	if (huge_size() != self->align)					\
		SKIP(return, "more memory than this test wants to fill"); \
} while (0)

TEST_F_TIMEOUT(mlock_secret, collapsed, TIMEOUT)
{
	NEEDS_HUGE_PAGES();
	IN_GROUP({
		MAKE_PAIR(&pair, MLOCK);
		ASSERT_EQ(0, madvise(pair.locked.p, P(self->pages), MADV_HUGEPAGE));
		ASSERT_EQ(0, madvise(pair.locked.p, P(self->pages), MADV_COLLAPSE));
		ASSERT_EQ(true, in_folios(&pair.locked, self->align / psize()));
		SQUEEZE(&pair);
		EXPECT_KEPT(&pair.locked, 0, self->pages);
	});
}

/*
 * Not about locks: data written through PTEs, to pages that a read fault
 * mapped, must reach the swap device even if a huge page replaces the PTEs.
 */
TEST_F_TIMEOUT(mlock_secret, collapsed_when_dirty, TIMEOUT)
{
	NEEDS_HUGE_PAGES();
	IN_GROUP({
		struct area *a = &pair.plain;

		ASSERT_EQ(true, area_map(a, variant->kind, self->pages, self->align));
		FORCE_READ(a->p[0]);
		ASSERT_EQ(0, mprotect(a->p, P(1), PROT_READ));
		for (unsigned long i = 0; i < a->pages; i++)
			FORCE_READ(a->p[P(i)]);
		ASSERT_EQ(0, mprotect(a->p, P(1), RW));
		area_fill(a);
		if (!is_large(variant->kind)) {
			ASSERT_EQ(0, madvise(a->p, P(a->pages), MADV_HUGEPAGE));
		}
		ASSERT_EQ(0, madvise(a->p, P(a->pages), MADV_COLLAPSE));
		EXPECT_EQ(true, squeeze(&self->group, a));
		EXPECT_EQ(0, broken(a, 0, a->pages));
	});
}

/*
 * Waits until the plain area consists of huge pages, and khugepaged has scanned
 * everything twice.
 */
static bool wait_for_khugepaged(const struct areas *both)
{
	long end = find_number(KHUGEPAGED "full_scans", "") + 2;

	for (int ms = 0; ms < TIMEOUT / 4 * 1000; ms += 10) {
		/* An access maps the huge page of a file. */
		broken(&both->plain, 0, both->plain.pages);
		if (in_folios(&both->plain, huge_size() / psize()) &&
		    find_number(KHUGEPAGED "full_scans", "") >= end)
			return true;
		usleep(10000);
	}
	return false;
}

TEST_F_TIMEOUT(mlock_secret, khugepaged, TIMEOUT)
{
	unsigned long huge = huge_size();

	NEEDS_HUGE_PAGES();
	IN_GROUP({
		MAKE_PAIR(&pair, MLOCK);
		/* Let PTEs map a huge page, too. */
		ASSERT_EQ(0, do_munlock(pair.locked.p, P(1)));
		ASSERT_EQ(0, do_mlock(pair.locked.p, P(1)));
		if (is_shared(variant->kind) && !is_huge(variant->kind)) {
			ASSERT_EQ(true, set_shmem(self, huge));
		} else if (variant->kind == PRIVATE_ANON) {
			ASSERT_EQ(true, set(self, THP "enabled", "madvise"));
		}
		ASSERT_EQ(true, set(self, KHUGEPAGED "alloc_sleep_millisecs", "1"));
		ASSERT_EQ(true, set(self, KHUGEPAGED "scan_sleep_millisecs", "1"));
		ASSERT_EQ(0, madvise(pair.locked.p, P(self->pages), MADV_HUGEPAGE));
		ASSERT_EQ(0, madvise(pair.plain.p, P(self->pages), MADV_HUGEPAGE));
		EXPECT_EQ(true, wait_for_khugepaged(&pair));
		SQUEEZE(&pair);
		EXPECT_KEPT(&pair.locked, 0, self->pages);
		/* The pages are still dirty, and can be swapped out. */
		ASSERT_EQ(0, do_munlock(pair.locked.p, P(self->pages)));
		EXPECT_EQ(true, squeeze(&self->group, &pair.locked));
		EXPECT_EQ(0, broken(&pair.locked, 0, self->pages));
	});
}

/* Whether KSM has merged that many pairs of pages. */
static bool wait_for_ksm(unsigned long pairs)
{
	for (int ms = 0; ms < TIMEOUT / 4 * 1000; ms += 10) {
		if (find_number(KSM "pages_sharing", "") == (long)pairs)
			return true;
		usleep(10000);
	}
	return false;
}

/* Pairs of locked pages with the same secret are merged if they are private. */
TEST_F_TIMEOUT(mlock_secret, merged, TIMEOUT)
{
	unsigned long pairs = is_shared(variant->kind) ? 0 : self->pages / 2;

	IN_GROUP({
		struct area *a = &pair.locked;

		MAKE_PAIR(&pair, MLOCK);
		ASSERT_EQ(0, find_number(KSM "pages_sharing", ""));
		a->same = 2;
		area_fill(a);
		ASSERT_EQ(true, set(self, KSM "pages_to_scan", "4096"));
		ASSERT_EQ(true, set(self, KSM "sleep_millisecs", "1"));
		ASSERT_EQ(0, madvise(a->p, P(a->pages), MADV_MERGEABLE));
		ASSERT_EQ(true, set(self, KSM "run", "1"));
		EXPECT_EQ(true, wait_for_ksm(pairs));
		SQUEEZE(&pair);
		EXPECT_KEPT(a, 0, self->pages);
		/* And two again. */
		EXPECT_EQ(0, write_str(KSM "run", "2"));
		EXPECT_EQ(0, find_number(KSM "pages_sharing", ""));
		SQUEEZE(&pair);
		EXPECT_KEPT(a, 0, self->pages);
	});
}

/*
 * Returns whether all pages are on the node now. When one page of a folio moves
 * the folio, move_pages() reports its other pages as busy, once.
 */
static bool move_to_node(const struct area *a, int node, int tries)
{
	int nodes[MOST_PAGES], status[MOST_PAGES];
	void *page[MOST_PAGES];
	unsigned long there;

	for (unsigned long i = 0; i < a->pages; i++) {
		page[i] = a->p + P(i);
		nodes[i] = node;
	}
	while (tries--) {
		if (syscall(__NR_move_pages, 0, a->pages, page, nodes, status,
			    MPOL_MF_MOVE) < 0)
			return false;
		there = 0;
		for (unsigned long i = 0; i < a->pages; i++)
			there += status[i] == node;
		if (there == a->pages)
			return true;
		usleep(1000);
	}
	return false;
}

/* To the other node if there is one, otherwise within the node. */
TEST_F_TIMEOUT(mlock_secret, migrated, TIMEOUT)
{
	IN_GROUP({
		MAKE_PAIR(&pair, MLOCK);
		for (int i = 1; i >= 0; i--) {
			if (!access("/sys/devices/system/node/node1", F_OK)) {
				EXPECT_EQ(true, move_to_node(&pair.locked, i, 1000));
			} else {
				write_str("/proc/sys/vm/compact_memory", "1");
			}
			reclaim(&self->group, &pair.plain, 1);
		}
		SQUEEZE(&pair);
		EXPECT_KEPT(&pair.locked, 0, self->pages);
	});
}

/* A page with an extra reference cannot be migrated, and is mapped again. */
TEST_F_TIMEOUT(mlock_secret, migration_fails, TIMEOUT)
{
	IN_GROUP({
		struct iovec iov;
		int pipes[2];
		unsigned long nr;

		MAKE_PAIR(&pair, MLOCK);
		ASSERT_EQ(0, pipe(pipes));
		nr = fcntl(pipes[1], F_SETPIPE_SZ, MB) / psize();
		ASSERT_LE(4, nr);
		/* Every fourth page, so one page of each folio. */
		for (unsigned long i = 0; i < nr && 4 * i < self->pages; i++) {
			iov.iov_base = pair.locked.p + P(4 * i);
			iov.iov_len = P(1);
			ASSERT_EQ(P(1), vmsplice(pipes[1], &iov, 1, 0));
		}
		if (!access("/sys/devices/system/node/node1", F_OK)) {
			/* It is on one of them already. */
			bool first = move_to_node(&pair.locked, 0, 3);

			EXPECT_EQ(false, first && move_to_node(&pair.locked, 1, 3));
		}
		write_str("/proc/sys/vm/compact_memory", "1");
		SQUEEZE(&pair);
		EXPECT_KEPT(&pair.locked, 0, self->pages);
	});
}

TEST_HARNESS_MAIN
