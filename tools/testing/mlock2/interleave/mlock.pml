/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The life of a folio that vmas may lock: the protocol of mm/mlock2/batch.rs, or
 * with -DC that of mm/mlock.c. 'make spin' checks it for every schedule.
 *
 * Processes fault the folio in, unmap it, lock and unlock their vma, and truncate
 * the file, any number of times, until the folio is freed. With -DMOVE, they change
 * CPUs whenever they are preemptible; with -DHOTPLUG as well, CPU 1 goes offline and
 * comes back. With -DISOLATE, a task isolates the folio, looks at the vmas that map
 * it, may unmap or free it, and puts it back, as reclaim, compaction and migration do.
 *
 * There is one folio, and it is small: a large one is pending in no batch. Other
 * folios may fill a batch at any time, so that it is drained, or has no place.
 *
 * Assertions stand where they must hold. With -DSTUCK, a folio that no vma locks
 * must not stay mlocked once nothing runs and nothing is pending: true for the
 * Rust without MOVE and ISOLATE, false for the C.
 */
#ifndef VMAS
#define VMAS	2
#endif
#define MOST	3			/* an upper limit for mlock_count, to be finite */

#define when(condition, ...)	if :: (condition) -> __VA_ARGS__ :: else fi
#define lock(l)			atomic { !l -> l = 1 }
#define unlock(l)		l = 0

mtype = { MLOCK, MUNLOCK };
mtype = { NONE, EVICTABLE, UNEVICTABLE };

bit lru = 1, mlocked, unevictable;	/* folio->flags: each change is atomic */
bit lruvec;				/* the lock of the next two */
mtype list = EVICTABLE;			/* the list that the folio is on */
byte count;				/* mlock_count, on the unevictable one */
bit cached = 1;				/* in the page cache: processes may map it */
byte refs = 1;				/* page cache, mappings, batches, isolation */
bit ptl[VMAS];				/* page table locks: of the next two */
bit maps[VMAS];
byte mapcount;
bit vm_locked[VMAS], vm_io[VMAS];	/* vma->flags */
bit local_lock[2];			/* by CPU: the lock of the next one */
chan batch[2] = [2] of { mtype };
byte busy;				/* tasks in the middle of something */
bit online = 1;				/* CPU 1, and how many tasks cannot leave it */
byte pinned;

#define TASK	bit isolated, kept, listed, was, is, last
/* Forget what is not used any more: it would only multiply the states. */
#define DONE	d_step { isolated = 0; kept = 0; listed = 0; was = 0; is = 0; last = 0; busy-- }

/* If PG_lru is set, the folio is on the list that PG_unevictable says. */
inline unlock_lruvec()
{
	d_step {
		assert(!lru || (list != NONE && (list == UNEVICTABLE) == unevictable));
		unlock(lruvec)
	}
}
inline inc_count() { count = (count < MOST -> count + 1 : MOST) }
inline dec_count() { count = (count -> count - 1 : 0); kept = count && mapcount }

inline put()
{
	d_step { assert(refs); refs--; last = !refs };
	when(last, lock(lruvec); lru = 0; list = NONE; unlock_lruvec(); free())
}
inline free() { assert(!refs && !mapcount && list == NONE); mlocked = 0; unevictable = 0 }

#ifdef C
#include "mlock-c.pml"
#else
/*
 * mm/mlock2 takes the lock first, and does not isolate the folio: as long as
 * PG_lru is set, one step changes the flags. A task that isolates the folio
 * after that waits for the lock.
 */
inline change(set, clear)		/* LruvecGuard::change() */
{
	d_step {
		assert(refs);
		listed = lru;
		when(listed,
			was = unevictable;
			mlocked = (mlocked && !(clear)) || (set);
			unevictable = mlocked;
			is = mlocked)
	};
	when(listed && was != is,
		assert(list == (was -> UNEVICTABLE : EVICTABLE));
		list = (is -> UNEVICTABLE : EVICTABLE);
		count = 0)
}

inline cull_or_rescue(set)		/* LruvecGuard::cull_or_rescue(), or mlock() with set */
{
	listed = lru;
	when(listed,
		lock(lruvec);
		change(set, 0);
		when(listed && is, inc_count());
		unlock_lruvec())
}

inline drain_mlock() { cull_or_rescue(0) }
inline drain_munlock()			/* LruvecGuard::munlock() */
{
	kept = 0;
	listed = lru;
	when(listed,
		lock(lruvec);
		listed = lru;
		when(listed && unevictable, dec_count());
		when(listed, change(0, !kept));	/* if isolated since, kept holds */
		unlock_lruvec());
	when(!listed && !kept, mlocked = 0)	/* stranded, if unevictable */
}

/* Without the reference of the mapping that was removed, the folio is freed. */
inline munlock_folio()
{
	lock(local_lock[cpu]);
	if
	:: mlocked && unevictable && refs == 1 && !cached ->
		mlocked = 0;			/* Folio::munlock_dying() */
		unlock(local_lock[cpu])
	:: else -> push(MUNLOCK)
	fi
}

