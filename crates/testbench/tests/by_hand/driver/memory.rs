// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory of tables and queues: taken, loaded, and stored so that hardware may see it.

use smmuv3::{Frames, PhysAddr};
use smmuv3_formats::descriptor::{Stage1Table, TABLE_OR_PAGE};
use smmuv3_testbench::oracle::PAGE;

use super::{GUEST, Hand, LAST, Layout, guest};

impl Hand {
    pub(super) fn allocate(&self, bytes: u64) -> u64 {
        let pa = self.world.frames().allocate(bytes, bytes).expect("there is memory");
        self.platform.publish(PhysAddr(pa), bytes as usize);
        pa
    }

    /// Memory that CPUs cache.
    pub(super) fn allocate_table(&self) -> u64 {
        if self.layout != Layout::Incoherent {
            return self.allocate(PAGE);
        }
        let pa = Frames::allocate(&self.platform, PAGE as usize, PAGE as usize);
        let pa = pa.expect("there is memory");
        self.platform.publish(pa, PAGE as usize);
        pa.0
    }

    pub(super) fn load(&self, pa: u64) -> u64 {
        self.world.machine().ram().read64(pa).expect("it is RAM")
    }

    /// One aligned store that hardware may see from now on.
    pub(super) fn store(&self, pa: u64, word: u64) {
        self.world.machine().ram().write64(pa, word).expect("it is RAM");
        if self.publishes {
            self.platform.publish(PhysAddr(pa), 8);
        }
    }

    /// Stores of words that lie side by side, which hardware may see from then on.
    pub(super) fn store_all(&self, pa: u64, words: impl Iterator<Item = u64>) {
        let mut bytes = 0;
        for word in words {
            self.world.machine().ram().write64(pa + bytes, word).expect("it is RAM");
            bytes += 8;
        }
        self.platform.publish(PhysAddr(pa), bytes as usize);
    }

    /// Where the descriptor for `iova` at `level` is; tables above it are created.
    pub(super) fn descriptor(&self, domain: usize, iova: u64, level: u32) -> u64 {
        let mut table = self.spaces[domain].root;
        for above in 0..level {
            let slot = table + 8 * index(iova, above);
            if self.load(slot) == 0 {
                let new = self.allocate_table();
                if domain >= GUEST {
                    self.back(guest::under(domain), new);
                }
                let link = Stage1Table::default().with_kind(TABLE_OR_PAGE).with_next(new);
                self.store(slot, link.0[0]);
            }
            table = Stage1Table([self.load(slot)]).next();
        }
        table + 8 * index(iova, level)
    }
}

/// Index of the descriptor for `iova` in a table of `level` (§15.5).
pub(super) const fn index(iova: u64, level: u32) -> u64 {
    (iova >> (12 + 9 * (LAST - level))) & 0x1ff
}
