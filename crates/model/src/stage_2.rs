// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stage 2: from intermediate to physical addresses, for what devices access and for what the SMMU itself fetches
//! (§5.2, §9).

use smmuv3_formats::descriptor::{Stage, Stage2Page};
use smmuv3_formats::event::class;
use smmuv3_formats::granule::{Granule, Tables as Shape, output_bits};
use smmuv3_formats::legality::Implementation;
use smmuv3_formats::permission::{self, Permissions};
use smmuv3_formats::register::address_bits;
use smmuv3_formats::{EventId, Ste};

use crate::fault::{Second, WalkFault};
use crate::flag::Flags;
use crate::memory::Memory;
use crate::model::Model;
use crate::tables::Tables;
use crate::tlb::{Stages, Tag, TlbEntry};
use crate::transaction::Access;
use crate::walk::Way;
use crate::world::World;

/// Stage 2 of a legal STE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stage2 {
    pub(crate) tag: Tag,
    pub(crate) tables: Tables,
    /// Bits of the intermediate addresses that are in range.
    pub(crate) input: u32,
    /// Execution differs by privilege: IDR3.XNX.
    pub(crate) xnx: bool,
    /// Tables of stage 1 and contexts in Device memory fault: S2PTW.
    pub(crate) ptw: bool,
    /// Translation faults are recorded: S2R.
    pub(crate) record: bool,
    /// Shareability of what LPA2 tables map: S2SH0.
    pub(crate) sh: u8,
    /// Translation faults stall: S2S.
    pub(crate) stall: bool,
}

/// Reads stage 2 of a legal STE that has it on (§5.2).
pub(crate) fn stage_2(ste: &Ste, implementation: &Implementation) -> Result<Stage2, &'static str> {
    let Implementation { idr0, idr3, idr5, .. } = implementation;
    let unsupported = [
        (!ste.s2_aa64(), "AArch32 tables (STE.S2AA64)"),
        (ste.s2_endi(), "big-endian tables (STE.S2ENDI)"),
        (ste.s2_ha() && idr0.httu() == 3 && ste.s2_haft(), "access flags of tables (STE.S2HAFT)"),
        (idr5.d128(), "128-bit descriptors (IDR5.D128)"),
        (idr3.s2pi() && ste.s2_pie(), "permission indirection (STE.S2PIE)"),
    ];
    if let Some((_, text)) = unsupported.into_iter().find(|(set, _)| *set) {
        return Err(text);
    }
    let ds = idr5.ds() && ste.s2_ds();
    let sl0 = ste.s2_sl0() | u64::from(ste.s2_sl0_2()) << 2;
    let shape = Granule::from_tg0(ste.s2_tg())
        .and_then(|granule| Shape::stage_2(granule, sl0, ste.s2_t0sz(), ds, idr3.stt()));
    // Legal entries name a granule and a start level that goes with the size.
    let Some(shape) = shape else { return Err("stage-2 tables without shape (STE.S2SL0)") };
    let oas = implementation.output_bits();
    let access = ste.s2_ha();
    Ok(Stage2 {
        // The field has 16 bits.
        tag: Tag { world: World::El1, vmid: Some(ste.s2_vmid() as u16), asid: 0 },
        tables: Tables {
            stage: Stage::Two,
            shape,
            ds,
            fwb: idr3.fwb() && ste.s2_fwb(),
            // At most 64 bits.
            oas: oas as u8,
            output: output_bits(ste.s2_ps(), oas, shape.granule(), ds) as u8,
            base: shape.base(ste.s2_ttb(), address_bits(ste.s2_ps()).unwrap_or(oas).min(oas)),
            affd: ste.s2_affd(),
            access,
            dirty: access && ste.s2_hd(),
        },
        input: shape.input_bits().min(implementation.intermediate_bits()),
        xnx: idr3.xnx(),
        ptw: ste.s2_ptw(),
        record: ste.s2_r(),
        // The field has 2 bits.
        sh: ste.s2_sh0() as u8,
        stall: ste.s2_s(),
    })
}

impl Stage2 {
    /// What a leaf permits (§16.2).
    const fn permissions(&self, leaf: u64) -> Permissions {
        permission::stage_2(leaf, self.xnx, self.tables.dirty)
    }

    /// Whether a MemAttr is one of Device memory; where stage 1 decides, it is not (§16.3).
    const fn is_device(&self, mem_attr: u8) -> bool {
        if self.tables.fwb { mem_attr & 0b100 == 0 } else { mem_attr & 0b1100 == 0 }
    }
}

/// What stage 2 is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purpose {
    /// `CLASS` of its faults.
    pub(crate) class: u64,
    /// What must be permitted.
    pub(crate) write: bool,
    pub(crate) instruction: bool,
    pub(crate) privileged: bool,
    /// No transaction needs it: nothing is marked as written, and what is not permitted does not matter.
    pub(crate) speculative: bool,
    /// A write is marked when the transfer reaches memory, not now.
    pub(crate) late: bool,
    pub(crate) stream: u32,
}

impl Purpose {
    /// A fetch of the SMMU: a data read (§16.2).
    pub(crate) const fn fetch(class: u64, stream: u32) -> Self {
        Self {
            class,
            write: false,
            instruction: false,
            privileged: true,
            speculative: false,
            late: false,
            stream,
        }
    }

    /// An update of a stage-1 descriptor, which is a write (§14).
    pub(crate) const fn update(stream: u32) -> Self {
        Self { write: true, ..Self::fetch(class::TABLE, stream) }
    }