/* The walk holds the batch, drained, while it moves folios. */
inline walk(locked)
{
	lock(local_lock[cpu]);
	mlock_folio_batch();
	if
	:: locked ->
		cull_or_rescue(1);
		when(!listed, mlocked = 1; cull_or_rescue(0));	/* put back meanwhile? */
		if
		:: !listed -> refs++; batch[cpu]!MLOCK
		:: true					/* or there is no place */
		fi
	:: else -> drain_munlock(); listed = 1
	fi;
	unlock(local_lock[cpu]);
	when(!listed, mlock_drain_local())
}
inline walked() { skip }
#endif /* !C */

inline mlock_folio_batch()
{
	do
	:: batch[cpu]?[MLOCK] -> drain_mlock(); batch[cpu]?_; put()
	:: batch[cpu]?[MUNLOCK] -> drain_munlock(); batch[cpu]?_; put()
	:: empty(batch[cpu]) -> break
	od
}
inline mlock_drain_local() { lock(local_lock[cpu]); mlock_folio_batch(); unlock(local_lock[cpu]) }
inline push(what)
{
	d_step { assert(refs); refs++ };
	batch[cpu]!what;
	if :: mlock_folio_batch() :: nfull(batch[cpu]) fi;
	unlock(local_lock[cpu])
}
inline mlock_folio() { lock(local_lock[cpu]); mlocked = 1; push(MLOCK) }

#ifdef MOVE
inline stay() { atomic { if :: cpu = 0 :: online -> cpu = 1 fi; pinned = pinned + cpu } }
inline leave() { d_step { pinned = pinned - cpu; cpu = 0 } }
#else
inline stay() { skip }
inline leave() { skip }
#endif
inline lock_ptl(v) { atomic { !ptl[v] -> ptl[v] = 1; stay() } }
inline unlock_ptl(v) { atomic { unlock(ptl[v]); leave() } }
inline lru_add_drain() { stay(); mlock_drain_local(); leave() }

inline unmap(v)
{
	d_step { maps[v] = 0; mapcount-- };
	when(vm_locked[v], munlock_folio());
	put()
}
inline mlock_vma_pages_range(v, locked)
{
	lru_add_drain();
	lock_ptl(v); when(maps[v], walk(locked)); unlock_ptl(v);
	walked()
}

/* A process with a vma. The mmap lock serializes its own calls. */
proctype process(byte v; byte cpu)
{
	TASK;

	do
	:: busy++;
		if
		:: lock_ptl(v);
			if
			:: d_step { !maps[v] && cached -> maps[v] = 1; mapcount++; refs++ };
				when(vm_locked[v], mlock_folio())
			:: maps[v] -> unmap(v)
			:: !maps[v]
			fi;
			unlock_ptl(v)
		:: !vm_locked[v] ->
			d_step { vm_locked[v] = 1; vm_io[v] = 1 };
			mlock_vma_pages_range(v, 1);
			vm_io[v] = 0
		:: vm_locked[v] -> vm_locked[v] = 0; mlock_vma_pages_range(v, 0)
		:: lru_add_drain()
		:: d_step { cached && !mapcount -> cached = 0 }; put()	/* truncate */
		fi;
		DONE
	od
}

/* Reclaim, migration and others that isolate the folio */
proctype isolate(byte cpu)
{
	TASK;
	byte v;

	do
	:: d_step { refs && lru -> lru = 0; refs++; busy++ };
		lock(lruvec); assert(list != NONE); list = NONE; unlock_lruvec();
		for (v : 0 .. VMAS - 1) {	/* try_to_unmap() */
			lock_ptl(v);
			if
			:: maps[v] && vm_locked[v] && !vm_io[v] -> mlock_folio()
			:: maps[v] -> unmap(v)
			:: true
			fi;
			unlock_ptl(v)
		}
		if
		:: d_step { cached && refs == 2 -> cached = 0; refs = 0 }; free()
		:: lock(lruvec);		/* lru_add() */
			assert(refs && list == NONE && !lru);
			unevictable = 0;
			if
			:: mlocked -> unevictable = 1; list = UNEVICTABLE; count = 0
			:: else -> list = EVICTABLE; count = 0
			fi;
			lru = 1;
			unlock_lruvec();
			put();
			lru_add_drain()
		fi;
		DONE
	od
}

/* CPU 1 goes offline when all tasks have left it. */
proctype hotplug(byte cpu)
{
	TASK;

	do
	:: d_step { online && !pinned -> online = 0; busy++ };
		mlock_folio_batch();		/* mlock_drain_remote(): without a lock */
		assert(empty(batch[1]) && !local_lock[1]);
		online = 1;
		DONE
	od
}

#define locks(v)	(maps[v] && vm_locked[v])
active proctype rest()			/* nothing runs, nothing is pending */
{
end:	do
	:: atomic { !busy && empty(batch[0]) && empty(batch[1]) ->
		assert(lru == (refs > 0) && !lruvec && refs == cached + mapcount);
#ifdef STUCK
		assert(!mlocked || locks(0) || locks(VMAS - 1));
#endif
		skip }
	od
}

init
{
	atomic {
		if :: skip :: cached = 0; maps[0] = 1; mapcount = 1 fi;	/* or anonymous */
		run process(0, 0);
#if VMAS > 1
		run process(1, 1);
#endif
#ifdef ISOLATE
		run isolate(0);
#endif
#ifdef HOTPLUG
		run hotplug(1);
#endif
		skip
	}
}
