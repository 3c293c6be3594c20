// SPDX-License-Identifier: GPL-2.0
/*
 * The parts of the mlock family that need C: system call definitions, an
 * exported symbol, a per-CPU variable and tracepoints. The decisions are in
 * Rust, but for the inline functions of linux/mlock2.h; start reading at
 * mlock2.rs.
 */

#include <linux/export.h>
#include <linux/mlock2.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/spinlock.h>
#include <linux/syscalls.h>

#include "fbatch.h"

#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include <trace/events/mlock.h>

/* Not static: each object that inlines Rust helpers would have its own */
DEFINE_PER_CPU(struct mlock_fbatch, mlock_fbatch) = {
	.lock = INIT_LOCAL_LOCK(lock),
};

/* Protects the counts of locked shared memory, as in the C */
DEFINE_SPINLOCK(shmlock_user_lock);

SYSCALL_DEFINE2(mlock, unsigned long, start, size_t, len)
{
	return mlock2_mlock(start, len);
}

SYSCALL_DEFINE3(mlock2, unsigned long, start, size_t, len, int, flags)
{
	return mlock2_mlock2(start, len, flags);
}

SYSCALL_DEFINE2(munlock, unsigned long, start, size_t, len)
{
	return mlock2_munlock(start, len);
}

SYSCALL_DEFINE1(mlockall, int, flags)
{
	return mlock2_mlockall(flags);
}

SYSCALL_DEFINE0(munlockall)
{
	return mlock2_munlockall();
}

/* Defined in mlock2.rs; Rust has no EXPORT_SYMBOL for single symbols */
EXPORT_SYMBOL(can_do_mlock);
