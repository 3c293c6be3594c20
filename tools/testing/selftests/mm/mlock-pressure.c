// SPDX-License-Identifier: GPL-2.0
/*
 * The purpose of mlock(): locked memory stays resident whatever happens, and
 * memory that is no longer locked can be reclaimed again. The tests use memory
 * pressure with swap, migration, concurrent faults and locks in many threads,
 * and CPU hotplug.
 *
 * Run as root, on an idle machine: the tests compare global counters, and one
 * test fills all memory. Each test sets up a zram device for swap and removes
 * it again.
 *
 * Results do not depend on time: each thread runs a fixed number of rounds, and
 * pressure continues until unlocked memory is reclaimed.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/mman.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>
#include "mlock-helpers.h"
#include "mlock-swap.h"

#define MB (1UL << 20)

/*
 * Emulated machines are slow, especially on a busy host; a test that hangs is
 * still detected.
 */
#define TIMEOUT 600

/* The most memory that one process fills, in bytes. */
#define MOST_MEMORY ((sizeof(long) == 8 ? 4095 : 2048) * MB)

static long meminfo(const char *key)
{
	return find_pages("/proc/meminfo", key);
}

static long vm_swap(void)
{
	return status_pages("VmSwap:");
}

/* One of the CPUs, or -1. */
static int some_cpu(unsigned int n)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) || !CPU_COUNT(&set))
		return -1;
	n %= CPU_COUNT(&set);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, &set) && !n--)
			return cpu;
	}
	return -1;
}

/* Counts the pages that mincore() reports as resident. */
static unsigned long in_core(char *addr, unsigned long pages)
{
	unsigned char vec[256];
	unsigned long n = 0;

	for (unsigned long i = 0; i < pages; i += sizeof(vec)) {
		unsigned long len = pages - i;

		if (len > sizeof(vec))
			len = sizeof(vec);
		if (mincore(addr + P(i), P(len), vec))
			return 0;
		for (unsigned long j = 0; j < len; j++)
			n += vec[j] & 1;
	}
	return n;
}

/*
 * The counters of the machine
 */

/* All in pages. */
struct counters {
	long nr_mlock;
	long mlocked;
	long nr_unevictable;
	long unevictable;
};

static struct counters count(void)
{
	struct counters c = { .nr_mlock = -1 };

	if (!drain())
		return c;
	c.nr_mlock = read_vmstat("nr_mlock ");
	c.mlocked = meminfo("Mlocked:");
	c.nr_unevictable = read_vmstat("nr_unevictable ");
	c.unevictable = meminfo("Unevictable:");
	return c;
}

static struct counters baseline(void)
{
	/* Ask drop_caches not to log each call. */
	write_str("/proc/sys/vm/drop_caches", "4");
	count();
	return count();
}

#define EXPECT_BASELINE(base) do {					\
	struct counters now_ = count();					\
									\
	EXPECT_EQ((base).nr_mlock, now_.nr_mlock);			\
	EXPECT_EQ((base).mlocked, now_.mlocked);			\
	EXPECT_EQ((base).nr_unevictable, now_.nr_unevictable);		\
	EXPECT_EQ((base).unevictable, now_.unevictable);		\
} while (0)

/*
 * Areas of memory with known contents
 */

enum kind {
	PRIVATE_ANON,
	SHARED_TMPFS,
	PRIVATE_TMPFS,
};

struct area {
	char *p;
	unsigned long pages;
	enum kind kind;
	unsigned int seed;
};

/* Small enough to compress well, and different for each page. */
#define WORDS 8

static unsigned int word(unsigned int seed, unsigned long page, unsigned int i)
{
	return (seed + page * WORDS + i) * 2654435761U ^ seed;
}

static void stamp_page(char *addr, unsigned int seed, unsigned long page)
{
	volatile unsigned int *p = (void *)addr;

	for (unsigned int i = 0; i < WORDS; i++)
		p[i] = word(seed, page, i);
	p[psize() / sizeof(*p) - 1] = word(seed, page, WORDS);
}

static bool page_is(char *addr, unsigned int seed, unsigned long page)
{
	volatile unsigned int *p = (void *)addr;

	for (unsigned int i = 0; i < WORDS; i++) {
		if (p[i] != word(seed, page, i))
			return false;
	}
	return p[psize() / sizeof(*p) - 1] == word(seed, page, WORDS);
}

static int tmpfs_file(unsigned long pages)
{
	char path[] = "/tmp/mlock-pressure-XXXXXX";
	struct statfs fs;
	int fd = mkstemp(path);

	if (fd >= 0)
		unlink(path);
	if (fd < 0 || fstatfs(fd, &fs) || fs.f_type != TMPFS_MAGIC) {
		if (fd >= 0)
			close(fd);
		fd = memfd_create("mlock-pressure", MFD_CLOEXEC);
	}
	if (fd >= 0 && ftruncate(fd, P(pages))) {
		close(fd);
		return -1;
	}
	return fd;
}

/*
 * Writes without a mapping, since mlockall() would lock a mapping as well. Its
 * mlocks could then be pending on one CPU while another munlocks and mlocks the
 * pages again.
 */
static bool file_stamp(int fd, unsigned int seed, unsigned long pages)
{
	char *page = calloc(1, psize());
	unsigned long i = 0;

	for (; page && i < pages; i++) {
		stamp_page(page, seed, i);
		if (pwrite(fd, page, psize(), P(i)) != (ssize_t)psize())
			break;
	}
	free(page);
	return i == pages;
}

/* In private file mappings, write to every other page. */
static bool is_written(const struct area *a, unsigned long page)
{
	return a->kind != PRIVATE_TMPFS || page % 2;
}

