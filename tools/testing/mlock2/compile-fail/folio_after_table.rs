// SPDX-License-Identifier: GPL-2.0

//! What a page table maps is not used after its lock is dropped, unless by a reference of its own.

use kernel::mm::{
    mmap_write::PublishedVma,
    pagewalk::Table, //
};

pub fn is_large(vma: &mut PublishedVma<'_>) -> bool {
    let mut last = None;

    vma.walk_tables(|table, _| {
        if let Table::Huge(entry) = table {
            let folio = entry.folio();
            #[cfg(not(mistake))]
            let folio = folio.map(|folio| folio.get());
            // error: E0521 borrowed data escapes outside of closure
            last = folio;
        }
    });
    #[cfg(mistake)]
    return last.is_some_and(|folio: kernel::mm::folio::Folio<'_>| folio.is_large());
    #[cfg(not(mistake))]
    last.is_some_and(|folio| folio.folio().is_large())
}
