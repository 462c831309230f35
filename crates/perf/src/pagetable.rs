// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page-table crate: stage 1, 4 KiB granule, 48-bit addresses; and some of the same for other tables.
//!
//! What a user's code would do is in functions of their own that are not inlined, so that nothing about the
//! arguments is known where they are compiled.

use std::hint::black_box;

use smmuv3_pagetable::{
    Attributes, Bbml, Gather, Iova, Mapping, PhysAddr, Prot, Table, TableConfig,
};

use crate::machine::Host;
use crate::{Run, Workload};

/// Pages of a run, and of a buffer.
const RUN: u64 = 512;
const BUFFER: u64 = 64;
const BLOCK: u64 = 2 << 20;
const GIB: u64 = 1 << 30;
/// Where the measured input addresses begin.
const START: u64 = 0x12_4000_0000;
/// Memory to map.
const MEMORY: u64 = 0x20_0000_0000;
/// Pages that the set-up covers: twice as many as are counted.
const PAGES: u64 = 32 * RUN;

/// Something with pages, of which so many are done in a round.
const fn pages(name: &'static str, units: u64, prepare: fn() -> Run) -> Workload {
    Workload { name, units, rounds: PAGES / units / 2, prepare }
}

/// A GiB in one call, of pages of so many bytes.
const fn gib(name: &'static str, page: u64, prepare: fn() -> Run) -> Workload {
    Workload { name, units: GIB / page, rounds: 1, prepare }
}

pub(crate) fn workloads() -> Vec<Workload> {
    type Four = Space<12, 1, false>;
    vec![
        pages("map 1 page, tables exist", 1, || Four::map_pages(1, true)),
        pages("unmap 1 page", 1, || Four::unmap_pages(1)),
        pages("unmap 1 page, by a cursor", 1, Four::unmap_by_cursor),
        pages("map runs of 512 pages, new tables", RUN, || Four::map_pages(RUN, false)),
        pages("map runs of 512 pages, tables exist", RUN, || Four::map_pages(RUN, true)),
        pages("unmap runs of 512 pages", RUN, || Four::unmap_pages(RUN)),
        pages("map 64-page buffers", BUFFER, || Four::map_pages(BUFFER, true)),
        pages("unmap 64-page buffers", BUFFER, || Four::unmap_pages(BUFFER)),
        gib("map 1 GiB of pages in one call", Four::PAGE, Four::map_one_gib),
        gib("unmap 1 GiB of pages in one call", Four::PAGE, Four::unmap_one_gib),
        Workload { name: "map one 2 MiB block", units: 1, rounds: 1000, prepare: Four::map_blocks },
        Workload {
            name: "unmap one 2 MiB block",
            units: 1,
            rounds: 1000,
            prepare: Four::unmap_blocks,
        },
        pages("look up a random address", 1, Four::look_up_pages),
    ]
}