/* What a page of the area must contain. */
static unsigned int page_seed(const struct area *a, unsigned long page)
{
	return a->seed + (a->kind == PRIVATE_TMPFS && page % 2);
}

/*
 * Maps an area with a PROT_NONE page on either side, so that it does not merge
 * with a neighbour. Faults in nothing.
 */
static bool area_map(struct area *a, enum kind kind, unsigned long pages)
{
	static unsigned int seed;
	int fd = -1, flags = ANON;
	char *p;

	*a = (struct area){ .pages = pages, .kind = kind, .seed = seed += 1000 };
	if (kind != PRIVATE_ANON) {
		fd = tmpfs_file(pages);
		if (fd < 0)
			return false;
		flags = kind == SHARED_TMPFS ? MAP_SHARED : MAP_PRIVATE;
	}
	if (kind == PRIVATE_TMPFS && !file_stamp(fd, a->seed, pages))
		goto fail;
	p = hole(pages);
	if (!p || mmap(p, P(pages), RW, flags | MAP_FIXED, fd, 0) == MAP_FAILED)
		goto fail;
	if (fd >= 0)
		close(fd);
	/* The tests count single pages. */
	madvise(p, P(pages), MADV_NOHUGEPAGE);
	a->p = p;
	return true;
fail:
	if (fd >= 0)
		close(fd);
	return false;
}

static int area_unmap(struct area *a)
{
	return munmap(a->p - P(1), P(a->pages + 2));
}

static void area_touch(const struct area *a)
{
	for (unsigned long i = 0; i < a->pages; i++) {
		if (is_written(a, i))
			stamp_page(a->p + P(i), page_seed(a, i), i);
		else
			FORCE_READ(a->p[P(i)]);
	}
}

/* Counts the pages with wrong contents. */
static unsigned long area_broken(const struct area *a)
{
	unsigned long n = 0;

	for (unsigned long i = 0; i < a->pages; i++)
		n += !page_is(a->p + P(i), page_seed(a, i), i);
	return n;
}

/* Counts the pages that are not present in the pagemap @map. */
static unsigned long area_gone(const struct area *a, int map)
{
	return a->pages - count_entries(map, a->p, a->pages, PM_PRESENT);
}

enum way {
	ONFAULT,
	MLOCK,
	MLOCKALL,
};

/* A new, locked area, all of it present. */
static bool area_locked(struct area *a, enum kind kind, enum way way,
			unsigned long pages)
{
	if (way == MLOCKALL && do_mlockall(MCL_FUTURE | MCL_ONFAULT))
		return false;
	if (!area_map(a, kind, pages))
		return false;
	if (way == ONFAULT && do_mlock2(a->p, P(pages), MLOCK_ONFAULT))
		return false;
	if (way == MLOCK && do_mlock(a->p, P(pages)))
		return false;
	area_touch(a);
	return true;
}

/* A new, unlocked area, all of it present. */
static bool area_plain(struct area *a, enum kind kind, unsigned long pages)
{
	if (!area_map(a, kind, pages))
		return false;
	area_touch(a);
	return true;
}

#define EXPECT_RESIDENT(a) do {						\
	const struct area *a_ = (a);					\
	struct range range_;						\
									\
	EXPECT_EQ(a_->pages, present(a_->p, a_->pages));		\
	EXPECT_EQ(a_->pages, in_core(a_->p, a_->pages));		\
	range_ = look(a_->p, a_->pages);				\
	EXPECT_EQ(1, range_.vmas);					\
	EXPECT_EQ(1, range_.lo);					\
	EXPECT_EQ(a_->pages, range_.rss);				\
	EXPECT_EQ(a_->pages, range_.locked);				\
	EXPECT_EQ(0, range_.swap);					\
	EXPECT_EQ(0, area_broken(a_));					\
} while (0)

/* Checks the counters and the page flags as well. */
#define EXPECT_UNEVICTABLE(a, n) do {					\
	const struct area *un_ = (a);					\
									\
	EXPECT_EQ(true, drain());					\
	EXPECT_EQ(n, mlocked(un_->p, un_->pages));			\
	EXPECT_EQ(n, unevictable(un_->p, un_->pages));			\
} while (0)

/* Checks the contents last, which faults the pages in. */
#define EXPECT_SWAPPED(a) do {						\
	const struct area *a_ = (a);					\
	struct range range_ = look(a_->p, a_->pages);			\
									\
	EXPECT_EQ(0, range_.lo);					\
	EXPECT_EQ(0, range_.locked);					\
	EXPECT_LT(a_->pages / 2, range_.swap);				\
	EXPECT_GT(a_->pages / 2, present(a_->p, a_->pages));		\
	if (a_->kind == PRIVATE_ANON)					\
		EXPECT_LT(a_->pages / 2, vm_swap());			\
	EXPECT_EQ(0, mlocked(a_->p, a_->pages));			\
	EXPECT_EQ(0, unevictable(a_->p, a_->pages));			\
	EXPECT_EQ(0, area_broken(a_));					\
} while (0)

/*
 * Pressure
 */

/* A page filled with the same word takes no memory in zram. */
static void dirty(char *p, unsigned long pages, unsigned long tag)
{
	for (unsigned long i = 0; i < pages; i++) {
		unsigned long *w = (void *)(p + P(i));

		for (unsigned long j = 0; j < psize() / sizeof(*w); j++)
			w[j] = tag + i;
	}
}

#define MAX_SQUEEZERS 2

