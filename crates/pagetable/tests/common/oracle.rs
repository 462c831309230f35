// SPDX-License-Identifier: MIT OR Apache-2.0
//! A table behind an STE (and a CD), given to the project's independent walker.

use std::collections::BTreeMap;

use smmuv3_formats::register::{StrtabBase, StrtabBaseCfg};
use smmuv3_formats::{Cd, EventId, Ste};
use smmuv3_pagetable::{Dirty, Table, TableConfig};
use smmuv3_walk::reach::{Limits, Range, Scope, Severity, reach};
use smmuv3_walk::{Access, Gap, Memory, Outcome, Smmu, Translation, walk};

use super::Arena;

/// Where STE and CD are: below all arenas.
const STE: u64 = 0x1_0000;
const CD: u64 = 0x2_0000;

/// Memory as the SMMU sees it, with one stream that uses a table.
pub struct Oracle<'a> {
    arena: &'a Arena,
    entries: BTreeMap<u64, u64>,
    smmu: Smmu,
}

impl Memory for Oracle<'_> {
    fn read64(&self, pa: u64) -> Result<u64, Gap> {
        match self.entries.get(&pa) {
            Some(word) => Ok(*word),
            None => self.arena.walker_sees(pa).ok_or(Gap::Abort),
        }
    }
}

/// The code of an output size.
fn size_code(bits: u32) -> u64 {
    let sizes = [32, 36, 40, 42, 44, 48, 52];
    sizes.iter().position(|&size| bits <= size).expect("at most 52 bits") as u64
}

impl<'a> Oracle<'a> {
    pub fn new<const SHIFT: u32, const STAGE: u8, const WIDE: bool>(
        arena: &'a Arena,
        table: &Table<SHIFT, STAGE, WIDE>,
    ) -> Self {
        let config = TableConfig::new(table.input_bits(), table.output_bits());
        Self::configured(arena, table, &config)
    }

    /// With what the table was made with.
    pub fn configured<const SHIFT: u32, const STAGE: u8, const WIDE: bool>(
        arena: &'a Arena,
        table: &Table<SHIFT, STAGE, WIDE>,
        config: &TableConfig,
    ) -> Self {
        let granule = usize::try_from((SHIFT - 12) / 2).unwrap();
        let (txsz, ds) = (u64::from(64 - table.input_bits()), WIDE && SHIFT != 16);
        let size = size_code(table.output_bits());
        let sh = config.shareability as u64;
        let hd = config.dirty != Dirty::Untracked;
        let ha = hd || config.access_flags;
        let mut words = Vec::new();
        let ste = Ste::default().with_v(true).with_sh_cfg(1);
        let ste = if STAGE == 1 {
            let cd = Cd::default().with_v(true).with_aa64(true).with_a(true).with_r(true);
            let cd = cd.with_ips(size).with_mair(config.mair).with_ds(ds);
            let cd = cd.with_sh0(sh).with_sh1(sh).with_ha(ha).with_hd(hd);
            let cd = if table.base().0 == 0 {
                let cd = cd.with_tg0([0, 2, 1][granule]).with_t0sz(txsz);
                cd.with_ttb0(table.root().0).with_epd1(true)
            } else {
                let cd = cd.with_tg1([2, 1, 3][granule]).with_t1sz(txsz);
                cd.with_ttb1(table.root().0).with_epd0(true)
            };
            words.extend((CD..).step_by(8).zip(cd.0));
            ste.with_config(0b101).with_s1_context_ptr(CD)
        } else {
            let sl0 = u64::from(table.sl0());
            let ste = ste.with_config(0b110).with_s2_aa64(true).with_s2_r(true).with_s2_ps(size);
            let ste = ste.with_s2_t0sz(txsz).with_s2_sl0(sl0 & 3).with_s2_sl0_2(sl0 > 3);
            let ste = ste
                .with_s2_tg([0, 2, 1][granule])
                .with_s2_ds(ds)
                .with_s2_sh0(sh)
                .with_s2_ha(ha)
                .with_s2_hd(hd)
                .with_s2_fwb(config.forced_types);
            ste.with_s2_ttb(table.root().0)
        };
        words.extend((STE..).step_by(8).zip(ste.0));
        let mut smmu = Smmu::with_everything(StrtabBase(STE), StrtabBaseCfg(0));
        smmu.implementation.idr3 =
            smmu.implementation.idr3.with_xnx(STAGE == 1 || config.execute_by_privilege);
        Self { arena, entries: words.into_iter().collect(), smmu }
    }

    /// What a privileged access to data finds: a read, or a write where reads are not allowed.
    pub fn walk(&self, address: u64) -> Option<Translation> {
        let read = Access { privileged: true, ..Access::read(0, address) };
        for access in [read, Access { write: true, ..read }] {
            match walk(self, &self.smmu, access).outcome {
                Outcome::Translated(found) => return Some(found),
                Outcome::Fault(fault) if fault.id == EventId::FPermission => {}
                Outcome::Fault(fault) => {
                    assert_eq!(fault.id, EventId::FTranslation, "{fault:?}");
                    return None;
                }
                other => panic!("{other:?}"),
            }
        }
        panic!("{address:#x} is mapped and can't be used");
    }

    /// The leaf for an address that is mapped.
    pub fn leaf(&self, address: u64) -> Option<u64> {
        let access = Access { privileged: true, ..Access::read(0, address) };
        let walk = walk(self, &self.smmu, access);
        let found = matches!(walk.outcome, Outcome::Translated(_));
        found.then(|| walk.steps.last().expect("a leaf was read").words[0])
    }

    /// All that can be reached, by input address; nothing may be wrong with the tables.
    pub fn ranges(&self) -> Vec<Range> {
        let survey = reach(self, &self.smmu, Scope::default(), Limits::default(), &mut |_| {});
        // Tables are where devices may write, and what is written may be executed, if it was asked for.
        let wrong = |finding: &&_| {
            let finding: &smmuv3_walk::reach::Finding = finding;
            finding.kind.severity() != Severity::Risk
        };
        let findings: Vec<_> = survey.findings.iter().filter(wrong).collect();
        assert!(findings.is_empty(), "{findings:x?}");
        assert!(!survey.cut_short && survey.ranges_left_out == 0);
        survey.streams[0].spaces[0].ranges.clone()
    }
}
