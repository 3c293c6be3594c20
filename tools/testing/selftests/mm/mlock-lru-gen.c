// SPDX-License-Identifier: GPL-2.0
/*
 * Locked memory with the multi-gen LRU, which keeps evictable folios in
 * generations: mlock() takes a folio out of its generation, munlock() puts it
 * into one. The multi-gen LRU can be switched on and off at any time, and folios
 * that are unevictable meanwhile must come back to the lists that are in use.
 *
 * Run as root. The test restores the setting.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>
#include "mlock-helpers.h"

#define SETTING "/sys/kernel/mm/lru_gen/enabled"
#define PAGES 64UL

FIXTURE(mlock_lru_gen)
{
	char was[32];		/* the setting, or empty */
	char *p;
};

FIXTURE_VARIANT(mlock_lru_gen)
{
	int flags;		/* of mmap() */
};

FIXTURE_VARIANT_ADD(mlock_lru_gen, anon)
{
	.flags = MAP_PRIVATE | MAP_ANONYMOUS,
};

FIXTURE_VARIANT_ADD(mlock_lru_gen, shmem)
{
	.flags = MAP_SHARED | MAP_ANONYMOUS,
};

static void lru_gen(struct __test_metadata *_metadata, bool on)
{
	ASSERT_EQ(0, write_str(SETTING, on ? "y" : "n"));
	ASSERT_EQ(on, has_lru_gen());
}

/* Switches it on, for a process that may lock anything. */
#define SETUP(self) do {						\
	memset(self, 0, sizeof(*(self)));				\
	if (geteuid())							\
		SKIP(return, "needs root");				\
	if (access(SETTING, F_OK))					\
		SKIP(return, "no multi-gen LRU");			\
	/* Ask drop_caches not to log each call. */			\
	write_str("/proc/sys/vm/drop_caches", "4");			\
	ASSERT_EQ(true, read_setting(SETTING, (self)->was, sizeof((self)->was))); \
	ASSERT_EQ(0, set_limit(RLIM_INFINITY));				\
	lru_gen(_metadata, true);					\
} while (0)

FIXTURE_SETUP(mlock_lru_gen)
{
	char *all;

	SETUP(self);
	all = hole(PAGES);
	ASSERT_NE(NULL, all);
	self->p = mmap(all, P(PAGES), RW, variant->flags | MAP_FIXED, -1, 0);
	ASSERT_EQ(all, self->p);
}

FIXTURE_TEARDOWN(mlock_lru_gen)
{
	if (self->p)
		munmap(self->p, P(PAGES));
	if (*self->was)
		write_str(SETTING, self->was);
}

/* That many pages of the mapping are mlocked, and that many are unevictable. */
#define EXPECT_PAGES(self, nr_mlocked, nr_unevictable) do {		\
	EXPECT_EQ(true, drain());					\
	EXPECT_EQ(PAGES, present((self)->p, PAGES));			\
	EXPECT_EQ(nr_mlocked, mlocked((self)->p, PAGES));		\
	EXPECT_EQ(nr_unevictable, unevictable((self)->p, PAGES));	\
} while (0)

#define EXPECT_MLOCKED(self, nr) EXPECT_PAGES(self, nr, nr)

TEST_F(mlock_lru_gen, present_pages)
{
	touch(self->p, PAGES);
	EXPECT_MLOCKED(self, 0);
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, do_mlock(self->p, P(PAGES)));
		EXPECT_MLOCKED(self, PAGES);
		ASSERT_EQ(0, do_munlock(self->p, P(PAGES / 2)));
		EXPECT_MLOCKED(self, PAGES / 2);
		ASSERT_EQ(0, do_munlock(self->p, P(PAGES)));
		EXPECT_MLOCKED(self, 0);
	}
}

TEST_F(mlock_lru_gen, on_fault)
{
	ASSERT_EQ(0, do_mlock2(self->p, P(PAGES), MLOCK_ONFAULT));
	touch(self->p, PAGES);
	EXPECT_MLOCKED(self, PAGES);
	ASSERT_EQ(0, do_munlock(self->p, P(PAGES)));
	EXPECT_MLOCKED(self, 0);
}

TEST_F(mlock_lru_gen, switched_off_while_locked)
{
	touch(self->p, PAGES);
	ASSERT_EQ(0, do_mlock(self->p, P(PAGES)));
	EXPECT_MLOCKED(self, PAGES);
	lru_gen(_metadata, false);
	EXPECT_MLOCKED(self, PAGES);
	ASSERT_EQ(0, do_munlock(self->p, P(PAGES)));
	EXPECT_MLOCKED(self, 0);
	lru_gen(_metadata, true);
	ASSERT_EQ(0, do_mlock(self->p, P(PAGES)));
	EXPECT_MLOCKED(self, PAGES);
}

