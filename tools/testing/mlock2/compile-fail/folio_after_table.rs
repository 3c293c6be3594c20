// SPDX-License-Identifier: GPL-2.0

//! What a page table maps is not used after its lock is dropped, unless by a reference of its own.

use mm::{
    folio::{
        Folio,
        FolioRef, //
    },
    folio_batch::TaskContext,
    pagewalk::{
        Table,
        VisitTable, //
    },
};

#[derive(Default)]
pub struct Last<'f> {
    pub folio: Option<Folio<'f>>,
    pub reference: Option<FolioRef>,
}

impl VisitTable for Last<'_> {
    fn visit(&mut self, table: Table<'_>, _: &mut TaskContext<'_>) {
        if let Table::Huge(entry) = table {
            let folio = entry.folio();
            self.reference = folio.map(|folio| folio.get());
            #[cfg(mistake)]
            {
                // error: - lifetime may not live long enough
                self.folio = folio;
            }
        }
    }
}
