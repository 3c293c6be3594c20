/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The life of a folio that may be locked, on one page: what mm/mlock2/batch.rs
 * does, or with -DC, what mm/mlock.c does. Checked with spin, for any schedule:
 *
 *	spin -a mlock.pml && cc -O2 -DSAFETY -o pan pan.c && ./pan
 *
 * Processes map the folio, lock and unlock the vma, unmap it, any number of
 * times; on PREEMPT_RT, several of them run on one CPU at once. With -DMOVE they
 * go from one CPU to another. With -DISOLATE somebody takes the folio off its
 * list, looks at the vmas that map it, and puts it back, as reclaim, compaction
 * and migration do; with -DUNMAP, he unmaps it besides, as truncation does.
 *
 * What must hold is asserted where it must. With -DSTUCK, a folio that no vma locks
 * must not be mlocked when nobody does anything and nothing waits. That holds for the
 * Rust without MOVE and ISOLATE; it does not for the C.
 */
#define CPUS	2
#ifndef VMAS
#define VMAS	2
#endif
#define BATCH	2		/* FOLIO_BATCH_SIZE */
#define MOST	3		/* mlock_count goes no further, to be finite */

mtype = { MLOCK, MUNLOCK };
mtype = { NONE, EVICTABLE, UNEVICTABLE };

/* folio->flags: each change is atomic */
bit lru = 1, mlocked, unevictable;
/* Under the lruvec lock: the list that the folio is on, and in the place of the
 * links of the last one, the count */
mtype list = EVICTABLE;
byte count;
bit lruvec;

/* Under the page table lock */
bit maps[VMAS];
byte mapcount;
bit ptl[VMAS];
/* vma->flags, one word */
bit vm_locked[VMAS], vm_io[VMAS];

/* The batches, each under the local lock of its CPU */
chan batch[CPUS] = [BATCH] of { mtype };
bit local_lock[CPUS];

byte busy;			/* how many are in the middle of something */

inline lock(l)   { atomic { !l -> l = 1 } }
inline unlock(l) { l = 0 }
/* PG_lru is set, or was when the lock was taken: the lists are as the flags say */
inline unlock_lruvec()
{
	d_step {
		assert(!lru || (list == UNEVICTABLE) == unevictable);
		assert(!lru || list != NONE);
		lruvec = 0
	}
}

inline inc_count() { count = (count < MOST -> count + 1 : MOST) }

#ifdef C
/*
 * mm/mlock.c: to isolate the folio comes first, then the lock.
 */
inline test_clear_lru() { d_step { isolated = lru; lru = 0 } }

inline set_unevictable(value)
{
	/* lruvec_del_folio(), the flag, lruvec_add_folio() */
	assert(list != NONE && !lru);
	unevictable = value;
	list = (value -> UNEVICTABLE : EVICTABLE)
}

inline __mlock_folio()
{
	test_clear_lru();
	if
	:: !isolated			/* nothing more that we can do */
	:: else ->
		lock(lruvec);
		if
		:: !mlocked ->		/* folio_evictable() */
			if
			:: unevictable -> set_unevictable(0)
			:: else
			fi
		:: else ->
			if
			:: unevictable ->
				if
				:: mlocked -> inc_count()
				:: else
				fi
			:: else ->
				set_unevictable(1);
				count = mlocked
			fi
		fi;
		assert(!lru);
		lru = 1;
		unlock_lruvec()
	fi
}

inline __munlock_folio()
{
	test_clear_lru();
	kept = 0;
	if
	:: isolated ->
		lock(lruvec);
		if
		:: unevictable ->
			count = (count -> count - 1 : 0);
			kept = count && mapcount
		:: else
		fi
	:: else
	fi;
	if
	:: !kept ->
		mlocked = 0;
		if
		:: isolated && unevictable && !mlocked -> set_unevictable(0)
		:: else
		fi
	:: else
	fi;
	if
	:: isolated ->
		assert(!lru);
		lru = 1;
		unlock_lruvec()
	:: else
	fi
}

#define drain_mlock()	__mlock_folio()
#define drain_munlock()	__munlock_folio()

/* One folio, so the batch of the walk is drained after it */
inline walk(v, locked)
{
	if
	:: locked -> mlock_folio()
	:: else -> munlock_folio()
	fi
}

#else /* !C */
/*
 * mm/mlock2: nobody isolates the folio. If PG_lru is set, the lock comes first; while
 * it still is, the flags change in one step. Whoever isolates the folio after that
 * waits for the lock.
 *
 * LruvecGuard::change(), with the lock: sets or clears PG_mlocked, and
 * PG_unevictable with it
 */
inline change(set, clear)
{
	d_step {
		listed = lru;
		if
		:: listed ->
			was = unevictable;
			mlocked = (mlocked && !(clear)) || (set);
			unevictable = mlocked;
			counts = mlocked
		:: else
		fi
	};
	if
	:: listed && was != counts ->
		assert((list == UNEVICTABLE) == was && list != NONE);
		list = (counts -> UNEVICTABLE : EVICTABLE);
		count = 0
	:: else
	fi
}

