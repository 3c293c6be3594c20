// SPDX-License-Identifier: GPL-2.0

//! Numbers to test with, most of them where something begins or ends.

use proptest::{
    prelude::*,
    sample::select, //
};

/// How many values an `unsigned long` has.
pub(crate) const SPACE: u128 = 1 << usize::BITS;

/// The remainder that C's `unsigned long` keeps.
pub(crate) fn wrap(value: u128) -> u128 {
    value % SPACE
}

/// `a - b`, as C's `unsigned long` has it.
pub(crate) fn wrapped_difference(a: u128, b: u128) -> u128 {
    wrap(SPACE + a - b)
}

/// `PROPTEST_CASES` in the environment asks for more cases. Nothing is written into the source
/// tree.
pub(crate) fn config() -> ProptestConfig {
    let config = ProptestConfig::default();

    ProptestConfig {
        cases: config.cases.max(4096),
        failure_persistence: None,
        ..config
    }
}

/// Numbers that differ from each of `bases` by at most `distance`, each of them once. They wrap.
fn around(bases: impl IntoIterator<Item = usize>, distance: isize) -> Vec<usize> {
    let mut values: Vec<usize> = bases
        .into_iter()
        .flat_map(|base| (-distance..=distance).map(move |d| base.wrapping_add_signed(d)))
        .collect();

    values.sort_unstable();
    values.dedup();
    values
}

/// All numbers next to a power of two, to a whole number of pages at either end, or to the middle.
///
/// This has 0, 1, `usize::MAX` and `isize::MAX`, in bytes and in pages.
pub(crate) fn edges(page_shift: usize) -> Vec<usize> {
    let page = 1usize << page_shift;
    let powers = (0..usize::BITS).map(|k| 1 << k);
    let pages = (0..=4).map(|k| k * page);
    let last_pages = (0..=4).map(|k: usize| (k * page).wrapping_neg());
    let max_pages = [usize::MAX >> page_shift, isize::MAX as usize >> page_shift];

    around(
        powers.chain(pages).chain(last_pages).chain(max_pages),
        2, //
    )
}

/// The most important of the [`edges`], few enough to take three at a time.
pub(crate) fn few_edges(page_shift: usize) -> Vec<usize> {
    let page = 1usize << page_shift;
    let bases = [
        0,
        page,
        2 * page,
        3 * page,
        page.wrapping_neg(),
        isize::MAX as usize,
        isize::MAX as usize >> page_shift,
        usize::MAX >> page_shift,
    ];

    around(bases, 2)
}

/// Any number, but often one near an edge.
pub(crate) fn number(page_shift: usize) -> impl Strategy<Value = usize> {
    let page_multiple = any::<usize>().prop_map(move |x| x >> page_shift << page_shift);

    prop_oneof![
        4 => select(edges(page_shift)),
        2 => (page_multiple, -2..=2isize).prop_map(|(x, d)| x.wrapping_add_signed(d)),
        1 => any::<usize>(),
        // As many bits as may be.
        1 => (any::<usize>(), 0..usize::BITS).prop_map(|(x, shift)| x >> shift),
    ]
}

/// A number of bytes, and one of pages, often just as many as there are in the bytes.
pub(crate) fn bytes_and_pages(page_shift: usize) -> impl Strategy<Value = (usize, usize)> {
    (
        number(page_shift),
        number(page_shift),
        -2..=2isize,
        any::<bool>(),
    )
        .prop_map(move |(bytes, pages, d, near)| {
            if near {
                (bytes, (bytes >> page_shift).wrapping_add_signed(d))
            } else {
                (bytes, pages)
            }
        })
}
