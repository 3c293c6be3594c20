/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What bindgen reads for the mm crate; bindgen_parameters says what of it the
 * crate has. mm's private headers are for this alone.
 */

#include <linux/mm.h>
#include <linux/pagewalk.h>
#include <linux/secretmem.h>
#include <linux/swap.h>

#include "../../mm/internal.h"
#include "../../mm/mlock2/fbatch.h"

/* Where the word of a folio's flags has what */
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
