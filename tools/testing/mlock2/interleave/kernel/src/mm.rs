// SPDX-License-Identifier: GPL-2.0

//! Memory management: the kernel's own files, and what they take from `rust/kernel/mm.rs` and
//! `virt.rs`.

use crate::bindings;
use core::{cell::UnsafeCell, ops::Deref};

#[path = "../../../../../../rust/kernel/mm/mmap_lock.rs"]
pub mod mmap_lock;
#[path = "../../../../../../rust/kernel/mm/vma_flags.rs"]
pub mod vma_flags;

#[repr(transparent)]
pub struct Mm(UnsafeCell<bindings::mm_struct>);

impl Mm {
    pub fn as_raw(&self) -> *mut bindings::mm_struct {
        self.0.get()
    }
}

#[repr(transparent)]
pub struct MmWithUser(Mm);

impl MmWithUser {
    /// # Safety
    ///
    /// The mm must be valid for 'a.
    pub unsafe fn from_raw<'a>(mm: *mut bindings::mm_struct) -> &'a Self {
        // SAFETY: The caller promises that it is valid; the types are transparent.
        unsafe { &*mm.cast() }
    }
}

impl Deref for MmWithUser {
    type Target = Mm;

    fn deref(&self) -> &Mm {
        &self.0
    }
}

pub mod virt {
    //! Vmas, as `rust/kernel/mm/virt.rs` has them.

    use super::MmWithUser;
    use crate::{bindings, model::world::world};
    use core::cell::UnsafeCell;

    #[repr(transparent)]
    pub struct VmaRef(UnsafeCell<bindings::vm_area_struct>);

    impl VmaRef {
        /// # Safety
        ///
        /// The vma must be valid for 'a.
        pub unsafe fn from_raw<'a>(vma: *const bindings::vm_area_struct) -> &'a Self {
            // SAFETY: The caller promises that it is valid; the type is transparent.
            unsafe { &*vma.cast() }
        }

        pub fn as_ptr(&self) -> *mut bindings::vm_area_struct {
            self.0.get()
        }

        pub fn flags(&self) -> usize {
            // SAFETY: Valid by the promise of `from_raw()`.
            unsafe { (*self.as_ptr()).__bindgen_anon_2.flags.__vma_flags[0] }
        }

        pub fn mm(&self) -> &MmWithUser {
            // SAFETY: As above; the mms are there for ever.
            unsafe {
                MmWithUser::from_raw((&raw const world().mms[(*self.as_ptr()).index]).cast_mut())
            }
        }

        pub fn start(&self) -> usize {
            // SAFETY: As above.
            unsafe { (*self.as_ptr()).start() }
        }

        pub fn end(&self) -> usize {
            // SAFETY: As above.
            unsafe { (*self.as_ptr()).end() }
        }
    }
}
