/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The part of mlock.pml that differs in mm/mlock.c: how a batch is drained, and how a
 * walk locks and unlocks the folio.
 */

/* mm/mlock.c isolates the folio first, and then takes the lock. */
inline test_clear_lru() { d_step { assert(refs); isolated = lru; lru = 0 } }
inline putback() { assert(!lru); lru = 1; unlock_lruvec() }
inline move(value)			/* lruvec_del_folio(), lruvec_add_folio() */
{
	assert(list != NONE && !lru);
	unevictable = value;
	list = (value -> UNEVICTABLE : EVICTABLE);
	count = 0
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

inline munlock_folio() { lock(local_lock[cpu]); push(MUNLOCK) }

/* There is one folio, so the batch of the walk is drained after it. */
inline walk(locked) { if :: locked -> mlock_folio() :: else -> munlock_folio() fi }
inline walked() { lru_add_drain() }
