// SPDX-License-Identifier: GPL-2.0

//! `limit`, against every comparison with `RLIMIT_MEMLOCK` in `mm/mlock.c`, `mm/mmap.c` and
//! `mm/util.c`.
//!
//! Who has `CAP_IPC_LOCK` is not decided here: all of this is for those who do not.

use super::{
    abi::{
        PAGE_SHIFT,
        RLIM_INFINITY, //
    },
    limit::{
        account,
        Limit, //
    },
    range::{
        PageCount,
        PageRange,
        PAGE_SIZE, //
    },
};
use crate::values::{
    bytes_and_pages,
    config,
    edges,
    few_edges,
    number,
    wrap,
    wrapped_difference,
    SPACE, //
};
use proptest::prelude::*;
use std::hint::black_box;

/// The size of a page, not taken from what is tested.
const PAGE: u128 = 2u128.pow(PAGE_SHIFT as u32);

/// `rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT`.
fn c_limit_pages(limit: usize) -> u128 {
    limit as u128 / PAGE
}

/// `locked <= lock_limit`, as `do_mlock()`, `mlockall()` and `mlock_future_ok()` have it.
fn c_allows(limit: usize, total: u128) -> bool {
    total <= c_limit_pages(limit)
}

/// What `do_mlock()` compares with the limit: at first, and once the `counted` pages that are
/// locked already have been taken off.
fn c_do_mlock_totals(start: usize, len: usize, locked_vm: usize, counted: usize) -> [u128; 2] {
    let offset = start as u128 % PAGE;
    let len = wrap(wrap(len as u128 + offset).div_ceil(PAGE) * PAGE);
    let locked = wrap(len / PAGE + locked_vm as u128);

    [locked, wrapped_difference(locked, counted as u128)]
}

/// What `mlock_future_ok()` returns for a locked vma.
fn c_mlock_future_ok(locked_vm: usize, bytes: usize, limit: usize) -> bool {
    let locked_pages = wrap(bytes as u128 / PAGE + locked_vm as u128);

    c_allows(limit, locked_pages)
}

/// Whether `user_shm_lock()` goes on, for a `memlock` that `inc_rlimit_ucounts()` returned.
fn c_user_shm_allows(limit: usize, memlock: isize) -> bool {
    let lock_limit = if limit == RLIM_INFINITY {
        limit as u128
    } else {
        c_limit_pages(limit)
    };
    // A long that is compared with an unsigned long becomes one.
    let unsigned = if memlock < 0 {
        SPACE - memlock.unsigned_abs() as u128
    } else {
        memlock as u128
    };

    !(memlock == isize::MAX || unsigned > lock_limit)
}

/// The `mm->locked_vm` that `__account_locked_vm()` sets; `None` for `ENOMEM`. Without a limit,
/// it is `bypass_rlim`.
fn c_account(locked_vm: usize, pages: usize, inc: bool, limit: Option<usize>) -> Option<u128> {
    let (locked_vm, pages) = (locked_vm as u128, pages as u128);

    if inc {
        let total = wrap(locked_vm + pages);
        match limit {
            Some(limit) if total > c_limit_pages(limit) => None,
            _ => Some(total),
        }
    } else {
        Some(wrapped_difference(locked_vm, pages))
    }
}

/// One limit and one count.
fn check_limit(bytes: usize, total: usize) {
    let limit = Limit::new(bytes);
    let what = format!("limit {bytes:#x}, total {total:#x}");

    // can_do_mlock()
    assert_eq!(!limit.is_zero(), bytes != 0, "is_zero, {what}");
    assert_eq!(
        limit.allows(PageCount::new(total)),
        c_allows(bytes, total as u128),
        "allows, {what}"
    );
    assert_eq!(
        limit.allows_user(total as isize),
        c_user_shm_allows(bytes, total as isize),
        "allows_user, {what}"
    );
}

fn check_account(locked_vm: usize, pages: usize, bytes: usize) {
    for inc in [true, false] {
        for limit in [None, Some(bytes)] {
            let total = account(
                PageCount::new(locked_vm),
                PageCount::new(pages),
                inc,
                limit.map(Limit::new),
            );

            assert_eq!(
                total.map(|total| total.get() as u128),
                c_account(locked_vm, pages, inc, limit),
                "{locked_vm:#x} {pages:#x} inc {inc} limit {limit:#x?}"
            );
        }
    }
}

