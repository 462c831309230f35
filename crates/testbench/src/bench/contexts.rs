// SPDX-License-Identifier: MIT OR Apache-2.0
//! The contexts of guests' devices that use PASIDs: the guest has a table of them for each such device, in its own memory, and
//! tells its SMMU of what it changes there.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use smmuv3::PhysAddr;
use smmuv3::nest::Nest;
use smmuv3_formats::command::{AtcInv, CfgiCd, Sync};
use smmuv3_formats::{CD_BYTES, Cd, Command, L1Cd, Ste};

use super::Bench;
use super::guest::{Guest, carry_out};
use crate::oracle::{Contexts, Use};
use crate::platform::TestPlatform;
use crate::scenario::{ContextLayout, WithoutPasid};

/// Bytes of a table with all that belongs to it: contexts for the most PASIDs, side by side, whether they are leaves or not, and
/// the first level behind them. Aligned to a leaf.
pub(super) const TABLE: u64 = 0x1_0000;
/// Where in it the first level is.
const FIRST_LEVEL: u64 = (CD_BYTES as u64) << ContextLayout::MOST_BITS;

/// The table of a guest's device.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// The guest's space in whose memory it is.
    space: usize,
    /// Where, as the guest knows it.
    at: u64,
    contexts: Contexts,
    /// Which spaces PASIDs use.
    pasids: BTreeMap<u32, usize>,
    /// Contexts stall.
    stalls: bool,
}

impl Bench {
    /// The tables of guests' devices, by master.
    pub(super) fn tables(&self) -> MutexGuard<'_, BTreeMap<usize, Table>> {
        self.contexts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A table for `master`, which is to use the space `space` of a guest, with all PASIDs that it uses of that guest already, and
    /// the entry `ste` that leads there; `None` where it has no PASIDs, or there is no memory.
    pub(super) fn new_table(
        &self,
        master: usize,
        space: usize,
        stalls: bool,
        ste: Ste,
    ) -> Option<(Ste, Table)> {
        let guest = self.guest(space)?;
        let (layout, contexts, without) =
            self.oracle(|oracle| oracle.guest_contexts(master, space))?;
        let old = self.tables().get(&master).cloned();
        let same = |table: &Table| self.guest(table.space).map(Guest::under) == Some(guest.under());
        let pasids = old.filter(same).map(|table| table.pasids).unwrap_or_default();
        let at = guest.take_table()?;
        let table = Table { space, at, contexts, pasids, stalls };
        for (pasid, of) in &table.pasids {
            self.put_context(&table, *pasid, *of);
        }
        if without == WithoutPasid::Context {
            self.put_context(&table, 0, space);
        }
        let two_levels = layout != ContextLayout::Linear;
        let pointer = at + if two_levels { FIRST_LEVEL } else { 0 };
        let ste = ste.with_s1_context_ptr(pointer).with_s1_fmt(layout.format());
        let ste = ste.with_s1_cd_max(contexts.bits.into()).with_s1_dss(without.code());
        Some((ste, table))
    }

    /// `master` goes by that table now, and by no other; or by none.
    pub(super) fn exchange_table(&self, master: usize, table: Option<Table>) {
        let old = match table {
            Some(table) => self.tables().insert(master, table),
            None => self.tables().remove(&master),
        };
        if let Some((old, guest)) = old.and_then(|old| Some((old.at, self.guest(old.space)?))) {
            guest.give_table(old);
        }
    }

    /// What was made for an entry that was refused is not needed.
    pub(super) fn drop_table(&self, table: &Table) {
        if let Some(guest) = self.guest(table.space) {
            guest.give_table(table.at);
        }
    }

    /// A guest does what is asked for a PASID of its own; `None` where that is not its own to do.
    pub(super) fn guests_pasid(&self, master: usize, pasid: Option<u32>, to: Use) -> Option<()> {
        let pasid = pasid.filter(|pasid| self.is_guests_pasid(master, *pasid, to))?;
        let table = self.tables().get(&master).cloned()?;
        let guest = self.guest(table.space)?;
        let instance = self.oracle(|oracle| oracle.streams(master).0);
        let nests = guest.nests(self);
        let nest = nests.into_values().find(|it| self.index_of(it.instance()) == instance)?;
        let had = self.tables().get_mut(&master)?.pasids.remove(&pasid);
        self.change_context(&nest, master, &table, (pasid, had), to);
        Some(())
    }

