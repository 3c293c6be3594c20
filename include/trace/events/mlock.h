/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Trace events of the mlock family: refused requests, and changes of vmas and
 * folios. Documentation/admin-guide/mm/mlock.rst describes the fields.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM mlock

#if !defined(_TRACE_MLOCK_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_MLOCK_H

#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/mlock2.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/tracepoint.h>
#include <linux/user_namespace.h>

#define MLOCK_CALLERS						\
	EM(MLOCK_CALLER_MLOCK,		"mlock")		\
	EM(MLOCK_CALLER_MLOCK2,		"mlock2")		\
	EM(MLOCK_CALLER_MUNLOCK,	"munlock")		\
	EM(MLOCK_CALLER_MLOCKALL,	"mlockall")		\
	EM(MLOCK_CALLER_MUNLOCKALL,	"munlockall")		\
	EM(MLOCK_CALLER_MMAP,		"mmap")			\
	EM(MLOCK_CALLER_BRK,		"brk")			\
	EM(MLOCK_CALLER_MREMAP,		"mremap")		\
	EM(MLOCK_CALLER_STACK,		"stack")		\
	EM(MLOCK_CALLER_SHM_LOCK,	"shm_lock")		\
	EM(MLOCK_CALLER_SHM_HUGETLB,	"shm_hugetlb")		\
	EM(MLOCK_CALLER_ACCOUNT,	"account_locked_vm")	\
	EMe(MLOCK_CALLER_DRIVER,	"can_do_mlock")

#define MLOCK_REASONS						\
	EM(MLOCK_REASON_LIMIT_ZERO,	"limit_zero")		\
	EM(MLOCK_REASON_OVER_LIMIT,	"over_limit")		\
	EM(MLOCK_REASON_OVER_USER_LIMIT, "over_user_limit")	\
	EM(MLOCK_REASON_NOT_PERMITTED,	"not_permitted")	\
	EM(MLOCK_REASON_HOLE,		"hole")			\
	EM(MLOCK_REASON_NOT_MAPPED,	"not_mapped")		\
	EM(MLOCK_REASON_RANGE_WRAPS,	"range_wraps")		\
	EM(MLOCK_REASON_BAD_FLAGS,	"bad_flags")		\
	EM(MLOCK_REASON_TOO_MANY_VMAS,	"too_many_vmas")	\
	EM(MLOCK_REASON_NO_MEMORY_FOR_VMA, "no_memory_for_vma")	\
	EM(MLOCK_REASON_POPULATE_FAILED, "populate_failed")	\
	EMe(MLOCK_REASON_KILLED,	"killed")

#define MLOCK_CAUSES						\
	EM(MLOCK_CAUSE_NONE,		"none")			\
	EM(MLOCK_CAUSE_NO_ACCESS,	"no_access")		\
	EM(MLOCK_CAUSE_PAST_EOF,	"past_eof")		\
	EM(MLOCK_CAUSE_GUARD,		"guard")		\
	EM(MLOCK_CAUSE_SECRETMEM,	"secretmem")		\
	EM(MLOCK_CAUSE_NO_MEMORY,	"no_memory")		\
	EM(MLOCK_CAUSE_SIGBUS,		"sigbus")		\
	EMe(MLOCK_CAUSE_UNMAPPED,	"unmapped")

#define MLOCK_EFFECTS						\
	EM(MLOCK_EFFECT_CULLED,		"culled")		\
	EM(MLOCK_EFFECT_RESCUED,		"rescued")		\
	EM(MLOCK_EFFECT_STAYS,		"stays")		\
	EM(MLOCK_EFFECT_STRANDED,		"stranded")		\
	EMe(MLOCK_EFFECT_EVICTABLE,	"evictable")

#define MLOCK_MODES						\
	EM(MLOCK_MODE_UNLOCKED,		"unlocked")		\
	EM(MLOCK_MODE_LOCKED,		"locked")		\
	EMe(MLOCK_MODE_ONFAULT,		"onfault")

/* Export the enum values to user space */
#undef EM
#undef EMe
#define EM(a, b)	TRACE_DEFINE_ENUM(a);
#define EMe(a, b)	TRACE_DEFINE_ENUM(a);

MLOCK_CALLERS
MLOCK_REASONS
MLOCK_CAUSES
MLOCK_EFFECTS
MLOCK_MODES

#undef EM
#undef EMe
#define EM(a, b)	{ a, b },
#define EMe(a, b)	{ a, b }