fn check_future(locked_vm: usize, bytes: usize, limit: usize) {
    let locked = PageCount::of_bytes(bytes).wrapping_add(PageCount::new(locked_vm));

    assert_eq!(
        Limit::new(limit).allows(locked),
        c_mlock_future_ok(locked_vm, bytes, limit),
        "locked_vm {locked_vm:#x} bytes {bytes:#x} limit {limit:#x}"
    );
}

#[test]
fn limits_at_all_edges_are_as_in_c() {
    let edges = edges(PAGE_SHIFT);

    for &limit in &edges {
        for &total in &edges {
            check_limit(limit, total);
        }
        for delta in -2..=2 {
            check_limit(limit, (limit >> PAGE_SHIFT).wrapping_add_signed(delta));
        }
    }
}

#[test]
fn accounts_at_edges_are_as_in_c() {
    let edges = few_edges(PAGE_SHIFT);

    for &limit in &edges {
        for &locked in &edges {
            for &x in &edges {
                check_account(locked, x, limit);
                check_future(locked, x, limit);
            }
        }
    }
}

/// One byte less than `k` pages is one page less.
#[test]
fn a_limit_counts_in_whole_pages() {
    let most = usize::MAX >> PAGE_SHIFT;

    for k in (1..=64).chain([isize::MAX as usize >> PAGE_SHIFT, most - 1, most]) {
        let allows = |bytes: usize, total: usize| Limit::new(bytes).allows(PageCount::new(total));
        let bytes = k << PAGE_SHIFT;

        assert!(allows(bytes - 1, k - 1));
        assert!(!allows(bytes - 1, k));
        for more in [0, 1, PAGE_SIZE - 1] {
            assert!(allows(bytes + more, k - 1));
            assert!(allows(bytes + more, k));
            assert!(!allows(bytes + more, k + 1));
        }
    }
}

/// Only 0 is `EPERM`; less than a page is still `ENOMEM` for the first one.
#[test]
fn a_limit_below_one_page() {
    assert!(Limit::new(0).is_zero());
    for bytes in [0, 1, PAGE_SIZE - 1] {
        let limit = Limit::new(bytes);

        assert_eq!(limit.is_zero(), bytes == 0);
        assert!(limit.allows(PageCount::new(0)));
        assert!(!limit.allows(PageCount::new(1)));
        assert!(limit.allows_user(0));
        assert!(!limit.allows_user(1));
    }
}

/// For a process, no limit is one of `ULONG_MAX` bytes; for a user, it is none.
#[test]
fn no_limit() {
    let limit = Limit::new(RLIM_INFINITY);
    let most = RLIM_INFINITY >> PAGE_SHIFT;

    assert!(!limit.is_zero());
    assert!(limit.allows(PageCount::new(most)));
    assert!(!limit.allows(PageCount::new(most + 1)));
    assert!(!limit.allows(PageCount::new(usize::MAX)));

    for total in [0, 1, most as isize, most as isize + 1, isize::MAX - 1] {
        assert!(limit.allows_user(total));
    }
    // What does not happen: inc_rlimit_ucounts() says LONG_MAX instead.
    assert!(limit.allows_user(-1));
    assert!(limit.allows_user(isize::MIN));
}

/// `LONG_MAX` is never a count, and a negative count is over every limit that is one.
#[test]
fn user_counts_that_are_none() {
    for bytes in edges(PAGE_SHIFT) {
        let limit = Limit::new(bytes);

        assert!(!limit.allows_user(isize::MAX));
        for total in [-1, -2, isize::MIN, isize::MIN + 1] {
            assert_eq!(limit.allows_user(total), bytes == RLIM_INFINITY);
        }
    }
}

