/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The counters of the machine that locked pages change: tests compare them with
 * what they were, so nobody else may lock or unlock memory.
 *
 * To be included after kselftest_harness.h.
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

/* The same, once the code and data of the helpers are in memory. */
static inline struct events first_count(void)
{
	/* Ask drop_caches not to log each time. */
	write_str("/proc/sys/vm/drop_caches", "4");
	count_events();
	return count_events();
}

#define PROACTIVE "/proc/sys/vm/compaction_proactiveness"

/*
 * A page that kcompactd is migrating is mapped nowhere, is not counted, and stays
 * mlocked if munlock() finds it so and migration fails. @was is the setting that
 * compaction_restore() puts back, or -1.
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

/* Of a fixture that has its first count as self->base. */
#define NR_MLOCK_IS(n) do {						\
	struct events now_ = count_events();					\
									\
	EXPECT_EQ((long)(n), now_.nr_mlock - self->base.nr_mlock);	\
} while (0)

/* More than a batch holds, and not a multiple of one. */
#define MANY 70

#endif
