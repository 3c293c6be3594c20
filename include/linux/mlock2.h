/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What C and Rust call of each other in the mlock family (mm/mlock2/), where
 * no other header of the kernel declares it. #[export] checks the Rust
 * functions against this.
 */
#ifndef _LINUX_MLOCK2_H
#define _LINUX_MLOCK2_H

#include <linux/folio_batch.h>
#include <linux/preempt.h>	/* local_lock.h wants it without SMP */
#include <linux/local_lock.h>
#include <linux/mman.h>
#include <linux/percpu.h>
#include <linux/spinlock_types.h>
#include <linux/types.h>

struct task_struct;

/* Rust, for the system calls */
long mlock2_mlock(unsigned long start, size_t len);
long mlock2_mlock2(unsigned long start, size_t len, int flags);
long mlock2_munlock(unsigned long start, size_t len);
long mlock2_mlockall(int flags);
long mlock2_munlockall(void);

/* Rust, for __account_locked_vm() */
int mlock2_account_locked_vm(unsigned long *locked_vm, unsigned long pages,
			     bool inc, const struct task_struct *task,
			     bool bypass_rlim);

/* C, for Rust */
extern spinlock_t shmlock_user_lock;

/* Folios that wait to be mlocked or munlocked by this CPU */
struct mlock_fbatch {
	local_lock_t lock;
	/* Its nr counts the folios in it, and nr_dead. */
	struct folio_batch fbatch;
	/* Folios that were munlocked as they died, in place of waiting here */
	unsigned char nr_dead;
};
DECLARE_PER_CPU(struct mlock_fbatch, mlock_fbatch);

#endif /* _LINUX_MLOCK2_H */