/* Gives up after a while, since a process may have died. */
static bool wait_for(unsigned int *counter, unsigned int val)
{
	for (int ms = 0; ms < TIMEOUT / 2 * 1000; ms++) {
		if (__atomic_load_n(counter, __ATOMIC_SEQ_CST) >= val)
			return true;
		usleep(1000);
	}
	return false;
}

/* Whether three quarters of every victim are reclaimed. */
static bool all_gone(const struct area *victim, unsigned int nr, int map)
{
	for (unsigned int i = 0; i < nr; i++) {
		if (area_gone(&victim[i], map) <= victim[i].pages / 4 * 3)
			return false;
	}
	return true;
}

/*
 * Makes @kids children dirty @least pages in total, and then more, up to @most,
 * until the victims are reclaimed. Returns whether they are.
 */
static bool squeeze(const struct area *victim, unsigned int nr,
		    unsigned int kids, unsigned long least, unsigned long most)
{
	unsigned int *arrived = mmap(NULL, psize(), RW,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned long share = least / kids, step = MB / psize() * 4;
	int map = open_pagemap();
	pid_t pid[MAX_SQUEEZERS];
	bool ok = true;

	if (arrived == MAP_FAILED || map < 0)
		return false;
	/*
	 * Reclaim prefers pages that it has not found referenced, of which
	 * there will be many. Make it reclaim the victims soon.
	 */
	for (unsigned int i = 0; i < nr; i++)
		madvise(victim[i].p, P(victim[i].pages), MADV_COLD);
	if (!step)
		step = 1;
	for (unsigned int i = 0; i < kids; i++) {
		unsigned long max = i ? share : most - share * (kids - 1);
		unsigned long done = share;
		bool gone;
		char *p;

		pid[i] = fork();
		if (pid[i])
			continue;

		/* If the OOM killer runs, it must kill this process. */
		write_str("/proc/self/oom_score_adj", "1000");
		/* Pages that all children map take longer to reclaim. */
		for (unsigned int j = 0; j < nr; j++)
			munmap(victim[j].p, P(victim[j].pages));
		p = mmap(NULL, P(max), RW, ANON | MAP_NORESERVE, -1, 0);
		if (p == MAP_FAILED)
			_exit(2);
		madvise(p, P(max), MADV_NOHUGEPAGE);
		dirty(p, done, (unsigned long)i << 24);
		/* Keep the memory until all children have got here. */
		__atomic_add_fetch(arrived, 1, __ATOMIC_SEQ_CST);
		if (!wait_for(arrived, kids))
			_exit(2);
		if (i) {
			/* And until the first one is done. */
			_exit(!wait_for(arrived, kids + 1));
		}
		for (;;) {
			gone = all_gone(victim, nr, map);
			if (gone || done + step > max)
				break;
			dirty(p + P(done), step, done);
			done += step;
		}
		__atomic_add_fetch(arrived, 1, __ATOMIC_SEQ_CST);
		_exit(!gone);
	}
	for (unsigned int i = 0; i < kids; i++)
		ok &= !reap(pid[i]);
	close(map);
	munmap(arrived, psize());
	return ok;
}

/*
 * Common code for pressure within a cgroup
 */

struct stage {
	struct swap swap;
	struct group group;
	struct counters base;
	unsigned long pages;	/* of an area */
};

/*
 * In pages: large compared with what each CPU may charge in advance. The group
 * has space for a locked area, another area, and the needs of a process.
 */
static unsigned long area_size(void)
{
	return 4 * MB / psize() > 512 ? 4 * MB / psize() : 512;
}

static unsigned long group_max(void)
{
	return 3 * area_size();
}

/* There is no teardown after a failed setup, so leave nothing behind. */
static const char *stage_start(struct stage *s)
{
	const char *why = swap_start(&s->swap, 1024 * MB / psize());

	if (why)
		return why;
	why = group_start(&s->group, group_max());
	if (why) {
		swap_stop(&s->swap);
		return why;
	}
	s->pages = area_size();
	s->base = baseline();
	return NULL;
}

static void stage_stop(struct stage *s)
{
	group_stop(&s->group);
	swap_stop(&s->swap);
}

/* Applies pressure in the group that reclaims an unlocked area. */
static bool squeeze_group(const struct area *victim)
{
	return squeeze(victim, 1, 1, group_max(), 8 * group_max());
}

/*
 * Pressure within a cgroup: for each kind of memory and each way to lock it
 */

FIXTURE(mlock_squeezed)
{
	struct stage stage;
};

FIXTURE_VARIANT(mlock_squeezed)
{
	enum kind kind;
	enum way way;
};

#define VARIANT(name, kind_, way_)					\
FIXTURE_VARIANT_ADD(mlock_squeezed, name)				\
{									\
	.kind = kind_, .way = way_,					\
}

VARIANT(anon_onfault, PRIVATE_ANON, ONFAULT);
VARIANT(anon_mlock, PRIVATE_ANON, MLOCK);
VARIANT(anon_mlockall, PRIVATE_ANON, MLOCKALL);
VARIANT(shared_onfault, SHARED_TMPFS, ONFAULT);
VARIANT(shared_mlock, SHARED_TMPFS, MLOCK);
VARIANT(shared_mlockall, SHARED_TMPFS, MLOCKALL);
VARIANT(file_onfault, PRIVATE_TMPFS, ONFAULT);
VARIANT(file_mlock, PRIVATE_TMPFS, MLOCK);
VARIANT(file_mlockall, PRIVATE_TMPFS, MLOCKALL);

FIXTURE_SETUP(mlock_squeezed)
{
	const char *why;

	if (geteuid())
		SKIP(return, "needs root");
	ASSERT_EQ(0, set_limit(RLIM_INFINITY));
	ASSERT_LE(0, baseline().nr_mlock);
	why = stage_start(&self->stage);
	if (why)
		SKIP(return, "%s", why);
}

FIXTURE_TEARDOWN_PARENT(mlock_squeezed)
{
	stage_stop(&self->stage);
}

TEST_F_TIMEOUT(mlock_squeezed, locked_stays_and_unlocked_goes, TIMEOUT)
{
	pid_t pid = fork();

	if (!pid) {
		struct area plain, locked;

		ASSERT_EQ(0, group_join(&self->stage.group));
		ASSERT_EQ(true, area_plain(&plain, variant->kind, self->stage.pages));
		ASSERT_EQ(true, area_locked(&locked, variant->kind,
					    variant->way, self->stage.pages));
		EXPECT_EQ(true, squeeze_group(&plain));
		EXPECT_RESIDENT(&locked);
		EXPECT_UNEVICTABLE(&locked, self->stage.pages);
		EXPECT_SWAPPED(&plain);

		/* The other way around. */
		ASSERT_EQ(0, syscall(__NR_munlockall));
		EXPECT_UNEVICTABLE(&locked, 0);
		EXPECT_EQ(0, do_mlock2(plain.p, P(plain.pages), MLOCK_ONFAULT));
		area_touch(&plain);
		EXPECT_EQ(true, squeeze_group(&locked));
		EXPECT_RESIDENT(&plain);
		EXPECT_UNEVICTABLE(&plain, self->stage.pages);
		EXPECT_SWAPPED(&locked);
		/* It ends with memory locked. */
		CHILD_DONE();
	}
	REAP(pid);
	EXPECT_BASELINE(self->stage.base);
}

/*
 * Pressure within a cgroup: tests that apply to all kinds
 */

FIXTURE(mlock_swapped)
{
	struct stage stage;
};

FIXTURE_VARIANT(mlock_swapped)
{
	enum kind kind;
};

FIXTURE_VARIANT_ADD(mlock_swapped, anon)
{
	.kind = PRIVATE_ANON,
};

FIXTURE_VARIANT_ADD(mlock_swapped, shared)
{
	.kind = SHARED_TMPFS,
};

FIXTURE_SETUP(mlock_swapped)
{
	const char *why;

	if (geteuid())
		SKIP(return, "needs root");
	ASSERT_EQ(0, set_limit(RLIM_INFINITY));
	ASSERT_LE(0, baseline().nr_mlock);
	why = stage_start(&self->stage);
	if (why)
		SKIP(return, "%s", why);
}

FIXTURE_TEARDOWN_PARENT(mlock_swapped)
{
	stage_stop(&self->stage);
}

TEST_F_TIMEOUT(mlock_swapped, mlock_brings_it_back, TIMEOUT)
{
	unsigned long half = self->stage.pages / 2;
	pid_t pid = fork();

	if (!pid) {
		struct area a, b;
		unsigned long there;

		ASSERT_EQ(0, group_join(&self->stage.group));
		ASSERT_EQ(true, area_plain(&a, variant->kind, self->stage.pages));
		EXPECT_EQ(true, squeeze_group(&a));

		/* Locking on fault alone faults nothing in. */
		there = present(a.p, a.pages);
		EXPECT_GT(half, there);
		EXPECT_EQ(0, do_mlock2(a.p, P(a.pages), MLOCK_ONFAULT));
		EXPECT_EQ(there, present(a.p, a.pages));
		/* Pages are mlocked and counted once they are accessed. */
		for (unsigned long i = 0; i < half; i++)
			FORCE_READ(a.p[P(i)]);
		EXPECT_EQ(half, present(a.p, half));
		EXPECT_UNEVICTABLE(&a, present(a.p, a.pages));
		ASSERT_EQ(true, area_plain(&b, variant->kind, self->stage.pages));
		EXPECT_EQ(true, squeeze_group(&b));
		EXPECT_EQ(half, present(a.p, half));
		EXPECT_EQ(0, area_unmap(&b));

		/* Locking in full faults in all of it, and it stays. */
		EXPECT_EQ(0, do_mlock(a.p, P(a.pages)));
		EXPECT_EQ(a.pages, present(a.p, a.pages));
		EXPECT_UNEVICTABLE(&a, a.pages);
		ASSERT_EQ(true, area_plain(&b, variant->kind, self->stage.pages));
		EXPECT_EQ(true, squeeze_group(&b));
		EXPECT_RESIDENT(&a);
		EXPECT_UNEVICTABLE(&a, a.pages);
		EXPECT_EQ(0, area_unmap(&b));
		EXPECT_EQ(0, do_munlock(a.p, P(a.pages)));
		EXPECT_UNEVICTABLE(&a, 0);
		EXPECT_EQ(true, squeeze_group(&a));
		EXPECT_SWAPPED(&a);
		CHILD_DONE();
	}
	REAP(pid);
	EXPECT_BASELINE(self->stage.base);
}

TEST_F_TIMEOUT(mlock_swapped, mlock_locks_all_at_once, TIMEOUT)
{
	pid_t pid = fork();

	if (!pid) {
		struct area a;

		ASSERT_EQ(0, group_join(&self->stage.group));
		ASSERT_EQ(true, area_plain(&a, variant->kind, self->stage.pages));
		EXPECT_EQ(true, squeeze_group(&a));
		EXPECT_EQ(0, do_mlock(a.p, P(a.pages)));
		EXPECT_RESIDENT(&a);
		EXPECT_UNEVICTABLE(&a, a.pages);
		EXPECT_EQ(self->stage.base.nr_mlock + (long)a.pages,
			  count().nr_mlock);
		EXPECT_EQ(0, area_unmap(&a));
		EXPECT_BASELINE(self->stage.base);
		CHILD_DONE();
	}
	REAP(pid);
	EXPECT_BASELINE(self->stage.base);
}

TEST_F_TIMEOUT(mlock_swapped, swapoff_brings_it_back, TIMEOUT)
{
	pid_t pid = fork();

	if (!pid) {
		struct area a;

		ASSERT_EQ(0, group_join(&self->stage.group));
		ASSERT_EQ(true, area_plain(&a, variant->kind, self->stage.pages));
		EXPECT_EQ(true, squeeze_group(&a));
		EXPECT_EQ(0, do_mlock2(a.p, P(a.pages), MLOCK_ONFAULT));
		ASSERT_EQ(0, swapoff(self->stage.swap.dev));
		/* Shared memory is swapped in to the file only. */
		if (variant->kind == SHARED_TMPFS)
			EXPECT_EQ(0, area_broken(&a));
		EXPECT_RESIDENT(&a);
		EXPECT_UNEVICTABLE(&a, a.pages);
		EXPECT_EQ(0, area_unmap(&a));
		CHILD_DONE();
	}
	REAP(pid);
	EXPECT_BASELINE(self->stage.base);
}

/* A process that locks the area until told to unlock. */
struct locker {
	pid_t pid;
	int fd;
};

static bool locker_start(struct locker *l, const struct area *a)
{
	int down[2], up[2];
	char c = 0;

	if (pipe2(down, O_CLOEXEC) || pipe2(up, O_CLOEXEC))
		return false;
	l->pid = fork();
	if (!l->pid) {
		close(down[1]);
		close(up[0]);
		c = !do_mlock2(a->p, P(a->pages), MLOCK_ONFAULT);
		/* Its own entries, too. */
		for (unsigned long i = 0; i < a->pages; i++)
			FORCE_READ(a->p[P(i)]);
		if (write(up[1], &c, 1) != 1)
			_exit(1);
		if (read(down[0], &c, 1) != 1)
			_exit(1);
		_exit(present(a->p, a->pages) != a->pages);
	}
	l->fd = down[1];
	close(down[0]);
	close(up[1]);
	if (read(up[0], &c, 1) != 1)
		c = 0;
	close(up[0]);
	return c;
}

static int locker_stop(struct locker *l)
{
	bool told = write(l->fd, "", 1) == 1;

	close(l->fd);
	return told ? reap(l->pid) : -1;
}

TEST_F_TIMEOUT(mlock_swapped, the_last_locker_counts, TIMEOUT)
{
	pid_t pid = fork();

	if (!pid) {
		struct area a, plain;
		struct locker first, second;

		/* Anonymous memory is shared by fork, before it is written. */
		ASSERT_EQ(0, group_join(&self->stage.group));
		ASSERT_EQ(true, area_plain(&plain, variant->kind, self->stage.pages));
		ASSERT_EQ(true, area_plain(&a, variant->kind, self->stage.pages));
		/*
		 * Drain first: a page that is not yet on a list is not counted
		 * twice.
		 */
		ASSERT_EQ(true, drain());
		ASSERT_EQ(true, locker_start(&first, &a));
		ASSERT_EQ(true, drain());
		ASSERT_EQ(true, locker_start(&second, &a));
		EXPECT_UNEVICTABLE(&a, a.pages);

		EXPECT_EQ(true, squeeze_group(&plain));
		EXPECT_EQ(a.pages, present(a.p, a.pages));
		EXPECT_EQ(0, look(a.p, a.pages).swap);

		EXPECT_EQ(0, locker_stop(&first));
		EXPECT_EQ(0, area_broken(&plain));
		EXPECT_EQ(true, squeeze_group(&plain));
		EXPECT_EQ(a.pages, present(a.p, a.pages));
		EXPECT_EQ(0, look(a.p, a.pages).swap);
		/* Not exactly all, since mlock_count may be too low. */
		EXPECT_EQ(true, drain());
		EXPECT_LT(a.pages / 2, mlocked(a.p, a.pages));
		EXPECT_LT(a.pages / 2, unevictable(a.p, a.pages));
		EXPECT_EQ(0, area_broken(&a));

		EXPECT_EQ(0, locker_stop(&second));
		EXPECT_UNEVICTABLE(&a, 0);
		EXPECT_EQ(true, squeeze_group(&a));
		EXPECT_SWAPPED(&a);
		CHILD_DONE();
	}
	REAP(pid);
	EXPECT_BASELINE(self->stage.base);
}

/*
 * Pressure on the whole machine
 */

FIXTURE(mlock_machine)
{
	struct swap swap;
	struct counters base;
};

FIXTURE_SETUP(mlock_machine)
{
	unsigned long total = meminfo("MemTotal:");
	const char *why;

	if (geteuid())
		SKIP(return, "needs root");
	if (total > MOST_MEMORY / psize())
		SKIP(return, "more memory than this test wants to fill");
	ASSERT_EQ(0, set_limit(RLIM_INFINITY));
	ASSERT_LE(0, baseline().nr_mlock);
	why = swap_start(&self->swap, 2 * total);
	if (why)
		SKIP(return, "%s", why);
	self->base = baseline();
}

FIXTURE_TEARDOWN_PARENT(mlock_machine)
{
	swap_stop(&self->swap);
}

TEST_F_TIMEOUT(mlock_machine, locked_stays_and_unlocked_goes, TIMEOUT)
{
	static const struct {
		enum kind kind;
		enum way way;
	} how[] = {
		{ PRIVATE_ANON, ONFAULT },
		{ PRIVATE_ANON, MLOCK },
		{ SHARED_TMPFS, ONFAULT },
		{ SHARED_TMPFS, MLOCK },
		{ PRIVATE_TMPFS, ONFAULT },
		{ PRIVATE_TMPFS, MLOCK },
	};
	struct area plain[ARRAY_SIZE(how)], locked[ARRAY_SIZE(how)];
	unsigned long unit = meminfo("MemTotal:") / 128, least;
	int ready[2], go[2];
	pid_t pid;
	char c;

	/* All memory of another process, from some point on. */
	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(go));
	pid = fork();
	if (!pid) {
		struct area a[3];

		for (unsigned int i = 0; i < ARRAY_SIZE(a); i++)
			ASSERT_EQ(true, area_locked(&a[i], i, MLOCKALL, unit));
		ASSERT_EQ(1, write(ready[1], "", 1));
		ASSERT_EQ(1, read(go[0], &c, 1));
		for (unsigned int i = 0; i < ARRAY_SIZE(a); i++) {
			EXPECT_RESIDENT(&a[i]);
			EXPECT_UNEVICTABLE(&a[i], unit);
		}
		CHILD_DONE();
	}
	ASSERT_EQ(1, read(ready[0], &c, 1));

	for (unsigned int i = 0; i < ARRAY_SIZE(how); i++) {
		unsigned long pages = i ? unit : 4 * unit;

		ASSERT_EQ(true, area_plain(&plain[i], how[i].kind, pages));
		ASSERT_EQ(true, area_locked(&locked[i], how[i].kind, how[i].way,
					    pages));
	}

	least = meminfo("MemAvailable:");
	EXPECT_EQ(true, squeeze(plain, ARRAY_SIZE(plain), MAX_SQUEEZERS, least,
				least + meminfo("SwapFree:") / 2));
	for (unsigned int i = 0; i < ARRAY_SIZE(how); i++) {
		EXPECT_RESIDENT(&locked[i]);
		EXPECT_UNEVICTABLE(&locked[i], locked[i].pages);
	}
	ASSERT_EQ(1, write(go[1], "", 1));
	REAP(pid);
	/* Check this before reading the contents. */
	EXPECT_LT(plain[0].pages / 2, vm_swap());
	for (unsigned int i = 0; i < ARRAY_SIZE(how); i++)
		EXPECT_SWAPPED(&plain[i]);

	for (unsigned int i = 0; i < ARRAY_SIZE(how); i++) {
		EXPECT_EQ(0, area_unmap(&locked[i]));
		EXPECT_EQ(0, area_unmap(&plain[i]));
	}
	EXPECT_BASELINE(self->base);
}

