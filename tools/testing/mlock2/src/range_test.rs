// SPDX-License-Identifier: GPL-2.0

//! `range`, against the page arithmetic of `do_mlock()`, `munlock()`, `apply_vma_lock_flags()` and
//! `count_mm_mlocked_page_nr()` of `mm/mlock.c`.

use super::{
    abi::PAGE_SHIFT,
    range::{
        PageCount,
        PageRange,
        PopulateRange,
        PAGE_SIZE, //
    },
};
use crate::values::{
    config,
    edges,
    number,
    wrap,
    wrapped_difference,
    SPACE, //
};
use proptest::prelude::*;
use std::hint::black_box;

/// The size of a page, not taken from what is tested.
const PAGE: u128 = 2u128.pow(PAGE_SHIFT as u32);

/// `PAGE_ALIGN()`.
fn c_page_align(bytes: u128) -> u128 {
    wrap(bytes.div_ceil(PAGE) * PAGE)
}

/// `offset_in_page()`.
fn c_offset_in_page(addr: u128) -> u128 {
    addr % PAGE
}

/// `start` and `len` after `len = PAGE_ALIGN(len + offset_in_page(start)); start &= PAGE_MASK`.
fn c_range(start: u128, len: u128) -> (u128, u128) {
    let offset = c_offset_in_page(start);

    (start - offset, c_page_align(wrap(len + offset)))
}

/// `end = start + len` of `apply_vma_lock_flags()`; `None` for `EINVAL`.
fn c_end(start: u128, len: u128) -> Option<u128> {
    let end = wrap(start + len);

    (end >= start).then_some(end)
}

/// `end` of `count_mm_mlocked_page_nr()`.
fn c_end_for_counting(start: u128, len: u128) -> u128 {
    let max = SPACE - 1;

    if max - len < start {
        max
    } else {
        start + len
    }
}

/// Everything that a range can be asked.
fn check_range(addr: usize, len: usize) {
    let range = PageRange::new(addr, len);
    let (c_start, c_len) = c_range(addr as u128, len as u128);
    let what = format!("addr {addr:#x} len {len:#x}");

    assert_eq!(range.start() as u128, c_start, "start, {what}");
    assert_eq!(range.len() as u128, c_len, "len, {what}");
    assert_eq!(range.pages().get() as u128, c_len / PAGE, "pages, {what}");
    assert_eq!(
        range.end().map(|end| end as u128),
        c_end(c_start, c_len),
        "end, {what}"
    );
    assert_eq!(
        range.saturating_end() as u128,
        c_end_for_counting(c_start, c_len),
        "saturating_end, {what}"
    );
}

/// All conversions of one number.
fn check_count(x: usize) {
    let value = x as u128;

    assert_eq!(PageCount::new(x).get(), x);
    // x >> PAGE_SHIFT
    assert_eq!(PageCount::of_bytes(x).get() as u128, value / PAGE, "{x:#x}");
    // (x + PAGE_SIZE - 1) >> PAGE_SHIFT
    assert_eq!(
        PageCount::covering_bytes(x).get() as u128,
        wrap(value + PAGE - 1) / PAGE,
        "{x:#x}"
    );
}

/// All operations on two numbers.
fn check_counts(x: usize, y: usize) {
    let (a, b) = (PageCount::new(x), PageCount::new(y));

    assert_eq!(
        a.wrapping_add(b).get() as u128,
        wrap(x as u128 + y as u128),
        "{x:#x} + {y:#x}"
    );
    assert_eq!(
        a.wrapping_sub(b).get() as u128,
        wrapped_difference(x as u128, y as u128),
        "{x:#x} - {y:#x}"
    );
    assert_eq!(a.cmp(&b), x.cmp(&y));
    assert_eq!(a == b, x == y);
}

#[test]
fn page_size() {
    assert_eq!(PAGE_SIZE as u128, PAGE);
}

#[test]
fn ranges_at_all_edges_are_as_in_c() {
    let edges = edges(PAGE_SHIFT);

    for &addr in &edges {
        for &len in &edges {
            check_range(addr, len);
        }
    }
}

#[test]
fn counts_at_all_edges_are_as_in_c() {
    let edges = edges(PAGE_SHIFT);

    for &x in &edges {
        check_count(x);
        for &y in &edges {
            check_counts(x, y);
        }
    }
}