/* LruvecGuard::settle(), and LruvecGuard::mlock() with `set` */
inline settle(set)
{
	listed = lru;
	if
	:: listed ->
		lock(lruvec);
		change(set, 0);
		if
		:: listed && counts -> inc_count()
		:: else
		fi;
		unlock_lruvec()
	:: else
	fi
}

/* LruvecGuard::munlock() */
inline munlock()
{
	kept = 0;
	listed = lru;
	if
	:: listed ->
		lock(lruvec);
		listed = lru;
		if
		:: listed && unevictable ->
			count = (count -> count - 1 : 0);
			kept = count && mapcount
		:: else
		fi;
		if			/* if isolated since, it holds all the same */
		:: listed -> change(0, !kept)
		:: else
		fi;
		unlock_lruvec()
	:: else
	fi;
	if
	:: !listed && !kept -> mlocked = 0	/* stranded, if it is unevictable */
	:: else
	fi
}

#define drain_mlock()	settle(0)
#define drain_munlock()	munlock()

/*
 * The walk has the batch locked, and drained, while it moves folios, and drains it
 * again if it leaves something there.
 */
inline walk(v, locked)
{
	lock(local_lock[cpu]);
	mlock_folio_batch();
	if
	:: locked ->
		settle(1);
		if
		:: listed
		:: else ->		/* it may be put back before that */
			mlocked = 1;
			settle(0)
		fi;
		if
		:: listed
		:: else -> batch[cpu]!MLOCK
		fi
	:: else -> munlock(); listed = 1
	fi;
	unlock(local_lock[cpu]);
	if
	:: listed
	:: else -> lru_add_drain()
	fi
}
#endif

inline mlock_folio_batch()
{
	do
	:: batch[cpu]?[MLOCK] -> drain_mlock(); batch[cpu]?_
	:: batch[cpu]?[MUNLOCK] -> drain_munlock(); batch[cpu]?_
	:: empty(batch[cpu]) -> break
	od
}

inline mlock_folio()
{
	lock(local_lock[cpu]);
	mlocked = 1;
	batch[cpu]!MLOCK;
	if
	:: full(batch[cpu]) -> mlock_folio_batch()
	:: nfull(batch[cpu])
	fi;
	unlock(local_lock[cpu])
}

inline munlock_folio()
{
	lock(local_lock[cpu]);
	batch[cpu]!MUNLOCK;
	if
	:: full(batch[cpu]) -> mlock_folio_batch()
	:: nfull(batch[cpu])
	fi;
	unlock(local_lock[cpu])
}

inline lru_add_drain()
{
	lock(local_lock[cpu]);
	mlock_folio_batch();
	unlock(local_lock[cpu])
}

/* folio_remove_rmap_ptes() */
inline unmap(v)
{
	d_step { maps[v] = 0; mapcount-- };
	if
	:: vm_locked[v] -> munlock_folio()
	:: else
	fi
}

/* A process with a vma; the mmap lock keeps its own calls apart. */
proctype process(byte v; byte home)
{
	bit isolated, kept, listed, was, counts;
	byte cpu = home;

	do
	:: busy++;
		if
		:: lock(ptl[v]);		/* fault */
			if
			:: !maps[v] ->
				d_step { maps[v] = 1; mapcount++ };
				if
				:: vm_locked[v] -> mlock_folio()
				:: else
				fi
			:: else
			fi;
			unlock(ptl[v])
		:: lock(ptl[v]);		/* munmap, and the same vma again */
			if
			:: maps[v] -> unmap(v)
			:: else
			fi;
			unlock(ptl[v])
		:: !vm_locked[v] ->		/* mlock */
			d_step { vm_locked[v] = 1; vm_io[v] = 1 };
			lru_add_drain();
			lock(ptl[v]);
			if
			:: maps[v] -> walk(v, 1)
			:: else
			fi;
			unlock(ptl[v]);
#ifdef C
			lru_add_drain();
#endif
			vm_io[v] = 0
		:: vm_locked[v] ->		/* munlock */
			vm_locked[v] = 0;
			lru_add_drain();
			lock(ptl[v]);
			if
			:: maps[v] -> walk(v, 0)
			:: else
			fi;
			unlock(ptl[v]);
#ifdef C
			lru_add_drain()
#endif
		:: lru_add_drain()
		fi;
#ifdef MOVE
		if
		:: cpu = 0
		:: cpu = 1
		fi;
#endif
		busy--
	od
}

/* Reclaim, migration and others that isolate the folio */
proctype isolate(byte home)
{
	bit isolated, kept, listed, was, counts;
	byte cpu = home, v;

	do
	:: d_step { lru -> lru = 0; busy++ };
		lock(lruvec);
		assert(list != NONE);
		list = NONE;
		unlock_lruvec();
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
#if VMAS == 1
#define no_vma_locks	(!locks(0))
#else
#define no_vma_locks	(!locks(0) && !locks(1))
#endif

/* When nobody does anything, and nothing waits */
active proctype rest()
{
end:	do
	:: atomic { !busy && empty(batch[0]) && empty(batch[1]) ->
		assert(lru && !lruvec);
#ifdef STUCK
		assert(!mlocked || !no_vma_locks);
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