/// The same for other tables.
pub(crate) fn others() -> Vec<Workload> {
    /// Names end in what the tables are.
    macro_rules! of {
        ($what:literal, $space:ty) => {
            [
                pages(concat!("map 1 page: ", $what), 1, || <$space>::map_pages(1, true)),
                pages(concat!("unmap 1 page: ", $what), 1, || <$space>::unmap_pages(1)),
                pages(concat!("map runs, new tables: ", $what), RUN, || {
                    <$space>::map_pages(RUN, false)
                }),
                pages(concat!("unmap runs: ", $what), RUN, || <$space>::unmap_pages(RUN)),
                gib(concat!("map 1 GiB: ", $what), <$space>::PAGE, <$space>::map_one_gib),
                gib(concat!("unmap 1 GiB: ", $what), <$space>::PAGE, <$space>::unmap_one_gib),
                pages(concat!("look up: ", $what), 1, <$space>::look_up_pages),
            ]
        };
    }
    [
        of!("16 KiB", Space<14, 1, false>),
        of!("64 KiB", Space<16, 1, false>),
        of!("stage 2", Space<12, 2, false>),
        of!("contiguous hint", Space<12, 1, true>),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A table of 48-bit addresses. With `HINTS`, maps give the contiguous hint.
struct Space<const SHIFT: u32, const STAGE: u8, const HINTS: bool> {
    host: Host,
    table: Table<SHIFT, STAGE>,
}

impl<const SHIFT: u32, const STAGE: u8, const HINTS: bool> Space<SHIFT, STAGE, HINTS> {
    const PAGE: u64 = 1 << SHIFT;

    fn new(tables: usize) -> Self {
        // Some more, for the alignment of the first one.
        let host = Host::new((tables + 8) << SHIFT);
        let mut config = TableConfig::new(48, 48);
        if HINTS {
            config = config.with_contiguous(Bbml::Two);
        }
        let table = Table::with(&host, &config).expect("there is memory");
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
        if len == Self::PAGE
            // SAFETY: as above.
            && unsafe { self.table.unmap_page(&self.host, Iova(iova), &mut gather) }
        {
            invalidate(&gather);
            return len;
        }
        self.unmap_more(iova, len, &mut gather)
    }

    #[inline(never)]
    fn unmap_more(&self, iova: u64, len: u64, gather: &mut Gather) -> u64 {
        // SAFETY: as above.
        let few = unsafe { self.table.unmap_at_once(&self.host, Iova(iova), len, gather) };
        if let Some(unmapped) = few {
            invalidate(gather);
            return unmapped;
        }
        self.unmap_much(iova, len, gather)
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

    /// Maps all pages that are measured, with one more table at the end, which the last run reaches: to memory that is a
    /// page further on, so that neither a block nor a group fits.
    fn fill(&self) {
        let len = (PAGES + RUN) * Self::PAGE;
        self.map(START, MEMORY + Self::PAGE, len, attributes());
    }

    /// Where a mapping of `len` bytes begins: runs begin half their length further on, so that they cross from one table to
    /// the next in their middle.
    fn first(len: u64) -> u64 {
        if len == RUN * Self::PAGE { START + len / 2 } else { START }
    }

    fn map_pages(pages: u64, tables: bool) -> Run {
        let space = Self::new(50);
        if tables {
            // Page by page, so that the tables stay when they are empty.
            space.fill();
            for page in 0..PAGES + RUN {
                space.unmap(START + page * Self::PAGE, Self::PAGE);
            }
        }
        let len = black_box(pages * Self::PAGE);
        let first = Self::first(len);
        Box::new(move |rounds| {
            let attributes = attributes();
            let mut at = first;
            for _ in 0..rounds {
                space.map(at, at, len, attributes);
                at += len;
            }
        })
    }

    fn unmap_pages(pages: u64) -> Run {
        let space = Self::new(50);
        let len = black_box(pages * Self::PAGE);
        let first = Self::first(len);
        if HINTS && pages > 1 {
            // As they are unmapped, and with hints.
            for at in (0..PAGES / pages).map(|nth| first + nth * len) {
                space.map(at, at, len, attributes());
            }
        } else {
            space.fill();
        }
        Box::new(move |rounds| {
            let mut at = first;
            for _ in 0..rounds {
                assert_eq!(space.unmap(at, len), len);
                at += len;
            }
        })
    }

    /// The general way, for every range.
    fn unmap_by_cursor() -> Run {
        let space = Self::new(50);
        space.fill();
        Box::new(move |rounds| {
            let mut at = START;
            for _ in 0..rounds {
                assert_eq!(space.unmap_much(at, Self::PAGE, &mut Gather::new()), Self::PAGE);
                at += Self::PAGE;
            }
        })
    }

    fn map_one_gib() -> Run {
        let space = Self::new(2000);
        Box::new(move |rounds| {
            for at in (0..rounds).map(|round| round * GIB) {
                space.map(START + at, MEMORY + Self::PAGE, GIB, attributes());
            }
        })
    }

    /// Its tables go, too.
    fn unmap_one_gib() -> Run {
        let space = Self::new(2000);
        for at in [0, GIB] {
            space.map(START + at, MEMORY + Self::PAGE, GIB, attributes());
        }
        Box::new(move |rounds| {
            for at in (0..rounds).map(|round| round * GIB) {
                assert_eq!(space.unmap(START + at, GIB), GIB);
            }
        })
    }

    fn map_blocks() -> Run {
        let space = Self::new(50);
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
        let space = Self::new(50);
        for at in 0..8 * GIB / BLOCK {
            space.map(START + at * BLOCK, at * BLOCK, BLOCK, attributes());
        }
        Box::new(move |rounds| {
            for at in (0..rounds).map(|round| round * BLOCK) {
                assert_eq!(space.unmap(START + at, BLOCK), BLOCK);
            }
        })
    }

    fn look_up_pages() -> Run {
        let space = Self::new(50);
        space.fill();
        // xorshift64.
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let addresses: Vec<u64> = (0..PAGES)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                START + random % (PAGES << SHIFT)
            })
            .collect();
        Box::new(move |rounds| {
            for &address in &addresses[..rounds as usize] {
                assert!(space.look_up(address).is_some());
            }
        })
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
