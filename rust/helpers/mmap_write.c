// SPDX-License-Identifier: GPL-2.0

#include <linux/fs.h>
#include <linux/leafops.h>
#include <linux/mlock2.h>
#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/mmu_context.h>
#include <linux/pagemap.h>
#include <linux/secretmem.h>
#include <linux/uaccess.h>
#include <linux/userfaultfd_k.h>

#include "../../mm/internal.h"

__rust_helper int rust_helper_mmap_write_lock_killable(struct mm_struct *mm)
{
	return mmap_write_lock_killable(mm);
}

__rust_helper void rust_helper_mmap_write_unlock(struct mm_struct *mm)
{
	mmap_write_unlock(mm);
}

/* Inside an anonymous struct and an anonymous union */
__rust_helper vma_flags_t *rust_helper_mm_def_vma_flags(struct mm_struct *mm)
{
	return &mm->def_vma_flags;
}

__rust_helper void rust_helper_vma_iter_init(struct vma_iterator *vmi,
					     struct mm_struct *mm,
					     unsigned long addr)
{
	vma_iter_init(vmi, mm, addr);
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

/*
 * Whether populate_vma_page_range() may access all pages of the vma, and
 * accepts present pages as they are: the checks of check_vma_flags() that a
 * lockable vma may fail, and of gup_can_follow_protnone()
 */
__rust_helper bool rust_helper_vma_populate_allowed(struct vm_area_struct *vma,
						    bool write)
{
	return (vma->vm_flags & (VM_READ | VM_SHADOW_STACK)) == VM_READ &&
	       !userfaultfd_rwp(vma) &&
	       arch_vma_access_permitted(vma, write, false, false);
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
	bool write = (vma->vm_flags & (VM_WRITE | VM_SHARED)) == VM_WRITE;

	if (!vma_is_accessible(vma) ||
	    !arch_vma_access_permitted(vma, write, false, false))
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

__rust_helper void rust_helper_cond_resched(void)
{
	cond_resched();
}