#[test]
fn ranges_by_example() {
    let pages = |addr, len| PageRange::new(addr, len).pages().get();

    assert_eq!(pages(PAGE_SIZE, 1), 1);
    assert_eq!(pages(PAGE_SIZE, PAGE_SIZE), 1);
    assert_eq!(pages(PAGE_SIZE, PAGE_SIZE + 1), 2);
    assert_eq!(pages(PAGE_SIZE + 1, PAGE_SIZE), 2);
    assert_eq!(pages(2 * PAGE_SIZE - 1, 1), 1);
    assert_eq!(pages(2 * PAGE_SIZE - 1, 2), 2);
    assert_eq!(PageRange::new(PAGE_SIZE + 1, 1).start(), PAGE_SIZE);
    assert_eq!(PageRange::new(PAGE_SIZE + 1, 1).end(), Some(2 * PAGE_SIZE));
}

/// No length at all is an empty range only where a page begins: inside of a page, it is that page.
#[test]
fn len_zero() {
    for offset in 0..PAGE_SIZE {
        let range = PageRange::new(PAGE_SIZE + offset, 0);

        assert_eq!(range.start(), PAGE_SIZE);
        assert_eq!(range.pages().get(), usize::from(offset != 0));
    }
}

/// `mlock(addr, ULONG_MAX)` is of no pages where a page begins, and one byte further. From there
/// on, `len + offset_in_page(start)` wraps to a number that `PAGE_ALIGN()` makes one page of.
#[test]
fn len_ulong_max() {
    for page_start in [0, PAGE_SIZE, PAGE_SIZE.wrapping_neg()] {
        for offset in 0..PAGE_SIZE {
            let range = PageRange::new(page_start + offset, usize::MAX);

            assert_eq!(range.start(), page_start);
            assert_eq!(range.pages().get(), usize::from(offset > 1), "{offset:#x}");
            if offset <= 1 {
                assert_eq!(range.end(), Some(page_start));
                assert_eq!(range.saturating_end(), page_start);
            }
        }
    }
}

/// Where a page begins, every `len` that does not leave room for its last page gives no pages.
#[test]
fn len_within_a_page_of_ulong_max() {
    for addr in [0, PAGE_SIZE, PAGE_SIZE.wrapping_neg()] {
        for k in 0..PAGE_SIZE - 1 {
            assert_eq!(PageRange::new(addr, usize::MAX - k).len(), 0, "{k:#x}");
        }
        let len = PAGE_SIZE.wrapping_neg();
        assert_eq!(PageRange::new(addr, len).len(), len);
    }
}

/// A range cannot end where the address space does: `end` would be 0. That is `EINVAL`, and so is
/// all that reaches further.
#[test]
fn end_of_the_address_space() {
    let last_page = PAGE_SIZE.wrapping_neg();

    for (addr, len) in [
        (last_page, 1),
        (last_page, PAGE_SIZE),
        (usize::MAX, 1),
        (usize::MAX, PAGE_SIZE + 1),
        (PAGE_SIZE, last_page),
    ] {
        let range = PageRange::new(addr, len);

        assert_eq!(range.end(), None, "addr {addr:#x} len {len:#x}");
        assert_eq!(range.saturating_end(), usize::MAX);
    }

    let all_but_the_last = PageRange::new(0, last_page);
    assert_eq!(all_but_the_last.end(), Some(last_page));
    assert_eq!(all_but_the_last.saturating_end(), last_page);

    let before_the_last = PageRange::new(last_page - 1, 1);
    assert_eq!(before_the_last.end(), Some(last_page));
    assert_eq!(PageRange::new(last_page, 0).end(), Some(last_page));
}

/// `user_shm_lock()` takes a size within a page of `ULONG_MAX` for none.
#[test]
fn covering_bytes_wraps_to_zero() {
    for k in 0..PAGE_SIZE - 1 {
        assert_eq!(PageCount::covering_bytes(usize::MAX - k).get(), 0, "{k:#x}");
    }
    assert_eq!(
        PageCount::covering_bytes(usize::MAX - (PAGE_SIZE - 1)).get(),
        usize::MAX >> PAGE_SHIFT
    );
    assert_eq!(PageCount::covering_bytes(0).get(), 0);
}

