// SPDX-License-Identifier: GPL-2.0

//! Memory bandwidth in four simple loops over large arrays: copy, scale, add and triad.
//!
//! Prints `stream<TAB>loop<TAB>megabytes per second`, the mean of the rounds but the first one. Where the
//! clock counts instructions, a second is 10^9 of them.

use std::hint::black_box;
use std::io::Result;

use crate::clock::Clock;

/// As in the letter of 2015.
const ELEMENTS: usize = 1_000_000;
const ROUNDS: usize = 10;
const FACTOR: f64 = 3.0;

pub fn run() -> Result<()> {
    let clock = Clock::new();
    let (mut a, mut b, mut c) = (
        vec![1.0f64; ELEMENTS],
        vec![2.0f64; ELEMENTS],
        vec![0.0f64; ELEMENTS],
    );
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..=ROUNDS {
        times[0].push(clock.time(|| {
            for (c, a) in c.iter_mut().zip(&a) {
                *c = *a;
            }
            black_box(&mut c);
        }));
        times[1].push(clock.time(|| {
            for (b, c) in b.iter_mut().zip(&c) {
                *b = FACTOR * c;
            }
            black_box(&mut b);
        }));
        times[2].push(clock.time(|| {
            for ((c, a), b) in c.iter_mut().zip(&a).zip(&b) {
                *c = a + b;
            }
            black_box(&mut c);
        }));
        times[3].push(clock.time(|| {
            for ((a, b), c) in a.iter_mut().zip(&b).zip(&c) {
                *a = b + FACTOR * c;
            }
            black_box(&mut a);
        }));
    }
    for (i, (name, arrays)) in [("copy", 2), ("scale", 2), ("add", 3), ("triad", 3)]
        .into_iter()
        .enumerate()
    {
        let bytes = (arrays * ELEMENTS * size_of::<f64>()) as f64;
        let mean = times[i][1..].iter().sum::<f64>() / ROUNDS as f64;
        println!("stream\t{name}\t{:.1}", bytes / mean * 1e3);
    }
    Ok(())
}
