// SPDX-License-Identifier: GPL-2.0

#include <linux/cpumask.h>
#include <linux/local_lock.h>
#include <linux/memcontrol.h>
#include <linux/mlock2.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/pagewalk.h>
#include <linux/swap.h>
#include <linux/vmstat.h>

#include "../../mm/internal.h"

__rust_helper unsigned long
rust_helper_folio_nr_pages(const struct folio *folio)
{
	return folio_nr_pages(folio);
}

__rust_helper bool rust_helper_folio_test_large(const struct folio *folio)
{
	return folio_test_large(folio);
}

__rust_helper bool rust_helper_folio_is_zone_device(const struct folio *folio)
{
	return folio_is_zone_device(folio);
}

__rust_helper bool
rust_helper_folio_may_be_lru_cached(const struct folio *folio)
{
	return folio_may_be_lru_cached(folio);
}

__rust_helper bool rust_helper_lru_cache_disabled(void)
{
	return lru_cache_disabled();
}

__rust_helper void rust_helper_lru_cache_enable(void)
{
	lru_cache_enable();
}

__rust_helper bool rust_helper_folio_test_set_mlocked(struct folio *folio)
{
	return folio_test_set_mlocked(folio);
}

__rust_helper bool rust_helper_folio_test_clear_mlocked(struct folio *folio)
{
	return folio_test_clear_mlocked(folio);
}

__rust_helper bool rust_helper_folio_test_lru(const struct folio *folio)
{
	return folio_test_lru(folio);
}

__rust_helper bool rust_helper_folio_test_clear_lru(struct folio *folio)
{
	return folio_test_clear_lru(folio);
}

__rust_helper bool rust_helper_folio_mapped(const struct folio *folio)
{
	return folio_mapped(folio);
}

/*
 * Whether a small folio is anonymous, not KSM's (whose stable tree holds no
 * reference), and freed when the caller puts its last reference.
 */
__rust_helper bool rust_helper_folio_dies_unmapped(const struct folio *folio)
{
	return folio_ref_count(folio) == 1 &&
	       ((unsigned long)folio->mapping & FOLIO_MAPPING_FLAGS) ==
	       FOLIO_MAPPING_ANON;
}

/* Inside four nested anonymous unions and structs */
__rust_helper unsigned int *rust_helper_folio_mlock_count(struct folio *folio)
{
	return &folio->mlock_count;
}

__rust_helper void rust_helper_folio_get(struct folio *folio)
{
	folio_get(folio);
}

__rust_helper void rust_helper_folio_put(struct folio *folio)
{
	folio_put(folio);
}

__rust_helper void rust_helper_zone_stat_mod_folio(struct folio *folio,
						   enum zone_stat_item item,
						   long nr)
{
	zone_stat_mod_folio(folio, item, nr);
}

__rust_helper void rust_helper_count_vm_events(enum vm_event_item item,
					       long delta)
{
	count_vm_events(item, delta);
}

__rust_helper bool rust_helper_folio_matches_lruvec(struct folio *folio,
						    struct lruvec *lruvec)
{
	return folio_matches_lruvec(folio, lruvec);
}

#ifndef CONFIG_MEMCG
__rust_helper struct lruvec *
rust_helper_folio_lruvec_lock_irq(struct folio *folio)
{
	return folio_lruvec_lock_irq(folio);
}
#endif

__rust_helper void rust_helper_lruvec_unlock_irq(struct lruvec *lruvec)
{
	lruvec_unlock_irq(lruvec);
}

/*
 * The parts of lruvec_add_folio() and lruvec_del_folio() other than
 * update_lru_size()
 */
__rust_helper bool rust_helper_lruvec_gen_add(struct lruvec *lruvec,
					      struct folio *folio)
{
	VM_WARN_ON_ONCE_FOLIO(!folio_matches_lruvec(folio, lruvec), folio);
	return lru_gen_add_folio(lruvec, folio, false);
}

__rust_helper void rust_helper_lruvec_gen_del(struct lruvec *lruvec,
					      struct folio *folio)
{
	VM_WARN_ON_ONCE_FOLIO(!folio_matches_lruvec(folio, lruvec), folio);
	lru_gen_del_folio(lruvec, folio, false);
}

__rust_helper struct list_head *
rust_helper_lruvec_list(struct lruvec *lruvec, enum lru_list lru)
{
	return &lruvec->lists[lru];
}

__rust_helper void rust_helper_folio_list_add(struct folio *folio,
					      struct list_head *list)
{
	list_add(&folio->lru, list);
}

/*
 * list_del() without the poison in lru.prev, which mlock_count would overwrite
 * in part. The poison in lru.next is enough to catch a stray list_del().
 */
__rust_helper void rust_helper_folio_list_del(struct folio *folio)
{
	__list_del_entry(&folio->lru);
	folio->lru.next = LIST_POISON1;
}

__rust_helper void rust_helper_update_lru_size(struct lruvec *lruvec,
					       enum lru_list lru,
					       enum zone_type zid, long nr)
{
	update_lru_size(lruvec, lru, zid, nr);
}

/* Call with the lruvec locked, as update_lru_size() */
__rust_helper void rust_helper_lruvec_mod_nr_mlock(struct lruvec *lruvec,
						   enum zone_type zid, long nr)
{
	__mod_zone_page_state(&lruvec_pgdat(lruvec)->node_zones[zid], NR_MLOCK,
			      nr);
}

__rust_helper unsigned long
rust_helper_folio_flags_read(const struct folio *folio)
{
	return READ_ONCE(folio->flags.f);
}