/*
 * Threads that race with each other
 */

FIXTURE(mlock_storm)
{
	struct swap swap;
	struct counters base;
	int cpu;		/* that has been turned off */
};

static int set_cpu(int cpu, bool on)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online",
		 cpu);
	return write_str(path, on ? "1" : "0");
}

/* The last CPU that can be taken offline, or -1. */
static int spare_cpu(void)
{
	for (int cpu = sysconf(_SC_NPROCESSORS_CONF) - 1; cpu > 0; cpu--) {
		char path[64];

		snprintf(path, sizeof(path),
			 "/sys/devices/system/cpu/cpu%d/online", cpu);
		if (find_number(path, "") == 1 && !access(path, W_OK))
			return cpu;
	}
	return -1;
}

FIXTURE_SETUP(mlock_storm)
{
	const char *why;

	if (geteuid())
		SKIP(return, "needs root");
	ASSERT_EQ(0, set_limit(RLIM_INFINITY));
	ASSERT_LE(0, baseline().nr_mlock);
	why = swap_start(&self->swap, 1024 * MB / psize());
	if (why)
		SKIP(return, "%s", why);
	self->cpu = -1;
	self->base = baseline();
}

FIXTURE_TEARDOWN_PARENT(mlock_storm)
{
	/* Whatever the test came to. */
	if (self->cpu > 0)
		set_cpu(self->cpu, true);
	swap_stop(&self->swap);
}

