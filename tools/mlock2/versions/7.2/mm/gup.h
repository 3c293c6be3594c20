/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Shared by mm/gup.c and the mlock family in Rust: checks for pages that need
 * no populating.
 */
#ifndef _MM_GUP_H
#define _MM_GUP_H

#include <linux/mm.h>
#include <linux/mmu_context.h>
#include <linux/userfaultfd_k.h>

/* Whether populate_vma_page_range() breaks COW */
static inline bool vma_populate_write(const struct vm_area_struct *vma)
{
	return (vma->vm_flags & (VM_WRITE | VM_SHARED)) == VM_WRITE;
}

/*
 * Whether populate_vma_page_range() may access all pages of a lockable vma, and
 * accepts present pages as they are: check_vma_flags() does not fail, and
 * gup_can_follow_protnone() is true.
 */
static inline bool vma_populate_allowed(struct vm_area_struct *vma)
{
	return (vma->vm_flags & (VM_READ | VM_SHADOW_STACK)) == VM_READ &&
	       arch_vma_access_permitted(vma, vma_populate_write(vma), false,
					 false);
}

/*
 * Whether follow_page_pte() with FOLL_TOUCH need not dirty the folio. Inlined
 * always: follow_page_pte() then is the same code as without this function.
 */
static __always_inline bool pte_or_folio_dirty(pte_t pte, const struct folio *folio)
{
	return pte_dirty(pte) || folio_test_dirty(folio);
}

#endif /* _MM_GUP_H */
