// SPDX-License-Identifier: GPL-2.0

//! While the batch of a CPU that is gone is drained, an lruvec may be locked: no other batch can be
//! drained meanwhile, which would lock a second one.

use kernel::cpu::CpuId;
use mm::folio_batch::{
    FolioBatch,
    LocalBatch,
    TaskContext, //
};

/// # Safety
///
/// The CPU must be gone.
pub unsafe fn drain(cpu: CpuId, context: &mut TaskContext<'_>) {
    // SAFETY: The caller promises it.
    let batch = unsafe { FolioBatch::of_dead_cpu(cpu, context) };
    #[cfg(mistake)]
    // error: E0500 closure requires unique access to `*context`
    batch.drain(|_, _| LocalBatch::lock(context).drain(|_, _| ()));
    #[cfg(not(mistake))]
    batch.drain(|_, _| ());
    LocalBatch::lock(context).drain(|_, _| ());
}