/* A reproducible sequence of numbers. */
static unsigned int next(unsigned int *state)
{
	*state = *state * 1103515245 + 12345;
	return *state >> 16;
}

/* A thread: @rounds of an operation on its part of the areas. */
struct job {
	void (*round)(struct job *job);
	struct area *area;
	unsigned int nr_areas;
	unsigned int rounds;
	unsigned int seed;
	unsigned int errors;
	bool pinned;		/* to the CPU */
	int cpu;
	char *extra;
	pthread_t thread;
};

static void *job_run(void *arg)
{
	struct job *job = arg;

	if (job->pinned)
		job->errors += !!run_on_cpu(job->cpu);
	for (unsigned int i = 0; i < job->rounds; i++)
		job->round(job);
	return NULL;
}

static bool run_jobs(struct job *job, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		job[i].seed = i + 1;
		if (pthread_create(&job[i].thread, NULL, job_run, &job[i]))
			break;
	}
	for (unsigned int j = 0; j < i; j++)
		pthread_join(job[j].thread, NULL);
	return i == nr;
}

/* A part of one of the areas. */
static char *pick(struct job *job, struct area **area, unsigned long *pages)
{
	struct area *a = &job->area[next(&job->seed) % job->nr_areas];
	unsigned long first = next(&job->seed) % a->pages;

	*pages = 1 + next(&job->seed) % (a->pages / 4);
	if (*pages > a->pages - first)
		*pages = a->pages - first;
	*area = a;
	return a->p + P(first);
}

