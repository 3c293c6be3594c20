// SPDX-License-Identifier: GPL-2.0

//! The Rust: the kernel's own files.

use kernel::{
    bindings::folio,
    cpu::CpuId,
    ffi::c_int,
    mm::{vma_flags::VmaFlags, MmWithUser},
    model::{
        mm::{is_to_change, Mlock},
        sched::fail,
        world::{world, Vma},
    },
};
use mm::{
    folio::{Folio, NewFolio},
    folio_batch::{FolioBatch, TaskContext},
    mmap_write::MmapWrite,
};

mod abi {
    pub(crate) const PAGE_SHIFT: usize = kernel::page::PAGE_SHIFT;
}

#[path = "../../../../../mm/mlock2/batch.rs"]
mod batch;
#[allow(dead_code)]
#[path = "../../../../../mm/mlock2/range.rs"]
mod range;
#[allow(dead_code)]
#[path = "../../../../../mm/mlock2/walk.rs"]
mod walk;

pub const MLOCK: Mlock = Mlock {
    name: "Rust",
    mlock_folio,
    mlock_new_folio,
    munlock_folio,
    mlock_drain_local,
    mlock_drain_remote,
    need_mlock_drain,
    mlock_fixup,
};

// The entry points, as in mm/mlock2/mlock2.rs.

fn mlock_folio(folio: *mut folio) {
    // SAFETY: The caller has a reference, or keeps the folio mapped; no batch or lruvec is locked.
    unsafe { batch::mlock_folio(Folio::from_raw(folio), &mut TaskContext::new()) };
}

fn mlock_new_folio(folio: *mut folio) {
    // SAFETY: As above; the folio is new.
    unsafe {
        batch::mlock_new_folio(
            NewFolio::new(Folio::from_raw(folio)),
            &mut TaskContext::new(),
        )
    };
}

fn munlock_folio(folio: *mut folio) {
    // SAFETY: As in `mlock_folio()`.
    unsafe { batch::munlock_folio(Folio::from_raw(folio), &mut TaskContext::new()) };
}

fn mlock_drain_local() {
    // SAFETY: As in `mlock_folio()`.
    batch::mlock_drain_local(&mut unsafe { TaskContext::new() });
}

fn mlock_drain_remote(cpu: c_int) {
    let Some(cpu) = CpuId::from_i32(cpu) else {
        return;
    };
    // SAFETY: As in `mlock_folio()`.
    let mut context = unsafe { TaskContext::new() };
    // SAFETY: The CPU is gone, and nobody else looks at its batch.
    batch::mlock_drain_remote(unsafe { FolioBatch::of_dead_cpu(cpu, &mut context) });
}

fn need_mlock_drain(cpu: c_int) -> bool {
    CpuId::from_i32(cpu).is_some_and(batch::need_mlock_drain)
}

/// As `mlock_fixup()` of mm/mlock2/fixup.rs for the whole of a vma, without populating it.
fn mlock_fixup(vma: &'static Vma, locked: bool) {
    let mm = (&raw const world().mms[vma.index]).cast_mut();
    // SAFETY: The mm is there for ever.
    let mm = unsafe { MmWithUser::from_raw(mm) };
    let Ok(mut guard) = mm.mmap_write_lock_killable() else {
        fail("the mmap lock cannot be locked");
    };
    if !is_to_change(vma, locked) {
        return;
    }
    let lock = if locked {
        VmaFlags::LOCKED
    } else {
        VmaFlags::NONE
    };
    let mut vmas = guard.vmas_mut(vma.start(), vma.end());
    let modified = vmas
        .next()
        .and_then(|vma| vma.lockable())
        .and_then(|found| found.modify_flags(lock).ok());
    let Some(modified) = modified else {
        fail("the vma cannot be locked");
    };
    let Err(modified) = modified.set_lock_flags() else {
        return;
    };
    let mut walk = walk::PageWalk::new();
    modified.publish_lock_flags(|vma| walk.mlock_vma_pages_range(vma, false));
}
