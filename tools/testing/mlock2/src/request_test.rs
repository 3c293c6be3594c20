// SPDX-License-Identifier: GPL-2.0

//! `request`, against `SYSCALL_DEFINE3(mlock2)`, `SYSCALL_DEFINE1(mlockall)` and
//! `apply_mlockall_flags()` of `mm/mlock.c`.

use super::{
    abi::{
        MCL_CURRENT,
        MCL_FUTURE,
        MCL_ONFAULT,
        MLOCK_ONFAULT, //
    },
    request::{
        LockAll,
        LockMode, //
    },
};

/// `VMA_LOCKED_BIT` and `VMA_LOCKONFAULT_BIT`, as they are in a `vma_flags_t`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct VmaFlags {
    locked: bool,
    lockonfault: bool,
}

impl From<LockMode> for VmaFlags {
    fn from(mode: LockMode) -> Self {
        let (locked, lockonfault) = match mode {
            LockMode::Unlocked => (false, false),
            LockMode::Locked => (true, false),
            LockMode::OnFault => (true, true),
        };
        Self {
            locked,
            lockonfault,
        }
    }
}

fn has(flags: i32, flag: i32) -> bool {
    flags & flag != 0
}

/// The flags that mlock2(2) passes to `do_mlock()`; `None` for `EINVAL`.
fn c_mlock2(flags: i32) -> Option<VmaFlags> {
    let mut vma_flags = VmaFlags {
        locked: true,
        ..VmaFlags::default()
    };

    if has(flags, !MLOCK_ONFAULT) {
        return None;
    }
    if has(flags, MLOCK_ONFAULT) {
        vma_flags.lockonfault = true;
    }
    Some(vma_flags)
}

/// Whether mlockall(2) goes on, rather than to return `EINVAL`.
fn c_mlockall_accepts(flags: i32) -> bool {
    let invalid =
        flags == 0 || has(flags, !(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)) || flags == MCL_ONFAULT;

    !invalid
}

/// What `apply_mlockall_flags()` leaves in `mm->def_vma_flags`, given what is there before, and
/// what it gives to each vma; `None` if it does not go through the vmas.
fn c_apply_mlockall_flags(mut def: VmaFlags, flags: i32) -> (VmaFlags, Option<VmaFlags>) {
    let mut to_add = VmaFlags::default();

    // vma_flags_clear_mask(.., VMA_LOCKED_MASK)
    def.locked = false;
    def.lockonfault = false;

    if has(flags, MCL_FUTURE) {
        def.locked = true;
        if has(flags, MCL_ONFAULT) {
            def.lockonfault = true;
        }
        if !has(flags, MCL_CURRENT) {
            return (def, None);
        }
    }

    if has(flags, MCL_CURRENT) {
        to_add.locked = true;
        if has(flags, MCL_ONFAULT) {
            to_add.lockonfault = true;
        }
    }
    (def, Some(to_add))
}

/// Where a process is after an earlier call of mlockall(2).
const EARLIER: [VmaFlags; 3] = [
    VmaFlags {
        locked: false,
        lockonfault: false,
    },
    VmaFlags {
        locked: true,
        lockonfault: false,
    },
    VmaFlags {
        locked: true,
        lockonfault: true,
    },
];

fn assert_as_c(request: LockAll, flags: i32) {
    let (future, current) = (
        request.future().into(),
        request.current().map(VmaFlags::from),
    );

    for earlier in EARLIER {
        assert_eq!(
            (future, current),
            c_apply_mlockall_flags(earlier, flags),
            "flags {flags:#x} after {earlier:?}"
        );
    }
}

/// All values of an `int`.
fn every_flag_word() -> impl Iterator<Item = i32> {
    (0..1u64 << 32).map(|flags| flags as i32)
}

#[test]
fn mlock2_is_as_in_c_for_every_flag_word() {
    let mut accepted = 0;

    for flags in every_flag_word() {
        let mode = LockMode::from_mlock2_flags(flags);

        assert_eq!(
            mode.map(VmaFlags::from),
            c_mlock2(flags),
            "flags {flags:#x}"
        );
        accepted += u32::from(mode.is_some());
    }
    assert_eq!(accepted, 2);
}

#[test]
fn mlock2_flags_by_name() {
    let parse = LockMode::from_mlock2_flags;

    assert_eq!(parse(0), Some(LockMode::Locked));
    assert_eq!(parse(MLOCK_ONFAULT), Some(LockMode::OnFault));
    assert_eq!(parse(MLOCK_ONFAULT << 1), None);
    assert_eq!(parse(MLOCK_ONFAULT | MLOCK_ONFAULT << 1), None);
    assert_eq!(parse(-1), None);
    assert_eq!(parse(i32::MIN), None);
    assert_eq!(parse(i32::MIN | MLOCK_ONFAULT), None);
}

#[test]
fn mlockall_is_as_in_c_for_every_flag_word() {
    let mut accepted = 0;

    for flags in every_flag_word() {
        let request = LockAll::from_mlockall_flags(flags);

        assert_eq!(
            request.is_some(),
            c_mlockall_accepts(flags),
            "flags {flags:#x}"
        );
        if let Some(request) = request {
            assert_as_c(request, flags);
            accepted += 1;
        }
    }
    assert_eq!(accepted, 6);
}

#[test]
fn mlockall_flags_by_name() {
    use LockMode::{
        Locked,
        OnFault,
        Unlocked, //
    };
    let parse =
        |flags| LockAll::from_mlockall_flags(flags).map(|all| (all.current(), all.future()));

    let table = [
        (0, None),
        (MCL_ONFAULT, None),
        (MCL_CURRENT, Some((Some(Locked), Unlocked))),
        (MCL_FUTURE, Some((None, Locked))),
        (MCL_CURRENT | MCL_FUTURE, Some((Some(Locked), Locked))),
        (MCL_CURRENT | MCL_ONFAULT, Some((Some(OnFault), Unlocked))),
        (MCL_FUTURE | MCL_ONFAULT, Some((None, OnFault))),
        (
            MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT,
            Some((Some(OnFault), OnFault)),
        ),
        (-1, None),
        (i32::MIN, None),
        (i32::MIN | MCL_CURRENT, None),
    ];
    for (flags, expected) in table {
        assert_eq!(parse(flags), expected, "flags {flags:#x}");
    }
}

/// munlockall(2) is `apply_mlockall_flags(0)`, and mlockall(2) cannot ask for the same.
#[test]
fn munlockall_is_as_in_c() {
    assert_as_c(LockAll::UNLOCK, 0);
    assert_eq!(LockAll::UNLOCK.current(), Some(LockMode::Unlocked));
    assert_eq!(LockAll::UNLOCK.future(), LockMode::Unlocked);
    assert_eq!(LockAll::from_mlockall_flags(0), None);
}