static void lock_or_unlock(struct job *job)
{
	struct area *a;
	unsigned long pages;
	char *p = pick(job, &a, &pages);
	long ret;

	switch (next(&job->seed) % 4) {
	case 0:
		ret = do_mlock(p, P(pages));
		break;
	case 1:
		ret = do_mlock2(p, P(pages), MLOCK_ONFAULT);
		break;
	default:
		ret = do_munlock(p, P(pages));
	}
	job->errors += !!ret;
}

/* Drops pages, locked or not. Pages of tmpfs are not lost. */
static void drop(struct job *job)
{
	struct area *a;
	unsigned long pages;
	char *p = pick(job, &a, &pages);

	job->errors += !!madvise(p, P(pages), MADV_DONTNEED_LOCKED);
}

static void lock_or_drop(struct job *job)
{
	if (next(&job->seed) % 3)
		lock_or_unlock(job);
	else
		drop(job);
}

/* Reads, which faults, and writes back the same contents. */
static void use(struct job *job)
{
	struct area *a;
	unsigned long pages;
	char *p = pick(job, &a, &pages);

	for (unsigned long i = 0; i < pages; i++) {
		if (next(&job->seed) % 2)
			FORCE_READ(p[P(i)]);
		else
			/* A byte outside the stamp, which nobody checks. */
			*(volatile char *)(p + P(i) + psize() / 2) = 1;
	}
}

