// SPDX-License-Identifier: MIT OR Apache-2.0
//! Leaves that may be cached as one, and one that becomes many (§8.2).

use std::ops::Range;

use smmuv3_formats::command::TlbiNhVa;
use smmuv3_formats::descriptor::{Stage1Table, TABLE_OR_PAGE};
use smmuv3_testbench::oracle::PAGE;

use super::{Hand, LAST, SPAN};

/// Pages of a group.
const MEMBERS: u64 = 16;
/// What a group of pages spans.
pub const GROUP: u64 = MEMBERS * PAGE;
/// The hint of a leaf that its group may be cached as one (§15.3).
pub const HINT: u64 = 1 << 52;
/// nT of a block (§15.3).
const NT: u64 = 1 << 16;

impl Hand {
    /// Maps new memory at `iova`, as a group of pages that may be cached as one.
    pub fn map_group(&mut self, domain: usize, iova: u64) {
        let pa = self.memory.next_multiple_of(GROUP);
        self.memory = pa + GROUP;
        self.mapping(domain, iova..iova + GROUP, pa, |hand| {
            let leaf = hand.leaf(domain, pa) | HINT;
            let slot = hand.descriptor(domain, iova, LAST);
            hand.store_all(slot, (0..MEMBERS).map(|nth| leaf + nth * PAGE));
        });
    }

    /// Changes these bits of all members of the group at `iova`, in place.
    pub fn change_group(&mut self, domain: usize, iova: u64, bits: u64) {
        let slot = self.descriptor(domain, iova, LAST);
        self.store_all(slot, (0..MEMBERS).map(|nth| self.load(slot + 8 * nth) ^ bits));
    }

    /// Maps new memory at `iova`, as a block.
    pub fn map_block(&mut self, domain: usize, iova: u64) {
        let pa = self.allocate(SPAN);
        self.mapping(domain, iova..iova + SPAN, pa, |hand| {
            let slot = hand.descriptor(domain, iova, LAST - 1);
            hand.store(slot, hand.leaf(domain, pa) ^ 0b10);
        });
    }

    /// Says of the block at `iova` that a table is about to take its place.
    pub fn mark_block(&mut self, domain: usize, iova: u64) {
        let slot = self.descriptor(domain, iova, LAST - 1);
        self.store(slot, self.load(slot) | NT);
    }

    /// Puts a table that says the same in the place of the block at `iova`.
    pub fn split_block(&mut self, domain: usize, iova: u64) {
        let slot = self.descriptor(domain, iova, LAST - 1);
        let leaf = self.load(slot) & !NT | 0b10;
        let table = self.allocate_table();
        self.store_all(table, (0..SPAN / PAGE).map(|nth| leaf + nth * PAGE));
        let link = Stage1Table::default().with_kind(TABLE_OR_PAGE).with_next(table);
        self.store(slot, link.0[0]);
    }

    /// Tells `instance` to forget the page at `iova`, if it is a page that it keeps.
    pub fn tlbi_page(&mut self, instance: usize, asid: u16, iova: u64) {
        let command = TlbiNhVa::new().with_asid(asid.into()).with_addr(iova);
        self.send(instance, command.with_leaf(true).with_tg(1).with_ttl(3));
    }

    fn mapping(
        &mut self,
        domain: usize,
        range: Range<u64>,
        pa: u64,
        store: impl FnOnce(&mut Self),
    ) {
        self.watch().oracle.map_begins(domain, range.clone(), pa, true);
        store(self);
        let mut watch = self.watch();
        watch.collect(&self.world);
        watch.oracle.map_ends(domain, range, true);
    }
}
