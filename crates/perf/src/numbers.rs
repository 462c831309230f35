// SPDX-License-Identifier: MIT OR Apache-2.0
//! Handing out ASIDs: the driver's own allocator, and the plainest one of its kind.

use std::hint::black_box;

use crate::ids::{Ids, Order};
use crate::{Run, Workload};

const BITS: u32 = 16;
const ALL: usize = 1 << BITS;
/// Those that are free where nearly all are taken: 0.4 %, the ones that are looked at last.
const FREE: usize = 262;
const ROUNDS: u64 = 10_000;

pub(crate) fn workloads() -> Vec<Workload> {
    let whole = |name, prepare| Workload { name, units: 1, rounds: ROUNDS, prepare };
    vec![
        whole("ASID: allocate + release, all free", || ours(0)),
        whole("ASID: allocate + release, 99.6 % taken", || ours(ALL - 1 - FREE)),
        whole("plain two-level bitmap: the same, all free", || plain(0)),
        whole("plain two-level bitmap: the same, 99.6 % taken", || plain(ALL - 1 - FREE)),
    ]
}

#[inline(never)]
fn allocate(ids: &mut Ids) -> Option<u32> {
    ids.allocate(BITS, Order::Descending)
}

#[inline(never)]
fn release(ids: &mut Ids, id: u32) {
    ids.release(id);
}

fn ours(taken: usize) -> Run {
    let mut ids = Ids::new(BITS).expect("there is memory");
    for _ in 0..taken {
        allocate(&mut ids);
    }
    Box::new(move |rounds| {
        for _ in 0..rounds {
            let id = allocate(black_box(&mut ids)).expect("some are free");
            release(black_box(&mut ids), id);
        }
    })
}

/// A bit for each number, and a bit for each word of those that is full; highest first. It checks nothing.
struct Plain {
    taken: [u64; ALL / 64],
    full: [u64; ALL / 64 / 64],
}

impl Plain {
    #[inline(never)]
    fn allocate(&mut self) -> Option<usize> {
        let group = self.full.iter().rposition(|full| *full != u64::MAX)?;
        let word = group * 64 + (63 - (!self.full[group]).leading_zeros() as usize);
        let bit = 63 - (!self.taken[word]).leading_zeros() as usize;
        self.taken[word] |= 1 << bit;
        if self.taken[word] == u64::MAX {
            self.full[group] |= 1 << (word % 64);
        }
        Some(word * 64 + bit)
    }

    #[inline(never)]
    fn release(&mut self, id: usize) {
        self.taken[id / 64] &= !(1 << (id % 64));
        self.full[id / 64 / 64] &= !(1 << (id / 64 % 64));
    }
}

fn plain(taken: usize) -> Run {
    let mut ids = Box::new(Plain { taken: [0; ALL / 64], full: [0; ALL / 64 / 64] });
    ids.taken[0] = 1;
    for _ in 0..taken {
        ids.allocate();
    }
    Box::new(move |rounds| {
        for _ in 0..rounds {
            let id = black_box(&mut ids).allocate().expect("some are free");
            black_box(&mut ids).release(id);
        }
    })
}
