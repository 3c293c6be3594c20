/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The life of a folio that vmas may lock: the protocol of mm/mlock2/batch.rs, or
 * with -DC that of mm/mlock.c. 'make spin' checks it for every schedule.
 *
 * Processes fault the folio in, unmap it, lock and unlock their vma, any number
 * of times. With -DMOVE they change CPUs. With -DISOLATE a task isolates the
 * folio, looks at the vmas that map it, and puts it back, as reclaim, compaction
 * and migration do; with -DUNMAP it also unmaps the folio, as truncation does.
 *
 * Assertions stand where they must hold. With -DSTUCK, a folio that no vma locks
 * must not stay mlocked once nothing runs and nothing is pending: true for the
 * Rust without MOVE and ISOLATE, false for the C.
 */
#define CPUS	2
#ifndef VMAS
#define VMAS	2
#endif
#define BATCH	2			/* FOLIO_BATCH_SIZE */
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
bit ptl[VMAS];				/* page table locks: of the next two */
bit maps[VMAS];
byte mapcount;
bit vm_locked[VMAS], vm_io[VMAS];	/* vma->flags */
bit local_lock[CPUS];			/* the lock of the next one */
chan batch[CPUS] = [BATCH] of { mtype };
byte busy;				/* tasks in the middle of something */

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

#ifdef C
/* mm/mlock.c isolates the folio first, and then takes the lock. */
inline test_clear_lru() { d_step { isolated = lru; lru = 0 } }
inline putback() { assert(!lru); lru = 1; unlock_lruvec() }
inline move(value)			/* lruvec_del_folio(), lruvec_add_folio() */
{
	assert(list != NONE && !lru);
	unevictable = value;
	list = (value -> UNEVICTABLE : EVICTABLE)
}

inline drain_mlock()			/* __mlock_folio() */
{
	test_clear_lru();
	when(isolated,
		lock(lruvec);
		if
		:: !mlocked -> when(unevictable, move(0))
		:: mlocked && unevictable -> when(mlocked, inc_count())
		:: mlocked && !unevictable -> move(1); count = mlocked
		fi;
		putback())
}

inline drain_munlock()			/* __munlock_folio() */
{
	test_clear_lru();
	kept = 0;
	when(isolated, lock(lruvec); when(unevictable, dec_count()));
	when(!kept,
		mlocked = 0;
		when(isolated && unevictable && !mlocked, move(0)));
	when(isolated, putback())
}

/* There is one folio, so the batch of the walk is drained after it. */
inline walk(locked) { if :: locked -> mlock_folio() :: else -> munlock_folio() fi }
inline walked() { lru_add_drain() }

#else /* !C */
/*
 * mm/mlock2 takes the lock first, and does not isolate the folio: as long as
 * PG_lru is set, one step changes the flags. A task that isolates the folio
 * after that waits for the lock.
 */
inline change(set, clear)		/* LruvecGuard::change() */
{
	d_step {
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

/* The walk holds the batch, drained, while it moves folios. */
inline walk(locked)
{
	lock(local_lock[cpu]);
	mlock_folio_batch();
	if
	:: locked ->
		cull_or_rescue(1);
		when(!listed, mlocked = 1; cull_or_rescue(0));	/* put back meanwhile? */
		when(!listed, batch[cpu]!MLOCK)
	:: else -> drain_munlock(); listed = 1
	fi;
	unlock(local_lock[cpu]);
	when(!listed, lru_add_drain())
}
inline walked() { skip }
#endif

inline mlock_folio_batch()
{
	do
	:: batch[cpu]?[MLOCK] -> drain_mlock(); batch[cpu]?_
	:: batch[cpu]?[MUNLOCK] -> drain_munlock(); batch[cpu]?_
	:: empty(batch[cpu]) -> break
	od
}
inline lru_add_drain() { lock(local_lock[cpu]); mlock_folio_batch(); unlock(local_lock[cpu]) }
inline push(what)
{
	batch[cpu]!what;
	if :: full(batch[cpu]) -> mlock_folio_batch() :: nfull(batch[cpu]) fi;
	unlock(local_lock[cpu])
}
inline mlock_folio() { lock(local_lock[cpu]); mlocked = 1; push(MLOCK) }
inline munlock_folio() { lock(local_lock[cpu]); push(MUNLOCK) }

inline map(v) { d_step { maps[v] = 1; mapcount++ }; when(vm_locked[v], mlock_folio()) }
inline unmap(v) { d_step { maps[v] = 0; mapcount-- }; when(vm_locked[v], munlock_folio()) }
inline mlock_vma_pages_range(v, locked)
{
	lru_add_drain();
	lock(ptl[v]); when(maps[v], walk(locked)); unlock(ptl[v]);
	walked()
}

/* A process with a vma. The mmap lock serializes its own calls. */
proctype process(byte v; byte cpu)
{
	bit isolated, kept, listed, was, is;

	do
	:: busy++;
		if
		:: lock(ptl[v]); when(!maps[v], map(v)); unlock(ptl[v])
		:: lock(ptl[v]); when(maps[v], unmap(v)); unlock(ptl[v])
		:: !vm_locked[v] ->
			d_step { vm_locked[v] = 1; vm_io[v] = 1 };
			mlock_vma_pages_range(v, 1);
			vm_io[v] = 0
		:: vm_locked[v] -> vm_locked[v] = 0; mlock_vma_pages_range(v, 0)
		:: lru_add_drain()
		fi;
#ifdef MOVE
		if :: cpu = 0 :: cpu = 1 fi;
#endif
		busy--
	od
}

/* Reclaim, migration and others that isolate the folio */
proctype isolate(byte cpu)
{
	bit isolated, kept, listed, was, is;
	byte v;

	do
	:: d_step { lru -> lru = 0; busy++ };
		lock(lruvec); assert(list != NONE); list = NONE; unlock_lruvec();
		for (v : 0 .. VMAS - 1) {	/* try_to_unmap() */
			lock(ptl[v]);
			if
			:: maps[v] && vm_locked[v] && !vm_io[v] -> mlock_folio()
#ifdef UNMAP
			:: maps[v] -> unmap(v)
#endif
			:: maps[v] && !vm_locked[v] -> d_step { maps[v] = 0; mapcount-- }
			:: else
			fi;
			unlock(ptl[v])
		}
		lock(lruvec);			/* lru_add() */
		assert(list == NONE && !lru);
		unevictable = 0;
		if
		:: mlocked -> unevictable = 1; list = UNEVICTABLE; count = 0
		:: else -> list = EVICTABLE
		fi;
		lru = 1;
		unlock_lruvec();
		lru_add_drain();
		busy--
	od
}

#define locks(v)	(maps[v] && vm_locked[v])
active proctype rest()			/* nothing runs, nothing is pending */
{
end:	do
	:: atomic { !busy && empty(batch[0]) && empty(batch[1]) ->
		assert(lru && !lruvec);
#ifdef STUCK
		assert(!mlocked || locks(0) || locks(VMAS - 1));
#endif
		skip }
	od
}

init
{
	atomic {
		run process(0, 0);
#if VMAS > 1
		run process(1, 1);
#endif
#ifdef ISOLATE
		run isolate(0)
#endif
	}
}
