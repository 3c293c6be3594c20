/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Global counters of locked pages. Tests compare them with earlier values, so
 * nobody else may lock or unlock memory.
 *
 * Include this after kselftest_harness.h.
 */
#ifndef MLOCK_COUNTERS_H
#define MLOCK_COUNTERS_H

#include "mlock-helpers.h"

struct events {
	long nr_mlock;
	long mlocked;
	long munlocked;
	long culled;
	long rescued;
	long cleared;
	long stranded;
};

static inline struct events count_events(void)
{
	struct events c = { .nr_mlock = -1 };

	if (!drain())
		return c;
	c.nr_mlock = read_vmstat("nr_mlock ");
	c.mlocked = read_vmstat("unevictable_pgs_mlocked ");
	c.munlocked = read_vmstat("unevictable_pgs_munlocked ");
	c.culled = read_vmstat("unevictable_pgs_culled ");
	c.rescued = read_vmstat("unevictable_pgs_rescued ");
	c.cleared = read_vmstat("unevictable_pgs_cleared ");
	c.stranded = read_vmstat("unevictable_pgs_stranded ");
	return c;
}

/* Count again, now that the code and data of the helpers are in memory. */
static inline struct events first_count(void)
{
	/* Ask drop_caches not to log each call. */
	write_str("/proc/sys/vm/drop_caches", "4");
	count_events();
	return count_events();
}

#define PROACTIVE "/proc/sys/vm/compaction_proactiveness"

/*
 * While kcompactd migrates a page, the page is not mapped and not counted. If
 * munlock() misses it then, and the migration fails, it stays mlocked. @was is
 * the setting that compaction_restore() restores; below 1 if none.
 */
static inline bool compaction_stop(long *was)
{
	*was = find_number(PROACTIVE, "");
	return *was <= 0 || !write_str(PROACTIVE, "0");
}

static inline void compaction_restore(long was)
{
	if (was > 0)
		write_ulong(PROACTIVE, was);
}

/*
 * For the set-up of fixtures with a first count, self->base, and a setting for
 * compaction_restore(), self->proactive.
 */
#define START_COUNTING() do {						\
	ASSERT_EQ(0, start_unlocked());					\
	ASSERT_EQ(true, compaction_stop(&self->proactive));		\
	self->base = first_count();					\
	ASSERT_LE(0, self->base.nr_mlock);				\
} while (0)

/* For these fixtures. */
#define NR_MLOCK_IS(n) do {						\
	struct events now_ = count_events();					\
									\
	EXPECT_EQ((long)(n), now_.nr_mlock - self->base.nr_mlock);	\
} while (0)

/* More than a batch holds, and not a multiple of it. */
#define MANY 70

#endif