TEST_F(mlock_lru_gen, switched_on_while_locked)
{
	lru_gen(_metadata, false);
	touch(self->p, PAGES);
	ASSERT_EQ(0, do_mlock(self->p, P(PAGES)));
	EXPECT_MLOCKED(self, PAGES);
	lru_gen(_metadata, true);
	EXPECT_MLOCKED(self, PAGES);
	ASSERT_EQ(0, do_munlock(self->p, P(PAGES)));
	EXPECT_MLOCKED(self, 0);
	ASSERT_EQ(0, do_mlock(self->p, P(PAGES)));
	EXPECT_MLOCKED(self, PAGES);
}

/* Batch entries that are drained while the pages are in a generation */
TEST_F(mlock_lru_gen, unmapped_and_mapped_again)
{
	char *q;

	touch(self->p, PAGES);
	q = mremap(self->p, 0, P(PAGES), MREMAP_MAYMOVE);
	if (q == MAP_FAILED) {
		/* A private page is mapped once per process: use a child. */
		pid_t pid = fork();

		if (!pid) {
			EXPECT_EQ(0, do_mlock(self->p, P(PAGES)));
			EXPECT_MLOCKED(self, PAGES);
			CHILD_DONE();
		}
		REAP(pid);
	} else {
		ASSERT_EQ(0, do_mlock(q, P(PAGES)));
		EXPECT_EQ(0, munmap(q, P(PAGES)));
	}
	EXPECT_MLOCKED(self, 0);
}

/* SHM_LOCK keeps the pages of a segment unevictable, mlocked or not. */
FIXTURE(mlock_lru_gen_shm)
{
	char was[32];		/* the setting, or empty */
	char *p;
	int id;
};

FIXTURE_SETUP(mlock_lru_gen_shm)
{
	SETUP(self);
	self->id = shmget(IPC_PRIVATE, P(PAGES), IPC_CREAT | 0600);
	ASSERT_LE(0, self->id);
	self->p = shmat(self->id, NULL, 0);
	ASSERT_NE((char *)-1, self->p);
}

FIXTURE_TEARDOWN(mlock_lru_gen_shm)
{
	shmdt(self->p);
	shmctl(self->id, IPC_RMID, NULL);
	if (*self->was)
		write_str(SETTING, self->was);
}

TEST_F(mlock_lru_gen_shm, munlock_leaves_what_shm_lock_holds)
{
	touch(self->p, PAGES);
	ASSERT_EQ(0, do_mlock(self->p, P(PAGES)));
	EXPECT_PAGES(self, PAGES, PAGES);
	ASSERT_EQ(0, shmctl(self->id, SHM_LOCK, NULL));
	ASSERT_EQ(0, do_munlock(self->p, P(PAGES)));
	EXPECT_PAGES(self, 0, PAGES);
	ASSERT_EQ(0, shmctl(self->id, SHM_UNLOCK, NULL));
	EXPECT_PAGES(self, 0, 0);
}

TEST_F(mlock_lru_gen_shm, shm_unlock_leaves_what_mlock_holds)
{
	ASSERT_EQ(0, shmctl(self->id, SHM_LOCK, NULL));
	touch(self->p, PAGES);
	EXPECT_PAGES(self, 0, PAGES);
	ASSERT_EQ(0, do_mlock(self->p, P(PAGES)));
	EXPECT_PAGES(self, PAGES, PAGES);
	ASSERT_EQ(0, shmctl(self->id, SHM_UNLOCK, NULL));
	EXPECT_PAGES(self, PAGES, PAGES);
	ASSERT_EQ(0, do_munlock(self->p, P(PAGES)));
	EXPECT_PAGES(self, 0, 0);
}

/* Neither list of today is the one that the pages were taken from. */
TEST_F(mlock_lru_gen_shm, switched_while_shm_locked)
{
	touch(self->p, PAGES);
	ASSERT_EQ(0, do_mlock(self->p, P(PAGES)));
	ASSERT_EQ(0, shmctl(self->id, SHM_LOCK, NULL));
	lru_gen(_metadata, false);
	ASSERT_EQ(0, do_munlock(self->p, P(PAGES)));
	EXPECT_PAGES(self, 0, PAGES);
	lru_gen(_metadata, true);
	ASSERT_EQ(0, shmctl(self->id, SHM_UNLOCK, NULL));
	EXPECT_PAGES(self, 0, 0);
	ASSERT_EQ(0, do_mlock(self->p, P(PAGES)));
	EXPECT_PAGES(self, PAGES, PAGES);
}

TEST_HARNESS_MAIN
