// SPDX-License-Identifier: GPL-2.0

//! Trace events of the mlock family.
//!
//! Each event is a function here. While the event is disabled, a call is a static branch that is
//! not taken; without `CONFIG_TRACEPOINTS`, it compiles to nothing. All functions may be called in
//! any context but NMI.
//!
//! C header: [`include/trace/events/mlock.h`](srctree/include/trace/events/mlock.h)

// The code that `declare_trace!` generates needs this.
#![allow(clippy::macro_metavars_in_unsafe, clippy::too_many_arguments)]

use crate::{
    bindings,
    folio::Folio, //
};
use core::ptr;
use kernel::{
    error::Error,
    ffi::{
        c_int,
        c_long,
        c_uint,
        c_ulong, //
    },
    mm::Mm,
    tracepoint::declare_trace, //
};

declare_trace! {
    /// # Safety
    ///
    /// `mm` must be null or valid for the call; for the rest, any values are valid.
    unsafe fn mlock_refused(
        caller: c_uint,
        reason: c_uint,
        error: c_int,
        start: c_ulong,
        len: c_ulong,
        locked: c_ulong,
        total: c_ulong,
        limit: c_ulong,
        at: c_ulong,
        cause: c_uint,
        mm: *const bindings::mm_struct,
    );

    /// # Safety
    ///
    /// None: any values are valid. Unsafe because it calls C.
    unsafe fn mlock_vma(start: c_ulong, end: c_ulong, from: c_uint, to: c_uint, pages: c_long);

    /// # Safety
    ///
    /// None: any values are valid. Unsafe because it calls C.
    unsafe fn mlockall(flags: c_int, vmas: c_ulong, pages: c_long);

    /// # Safety
    ///
    /// `folio` must be valid for the call.
    unsafe fn mlock_folio(folio: *mut bindings::folio, was_unevictable: bool);

    /// # Safety
    ///
    /// `folio` must be valid for the call.
    unsafe fn munlock_folio(folio: *mut bindings::folio, was_unevictable: bool);
}

/// Who asked to lock memory.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Caller(c_uint);

impl Caller {
    /// mlock(2), and mlock2(2) without flags, which is the same.
    pub const MLOCK: Self = Self(bindings::mlock_caller_MLOCK_CALLER_MLOCK);
    /// mlock2(2).
    pub const MLOCK2: Self = Self(bindings::mlock_caller_MLOCK_CALLER_MLOCK2);
    /// munlock(2).
    pub const MUNLOCK: Self = Self(bindings::mlock_caller_MLOCK_CALLER_MUNLOCK);
    /// mlockall(2).
    pub const MLOCKALL: Self = Self(bindings::mlock_caller_MLOCK_CALLER_MLOCKALL);
    /// munlockall(2).
    pub const MUNLOCKALL: Self = Self(bindings::mlock_caller_MLOCK_CALLER_MUNLOCKALL);
    /// brk(2).
    pub const BRK: Self = Self(bindings::mlock_caller_MLOCK_CALLER_BRK);
    /// Growth of a stack that is locked.
    pub const STACK: Self = Self(bindings::mlock_caller_MLOCK_CALLER_STACK);
    /// `SHM_LOCK` of shmctl(2).
    pub const SHM_LOCK: Self = Self(bindings::mlock_caller_MLOCK_CALLER_SHM_LOCK);
    /// `SHM_HUGETLB` of shmget(2).
    pub const SHM_HUGETLB: Self = Self(bindings::mlock_caller_MLOCK_CALLER_SHM_HUGETLB);
    /// `__account_locked_vm()`, for memory that drivers pin.
    pub const ACCOUNT: Self = Self(bindings::mlock_caller_MLOCK_CALLER_ACCOUNT);
    /// A driver that calls can_do_mlock().
    pub const DRIVER: Self = Self(bindings::mlock_caller_MLOCK_CALLER_DRIVER);

    /// Converts the `enum mlock_caller` of a caller in C. The event shows an unknown value as a
    /// number.
    #[inline]
    pub fn from_raw(caller: bindings::mlock_caller) -> Self {
        Self(caller)
    }
}

/// A request to lock memory, as the event of its refusal shows it.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The caller.
    pub caller: Caller,
    /// The first address; 0 if the request has none, or it is not known.
    pub start: usize,
    /// The length in bytes.
    pub len: usize,
    /// The address space that the request concerns, if it may not be that of the current task.
    pub mm: Option<&'a Mm>,
}