__rust_helper bool
rust_helper_folio_flags_try_cmpxchg(struct folio *folio, unsigned long *old,
				    unsigned long new)
{
	return try_cmpxchg(&folio->flags.f, old, new);
}

__rust_helper unsigned long
rust_helper_folio_memcg_data(const struct folio *folio)
{
#ifdef CONFIG_MEMCG
	return READ_ONCE(folio->memcg_data);
#else
	return 0;
#endif
}

/*
 * folio_evictable() without the check of PG_mlocked. For folios on LRU lists
 * only, in an RCU read-side critical section. Folios in the swap cache need no
 * check of their own: the swap cache is evictable, and so is a folio without a
 * mapping.
 */
__rust_helper bool
rust_helper_folio_mapping_evictable(const struct folio *folio)
{
	struct address_space *mapping = READ_ONCE(folio->mapping);

	return (unsigned long)mapping & FOLIO_MAPPING_FLAGS ||
	       !mapping_unevictable(mapping);
}

__rust_helper bool rust_helper_folio_within_range(struct folio *folio,
						  struct vm_area_struct *vma,
						  unsigned long start,
						  unsigned long end)
{
	return folio_within_range(folio, vma, start, end);
}

/* Lock and return the batch of this CPU */
__rust_helper struct mlock_fbatch *rust_helper_mlock_fbatch_lock(void)
{
	local_lock(&mlock_fbatch.lock);
	return this_cpu_ptr(&mlock_fbatch);
}

__rust_helper void rust_helper_mlock_fbatch_unlock(void)
{
	local_unlock(&mlock_fbatch.lock);
}

__rust_helper struct mlock_fbatch *rust_helper_mlock_fbatch_of(unsigned int cpu)
{
	return &per_cpu(mlock_fbatch, cpu);
}

/* The CPU may not exist */
__rust_helper unsigned int rust_helper_mlock_fbatch_count(unsigned int cpu)
{
	if (!cpu_possible(cpu))
		return 0;
	/* The CPU may be changing the count right now: it is only a hint. */
	return data_race(folio_batch_count(&per_cpu(mlock_fbatch.fbatch, cpu)));
}

__rust_helper spinlock_t *
rust_helper_pmd_trans_huge_lock(pmd_t *pmd, struct vm_area_struct *vma)
{
	return pmd_trans_huge_lock(pmd, vma);
}

__rust_helper void rust_helper_pte_unmap_unlock(pte_t *pte, spinlock_t *ptl)
{
	pte_unmap_unlock(pte, ptl);
}

__rust_helper pte_t rust_helper_ptep_get(pte_t *pte)
{
	return ptep_get(pte);
}

__rust_helper bool rust_helper_pte_present(pte_t pte)
{
	return pte_present(pte);
}

/*
 * vm_normal_folio() of a present entry, without the vma, on architectures where
 * a bit in the entry marks it special. Returns false, and leaves @folio
 * unchanged, if only vm_normal_folio() can tell.
 */
__rust_helper bool rust_helper_pte_plain_folio(pte_t pte, struct folio **folio)
{
	if (!IS_ENABLED(CONFIG_ARCH_HAS_PTE_SPECIAL) || pte_special(pte) ||
	    pte_pfn(pte) > highest_memmap_pfn)
		return false;
	*folio = page_folio(pte_page(pte));
	return true;
}

/* vm_normal_folio_pmd() of an entry, which may not be present */
__rust_helper struct folio *
rust_helper_pmd_normal_folio(struct vm_area_struct *vma, unsigned long addr,
			     pmd_t *pmdp)
{
#ifdef CONFIG_PGTABLE_HAS_HUGE_LEAVES
	pmd_t pmd = *pmdp;

	if (!pmd_present(pmd))
		return NULL;
	if (IS_ENABLED(CONFIG_ARCH_SUPPORTS_PMD_PFNMAP) && !pmd_special(pmd) &&
	    pmd_pfn(pmd) <= highest_memmap_pfn)
		return pmd_folio(pmd);
	return vm_normal_folio_pmd(vma, addr, pmd);
#else
	return NULL;
#endif
}

/* Whether populate_vma_page_range() would have nothing to do for a write */
__rust_helper bool rust_helper_pte_written(pte_t pte, struct folio *folio)
{
	return pte_write(pte) && (pte_dirty(pte) || folio_test_dirty(folio));
}

/* The same for a huge entry, which populating also makes young */
__rust_helper bool rust_helper_pmd_touched(pmd_t *pmd, bool write)
{
	return pmd_young(*pmd) && (!write || (pmd_write(*pmd) && pmd_dirty(*pmd)));
}

/*
 * folio_mark_accessed() for an unevictable folio. Returns false, and does
 * nothing, if the folio is evictable or folio_mark_accessed() would do more.
 */
__rust_helper bool
rust_helper_folio_mark_accessed_unevictable(struct folio *folio)
{
	const unsigned long done = BIT(PG_unevictable) | BIT(PG_referenced);
	const unsigned long other = BIT(PG_dropbehind);

	/* The likely case, with one read of the flags */
	if (!IS_ENABLED(CONFIG_PAGE_IDLE_FLAG) &&
	    (READ_ONCE(folio->flags.f) & (done | other)) == done)
		return true;
	if (!folio_test_unevictable(folio) || folio_test_idle(folio) ||
	    folio_test_dropbehind(folio))
		return false;
	if (!folio_test_referenced(folio) && !lru_gen_enabled())
		folio_set_referenced(folio);
	return true;
}

__rust_helper bool rust_helper_cpu_online(unsigned int cpu)
{
	return cpu_online(cpu);
}