static void lock_and_use(struct job *job)
{
	lock_or_unlock(job);
	use(job);
}

/* Fails for locked memory; reclaims unlocked parts. */
static void reclaim(struct job *job)
{
	struct area *a;
	unsigned long pages;
	char *p = pick(job, &a, &pages);

	madvise(p, P(pages), next(&job->seed) % 2 ? MADV_PAGEOUT : MADV_COLD);
}

/* The child inherits no locks. It may lock memory, and exits with it locked. */
static void fork_child(struct job *job)
{
	unsigned int seed = next(&job->seed);
	pid_t pid = fork();

	if (!pid) {
		job->seed = seed;
		for (int i = 0; i < 4; i++)
			lock_and_use(job);
		_exit(!!job->errors);
	}
	job->errors += !!reap(pid);
}

/* To the other node if there is one, otherwise within the node. */
static bool move_to_node(struct area *a, int node)
{
	for (unsigned long i = 0; i < a->pages; i++) {
		void *p = a->p + P(i);
		int status;

		if (syscall(__NR_move_pages, 0, 1UL, &p, &node, &status,
			    MPOL_MF_MOVE))
			return false;
		/* Ignore pages that are busy or not present. */
		if (status == -ENODEV || status == -EACCES)
			return false;
	}
	return true;
}

#define HOLES (16 * MB)

static void migrate(struct job *job)
{
	unsigned long pages = HOLES / psize();

	for (unsigned int i = 0; i < job->nr_areas; i++) {
		if (access("/sys/devices/system/node/node1", F_OK) ||
		    !move_to_node(&job->area[i], job->rounds % 2))
			break;
	}
	/* Every other page is free, so that there is something to compact. */
	dirty(job->extra, pages, 0);
	for (unsigned long i = next(&job->seed) % 2; i < pages; i += 2)
		madvise(job->extra + P(i), P(1), MADV_DONTNEED);
	write_str("/proc/sys/vm/compact_memory", "1");
}

static void toggle_cpu(struct job *job)
{
	job->errors += !!set_cpu(job->cpu, false);
	usleep(1000);
	job->errors += !!set_cpu(job->cpu, true);
}

#define STORM_PAGES 256

/* A page must be present to be checked. */
static void read_all(const struct area *a, unsigned int nr)
{
	for (; nr--; a++) {
		for (unsigned long i = 0; i < a->pages; i++)
			FORCE_READ(a->p[P(i)]);
	}
}

/* The counters match the number of locked pages in these areas. */
#define EXPECT_COUNTED(base, area, nr) do {				\
	struct counters now_;						\
	long sum_ = 0;							\
									\
	read_all(area, nr);						\
	now_ = count();							\
	for (int i_ = 0; i_ < (nr); i_++)				\
		sum_ += mlocked((area)[i_].p, (area)[i_].pages);	\
	EXPECT_EQ(sum_, now_.nr_mlock - (base).nr_mlock);		\
	EXPECT_EQ(sum_, now_.mlocked - (base).mlocked);			\
} while (0)

/*
 * The batches of two CPUs are not ordered. If a page is mlocked on one CPU,
 * munlocked on another, and not freed, its mlock_count may be too high by one.
 * So here each area is locked and unlocked on a CPU of its own, while all CPUs
 * reclaim and migrate it.
 */