/* The address space locks new mappings */
#define MLOCK_STATE_FUTURE	0x1
/* The caller has CAP_IPC_LOCK, but only in a user namespace */
#define MLOCK_STATE_NS_CAP	0x2

#ifdef CREATE_TRACE_POINTS
/* The process that owns the address space @mm, or 0 if unknown */
static inline pid_t __trace_mlock_owner(const struct mm_struct *mm)
{
	pid_t tgid = 0;

	if (mm == current->mm && !(current->flags & PF_KTHREAD))
		return current->tgid;
#ifdef CONFIG_MEMCG
	if (mm) {
		const struct task_struct *owner;

		rcu_read_lock();
		owner = rcu_dereference(mm->owner);
		if (owner)
			tgid = owner->tgid;
		rcu_read_unlock();
	}
#endif
	return tgid;
}
#endif

/*
 * A request to lock or unlock memory was refused.
 *
 * @owner: the process whose memory it is; differs from tgid if a debugger
 *	makes a stack grow, or a driver pins memory for another process
 * @locked: pages locked before, by the process; by the user for shm_lock
 * @total: pages that would be locked
 * @limit: RLIMIT_MEMLOCK in bytes
 * @at: the address that decided: the first one that is not mapped, where a vma
 *	could not be split, or the first page that could not be faulted in
 *
 * Fields that do not apply to the reason are 0.
 */
TRACE_EVENT(mlock_refused,

	TP_PROTO(unsigned int caller, unsigned int reason, int error,
		 unsigned long start, unsigned long len, unsigned long locked,
		 unsigned long total, unsigned long limit, unsigned long at,
		 unsigned int cause, const struct mm_struct *mm),

	TP_ARGS(caller, reason, error, start, len, locked, total, limit, at, cause, mm),

	TP_STRUCT__entry(
		__field(pid_t,		tgid)
		__field(pid_t,		owner)
		__field(unsigned int,	caller)
		__field(unsigned int,	reason)
		__field(int,		error)
		__field(unsigned long,	start)
		__field(unsigned long,	len)
		__field(unsigned long,	locked)
		__field(unsigned long,	total)
		__field(unsigned long,	limit)
		__field(unsigned long,	at)
		__field(unsigned int,	cause)
		__field(int,		map_count)
		__field(unsigned int,	state)
		__array(char,		comm,	TASK_COMM_LEN)
	),

	TP_fast_assign(
		if (!mm)
			mm = current->mm;
		__entry->tgid = current->tgid;
		__entry->owner = __trace_mlock_owner(mm);
		__entry->caller = caller;
		__entry->reason = reason;
		__entry->error = error;
		__entry->start = start;
		__entry->len = len;
		__entry->locked = locked;
		__entry->total = total;
		__entry->limit = limit;
		__entry->at = at;
		__entry->cause = cause;
		__entry->map_count = mm ? READ_ONCE(mm->map_count) : 0;
		__entry->state = 0;
		if (mm && vma_flags_test(&mm->def_vma_flags, VMA_LOCKED_BIT))
			__entry->state |= MLOCK_STATE_FUTURE;
		if (current_user_ns() != &init_user_ns &&
		    has_ns_capability_noaudit(current, current_user_ns(), CAP_IPC_LOCK))
			__entry->state |= MLOCK_STATE_NS_CAP;
		memcpy(__entry->comm, current->comm, TASK_COMM_LEN);
	),

	TP_printk("tgid=%d owner=%d caller=%s reason=%s error=%d start=0x%lx len=%lu locked=%lu total=%lu limit=%lu at=0x%lx cause=%s map_count=%d state=%s comm=%s",
		__entry->tgid, __entry->owner,
		__print_symbolic(__entry->caller, MLOCK_CALLERS),
		__print_symbolic(__entry->reason, MLOCK_REASONS),
		__entry->error, __entry->start, __entry->len, __entry->locked,
		__entry->total, __entry->limit, __entry->at,
		__print_symbolic(__entry->cause, MLOCK_CAUSES),
		__entry->map_count,
		__print_flags(__entry->state, "|",
			      { MLOCK_STATE_FUTURE, "future" },
			      { MLOCK_STATE_NS_CAP, "ns_cap" }),
		__entry->comm)
);

