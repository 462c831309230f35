// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page-table crate: stage 1, 4 KiB granule, 48-bit addresses.
//!
//! What a user's code would do is in functions of their own that are not inlined, so that nothing about the
//! arguments is known where they are compiled.

use std::hint::black_box;

use smmuv3_pagetable::{Attributes, Gather, Iova, Mapping, PhysAddr, Prot, Stage1Table4K as Table};

use crate::machine::Host;
use crate::{Run, Workload};

const PAGE: u64 = 4096;
const RUN: u64 = 512;
const BUFFER: u64 = 64;
const BLOCK: u64 = 2 << 20;
const GIB: u64 = 1 << 30;
/// Where the measured input addresses begin.
const START: u64 = 0x12_4000_0000;
/// Memory to map: a page beyond a large boundary, so that no block fits.
const MEMORY: u64 = 0x20_0000_1000;
/// Pages that the set-up covers: twice as many as are counted.
const PAGES: u64 = 32 * RUN;

pub(crate) fn workloads() -> Vec<Workload> {
    let pages = |name, units, prepare| Workload { name, units, rounds: PAGES / units / 2, prepare };
    vec![
        pages("map 1 page, tables exist", 1, || map(PAGE, true)),
        pages("unmap 1 page", 1, || unmap(PAGE)),
        pages("unmap 1 page, by a cursor", 1, unmap_by_cursor),
        pages("map runs of 512 pages, new tables", RUN, || map(RUN * PAGE, false)),
        pages("map runs of 512 pages, tables exist", RUN, || map(RUN * PAGE, true)),
        pages("unmap runs of 512 pages", RUN, || unmap(RUN * PAGE)),
        pages("map 64-page buffers", BUFFER, || map(BUFFER * PAGE, true)),
        pages("unmap 64-page buffers", BUFFER, || unmap(BUFFER * PAGE)),
        Workload {
            name: "map 1 GiB of pages in one call",
            units: GIB / PAGE,
            rounds: 1,
            prepare: one_gib,
        },
        Workload { name: "map one 2 MiB block", units: 1, rounds: 1000, prepare: map_blocks },
        Workload { name: "unmap one 2 MiB block", units: 1, rounds: 1000, prepare: unmap_blocks },
        pages("look up a random address", 1, look_up),
    ]
}

struct Space {
    host: Host,
    table: Table,
}

impl Space {
    fn new(bytes: usize) -> Self {
        let host = Host::new(bytes);
        let table = Table::new(&host, 48, 48).expect("there is memory");
        Self { host, table }
    }

    #[inline(never)]
    fn map(&self, iova: u64, pa: u64, len: u64, attributes: Attributes) {
        // SAFETY: one thread, and memory that does not exist.
        unsafe { self.table.map(&self.host, Iova(iova), PhysAddr(pa), len, attributes) }
            .expect("nothing is mapped there");
    }

    #[inline(never)]
    fn unmap(&self, iova: u64, len: u64) -> u64 {
        let mut gather = Gather::new();
        // SAFETY: as above.
        let few = unsafe { self.table.unmap_pages(&self.host, Iova(iova), len, &mut gather) };
        if let Some(unmapped) = few {
            invalidate(&gather);
            return unmapped;
        }
        self.unmap_much(iova, len, &mut gather)
    }

    #[inline(never)]
    fn unmap_much(&self, iova: u64, len: u64, gather: &mut Gather) -> u64 {
        // SAFETY: as above.
        let unmap = unsafe { self.table.unmap(&self.host, Iova(iova), len) };
        let mut unmap = unmap.expect("no block is cut");
        while unmap.next(gather) {
            invalidate(gather);
            // SAFETY: no hardware walks the tables.
            unsafe { gather.free_tables(&self.host) };
            gather.clear();
        }
        unmap.unmapped()
    }

    #[inline(never)]
    fn look_up(&self, iova: u64) -> Option<Mapping> {
        // SAFETY: as above.
        unsafe { self.table.lookup(&self.host, Iova(iova)) }
    }

    /// Maps all pages that are measured, with one more table at the end, which the last run reaches.
    fn fill(&self) {
        self.map(START, MEMORY, (PAGES + RUN) * PAGE, attributes());
    }
}

/// Where the TLB would be told. It is not: that is what the driver's figures are for.
#[inline(always)]
fn invalidate(gather: &Gather) {
    black_box(gather);
}

fn attributes() -> Attributes {
    black_box(Attributes::normal(Prot::READ | Prot::WRITE))
}

/// Where a mapping of `len` bytes begins: runs cross a 2 MiB boundary in their middle.
fn first(len: u64) -> u64 {
    if len == RUN * PAGE { START + BLOCK / 2 } else { START }
}

fn map(len: u64, tables: bool) -> Run {
    let space = Space::new(1 << 20);
    if tables {
        // Page by page, so that the tables stay when they are empty.
        space.fill();
        for page in 0..PAGES + RUN {
            space.unmap(START + page * PAGE, PAGE);
        }
    }
    let (first, len) = (first(len), black_box(len));
    Box::new(move |rounds| {
        let attributes = attributes();
        let mut at = first;
        for _ in 0..rounds {
            space.map(at, at, len, attributes);
            at += len;
        }
    })
}

fn unmap(len: u64) -> Run {
    let space = Space::new(1 << 20);
    space.fill();
    let (first, len) = (first(len), black_box(len));
    Box::new(move |rounds| {
        let mut at = first;
        for _ in 0..rounds {
            assert_eq!(space.unmap(at, len), len);
            at += len;
        }
    })
}

/// The way for every range, which domains take.
fn unmap_by_cursor() -> Run {
    let space = Space::new(1 << 20);
    space.fill();
    Box::new(move |rounds| {
        let mut at = START;
        for _ in 0..rounds {
            assert_eq!(space.unmap_much(at, PAGE, &mut Gather::new()), PAGE);
            at += PAGE;
        }
    })
}

fn one_gib() -> Run {
    let space = Space::new(8 << 20);
    Box::new(move |rounds| {
        for at in (0..rounds).map(|round| round * GIB) {
            space.map(START + at, MEMORY, GIB, attributes());
        }
    })
}

fn map_blocks() -> Run {
    let space = Space::new(1 << 20);
    // All tables of the higher levels, by blocks of another 2 MiB in each.
    for at in 0..8 {
        space.map(START + at * GIB, 0, BLOCK, attributes());
    }
    Box::new(move |rounds| {
        let attributes = attributes();
        for at in (0..rounds).map(|round| (round + 1 + round / 511) * BLOCK) {
            space.map(START + at, at, BLOCK, attributes);
        }
    })
}

fn unmap_blocks() -> Run {
    let space = Space::new(1 << 20);
    for at in 0..8 * GIB / BLOCK {
        space.map(START + at * BLOCK, at * BLOCK, BLOCK, attributes());
    }
    Box::new(move |rounds| {
        for at in (0..rounds).map(|round| round * BLOCK) {
            assert_eq!(space.unmap(START + at, BLOCK), BLOCK);
        }
    })
}

fn look_up() -> Run {
    let space = Space::new(1 << 20);
    space.fill();
    // xorshift64.
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let addresses: Vec<u64> = (0..PAGES)
        .map(|_| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            START + random % (PAGES * PAGE)
        })
        .collect();
    Box::new(move |rounds| {
        for &address in &addresses[..rounds as usize] {
            assert!(space.look_up(address).is_some());
        }
    })
}