    fn change_context(
        &self,
        nest: &Nest<TestPlatform>,
        master: usize,
        table: &Table,
        (pasid, had): (u32, Option<usize>),
        to: Use,
    ) {
        if had.is_some() {
            // Not word by word from one to another.
            self.put(table, Self::place(pasid), &[0]);
            self.forget_context(nest, master, pasid, true);
        }
        if let Use::Domain(space) = to {
            if self.is_linked(table, pasid) {
                // All but its first word, which makes it valid: that must not be read before the rest (§6).
                self.put_rest(table, pasid, space);
                self.forget_context(nest, master, pasid, true);
            }
            let is_new = self.put_context(table, pasid, space);
            self.forget_context(nest, master, pasid, !is_new);
            if let Some(table) = self.tables().get_mut(&master) {
                table.pasids.insert(pasid, space);
            }
        }
    }

    /// Whether it is for a guest to do what `to` says for a PASID of `master`.
    pub(super) fn is_guests_pasid(&self, master: usize, pasid: u32, to: Use) -> bool {
        self.oracle(|oracle| {
            let Some(space) = oracle.space(oracle.using(master)) else { return false };
            let Some((_, contexts, _)) = oracle.guest_contexts(master, space) else { return false };
            let theirs = match to {
                Use::Blocked => true,
                Use::Domain(to) => {
                    oracle.over(to).is_some() && oracle.over(to) == oracle.over(space)
                }
                _ => false,
            };
            // What goes on from a kernel before this one is nobody's to change.
            let lives = matches!(oracle.using(master), Use::Domain(_));
            theirs && lives && pasid >> contexts.bits == 0
        })
    }

    /// Where in a table the context of a PASID is.
    const fn place(pasid: u32) -> u64 {
        CD_BYTES as u64 * pasid as u64
    }

    /// Writes the context of `space` for a PASID that has none; whether it is the first in its leaf.
    fn put_context(&self, table: &Table, pasid: u32, space: usize) -> bool {
        let Some(cd) = self.guest(space).map(|guest| guest.context(table.stalls)) else {
            return false;
        };
        let Cd([first, rest @ ..]) = cd;
        let place = Self::place(pasid);
        self.put(table, place + 8, &rest);
        self.put(table, place, &[first]);
        let is_new = !self.is_linked(table, pasid);
        if let Some(split) = table.contexts.split.filter(|_| is_new) {
            let leaf = u64::from(pasid >> split);
            let words = L1Cd::default()
                .with_v(true)
                .with_l2_ptr(table.at + (leaf << split) * CD_BYTES as u64);
            self.put(table, FIRST_LEVEL + 8 * leaf, &words.0);
        }
        is_new
    }

    /// Writes all but the first word of that.
    fn put_rest(&self, table: &Table, pasid: u32, space: usize) {
        let Some(cd) = self.guest(space).map(|guest| guest.context(table.stalls)) else { return };
        let Cd([_, rest @ ..]) = cd;
        self.put(table, Self::place(pasid) + 8, &rest);
    }

    /// Whether anything leads to where the context of a PASID is.
    fn is_linked(&self, table: &Table, pasid: u32) -> bool {
        let leaf = table.contexts.split.map(|split| u64::from(pasid >> split));
        leaf.is_none_or(|leaf| self.word(table, FIRST_LEVEL + 8 * leaf) != 0)
    }

    fn word(&self, table: &Table, offset: u64) -> u64 {
        let real = self.guest(table.space).map(|guest| guest.real(table.at + offset));
        real.and_then(|real| self.world.machine().ram().read64(real)).unwrap_or(0)
    }

    fn put(&self, table: &Table, offset: u64, words: &[u64]) {
        let Some(guest) = self.guest(table.space) else { return };
        guest.write(PhysAddr(table.at + offset), words);
    }

    /// Tells the guest's SMMU that a context of `master` has changed: a `leaf` alone, or what leads there, too. Its device
    /// forgets what it keeps by that PASID.
    fn forget_context(&self, nest: &Nest<TestPlatform>, master: usize, pasid: u32, leaf: bool) {
        let Some(described) = self.scenario.masters.get(master) else { return };
        let sync = Command::from(Sync::new());
        let streams = || described.streams.iter().map(|stream| u64::from(stream ^ 1));
        let forget = CfgiCd::new().with_ssid(pasid.into()).with_leaf(leaf);
        let mut commands: Vec<Command> =
            streams().map(|stream| forget.with_sid(stream).into()).chain([sync]).collect();
        if described.ats.is_some() {
            let all = AtcInv::new().with_ssv(true).with_ssid(pasid.into()).with_size(52);
            commands.extend(streams().map(|stream| Command::from(all.with_sid(stream))));
            commands.push(sync);
        }
        if let Err(wrong) = carry_out(nest, &commands) {
            self.look(|watch| watch.refuse(format_args!("a guest's contexts: {wrong}")));
        }
    }
}
