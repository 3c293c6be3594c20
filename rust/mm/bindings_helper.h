/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Input of bindgen for the mm crate; bindgen_parameters selects the items. Only
 * this crate sees mm's private headers.
 */

#include <linux/mm.h>
#include <linux/pagewalk.h>
#include <linux/secretmem.h>
#include <linux/swap.h>

#include "../../mm/internal.h"
#include "../../mm/mlock2/fbatch.h"

/* The bit fields of folio->flags */
const unsigned long RUST_CONST_HELPER_FOLIO_GEN_MASK = LRU_GEN_MASK;
const unsigned long RUST_CONST_HELPER_FOLIO_ZONE_SHIFT = ZONES_PGSHIFT;
const unsigned long RUST_CONST_HELPER_FOLIO_ZONE_MASK = ZONES_MASK;
#ifdef NODE_NOT_IN_PAGE_FLAGS
const unsigned long RUST_CONST_HELPER_FOLIO_NODE_SHIFT = SECTIONS_PGSHIFT;
const unsigned long RUST_CONST_HELPER_FOLIO_NODE_MASK = SECTIONS_MASK;
#else
const unsigned long RUST_CONST_HELPER_FOLIO_NODE_SHIFT = NODES_PGSHIFT;
const unsigned long RUST_CONST_HELPER_FOLIO_NODE_MASK = NODES_MASK;
#endif