/// A sum that wraps is taken for what it has become, limit or not.
#[test]
fn account_wraps() {
    let count = PageCount::new;
    let one_page = Some(Limit::new(PAGE_SIZE));

    for limit in [None, one_page] {
        let add = |locked, pages| account(count(locked), count(pages), true, limit);

        assert_eq!(add(usize::MAX, 1), Some(count(0)));
        assert_eq!(add(1, usize::MAX), Some(count(0)));
        assert_eq!(add(usize::MAX, 2), Some(count(1)));
        assert_eq!(add(0, 1), Some(count(1)));
    }
    assert_eq!(account(count(1), count(1), true, one_page), None);
    assert_eq!(account(count(usize::MAX), count(3), true, one_page), None);
    assert_eq!(
        account(count(0), count(1), false, one_page),
        Some(count(usize::MAX))
    );
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn limits_are_as_in_c((limit, total) in bytes_and_pages(PAGE_SHIFT)) {
        check_limit(limit, total);
    }

    #[test]
    fn accounts_are_as_in_c(
        (limit, total) in bytes_and_pages(PAGE_SHIFT),
        locked_vm in number(PAGE_SHIFT),
    ) {
        // The sum is `total`, often near the limit; then the difference is.
        check_account(locked_vm, total.wrapping_sub(locked_vm), limit);
        check_account(locked_vm, locked_vm.wrapping_sub(total), limit);
    }

    #[test]
    fn mlock_future_ok_is_as_in_c(
        (limit, total) in bytes_and_pages(PAGE_SHIFT),
        bytes in number(PAGE_SHIFT),
    ) {
        check_future(total.wrapping_sub(bytes >> PAGE_SHIFT), bytes, limit);
    }

    /// What `do_mlock()` compares with the limit, and how that comes out.
    #[test]
    fn do_mlock_check_is_as_in_c(
        start in number(PAGE_SHIFT),
        len in number(PAGE_SHIFT),
        (limit, total) in bytes_and_pages(PAGE_SHIFT),
        counted in prop_oneof![0..4usize, number(PAGE_SHIFT)],
    ) {
        let pages = PageRange::new(start, len).pages();
        let locked_vm = total.wrapping_sub(pages.get());

        let locked = pages.wrapping_add(PageCount::new(locked_vm));
        let adjusted = locked.wrapping_sub(PageCount::new(counted));

        let expected = c_do_mlock_totals(start, len, locked_vm, counted);
        for (locked, expected) in [locked, adjusted].into_iter().zip(expected) {
            prop_assert_eq!(locked.get() as u128, expected);
            prop_assert_eq!(Limit::new(limit).allows(locked), c_allows(limit, expected));
        }
    }

    /// What is allowed stays so with a higher limit, and with less to lock.
    #[test]
    fn limits_are_monotonic(
        (bytes, total) in bytes_and_pages(PAGE_SHIFT),
        more in number(PAGE_SHIFT),
        less in number(PAGE_SHIFT),
    ) {
        let limit = Limit::new(bytes);
        let higher = Limit::new(bytes.saturating_add(more));
        let lower_total = PageCount::new(total.saturating_sub(less));

        if limit.allows(PageCount::new(total)) {
            prop_assert!(higher.allows(PageCount::new(total)));
            prop_assert!(limit.allows(lower_total));
        }
    }

    /// A refusal changes nothing, an increase stays within the limit, and a decrease by the same
    /// number takes it back.
    #[test]
    fn account_there_and_back(
        (bytes, total) in bytes_and_pages(PAGE_SHIFT),
        locked in number(PAGE_SHIFT),
    ) {
        let limit = Some(Limit::new(bytes));
        let pages = PageCount::new(total.wrapping_sub(locked));
        let locked = PageCount::new(locked);

        match account(locked, pages, true, limit) {
            Some(total) => {
                prop_assert!(total.get() as u128 <= c_limit_pages(bytes));
                prop_assert_eq!(account(total, pages, false, limit), Some(locked));
                prop_assert_eq!(account(total, pages, false, None), Some(locked));
            }
            None => prop_assert!(total as u128 > c_limit_pages(bytes)),
        }
    }

    #[test]
    fn nothing_panics(x: usize, y: usize, z: usize, inc: bool, checked: bool) {
        let limit = Limit::new(x);
        black_box((limit.is_zero(), limit.allows(PageCount::new(y))));
        black_box(limit.allows_user(y as isize));
        black_box(account(
            PageCount::new(y),
            PageCount::new(z),
            inc,
            checked.then_some(limit),
        ));
    }
}