proptest! {
    #![proptest_config(config())]

    // What is to be populated: vmas come in order, and do not overlap; of some there is nothing.
    #[test]
    fn unpopulated_reaches_from_the_first_to_the_last(
        a in number(PAGE_SHIFT), b in number(PAGE_SHIFT), c in number(PAGE_SHIFT), d in number(PAGE_SHIFT),
    ) {
        let mut at = [a, b, c, d].map(|x| x / PAGE_SIZE * PAGE_SIZE);
        at.sort_unstable();
        let mut all = PopulateRange::NOTHING;
        prop_assert!(all.is_empty());

        let mut first = None;
        let mut last = 0;
        for (start, end) in [(at[0], at[1]), (at[1], at[1]), (at[2], at[3]), (at[3], at[0])] {
            all.add(start, end);
            if start < end {
                first = first.or(Some(start));
                last = end;
            }
            prop_assert_eq!(all.is_empty(), first.is_none());
            prop_assert_eq!(all.end(), last);
            prop_assert_eq!((all.start(), all.len()), (first.unwrap_or(0), last - first.unwrap_or(0)));
        }
    }

    #[test]
    fn ranges_are_as_in_c(addr in number(PAGE_SHIFT), len in number(PAGE_SHIFT)) {
        check_range(addr, len);
    }

    /// Ranges whose end is next to that of the address space.
    #[test]
    fn ranges_at_the_end_are_as_in_c(
        addr in number(PAGE_SHIFT),
        end in -3 * PAGE_SIZE as isize..=3 * PAGE_SIZE as isize,
    ) {
        check_range(addr, (end as usize).wrapping_sub(addr));
    }

    #[test]
    fn counts_are_as_in_c(x in number(PAGE_SHIFT), y in number(PAGE_SHIFT)) {
        check_count(x);
        check_counts(x, y);
    }

    /// What the type promises.
    #[test]
    fn ranges_are_whole_pages(addr: usize, len in number(PAGE_SHIFT)) {
        let range = PageRange::new(addr, len);

        prop_assert_eq!(range.start() as u128 % PAGE, 0);
        prop_assert_eq!(range.len() as u128 % PAGE, 0);
        prop_assert_eq!(range.pages().get() as u128 * PAGE, range.len() as u128);
        if let Some(end) = range.end() {
            prop_assert_eq!(end as u128 % PAGE, 0);
            prop_assert_eq!(end, range.saturating_end());
        }
    }

    /// A range that does not wrap has all bytes that were asked for, and no page without one
    /// (but for the page of an empty range).
    #[test]
    fn ranges_are_just_large_enough(addr in number(PAGE_SHIFT), len in number(PAGE_SHIFT)) {
        let asked_end = addr as u128 + len as u128;
        prop_assume!(asked_end + PAGE <= SPACE);

        let range = PageRange::new(addr, len);
        let start = range.start() as u128;
        let end = range.end().expect("does not reach the end of the address space") as u128;

        prop_assert!(start <= addr as u128 && (addr as u128) < start + PAGE);
        prop_assert!(asked_end <= end && end < asked_end + PAGE);
        prop_assert_eq!(range.saturating_end() as u128, end);
    }

    #[test]
    fn rounding_twice_is_rounding_once(addr in number(PAGE_SHIFT), len in number(PAGE_SHIFT)) {
        let once = PageRange::new(addr, len);
        let twice = PageRange::new(once.start(), once.len());

        prop_assert_eq!(once, twice);
    }

    #[test]
    fn adding_and_subtracting_cancel(x in number(PAGE_SHIFT), y in number(PAGE_SHIFT)) {
        let (a, b) = (PageCount::new(x), PageCount::new(y));

        prop_assert_eq!(a.wrapping_add(b).wrapping_sub(b), a);
        prop_assert_eq!(a.wrapping_sub(b).wrapping_add(b), a);
        prop_assert_eq!(a.wrapping_add(b), b.wrapping_add(a));
    }

    /// Unless it wraps, one more page covers all bytes and one less does not.
    #[test]
    fn covering_bytes_is_just_large_enough(bytes in number(PAGE_SHIFT)) {
        prop_assume!((bytes as u128) < SPACE - (PAGE - 1));

        let pages = PageCount::covering_bytes(bytes).get() as u128;
        let bytes = bytes as u128;

        prop_assert!(pages * PAGE >= bytes);
        prop_assert!(pages == 0 || (pages - 1) * PAGE < bytes);
    }

    #[test]
    fn nothing_panics(x: usize, y: usize) {
        let range = PageRange::new(x, y);
        black_box((range.start(), range.len(), range.pages(), range.end()));
        black_box(range.saturating_end());

        let (a, b) = (PageCount::new(x), PageCount::new(y));
        black_box((a.get(), a.wrapping_add(b), a.wrapping_sub(b), a.cmp(&b)));
        black_box((PageCount::of_bytes(x), PageCount::covering_bytes(x)));
    }
}
