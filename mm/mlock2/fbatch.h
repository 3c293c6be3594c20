/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _MM_MLOCK2_FBATCH_H
#define _MM_MLOCK2_FBATCH_H

#include <linux/folio_batch.h>
#include <linux/percpu.h>
#include <linux/local_lock.h>

/* Folios that wait to be mlocked or munlocked by this CPU */
struct mlock_fbatch {
	local_lock_t lock;
	/* Its nr counts the folios in it, and nr_dead. */
	struct folio_batch fbatch;
	/* Folios that were munlocked as they died, in place of waiting here */
	unsigned char nr_dead;
};
DECLARE_PER_CPU(struct mlock_fbatch, mlock_fbatch);

#endif /* _MM_MLOCK2_FBATCH_H */
