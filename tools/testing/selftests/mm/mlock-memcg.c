// SPDX-License-Identifier: GPL-2.0
/*
 * Locked pages and memory cgroups: "unevictable" in memory.stat, and mlock() in
 * a group that has no memory left.
 *
 * The tests describe what the kernel does, quirks included, rather than what a
 * manual page promises, so that other implementations can be compared with it.
 *
 * Run as root, and alone: nobody else may lock or unlock memory.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include "mlock-counters.h"
#include "mlock-helpers.h"
#include "mlock-huge.h"

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
	snprintf(self->mnt, sizeof(self->mnt), "/tmp/mlock-memcg-XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->mnt));
	self->mounted = !mount("none", self->mnt, "cgroup2", 0, NULL);
	if (!self->mounted)
		SKIP(return, "no cgroup2");
	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", self->mnt);
	if (!file_says(path, "memory"))
		self->enabled = !write_str(path, "+memory");
	snprintf(self->group, sizeof(self->group), "%s/mlock-memcg-%d",
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
 * The kernel flushes the statistics only after enough changes, so fault often
 * enough: the threshold is 64 for each CPU.
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
		/* The OOM killer must not kill anybody in the group. */
		ASSERT_EQ(0, write_str("/proc/self/oom_score_adj", "-1000"));
		copy_shared_pages();
		snprintf(path, sizeof(path), "%s/memory.max", self->group);
		ASSERT_EQ(0, write_ulong(path, P(pages / 4)));
		max = open(path, O_WRONLY | O_CLOEXEC);
		ASSERT_LE(0, max);
		snprintf(path, sizeof(path), "%s/cgroup.procs", self->group);
		ASSERT_EQ(0, write_str(path, "0"));
		p = region(pages);
		ASSERT_NE(NULL, p);
		ret = do_mlock(p, P(pages));
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

TEST_HARNESS_MAIN
