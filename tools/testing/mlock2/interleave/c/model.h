/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the page part of mm/mlock.c takes from other headers, done on the model.
 * Each function that is only declared here is an operation of the model, in
 * src/oracle.rs. All headers that mlock.c includes are empty but for this one.
 */
#ifndef INTERLEAVE_MODEL_H
#define INTERLEAVE_MODEL_H

#include <stdbool.h>
#include <stddef.h>

#define unlikely(x) (x)
#define likely(x) (x)
#define PAGE_SHIFT 12
#define PAGE_SIZE (1UL << PAGE_SHIFT)
#define EXPORT_SYMBOL(name) extern int model_no_semicolon
#define RLIMIT_MEMLOCK 8
#define CAP_IPC_LOCK 14
#define rlimit(which) 0UL
#define capable(cap) true
#define cond_resched() model_cond_resched()
#define WARN_ON_ONCE(cond) model_warn_on(cond)

void model_warn_on(bool cond);
void model_cond_resched(void);

/* As in world.rs */
#define FOLIO_BATCH_SIZE 3

struct folio {
	unsigned long flags_;
	unsigned int mlock_count_[1];
};

/* Shares its place with the links of lists: under the lruvec lock only */
#define mlock_count mlock_count_[model_mlock_count()]
unsigned int model_mlock_count(void);

#define VM_BUG_ON_FOLIO(cond, folio) model_warn_on(cond)

bool folio_test_lru(const struct folio *folio);
bool folio_test_clear_lru(struct folio *folio);
void folio_set_lru(struct folio *folio);
bool folio_test_unevictable(const struct folio *folio);
void folio_set_unevictable(struct folio *folio);
void folio_clear_unevictable(struct folio *folio);
bool folio_test_mlocked(const struct folio *folio);
bool folio_test_set_mlocked(struct folio *folio);
bool folio_test_clear_mlocked(struct folio *folio);
void folio_set_mlocked(struct folio *folio);
void folio_clear_active(struct folio *folio);
bool folio_evictable(struct folio *folio);
bool folio_mapped(const struct folio *folio);
bool folio_test_large(const struct folio *folio);
long folio_nr_pages(const struct folio *folio);
bool folio_is_zone_device(const struct folio *folio);
bool folio_may_be_lru_cached(const struct folio *folio);
bool lru_cache_disabled(void);
void folio_get(struct folio *folio);
void folio_put(struct folio *folio);

struct lruvec;
struct lruvec *folio_lruvec_relock_irq(struct folio *folio,
				       struct lruvec *locked);
void lruvec_unlock_irq(struct lruvec *lruvec);
void lruvec_add_folio(struct lruvec *lruvec, struct folio *folio);
void lruvec_del_folio(struct lruvec *lruvec, struct folio *folio);

#define NR_MLOCK 9
#define zone_stat_mod_folio(folio, item, nr) model_mod_nr_mlock(nr)
void model_mod_nr_mlock(long nr);

/* As in world.rs */
enum {
	UNEVICTABLE_PGCULLED,
	UNEVICTABLE_PGRESCUED,
	UNEVICTABLE_PGMLOCKED,
	UNEVICTABLE_PGMUNLOCKED,
	UNEVICTABLE_PGCLEARED,
	UNEVICTABLE_PGSTRANDED,
};

#define __count_vm_events(item, delta) model_count_event(item, delta)
void model_count_event(int item, long delta);

struct folio_batch {
	unsigned char nr;
	unsigned char i;
	bool percpu_pvec_drained;
	struct folio *folios[FOLIO_BATCH_SIZE];
};

static inline unsigned int folio_batch_count(const struct folio_batch *fbatch)
{
	return fbatch->nr;
}

static inline unsigned int folio_batch_add(struct folio_batch *fbatch,
					   struct folio *folio)
{
	model_warn_on(fbatch->nr >= FOLIO_BATCH_SIZE);
	fbatch->folios[fbatch->nr++] = folio;
	return FOLIO_BATCH_SIZE - fbatch->nr;
}

