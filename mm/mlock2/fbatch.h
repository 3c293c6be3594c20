/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _MM_MLOCK2_FBATCH_H
#define _MM_MLOCK2_FBATCH_H

#include <linux/folio_batch.h>
#include <linux/percpu.h>
#include <linux/local_lock.h>

/* Folios with an mlock or munlock pending on this CPU */
struct mlock_fbatch {
	local_lock_t lock;
	/* fbatch.nr counts the pending folios and nr_dead. */
	struct folio_batch fbatch;
	/* Folios that were munlocked when they died, and used up a place */
	unsigned char nr_dead;
};
DECLARE_PER_CPU(struct mlock_fbatch, mlock_fbatch);

#endif /* _MM_MLOCK2_FBATCH_H */
