// SPDX-License-Identifier: GPL-2.0
/*
 * Inline functions and macros of C that the mm crate calls. With
 * CONFIG_RUST_INLINE_HELPERS, this is compiled into the crate; otherwise it is
 * an object of the kernel without exported symbols.
 */

#include <linux/cpumask.h>
#include <linux/fs.h>
#include <linux/leafops.h>
#include <linux/memcontrol.h>
#include <linux/mlock2.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/pagemap.h>
#include <linux/pagewalk.h>
#include <linux/secretmem.h>
#include <linux/swap.h>
#include <linux/uaccess.h>
#include <linux/vmstat.h>

#include "../../mm/gup.h"
#include "../../mm/internal.h"
#include "../../mm/mlock2/fbatch.h"

/* As in rust/helpers/helpers.c, which explains this */
#ifdef __BINDGEN__
#define __rust_helper
#else
#define __rust_helper __always_inline
#endif

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

__rust_helper bool rust_helper_lruvec_gen_add_folio(struct lruvec *lruvec,
						    struct folio *folio,
						    bool reclaiming)
{
	return lruvec_gen_add_folio(lruvec, folio, reclaiming);
}

__rust_helper bool rust_helper_lruvec_gen_del_folio(struct lruvec *lruvec,
						    struct folio *folio)
{
	return lruvec_gen_del_folio(lruvec, folio);
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

__rust_helper bool
rust_helper_folio_mapping_evictable(const struct folio *folio)
{
	return folio_mapping_evictable(folio);
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
 * vm_normal_folio() of a present entry, if that needs no check of the vma.
 * Otherwise returns false, and leaves @folio unchanged.
 */
__rust_helper bool rust_helper_pte_plain_folio(pte_t pte, struct folio **folio)
{
	if (!pte_is_normal(pte))
		return false;
	*folio = page_folio(pte_page(pte));
	return true;
}

/* vm_normal_folio_pmd(), NULL for an entry that is not present */
__rust_helper struct folio *
rust_helper_pmd_normal_folio(struct vm_area_struct *vma, unsigned long addr,
			     pmd_t *pmdp)
{
#ifdef CONFIG_PGTABLE_HAS_HUGE_LEAVES
	pmd_t pmd = *pmdp;

	if (!pmd_present(pmd))
		return NULL;
	if (pmd_is_normal(pmd))
		return pmd_folio(pmd);
	return vm_normal_folio_pmd(vma, addr, pmd);
#else
	return NULL;
#endif
}

/* Whether populate_vma_page_range() would have nothing to do for a write */
__rust_helper bool rust_helper_pte_written(pte_t pte, struct folio *folio)
{
	return pte_write(pte) && pte_or_folio_dirty(pte, folio);
}

/* Whether populate_vma_page_range() would have nothing to do */
__rust_helper bool rust_helper_pmd_touched(pmd_t *pmd, bool write)
{
#ifdef CONFIG_TRANSPARENT_HUGEPAGE
	return pmd_same(*pmd, pmd_mktouched(*pmd, write)) &&
	       (!write || pmd_write(*pmd));
#else
	return false;
#endif
}

__rust_helper bool
rust_helper_folio_mark_accessed_unevictable(struct folio *folio)
{
	return folio_mark_accessed_unevictable(folio);
}

__rust_helper bool rust_helper_cpu_online(unsigned int cpu)
{
	return cpu_online(cpu);
}

/* Inside an anonymous struct and an anonymous union */
__rust_helper vma_flags_t *rust_helper_mm_def_vma_flags(struct mm_struct *mm)
{
	return &mm->def_vma_flags;
}

__rust_helper struct vm_area_struct *
rust_helper_vma_iter_load(struct vma_iterator *vmi)
{
	return vma_iter_load(vmi);
}

__rust_helper struct vm_area_struct *
rust_helper_vma_prev(struct vma_iterator *vmi)
{
	return vma_prev(vmi);
}

__rust_helper struct vm_area_struct *
rust_helper_vma_next(struct vma_iterator *vmi)
{
	return vma_next(vmi);
}

__rust_helper struct vm_area_struct *
rust_helper_vma_find(struct vma_iterator *vmi, unsigned long max)
{
	return vma_find(vmi, max);
}

__rust_helper void rust_helper_vma_start_write(struct vm_area_struct *vma)
{
	vma_start_write(vma);
}

__rust_helper void
rust_helper_vma_flags_reset_once(struct vm_area_struct *vma,
				 vma_flags_t *flags)
{
	vma_flags_reset_once(vma, flags);
}

__rust_helper bool
rust_helper_vma_supports_mlock(const struct vm_area_struct *vma)
{
	return vma_supports_mlock(vma);
}

__rust_helper bool rust_helper_vma_is_anonymous(struct vm_area_struct *vma)
{
	return vma_is_anonymous(vma);
}

#ifndef CONFIG_SECRETMEM
__rust_helper bool rust_helper_vma_is_secretmem(struct vm_area_struct *vma)
{
	return vma_is_secretmem(vma);
}
#endif

__rust_helper bool rust_helper_vma_populate_write(const struct vm_area_struct *vma)
{
	return vma_populate_write(vma);
}

__rust_helper bool rust_helper_vma_populate_allowed(struct vm_area_struct *vma)
{
	return vma_populate_allowed(vma);
}

/* Whether the page is a guard page (MADV_GUARD_INSTALL) */
static inline bool is_guarded(struct vm_area_struct *vma, unsigned long addr)
{
	pmd_t *pmd = mm_find_pmd(vma->vm_mm, addr);
	pte_t *pte = pmd ? pte_offset_map(pmd, addr) : NULL;
	bool guarded;

	if (!pte)
		return false;
	guarded = softleaf_is_guard_marker(softleaf_from_pte(ptep_get_lockless(pte)));
	pte_unmap(pte);
	return guarded;
}

static inline bool is_past_eof(struct vm_area_struct *vma, unsigned long addr)
{
	struct inode *inode = vma->vm_file ? file_inode(vma->vm_file) : NULL;

	return inode && S_ISREG(inode->i_mode) &&
	       linear_page_index(vma, addr) >= DIV_ROUND_UP(i_size_read(inode), PAGE_SIZE);
}

/*
 * Why populate_vma_page_range() failed with -EFAULT for the page, judged by the
 * state under the mmap lock
 */
__rust_helper enum mlock_cause
rust_helper_vma_unpopulated_cause(struct vm_area_struct *vma, unsigned long addr)
{
	if (!vma_is_accessible(vma) ||
	    !arch_vma_access_permitted(vma, vma_populate_write(vma), false,
				       false))
		return MLOCK_CAUSE_NO_ACCESS;
	if (vma_is_secretmem(vma))
		return MLOCK_CAUSE_SECRETMEM;
	if (is_guarded(vma, addr))
		return MLOCK_CAUSE_GUARD;
	if (is_past_eof(vma, addr))
		return MLOCK_CAUSE_PAST_EOF;
	return MLOCK_CAUSE_SIGBUS;
}

/* Whether split_vma() fails because of the number of vmas */
__rust_helper bool rust_helper_mm_at_max_map_count(struct mm_struct *mm)
{
	return mm->map_count >= get_sysctl_max_map_count();
}

__rust_helper unsigned long rust_helper_untagged_addr(unsigned long addr)
{
	return untagged_addr(addr);
}