/* folios_put_refs() */
static inline void folios_put(struct folio_batch *fbatch)
{
	for (int i = 0; i < fbatch->nr; i++) {
		folio_put(fbatch->folios[i]);
		fbatch->folios[i] = NULL;
	}
	fbatch->nr = 0;
	fbatch->i = 0;
}

/* The one variable that each CPU has */
typedef struct { int unused; } local_lock_t;
#define INIT_LOCAL_LOCK(name) { 0 }
#define DEFINE_PER_CPU(type, name) __attribute__((unused)) type name
#define local_lock(lock) model_mlock_fbatch_lock()
#define local_unlock(lock) model_mlock_fbatch_unlock()
#define this_cpu_ptr(ptr) model_mlock_fbatch()
#define per_cpu(variable, cpu) (*model_mlock_fbatch_of(cpu))
#define cpu_online(cpu) model_cpu_online(cpu)
void model_mlock_fbatch_lock(void);
void model_mlock_fbatch_unlock(void);
struct folio_batch *model_mlock_fbatch(void);
struct folio_batch *model_mlock_fbatch_of(int cpu);
bool model_cpu_online(int cpu);
void lru_add_drain(void);

/* Vmas and page tables */
typedef struct spinlock spinlock_t;
typedef struct { unsigned char value; } pte_t;
typedef unsigned char pmd_t;
struct vm_area_struct;
struct mm_walk;

enum { VMA_LOCKED_BIT = 13, VMA_IO_BIT = 14 };
typedef struct { unsigned long bits; } vma_flags_t;

static inline bool vma_flags_test(const vma_flags_t *flags, int bit)
{
	return flags->bits >> bit & 1;
}

static inline void vma_flags_set(vma_flags_t *flags, int bit)
{
	flags->bits |= 1UL << bit;
}

static inline void vma_flags_clear(vma_flags_t *flags, int bit)
{
	flags->bits &= ~(1UL << bit);
}

bool model_vma_test(const struct vm_area_struct *vma, int bit);
#define vma_test(vma, bit) model_vma_test(vma, bit)
void model_vma_flags_reset(struct vm_area_struct *vma, unsigned long flags);
#define vma_flags_reset_once(vma, flags) model_vma_flags_reset(vma, (flags)->bits)
#define vma_start_write(vma) ((void)(vma))

enum { PGWALK_WRLOCK_VERIFY = 2, ACTION_AGAIN = 2 };

struct mm_walk_ops {
	int (*pmd_entry)(pmd_t *pmd, unsigned long addr, unsigned long end,
			 struct mm_walk *walk);
	int walk_lock;
};

struct mm_walk {
	struct vm_area_struct *vma;
	int action;
};

void model_walk_page_range_vma(struct vm_area_struct *vma, unsigned long start,
			       unsigned long end,
			       const struct mm_walk_ops *ops);
#define walk_page_range_vma(vma, start, end, ops, private) \
	model_walk_page_range_vma(vma, start, end, ops)

/* No huge pages */
#define pmd_trans_huge_lock(pmd, vma) ((spinlock_t *)NULL)
#define pmd_present(pmd) true
#define is_huge_zero_pmd(pmd) false
#define pmd_folio(pmd) ((struct folio *)NULL)
pte_t *model_pte_offset_map_lock(struct vm_area_struct *vma,
				 unsigned long addr, spinlock_t **ptlp);
#define pte_offset_map_lock(mm, pmd, addr, ptlp) \
	model_pte_offset_map_lock(walk->vma, addr, ptlp)
#define pte_unmap(pte) ((void)(pte))
pte_t ptep_get(pte_t *pte);
bool pte_present(pte_t pte);
struct folio *vm_normal_folio(struct vm_area_struct *vma, unsigned long addr,
			      pte_t pte);
unsigned int folio_pte_batch(struct folio *folio, pte_t *ptep, pte_t pte,
			     unsigned int max);
bool folio_within_range(struct folio *folio, struct vm_area_struct *vma,
			unsigned long start, unsigned long end);
void spin_unlock(spinlock_t *lock);

#endif
