/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Interface between C and Rust of the mlock family (mm/mlock2/), as far as no
 * other header declares it. #[export] checks the Rust functions against these
 * declarations.
 */
#ifndef _LINUX_MLOCK2_H
#define _LINUX_MLOCK2_H

#include <linux/capability.h>
#include <linux/mman.h>
#include <linux/sched/signal.h>
#include <linux/spinlock_types.h>
#include <linux/types.h>

struct mm_struct;
struct task_struct;
struct ucounts;

/*
 * The caller that wants to lock memory, the reason for a refusal, and the cause
 * why a page could not be faulted in, for the events in trace/events/mlock.h.
 * Documentation/admin-guide/mm/mlock.rst describes the names that user space
 * sees.
 */
enum mlock_caller {
	MLOCK_CALLER_MLOCK,
	MLOCK_CALLER_MLOCK2,
	MLOCK_CALLER_MUNLOCK,
	MLOCK_CALLER_MLOCKALL,
	MLOCK_CALLER_MUNLOCKALL,
	MLOCK_CALLER_MMAP,
	MLOCK_CALLER_BRK,
	MLOCK_CALLER_MREMAP,
	MLOCK_CALLER_STACK,
	MLOCK_CALLER_SHM_LOCK,
	MLOCK_CALLER_SHM_HUGETLB,
	MLOCK_CALLER_ACCOUNT,
	MLOCK_CALLER_DRIVER,
};

enum mlock_reason {
	MLOCK_REASON_LIMIT_ZERO,
	MLOCK_REASON_OVER_LIMIT,
	MLOCK_REASON_OVER_USER_LIMIT,
	MLOCK_REASON_NOT_PERMITTED,
	MLOCK_REASON_HOLE,
	MLOCK_REASON_NOT_MAPPED,
	MLOCK_REASON_RANGE_WRAPS,
	MLOCK_REASON_BAD_FLAGS,
	MLOCK_REASON_TOO_MANY_VMAS,
	MLOCK_REASON_NO_MEMORY_FOR_VMA,
	MLOCK_REASON_POPULATE_FAILED,
	MLOCK_REASON_KILLED,
};

enum mlock_cause {
	MLOCK_CAUSE_NONE,
	MLOCK_CAUSE_NO_ACCESS,
	MLOCK_CAUSE_PAST_EOF,
	MLOCK_CAUSE_GUARD,
	MLOCK_CAUSE_SECRETMEM,
	MLOCK_CAUSE_NO_MEMORY,
	MLOCK_CAUSE_SIGBUS,
	MLOCK_CAUSE_UNMAPPED,
};

/* The effect of an mlock or munlock on a folio */
enum mlock_effect {
	MLOCK_EFFECT_CULLED,
	MLOCK_EFFECT_RESCUED,
	MLOCK_EFFECT_STAYS,
	MLOCK_EFFECT_STRANDED,
	MLOCK_EFFECT_EVICTABLE,
};

enum mlock_mode {
	MLOCK_MODE_UNLOCKED,
	MLOCK_MODE_LOCKED,
	MLOCK_MODE_ONFAULT,
};

/* Rust, for the system calls */
long mlock2_mlock(unsigned long start, size_t len);
long mlock2_mlock2(unsigned long start, size_t len, int flags);
long mlock2_munlock(unsigned long start, size_t len);
long mlock2_mlockall(int flags);
long mlock2_munlockall(void);

/* Rust, for __account_locked_vm() */
int mlock2_account_locked_vm(struct mm_struct *mm, unsigned long pages,
			     bool inc, const struct task_struct *task,
			     bool bypass_rlim);

/*
 * Rust, for C: variants of existing mm functions that also take the values for
 * the event of a refusal.
 */
#ifdef CONFIG_MLOCK2
/* The rest of the two inline functions below */
bool mlock2_may_exceed_zero(enum mlock_caller caller, unsigned long bytes);
bool mlock2_within_limit(const struct mm_struct *mm, unsigned long bytes,
			 enum mlock_caller caller);

/* As can_do_mlock(). Inline, since most limits are not 0 */
static inline bool mlock2_can_do_mlock(enum mlock_caller caller, unsigned long bytes)
{
	return rlimit(RLIMIT_MEMLOCK) || mlock2_may_exceed_zero(caller, bytes);
}

/*
 * As mlock_future_ok(). Inline, since most vmas are not locked, and who locks
 * all that it maps often has CAP_IPC_LOCK: so most calls end here.
 */
static inline bool mlock2_future_ok(const struct mm_struct *mm, bool is_vma_locked,
				    unsigned long bytes, enum mlock_caller caller)
{
	return !is_vma_locked || capable(CAP_IPC_LOCK) ||
	       mlock2_within_limit(mm, bytes, caller);
}

int mlock2_shm_hugetlb(size_t size, struct ucounts *ucounts);
void mlock2_shm_lock_refused(size_t size, bool is_owner);
#else
#define mlock2_can_do_mlock(caller, bytes)	can_do_mlock()
#define mlock2_future_ok(mm, is_vma_locked, bytes, caller) \
	mlock_future_ok(mm, is_vma_locked, bytes)
#define mlock2_shm_hugetlb(size, ucounts)	user_shm_lock(size, ucounts)
#define mlock2_shm_lock_refused(size, is_owner)	do { } while (0)
#endif

/* C, for Rust */
extern spinlock_t shmlock_user_lock;

#endif /* _LINUX_MLOCK2_H */
