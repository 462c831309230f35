// SPDX-License-Identifier: MIT OR Apache-2.0
//! Domains whose tables are those of stage 2: 44 bits of intermediate addresses, and so the same four levels as at
//! stage 1 (§15.4). With a guest, its stage 1 maps a gigabyte to the same intermediate addresses.

use std::ops::Range;

use smmuv3_formats::Ste;
use smmuv3_formats::command::{TlbiNhAll, TlbiS2Ipa, TlbiS12Vmall};
use smmuv3_formats::descriptor::{BLOCK, Stage1Block, Stage1Table, Stage2Page, TABLE_OR_PAGE};
use smmuv3_formats::ste::config;
use smmuv3_testbench::oracle::PAGE;

use super::memory::index;
use super::{GUEST, Hand, LAST, Layout, STAGE_1_WORD_1};

/// Where a guest has its context and its two tables: beyond what domains map.
const CONTEXT: u64 = 0x1_0000_0000;
/// The gigabyte that a guest maps.
const MAPPED: u64 = 0x4000_0000;
/// The ASID that a guest has chosen.
const GUEST_ASID: u64 = 1;

/// A page of stage 2 for reads and writes, and for reads of instructions if it `executes`.
pub(super) fn leaf(pa: u64, executes: bool) -> u64 {
    let leaf = Stage2Page::default().with_kind(TABLE_OR_PAGE).with_oa(pa).with_af(true);
    leaf.with_sh(3).with_s2ap(0b11).with_mem_attr(0b1111).with_xn(if executes { 0 } else { 0b10 }).0
        [0]
}

impl Hand {
    /// Whether the tables of `domain` are those of stage 2.
    pub(super) fn is_stage_2(&self, domain: usize) -> bool {
        match self.layout {
            Layout::Stage1 | Layout::Devices | Layout::El2 | Layout::Dirty | Layout::Incoherent => {
                false
            }
            Layout::Stage2 | Layout::Nested => true,
            Layout::Guest | Layout::Split => domain < GUEST,
        }
    }

    /// The entry by which stage 2 alone translates.
    pub(super) fn stage_2_entry(&self, instance: usize, domain: usize) -> Ste {
        let space = &self.spaces[domain];
        let entry = Ste([0, 0, 0, 0, 0, 0, 0, 0]).with_v(true).with_config(config::STAGE_2);
        let entry = entry.with_sh_cfg(1).with_s2_vmid(space.asids[instance].into());
        let entry = entry.with_s2_t0sz(20).with_s2_sl0(2).with_s2_ir0(1).with_s2_or0(1);
        let entry = entry.with_s2_sh0(3).with_s2_ps(4).with_s2_aa64(true).with_s2_r(true);
        entry.with_s2_ttb(space.root)
    }

    /// Writes what a blocked entry does not look at, and a guest's context and tables. The entry that is still to
    /// be switched to is the result.
    pub(super) fn prepare_stage_2(&mut self, instance: usize, domain: usize) -> Ste {
        let mut entry = self.stage_2_entry(instance, domain);
        if self.layout == Layout::Nested {
            self.guest(instance, domain);
            entry = entry.with_config(config::NESTED).with_s1_context_ptr(CONTEXT);
            entry.0[1] |= STAGE_1_WORD_1;
        }
        self.store_hidden(instance, &entry);
        entry
    }

    /// Stores the words that a blocked entry does not look at.
    pub(super) fn store_hidden(&mut self, instance: usize, entry: &Ste) {
        for word in 1..4 {
            self.store_entry(instance, word, entry.0[word as usize]);
        }
        self.cfgi_ste(instance);
        self.sync(instance);
    }

    /// The context and the tables of a guest, unless `domain` has them.
    fn guest(&mut self, instance: usize, domain: usize) {
        let slot = self.descriptor(domain, CONTEXT, LAST);
        if self.load(slot) != 0 {
            return;
        }
        let pages = [0, 1, 2].map(|_| self.allocate(PAGE));
        for (ipa, pa) in (CONTEXT..).step_by(PAGE as usize).zip(pages) {
            let slot = self.descriptor(domain, ipa, LAST);
            self.store(slot, leaf(pa, false));
        }
        let [context, level_0, level_1] = pages;
        let cd = self.context(instance, domain).with_asid(GUEST_ASID).with_ttb0(CONTEXT + PAGE);
        for (at, word) in (context..).step_by(8).zip(cd.0) {
            self.store(at, word);
        }
        let table = Stage1Table::default().with_kind(TABLE_OR_PAGE).with_next(CONTEXT + 2 * PAGE);
        self.store(level_0 + 8 * index(MAPPED, 0), table.0[0]);
        let block = Stage1Block::default().with_kind(BLOCK).with_oa(MAPPED).with_af(true);
        let block = block.with_ng(true).with_sh(3).with_ap(0b01).with_uxn(true).with_pxn(true);
        self.store(level_1 + 8 * index(MAPPED, 1), block.0[0]);
    }

    /// Tells `instance` to forget everything of `vmid`.
    pub fn tlbi_vmid(&mut self, instance: usize, vmid: u16) {
        self.send(instance, TlbiS12Vmall::new().with_vmid(vmid.into()));
    }

    /// Tells `instance` to forget what begins with stage 1 in `vmid`.
    pub fn tlbi_guest(&mut self, instance: usize, vmid: u16) {
        self.send(instance, TlbiNhAll::new().with_vmid(vmid.into()));
    }

    /// As [`Hand::tlbi`], of stage 2.
    pub fn tlbi_ipa(&mut self, instance: usize, vmid: u16, range: &Range<u64>, leaf: bool) {
        let pages = (range.end - range.start) / PAGE;
        let command = TlbiS2Ipa::new().with_vmid(vmid.into()).with_addr(range.start);
        let command = command.with_leaf(leaf);
        let command = match pages {
            1 => command,
            _ => command.with_tg(1).with_scale(pages.trailing_zeros().into()),
        };
        self.send(instance, command);
    }
}