/* The lock mode of a vma or a part of a vma changed. */
TRACE_EVENT(mlock_vma,

	TP_PROTO(unsigned long start, unsigned long end, unsigned int from,
		 unsigned int to, long pages),

	TP_ARGS(start, end, from, to, pages),

	TP_STRUCT__entry(
		__field(unsigned long,	start)
		__field(unsigned long,	end)
		__field(unsigned int,	from)
		__field(unsigned int,	to)
		__field(long,		pages)
	),

	TP_fast_assign(
		__entry->start = start;
		__entry->end = end;
		__entry->from = from;
		__entry->to = to;
		__entry->pages = pages;
	),

	TP_printk("start=0x%lx end=0x%lx from=%s to=%s pages=%ld",
		__entry->start, __entry->end,
		__print_symbolic(__entry->from, MLOCK_MODES),
		__print_symbolic(__entry->to, MLOCK_MODES),
		__entry->pages)
);

/*
 * mlockall() succeeded, or munlockall() with @flags 0.
 *
 * @vmas: vmas that the call was to change: it does not fail for a vma that
 *	cannot be merged for want of memory
 * @pages: pages charged by the call; negative if uncharged
 */
TRACE_EVENT(mlockall,

	TP_PROTO(int flags, unsigned long vmas, long pages),

	TP_ARGS(flags, vmas, pages),

	TP_STRUCT__entry(
		__field(pid_t,		tgid)
		__field(int,		flags)
		__field(unsigned long,	vmas)
		__field(long,		pages)
	),

	TP_fast_assign(
		__entry->tgid = current->tgid;
		__entry->flags = flags;
		__entry->vmas = vmas;
		__entry->pages = pages;
	),

	TP_printk("tgid=%d flags=%s vmas=%lu pages=%ld",
		__entry->tgid,
		__entry->flags ? __print_flags(__entry->flags, "|",
					       { MCL_CURRENT, "MCL_CURRENT" },
					       { MCL_FUTURE, "MCL_FUTURE" },
					       { MCL_ONFAULT, "MCL_ONFAULT" }) : "0",
		__entry->vmas, __entry->pages)
);

/*
 * A folio was mlocked or munlocked, with this effect:
 *
 * culled	it moved to the unevictable list
 * rescued	it left the unevictable list
 * stays	it stays on the unevictable list
 * stranded	it stays on the unevictable list, but is not mlocked any more
 * evictable	it stays evictable: for an mlock, the folio was on no list, or
 *		another CPU munlocked it in between
 *
 * The other fields show PG_mlocked, and mlock_count if the folio is on the
 * unevictable list, as they are afterwards.
 */
DECLARE_EVENT_CLASS(mlock_folio_class,

	TP_PROTO(struct folio *folio, bool was_unevictable),

	TP_ARGS(folio, was_unevictable),

	TP_STRUCT__entry(
		__field(unsigned long,	pfn)
		__field(unsigned long,	pages)
		__field(unsigned int,	effect)
		__field(unsigned int,	count)
		__field(bool,		mlocked)
	),

	TP_fast_assign(
		const bool unevictable = folio_test_unevictable(folio);

		__entry->pfn = folio_pfn(folio);
		__entry->pages = folio_nr_pages(folio);
		__entry->mlocked = folio_test_mlocked(folio);
		/* On no LRU list, the count may be a link of another list. */
		__entry->count = unevictable && folio_test_lru(folio) ?
				 READ_ONCE(folio->mlock_count) : 0;
		if (!was_unevictable)
			__entry->effect = unevictable ? MLOCK_EFFECT_CULLED :
							MLOCK_EFFECT_EVICTABLE;
		else if (!unevictable)
			__entry->effect = MLOCK_EFFECT_RESCUED;
		else
			__entry->effect = __entry->mlocked ? MLOCK_EFFECT_STAYS :
							     MLOCK_EFFECT_STRANDED;
	),

	TP_printk("pfn=0x%lx pages=%lu effect=%s mlocked=%d mlock_count=%u",
		__entry->pfn, __entry->pages,
		__print_symbolic(__entry->effect, MLOCK_EFFECTS),
		__entry->mlocked, __entry->count)
);

DEFINE_EVENT(mlock_folio_class, mlock_folio,
	TP_PROTO(struct folio *folio, bool was_unevictable),
	TP_ARGS(folio, was_unevictable)
);

DEFINE_EVENT(mlock_folio_class, munlock_folio,
	TP_PROTO(struct folio *folio, bool was_unevictable),
	TP_ARGS(folio, was_unevictable)
);

#undef EM
#undef EMe

#endif /* _TRACE_MLOCK_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
