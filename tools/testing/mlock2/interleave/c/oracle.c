// SPDX-License-Identifier: GPL-2.0
/*
 * The page part of mm/mlock.c, as it stands: all that comes before
 * mlock_fixup(), which build.rs cuts out.
 */
#define NAME_(prefix, name) prefix##_##name
#define NAME(prefix, name) NAME_(prefix, name)

/* The same code may be here twice, stock and with fixes. */
#define can_do_mlock NAME(ORACLE, can_do_mlock)
#define mlock_folio NAME(ORACLE, mlock_folio)
#define mlock_new_folio NAME(ORACLE, mlock_new_folio)
#define munlock_folio NAME(ORACLE, munlock_folio)
#define mlock_drain_local NAME(ORACLE, mlock_drain_local)
#define mlock_drain_remote NAME(ORACLE, mlock_drain_remote)
#define need_mlock_drain NAME(ORACLE, need_mlock_drain)

#include PAGE_PART

/* What mlock_fixup() calls */
void NAME(ORACLE, mlock_vma_pages_range)(struct vm_area_struct *vma,
					 unsigned long start, unsigned long end,
					 unsigned long flags);
void NAME(ORACLE, mlock_vma_pages_range)(struct vm_area_struct *vma,
					 unsigned long start, unsigned long end,
					 unsigned long flags)
{
	vma_flags_t new_vma_flags = { flags };

	mlock_vma_pages_range(vma, start, end, &new_vma_flags);
}