TEST_F_TIMEOUT(mlock_storm, migration_reclaim_and_fork, TIMEOUT)
{
	int cpu[] = { some_cpu(0), some_cpu(1) };
	struct area area[4];
	struct job job[] = {
		{ lock_and_use, &area[0], 2, 1000, .pinned = 1, .cpu = cpu[0] },
		{ lock_and_use, &area[2], 2, 1000, .pinned = 1, .cpu = cpu[1] },
		{ fork_child, &area[0], 2, 30, .pinned = 1, .cpu = cpu[0] },
		{ fork_child, &area[2], 2, 30, .pinned = 1, .cpu = cpu[1] },
		{ reclaim, area, 4, 500 },
		{ migrate, area, 4, 6 },
	};
	long migrated = read_vmstat("pgmigrate_success ");

	job[5].extra = mmap(NULL, HOLES, RW, ANON, -1, 0);
	ASSERT_NE(MAP_FAILED, job[5].extra);
	madvise(job[5].extra, HOLES, MADV_NOHUGEPAGE);
	for (int i = 0; i < 4; i++) {
		ASSERT_EQ(true, area_plain(&area[i], i % 2 ? SHARED_TMPFS :
					   PRIVATE_ANON, STORM_PAGES));
	}
	ASSERT_EQ(true, run_jobs(job, ARRAY_SIZE(job)));
	for (unsigned int i = 0; i < ARRAY_SIZE(job); i++)
		EXPECT_EQ(0, job[i].errors);
	EXPECT_EQ(0, munmap(job[5].extra, HOLES));
	/* Or there was no point in it. */
	if (migrated >= 0)
		EXPECT_LT(migrated, read_vmstat("pgmigrate_success "));

	/* Exactly the pages that are still locked are counted. */
	EXPECT_COUNTED(self->base, area, 4);
	for (int i = 0; i < 4; i++)
		EXPECT_EQ(0, do_munlock(area[i].p, P(STORM_PAGES)));
	EXPECT_COUNTED(self->base, area, 4);
	for (int i = 0; i < 4; i++) {
		EXPECT_EQ(0, look(area[i].p, STORM_PAGES).lo);
		EXPECT_EQ(0, mlocked(area[i].p, STORM_PAGES));
		/*
		 * A page that was isolated when it was munlocked may be
		 * stranded until somebody isolates it and puts it back.
		 */
		madvise(area[i].p, P(STORM_PAGES), MADV_PAGEOUT);
		EXPECT_EQ(0, area_broken(&area[i]));
		EXPECT_UNEVICTABLE(&area[i], 0);
	}
	EXPECT_BASELINE(self->base);
	for (int i = 0; i < 4; i++)
		EXPECT_EQ(0, area_unmap(&area[i]));
	EXPECT_BASELINE(self->base);
}

TEST_F_TIMEOUT(mlock_storm, faults_locks_and_cpu_hotplug, TIMEOUT)
{
	struct area area[2];
	struct job job[] = {
		{ use, area, 2, 1500 },
		{ use, area, 2, 1500 },
		{ use, area, 2, 1500 },
		{ use, area, 2, 1500 },
		{ lock_or_drop, area, 2, 1500 },
		{ toggle_cpu, .rounds = 4 },
	};
	unsigned int nr = ARRAY_SIZE(job);

	/*
	 * With one CPU, this test does the rest, and the next one is skipped.
	 */
	self->cpu = spare_cpu();
	job[5].cpu = self->cpu;
	if (self->cpu < 0)
		nr--;
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(true, area_map(&area[i], i ? SHARED_TMPFS :
					 PRIVATE_ANON, STORM_PAGES));
		ASSERT_EQ(0, do_mlock2(area[i].p, P(STORM_PAGES),
				       MLOCK_ONFAULT));
	}
	ASSERT_EQ(true, run_jobs(job, nr));
	for (unsigned int i = 0; i < nr; i++)
		EXPECT_EQ(0, job[i].errors);
	EXPECT_COUNTED(self->base, area, 2);
	for (int i = 0; i < 2; i++)
		EXPECT_EQ(0, do_munlock(area[i].p, P(STORM_PAGES)));
	/* As above, some pages may stay mlocked; the counters must match. */
	EXPECT_COUNTED(self->base, area, 2);
	for (int i = 0; i < 2; i++)
		EXPECT_EQ(0, area_unmap(&area[i]));
	EXPECT_BASELINE(self->base);
}

/* A CPU goes offline with fewer pages in its batch than that holds. */
TEST_F_TIMEOUT(mlock_storm, batch_of_a_cpu_that_goes, TIMEOUT)
{
	struct area a, b;

	self->cpu = spare_cpu();
	if (self->cpu < 0)
		SKIP(return, "no CPU can be turned off");
	ASSERT_EQ(true, area_map(&a, PRIVATE_ANON, 5));
	ASSERT_EQ(true, area_map(&b, SHARED_TMPFS, 5));
	EXPECT_EQ(0, do_mlock2(a.p, P(5), MLOCK_ONFAULT));
	EXPECT_EQ(0, do_mlock2(b.p, P(5), MLOCK_ONFAULT));

	/* Locked, not drained. */
	ASSERT_EQ(0, run_on_cpu(self->cpu));
	area_touch(&a);
	area_touch(&b);
	ASSERT_EQ(0, run_on_cpu(0));
	ASSERT_EQ(0, set_cpu(self->cpu, false));
	EXPECT_EQ(5, mlocked(a.p, 5));
	EXPECT_EQ(5, mlocked(b.p, 5));
	EXPECT_EQ(5, unevictable(a.p, 5));
	EXPECT_EQ(5, unevictable(b.p, 5));
	ASSERT_EQ(0, set_cpu(self->cpu, true));

	/* And unlocked. */
	ASSERT_EQ(0, run_on_cpu(self->cpu));
	EXPECT_EQ(0, do_munlock(a.p, P(5)));
	EXPECT_EQ(0, do_munlock(b.p, P(5)));
	ASSERT_EQ(0, run_on_cpu(0));
	ASSERT_EQ(0, set_cpu(self->cpu, false));
	EXPECT_EQ(0, mlocked(a.p, 5));
	EXPECT_EQ(0, mlocked(b.p, 5));
	EXPECT_EQ(0, unevictable(a.p, 5));
	EXPECT_EQ(0, unevictable(b.p, 5));
	set_cpu(self->cpu, true);
	EXPECT_EQ(0, area_broken(&a));
	EXPECT_EQ(0, area_broken(&b));
	EXPECT_EQ(0, area_unmap(&a));
	EXPECT_EQ(0, area_unmap(&b));
	EXPECT_BASELINE(self->base);
}

TEST_HARNESS_MAIN