/// Why a page could not be faulted in.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Cause(c_uint);

impl Cause {
    /// There was no memory, or the memory cgroup allowed no more.
    pub const NO_MEMORY: Self = Self(bindings::mlock_cause_MLOCK_CAUSE_NO_MEMORY);
    /// Another thread has unmapped the page since.
    pub const UNMAPPED: Self = Self(bindings::mlock_cause_MLOCK_CAUSE_UNMAPPED);

    #[inline]
    pub(super) fn from_raw(cause: bindings::mlock_cause) -> Self {
        Self(cause)
    }
}

/// Why a request was refused, with the values that decided it.
#[derive(Clone, Copy)]
pub enum Refusal {
    /// `RLIMIT_MEMLOCK` is 0.
    LimitZero,
    /// The process would exceed its limit.
    OverLimit {
        /// Pages that it had locked before.
        locked: usize,
        /// Pages that it would have locked afterwards.
        total: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The user would exceed the limit, in all processes together.
    OverUserLimit {
        /// Pages that the user had locked before.
        locked: usize,
        /// Pages that the user would have locked afterwards.
        total: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The task has neither `CAP_IPC_LOCK` nor the group that is allowed to do this.
    NotPermitted,
    /// The range has a hole.
    Hole {
        /// The first address in it.
        at: usize,
    },
    /// Nothing is mapped where the range starts.
    NotMapped {
        /// That address.
        at: usize,
    },
    /// The range reaches the end of the address space, or past it.
    RangeWraps,
    /// The call does not know a flag, or the flags cannot be combined.
    BadFlags,
    /// A vma could not be split, since there are `vm.max_map_count` vmas already.
    TooManyVmas {
        /// Where.
        at: usize,
    },
    /// A vma could not be split for want of memory.
    NoMemoryForVma {
        /// Where.
        at: usize,
    },
    /// The range is locked, but a page of it could not be faulted in.
    PopulateFailed {
        /// The first such page.
        at: usize,
        /// Why.
        cause: Cause,
    },
    /// A fatal signal came first.
    Killed,
}

// Whether an event is enabled, for callers that must first compute its values.
macro_rules! is_traced {
    ($($(#[$attr:meta])* $name:ident: $tracepoint:ident;)*) => {$(
        $(#[$attr])*
        #[inline(always)]
        pub fn $name() -> bool {
            #[cfg(CONFIG_TRACEPOINTS)]
            {
                // SAFETY: The tracepoint is a static of C, and its key is a static key.
                unsafe {
                    kernel::jump_label::static_branch_unlikely!(
                        bindings::$tracepoint,
                        bindings::tracepoint,
                        key
                    )
                }
            }
            #[cfg(not(CONFIG_TRACEPOINTS))]
            {
                false
            }
        }
    )*}
}

is_traced! {
    /// Returns whether the event of [`refused`] is enabled.
    is_refused_traced: __tracepoint_mlock_refused;

    /// Returns whether the event of [`vma_changed`] is enabled.
    is_vma_traced: __tracepoint_mlock_vma;

    /// Returns whether the event of [`all_changed`] is enabled.
    is_all_traced: __tracepoint_mlockall;

    /// Returns whether the event of [`folio_mlocked`] is enabled.
    is_mlock_traced: __tracepoint_mlock_folio;

    /// Returns whether the event of [`folio_munlocked`] is enabled.
    is_munlock_traced: __tracepoint_munlock_folio;
}

/// Emits the event that `request` is refused with `error`. Returns the error.
// Inlined, so that arguments stay in registers, and nothing is set up for a disabled event.
#[inline(always)]
pub fn refused(request: Request<'_>, error: Error, why: Refusal) -> Error {
    if !is_refused_traced() {
        return error;
    }

    let (mut locked, mut total, mut limit, mut at) = (0, 0, 0, 0);
    let mut cause = bindings::mlock_cause_MLOCK_CAUSE_NONE;

    let reason = match why {
        Refusal::LimitZero => bindings::mlock_reason_MLOCK_REASON_LIMIT_ZERO,
        Refusal::OverLimit {
            locked: before,
            total: pages,
            limit: bytes,
        } => {
            (locked, total, limit) = (before, pages, bytes);
            bindings::mlock_reason_MLOCK_REASON_OVER_LIMIT
        }
        Refusal::OverUserLimit {
            locked: before,
            total: pages,
            limit: bytes,
        } => {
            (locked, total, limit) = (before, pages, bytes);
            bindings::mlock_reason_MLOCK_REASON_OVER_USER_LIMIT
        }
        Refusal::NotPermitted => bindings::mlock_reason_MLOCK_REASON_NOT_PERMITTED,
        Refusal::Hole { at: addr } => {
            at = addr;
            bindings::mlock_reason_MLOCK_REASON_HOLE
        }
        Refusal::NotMapped { at: addr } => {
            at = addr;
            bindings::mlock_reason_MLOCK_REASON_NOT_MAPPED
        }
        Refusal::RangeWraps => bindings::mlock_reason_MLOCK_REASON_RANGE_WRAPS,
        Refusal::BadFlags => bindings::mlock_reason_MLOCK_REASON_BAD_FLAGS,
        Refusal::TooManyVmas { at: addr } => {
            at = addr;
            bindings::mlock_reason_MLOCK_REASON_TOO_MANY_VMAS
        }
        Refusal::NoMemoryForVma { at: addr } => {
            at = addr;
            bindings::mlock_reason_MLOCK_REASON_NO_MEMORY_FOR_VMA
        }
        Refusal::PopulateFailed {
            at: addr,
            cause: Cause(why),
        } => {
            (at, cause) = (addr, why);
            bindings::mlock_reason_MLOCK_REASON_POPULATE_FAILED
        }
        Refusal::Killed => bindings::mlock_reason_MLOCK_REASON_KILLED,
    };

    trace_refused(
        request,
        reason,
        error.to_errno(),
        locked,
        total,
        limit,
        at,
        cause,
    );
    error
}

#[cold]
#[inline(never)]
#[expect(clippy::too_many_arguments)]
fn trace_refused(
    request: Request<'_>,
    reason: c_uint,
    error: c_int,
    locked: usize,
    total: usize,
    limit: usize,
    at: usize,
    cause: c_uint,
) {
    let Request {
        caller,
        start,
        len,
        mm,
    } = request;
    let mm = mm.map_or(ptr::null(), |mm| mm.as_raw().cast_const());

    // SAFETY: `mm` is null, or valid since it comes from a reference.
    unsafe {
        mlock_refused(
            caller.0, reason, error, start, len, locked, total, limit, at, cause, mm,
        )
    };
}

/// How a vma is locked.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Mode(c_uint);

impl Mode {
    /// Not locked.
    pub const UNLOCKED: Self = Self(bindings::mlock_mode_MLOCK_MODE_UNLOCKED);
    /// As by mlock(2).
    pub const LOCKED: Self = Self(bindings::mlock_mode_MLOCK_MODE_LOCKED);
    /// As by `MLOCK_ONFAULT`.
    pub const ONFAULT: Self = Self(bindings::mlock_mode_MLOCK_MODE_ONFAULT);
}

/// Emits the event that the lock mode of `start..end` (bytes) of a vma changed, and `pages` were
/// charged.
#[inline(always)]
pub fn vma_changed(start: usize, end: usize, from: Mode, to: Mode, pages: isize) {
    // SAFETY: Any values are valid.
    unsafe { mlock_vma(start, end, from.0, to.0, pages) };
}

/// Emits the event that mlockall(2) succeeded, or, with `flags` 0, munlockall(2): `vmas` vmas were
/// to change, and `pages` were charged.
#[inline(always)]
pub fn all_changed(flags: c_int, vmas: usize, pages: isize) {
    // SAFETY: Any values are valid.
    unsafe { mlockall(flags, vmas, pages) };
}

/// Emits the event that a folio was mlocked. If the folio was on an LRU list, its lruvec is still
/// locked.
#[inline(always)]
pub fn folio_mlocked(folio: Folio<'_>, was_unevictable: bool) {
    // SAFETY: The folio is valid by its type invariants.
    unsafe { mlock_folio(folio.as_ptr(), was_unevictable) };
}

/// Emits the event that a folio was munlocked, as [`folio_mlocked`].
#[inline(always)]
pub fn folio_munlocked(folio: Folio<'_>, was_unevictable: bool) {
    // SAFETY: The folio is valid by its type invariants.
    unsafe { munlock_folio(folio.as_ptr(), was_unevictable) };
}
