// SPDX-License-Identifier: MIT OR Apache-2.0
//! The software of a guest: memory that the host gave it, contexts and tables in it, and commands for the SMMU that it is
//! shown. It knows nothing of the host.

use std::collections::BTreeMap;

use smmuv3_formats::command::{CfgiCd, CfgiSte, Sync, TlbiNhAsid, TlbiNhVa};
use smmuv3_formats::{Cd, Command, Ste};
use smmuv3_testbench::ram::Ram;

pub const PAGE: u64 = 4096;
/// Where its memory begins, as it knows it.
pub const BASE: u64 = 0x4000_0000;
/// Pages of it: for each space a context and tables of levels 1 to 3, the rest for data.
pub const PAGES: usize = 40;
pub const SPACES: usize = 2;
const EACH: usize = 4;
/// The first page for data.
pub const DATA: usize = SPACES * EACH;
/// Where its devices' addresses begin.
pub const VA: u64 = 0x10_0000_0000;
/// The largest number of pages that it maps in a space.
pub const SPAN: usize = 16;

/// A guest.
pub struct Guest {
    ram: Ram,
    /// Where each page of its memory is.
    pub frames: Vec<u64>,
    /// What it has mapped: {space, page of VA} -> page of its memory.
    pub mapped: BTreeMap<(usize, usize), usize>,
    asids: [u64; SPACES],
    /// Its contexts stall.
    stalls: bool,
}

impl Guest {
    pub fn new(ram: Ram, frames: Vec<u64>) -> Self {
        let guest = Self { ram, frames, mapped: BTreeMap::new(), asids: [1, 2], stalls: false };
        for space in 0..SPACES {
            let first = space * EACH;
            let table = |level: usize| Self::ipa(first + level) | 3;
            // 39 bits of addresses: levels 1, 2, 3.
            guest.put(first + 1, (VA >> 30) as usize & 511, table(2));
            guest.put(first + 2, (VA >> 21) as usize & 511, table(3));
            guest.put_context(space);
        }
        guest
    }

    pub const fn ipa(page: usize) -> u64 {
        BASE + page as u64 * PAGE
    }

    /// The entry by which a stream uses a space.
    pub fn entry(space: usize) -> Ste {
        Ste([Self::ipa(space * EACH) | 0b1011, 0xd4, 0, 0, 0, 0, 0, 0])
    }

    pub fn bypass() -> Ste {
        Ste([0b1001, 0, 0, 0, 0, 0, 0, 0])
    }

    /// The pages that an access of a space goes through.
    pub fn pages_of(space: usize) -> std::ops::Range<usize> {
        space * EACH..(space + 1) * EACH
    }

    pub const fn is_context(page: usize) -> bool {
        page < DATA && page.is_multiple_of(EACH)
    }

    /// Writes a word of its memory.
    pub fn put(&self, page: usize, index: usize, word: u64) {
        self.ram.write64(self.frames[page] + 8 * index as u64, word).unwrap();
    }

    /// The context of a space.
    pub fn context(&self, space: usize) -> Cd {
        let cd = Cd::default().with_v(true).with_t0sz(25).with_ir0(1).with_or0(1).with_sh0(3);
        let cd = cd.with_epd1(true).with_ips(2).with_aa64(true).with_r(true).with_a(true);
        let cd = cd.with_aset(true).with_asid(self.asids[space]).with_mair(0xff);
        cd.with_ttb0(Self::ipa(space * EACH + 1)).with_s(self.stalls)
    }

    fn put_context(&self, space: usize) {
        for (index, word) in self.context(space).0.into_iter().enumerate() {
            self.put(space * EACH, index, word);
        }
    }

    /// Its contexts stall from now on, or do not: nothing of them was read before.
    pub fn stall(&mut self, stalls: bool) {
        self.stalls = stalls;
        (0..SPACES).for_each(|space| self.put_context(space));
    }

    /// Maps a page of its memory.
    pub fn map(&mut self, space: usize, at: usize, page: usize) {
        // Read and write for all, not executable, inner shareable, AF, nG.
        let leaf = Self::ipa(page) | 0x0060_0000_0000_0f43;
        self.put(space * EACH + 3, at, leaf);
        self.mapped.insert((space, at), page);
    }

    /// Maps a page of its memory where it is, by a block of 1 GiB.
    pub fn map_as_it_is(&self, space: usize, page: usize) {
        let ipa = Self::ipa(page);
        self.put(
            space * EACH + 1,
            (ipa >> 30) as usize & 511,
            ipa >> 30 << 30 | 0x0060_0000_0000_0f41,
        );
    }

    /// Unmaps a page: the commands that are to follow.
    pub fn unmap(&mut self, space: usize, at: usize, ranges: bool) -> Vec<Command> {
        self.put(space * EACH + 3, at, 0);
        self.mapped.remove(&(space, at));
        let named = TlbiNhVa::new().with_asid(self.asids[space]).with_leaf(true);
        let named = named.with_addr(VA + at as u64 * PAGE);
        let named = if ranges { named.with_tg(1).with_ttl(3) } else { named };
        vec![named.into(), Sync::new().into()]
    }

    /// Gives a space another ASID: the commands that are to follow. `streams` use it.
    pub fn change_asid(&mut self, space: usize, asid: u64, streams: &[u64]) -> Vec<Command> {
        let old = self.asids[space];
        self.asids[space] = asid;
        self.put_context(space);
        let of_stream = |sid: &u64| CfgiCd::new().with_sid(*sid).with_leaf(true).into();
        let mut commands: Vec<Command> = streams.iter().map(of_stream).collect();
        commands.push(Sync::new().into());
        commands.push(TlbiNhAsid::new().with_asid(old).into());
        commands.push(Sync::new().into());
        commands
    }

    /// A stream's entry has become another: the commands that are to follow.
    pub fn changed_entry(sid: u64) -> Vec<Command> {
        vec![CfgiSte::new().with_sid(sid).with_leaf(true).into(), Sync::new().into()]
    }
}
