// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest that has tables of its own, over the first domain: it gives commands, which the host carries over.
//!
//! What the guest has for itself lies at intermediate addresses that are those of memory; what devices reach does not.

use std::ops::Range;

use smmuv3_formats::Ste;
use smmuv3_formats::command::{CfgiCd, TlbiNhVa};
use smmuv3_formats::ste::config;
use smmuv3_testbench::oracle::PAGE;

use super::{Hand, LAST, Layout, STAGE_1_WORD_1, STREAMS, Space, stage_2};

/// The guest's space.
pub const GUEST: usize = 2;
/// Another of the same guest.
pub const OTHER: usize = 3;
/// That of another guest, over the second domain.
pub const FAR: usize = 4;
/// The ASID of the first, and that no other space here has; others' follow.
const ASID: u16 = 1;
/// EATS of full and of split-stage ATS (§5.2).
const FULL: u64 = 1;
const SPLIT: u64 = 2;

/// The domain whose stage 2 is under `domain`, or which `domain` is.
pub(super) const fn under(domain: usize) -> usize {
    match domain {
        GUEST | OTHER => 0,
        FAR => 1,
        other => other,
    }
}

impl Hand {
    /// Adds `space`, the next one.
    pub(super) fn add_guest(&mut self, space: usize) {
        let root = self.allocate(PAGE);
        self.back(under(space), root);
        let mut watch = self.watch();
        watch.oracle.add_domain(root);
        watch.oracle.put_over(under(space));
        drop(watch);
        // There are three at most.
        let asid = ASID + (space - GUEST) as u16;
        self.spaces.push(Space { root, asids: [asid; 2] });
    }

    /// Gives the guest over `domain` a page where it is.
    pub(super) fn back(&self, domain: usize, pa: u64) {
        let slot = self.descriptor(domain, pa, LAST);
        self.store(slot, stage_2::leaf(pa, false));
    }

    /// As [`Hand::prepare`]: the guest's context, or none, over the first domain.
    pub(super) fn prepare_guest(&mut self, instance: usize, domain: usize) -> Ste {
        let entry = self.guest_entry(instance, domain);
        self.store_hidden(instance, &entry);
        entry
    }

    /// The entry, with a context of its own.
    fn guest_entry(&mut self, instance: usize, domain: usize) -> Ste {
        let mut entry = self.stage_2_entry(instance, under(domain));
        if domain >= GUEST {
            let context = self.allocate(PAGE);
            self.back(under(domain), context);
            for (at, word) in (context..).step_by(8).zip(self.context(instance, domain).0) {
                self.store(at, word);
            }
            entry = entry.with_config(config::NESTED).with_s1_context_ptr(context);
            entry.0[1] |= STAGE_1_WORD_1;
        }
        let eats = if self.physical && self.errs(instance) { FULL } else { SPLIT };
        let keeps = self.layout == Layout::Split && domain >= GUEST;
        entry
            .with_eats(if keeps { eats } else { 0 })
            .with_mev(!self.unmerged || !self.errs(instance))
    }

    /// Makes the entry of the master behind `instance`, which translates, that of `domain`: through an invalid one.
    pub fn replace_entry(&mut self, instance: usize, domain: usize) {
        let entry = self.guest_entry(instance, domain);
        self.store_entry(instance, 0, 0);
        self.cfgi_ste(instance);
        self.sync(instance);
        self.store_hidden(instance, &entry);
        self.store_entry(instance, 0, entry.0[0]);
        self.cfgi_ste(instance);
        self.sync(instance);
    }

    /// The guest maps what it has at the same addresses.
    pub fn map_in_guest(&mut self, range: &Range<u64>) {
        self.watch().oracle.map_begins(GUEST, range.clone(), range.start, true);
        for iova in range.clone().step_by(PAGE as usize) {
            let slot = self.descriptor(GUEST, iova, LAST);
            self.store(slot, self.leaf(GUEST, iova));
        }
        let mut watch = self.watch();
        watch.collect(&self.world);
        watch.oracle.map_ends(GUEST, range.clone(), true);
    }

    /// Tells `instance` of a guest's TLBI_NH_VA, under this VMID.
    pub fn forward_va(&mut self, instance: usize, vmid: u16, range: &Range<u64>) {
        let command = TlbiNhVa::new().with_vmid(vmid.into()).with_asid(ASID.into());
        let command = command.with_addr(range.start).with_leaf(true).with_tg(1);
        let pages = (range.end - range.start) / PAGE;
        self.send(instance, command.with_scale(pages.trailing_zeros().into()));
    }

    /// Tells `instance` of a guest's CFGI_CD, of the host's number of the stream or of the guest's.
    pub fn forward_cfgi_cd(&mut self, instance: usize, guests: bool) {
        let host = STREAMS[instance];
        let sid = if guests { host ^ 0x20 } else { host };
        self.send(instance, CfgiCd::new().with_sid(sid.into()).with_leaf(true));
    }
}