    /// What the device wants.
    pub(crate) const fn input(access: &Access, speculative: bool, late: bool) -> Self {
        Self {
            class: class::INPUT,
            write: access.write,
            instruction: access.instruction,
            privileged: access.privileged,
            speculative,
            late,
            stream: access.stream,
        }
    }

    /// Whether it is permitted.
    pub(crate) const fn permitted(&self, permissions: &Permissions) -> bool {
        let rights = permissions.of(self.privileged);
        match (self.write, self.instruction) {
            (true, _) => rights.write,
            (false, true) => rights.execute,
            (false, false) => rights.read,
        }
    }

    /// Whether the leaf has to be marked as written now.
    pub(crate) const fn marks(&self) -> bool {
        self.write && !self.speculative && !self.late
    }
}

impl<M: Memory> Model<M> {
    /// Translates `ipa`, from the cache or by a walk, and marks the leaf where that is due.
    pub(crate) fn second(
        &mut self,
        stage: &Stage2,
        ipa: u64,
        purpose: &Purpose,
    ) -> Result<TlbEntry, WalkFault> {
        let update = purpose.write && purpose.class == class::TABLE;
        let asked = Second { class: purpose.class, ipa, update };
        let fault = |event| WalkFault { event, fetch: 0, second: Some(asked) };
        if ipa >> stage.input != 0 {
            return Err(fault(EventId::FTranslation));
        }
        loop {
            let cached = self.ipa_tlb.lookup(stage.tag, false, ipa).copied();
            let entry = match cached {
                Some(entry) => Some(entry),
                None => self.walk_second(stage, ipa, purpose, asked)?,
            };
            // A leaf that changed under the walk is walked again.
            let Some(entry) = entry else { continue };
            let device =
                stage.ptw && purpose.class != class::INPUT && stage.is_device(entry.attributes);
            if device || !purpose.permitted(&entry.permissions) && !purpose.speculative {
                return Err(fault(EventId::FPermission));
            }
            // A page with tables of stage 1 may be marked though nothing is written to it (§14).
            let ahead = entry.clean
                && purpose.class == class::TABLE
                && self.profile.adversary.prefetch
                && self.random.one_in(4);
            if !(entry.clean && (purpose.marks() || ahead)) {
                return Ok(entry);
            }
            if let Some(entry) = self.mark_second(&entry).map_err(|pa| unreadable(asked, pa))? {
                return Ok(entry);
            }
        }
    }

    /// Marks the leaf of a cached stage-2 translation as written. `None` when the leaf is another by now: the
    /// entry, which can't be used for a write then, is gone.
    pub(crate) fn mark_second(&mut self, entry: &TlbEntry) -> Result<Option<TlbEntry>, u64> {
        let Some(slot) = self.update(Stage::Two, &entry.slot, Flags::DIRTY)? else {
            self.ipa_tlb.remove(|old| old.id == entry.id);
            return Ok(None);
        };
        let entry = TlbEntry { slot, clean: false, ..*entry };
        // Of one that was invalidated meanwhile nothing comes back.
        if !self.ipa_tlb.remove(|old| old.id == entry.id).is_empty() {
            self.ipa_tlb.insert(&entry);
        }
        Ok(Some(entry))
    }

    /// Walks stage 2 and caches the leaf; `None` when the leaf changed meanwhile.
    fn walk_second(
        &mut self,
        stage: &Stage2,
        ipa: u64,
        purpose: &Purpose,
        asked: Second,
    ) -> Result<Option<TlbEntry>, WalkFault> {
        let fault = |event| WalkFault { event, fetch: 0, second: Some(asked) };
        let way = Way {
            tables: &stage.tables,
            tag: stage.tag,
            aset: false,
            had: true,
            over: None,
            asked: Some(asked),
            stream: purpose.stream,
        };
        let mut leaf = self.descend(&way, ipa)?;
        if !Stage2Page([leaf.slot.word]).af() {
            if stage.tables.access {
                // Nothing is set for what is not permitted (§14 leaves that open).
                let permissions = stage.permissions(leaf.slot.word);
                if !purpose.permitted(&permissions) && !purpose.speculative {
                    return Err(fault(EventId::FPermission));
                }
                let updated = self.update(Stage::Two, &leaf.slot, Flags::ACCESS);
                let Some(slot) = updated.map_err(|pa| unreadable(asked, pa))? else {
                    return Ok(None);
                };
                leaf.slot = slot;
            } else if !stage.tables.affd {
                return Err(fault(EventId::FAccess));
            }
        }
        let page = Stage2Page([leaf.slot.word]);
        let clean = stage.tables.dirty && page.dbm() && page.s2ap() & 0b10 == 0;
        let size = self.cached_bytes(&stage.tables, stage.tag, &leaf, ipa);
        let permissions = stage.permissions(leaf.slot.word);
        let entry = TlbEntry {
            id: self.tick(),
            tag: stage.tag,
            global: false,
            aset: false,
            stages: Stages::Two,
            va: ipa & !(size - 1),
            size,
            pa: leaf.address & !(size - 1),
            level: leaf.level,
            granule: stage.tables.granule(),
            permissions,
            // Of 4 bits.
            attributes: page.mem_attr() as u8,
            shareability: stage.tables.shareability(page.sh(), stage.sh),
            ttb: stage.tables.base,
            second: None,
            stream: purpose.stream,
            walked: ipa,
            slot: leaf.slot,
            clean,
            basis: leaf.basis,
        };
        self.cache_leaf(&entry, purpose.speculative);
        Ok(Some(entry))
    }
}

/// A descriptor of stage 2 that could not be read or updated.
const fn unreadable(asked: Second, fetch: u64) -> WalkFault {
    WalkFault { event: EventId::FWalkEabt, fetch, second: Some(asked) }
}
