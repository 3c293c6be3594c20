// SPDX-License-Identifier: GPL-2.0

#include <linux/mmap_lock.h>
#include <linux/sched.h>

__rust_helper int rust_helper_mmap_write_lock_killable(struct mm_struct *mm)
{
	return mmap_write_lock_killable(mm);
}

__rust_helper void rust_helper_mmap_write_unlock(struct mm_struct *mm)
{
	mmap_write_unlock(mm);
}

__rust_helper void rust_helper_cond_resched(void)
{
	cond_resched();
}
