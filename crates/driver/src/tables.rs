// SPDX-License-Identifier: MIT OR Apache-2.0
//! A domain's page tables: of either stage, each granule, narrow or wide, and what an SMMU must be to walk them.

use core::sync::atomic::{AtomicU64, Ordering};

use smmuv3_formats::granule::Granule;
use smmuv3_formats::{Cd, PhysAddr, legality};
use smmuv3_pagetable::{Bbml, Dirty, Frames, MAIR, Table, TableConfig};

use crate::compatibility::{Mismatch, Shape, Stage};
use crate::context_table::ContextFormat;
use crate::domain::{CreateError, DomainConfig};
use crate::entry::{Context, Stage2, Stream, WithoutSubstream};
use crate::features::Features;
use crate::statistics;

/// The granules that this build has tables for, as bits of their shifts.
const GRANULES: u32 = if cfg!(feature = "granules") { u32::MAX } else { 1 << 12 };

/// A page table of one of the kinds that this build has.
pub(crate) enum PageTable {
    One4K(Table<12, 1>),
    #[cfg(feature = "granules")]
    One16K(Table<14, 1>),
    #[cfg(feature = "granules")]
    One64K(Table<16, 1>),
    #[cfg(feature = "wide")]
    One4KWide(Table<12, 1, true>),
    #[cfg(all(feature = "granules", feature = "wide"))]
    One16KWide(Table<14, 1, true>),
    #[cfg(all(feature = "granules", feature = "wide"))]
    One64KWide(Table<16, 1, true>),
    #[cfg(feature = "stage-2")]
    Two4K(Table<12, 2>),
    #[cfg(all(feature = "stage-2", feature = "granules"))]
    Two16K(Table<14, 2>),
    #[cfg(all(feature = "stage-2", feature = "granules"))]
    Two64K(Table<16, 2>),
    #[cfg(all(feature = "stage-2", feature = "wide"))]
    Two4KWide(Table<12, 2, true>),
    #[cfg(all(feature = "stage-2", feature = "granules", feature = "wide"))]
    Two16KWide(Table<14, 2, true>),
    #[cfg(all(feature = "stage-2", feature = "granules", feature = "wide"))]
    Two64KWide(Table<16, 2, true>),
}

/// Runs the same expression for a table of any kind: it is compiled once for each.
macro_rules! dispatch {
    ($tables:expr, $table:ident => $body:expr) => {
        match $tables {
            $crate::tables::PageTable::One4K($table) => $body,
            #[cfg(feature = "granules")]
            $crate::tables::PageTable::One16K($table) => $body,
            #[cfg(feature = "granules")]
            $crate::tables::PageTable::One64K($table) => $body,
            #[cfg(feature = "wide")]
            $crate::tables::PageTable::One4KWide($table) => $body,
            #[cfg(all(feature = "granules", feature = "wide"))]
            $crate::tables::PageTable::One16KWide($table) => $body,
            #[cfg(all(feature = "granules", feature = "wide"))]
            $crate::tables::PageTable::One64KWide($table) => $body,
            #[cfg(feature = "stage-2")]
            $crate::tables::PageTable::Two4K($table) => $body,
            #[cfg(all(feature = "stage-2", feature = "granules"))]
            $crate::tables::PageTable::Two16K($table) => $body,
            #[cfg(all(feature = "stage-2", feature = "granules"))]
            $crate::tables::PageTable::Two64K($table) => $body,
            #[cfg(all(feature = "stage-2", feature = "wide"))]
            $crate::tables::PageTable::Two4KWide($table) => $body,
            #[cfg(all(feature = "stage-2", feature = "granules", feature = "wide"))]
            $crate::tables::PageTable::Two16KWide($table) => $body,
            #[cfg(all(feature = "stage-2", feature = "granules", feature = "wide"))]
            $crate::tables::PageTable::Two64KWide($table) => $body,
        }
    };
}
pub(crate) use dispatch;

impl PageTable {
    fn new<F: Frames>(
        frames: &F,
        stage: Stage,
        granule: Granule,
        wide: bool,
        config: &TableConfig,
    ) -> Result<Self, CreateError> {
        use Granule::*;
        use Stage::*;
        let tables = match (stage, granule, wide) {
            (One, K4, false) => Table::with(frames, config).map(Self::One4K),
            #[cfg(feature = "granules")]
            (One, K16, false) => Table::with(frames, config).map(Self::One16K),
            #[cfg(feature = "granules")]
            (One, K64, false) => Table::with(frames, config).map(Self::One64K),
            #[cfg(feature = "wide")]
            (One, K4, true) => Table::with(frames, config).map(Self::One4KWide),
            #[cfg(all(feature = "granules", feature = "wide"))]
            (One, K16, true) => Table::with(frames, config).map(Self::One16KWide),
            #[cfg(all(feature = "granules", feature = "wide"))]
            (One, K64, true) => Table::with(frames, config).map(Self::One64KWide),
            #[cfg(feature = "stage-2")]
            (Two, K4, false) => Table::with(frames, config).map(Self::Two4K),
            #[cfg(all(feature = "stage-2", feature = "granules"))]
            (Two, K16, false) => Table::with(frames, config).map(Self::Two16K),
            #[cfg(all(feature = "stage-2", feature = "granules"))]
            (Two, K64, false) => Table::with(frames, config).map(Self::Two64K),
            #[cfg(all(feature = "stage-2", feature = "wide"))]
            (Two, K4, true) => Table::with(frames, config).map(Self::Two4KWide),
            #[cfg(all(feature = "stage-2", feature = "granules", feature = "wide"))]
            (Two, K16, true) => Table::with(frames, config).map(Self::Two16KWide),
            #[cfg(all(feature = "stage-2", feature = "granules", feature = "wide"))]
            (Two, K64, true) => Table::with(frames, config).map(Self::Two64KWide),
            #[allow(unreachable_patterns, reason = "not where none is left out")]
            _ => return Err(left_out(stage, granule)),
        };
        tables.map_err(CreateError::Table)
    }
}

/// Which feature those tables lack.
#[allow(dead_code, reason = "not where none is left out")]
fn left_out(stage: Stage, granule: Granule) -> CreateError {
    let feature = if stage == Stage::Two && !cfg!(feature = "stage-2") {
        "stage-2"
    } else if granule != Granule::K4 && !cfg!(feature = "granules") {
        "granules"
    } else {
        "wide"
    };
    CreateError::LeftOut { feature }
}

/// The memory types of a domain with all attributes: as [`MAIR`], then Device-nGnRnE, Normal write-through, Device-nGRE
/// and Device-GRE (§6).
const ALL_TYPES: u64 = 0x000c_08bb_0004_44ff;

/// A domain's own tables.
pub(crate) struct Own {
    pub(crate) tables: PageTable,
    shape: Shape,
    upper: bool,
    /// Stage 2: the code of the first level (S2SL0); else 0.
    start: u8,
    mair: u64,
    /// For stage 2: the hypervisor's VMID, if one was named.
    pub(crate) vmid: Option<u16>,
    /// An unmap may cut blocks.
    pub(crate) splits: bool,
    /// See [`Own::counters`].
    pub(crate) counters: Option<statistics::Counters>,
    /// There may be stage 1 of guests over them.
    pub(crate) guests: bool,
    /// The instances on which a guest has a [`Nest`](crate::nest::Nest).
    pub(crate) nests: AtomicU64,
}

impl Own {
    /// Tables as `config` says, for all `instances`; what it leaves open follows from those.
    pub(crate) fn new<'a, F: Frames>(
        frames: &F,
        config: &DomainConfig,
        instances: impl Iterator<Item = &'a Features> + Clone,
    ) -> Result<Self, CreateError> {
        let least = |of: fn(&Features) -> u32| instances.clone().map(of).min();
        let stage = config.stage;
        // There are no others without them.
        let only = if cfg!(feature = "granules") { None } else { Some(Granule::K4) };
        let granule = config.granule.or(only).unwrap_or_else(|| {
            let of_it = instances.clone().filter(|features| features.has_stage(stage));
            common(of_it.map(|features| features.granules & GRANULES))
        });
        let wide = config.input_bits > 48 || config.output_bits > 48;
        let most = if wide { 52 } else { 48 };
        let or = |chosen: u32, limit: Option<u32>| match chosen {
            0 => limit.unwrap_or(48).min(most),
            chosen => chosen,
        };
        let output_bits = or(config.output_bits, least(|features| features.output_bits));
        let input = match stage {
            Stage::One => least(|features| features.input_bits),
            // The input of stage 2 is what devices may issue, or the output of stage 1 (§9).
            Stage::Two => Some(output_bits),
        };
        let input_bits = or(config.input_bits, input);
        let resizing = cfg!(feature = "resizing");
        let (contiguous, splitting) = (resizing && config.contiguous, resizing && config.splitting);
        let sizes_change = contiguous || splitting;
        let bbml = match config.bbml {
            _ if !sizes_change => 0,
            Some(bbml) => bbml,
            None => least(|features| features.bbml).unwrap_or(0),
        };
        let level = match bbml {
            0 => Bbml::Zero,
            1 => Bbml::One,
            _ => Bbml::Two,
        };
        let execute_by_privilege = stage == Stage::Two
            && config.all_attributes
            && instances.clone().all(|features| features.execute_by_privilege);
        let forced_types = stage == Stage::Two && config.forced_types;
        let mair = if config.all_attributes { ALL_TYPES } else { MAIR };
        let mut table = TableConfig::new(input_bits, output_bits).with_mair(mair);
        table.upper = config.upper;
        table.start_level = config.start_level;
        table.contiguous = contiguous;
        table.splitting = splitting;
        table.bbml = level;
        table.all_attributes = config.all_attributes;
        table.forced_types = forced_types;
        table.execute_by_privilege = execute_by_privilege;
        table.dirty = config.dirty;
        table.access_flags = config.access_flags;
        let dirty_state = config.dirty != Dirty::Untracked;
        let access_flag = dirty_state || config.access_flags;
        if access_flag && !cfg!(feature = "dirty") {
            return Err(CreateError::LeftOut { feature: "dirty" });
        }
        if config.statistics && !cfg!(feature = "counts") {
            return Err(CreateError::LeftOut { feature: "counts" });
        }
        let tables = PageTable::new(frames, stage, granule, wide, &table)?;
        let shape = Shape {
            stage,
            granule_shift: granule.shift(),
            input_bits,
            output_bits,
            wide,
            // Hardware's updates of flags are atomic only where it is coherent (§14).
            coherent: access_flag,
            big_endian: false,
            access_flag,
            dirty_state,
            bbml,
            forced_types,
            execute_by_privilege,
        };
        let start = match stage {
            Stage::One => 0,
            Stage::Two => dispatch!(&tables, table => table.sl0()),
        };
        let splits = splitting && bbml != 0;
        let (upper, vmid) = (config.upper, config.vmid);
        let guests = cfg!(feature = "nested") && config.guests && stage == Stage::Two;
        let nests = AtomicU64::new(0);
        Ok(Self { tables, shape, upper, start, mair, vmid, splits, guests, nests, counters: None })
    }

    /// Lets the tables be changed wrongly from now on, if `mutation` is of these.
    #[cfg(feature = "mutation")]
    pub(crate) fn spoil(&mut self, mutation: Option<crate::Mutation>) {
        use smmuv3_pagetable::Wrong;

        use crate::Mutation;
        let wrong = match mutation {
            Some(Mutation::KeepHint) => Wrong::HintKept,
            Some(Mutation::PartOfGroup) => Wrong::PartOnly,
            Some(Mutation::NoNt) => Wrong::Unmarked,
            Some(Mutation::NoPublish) => Wrong::Unpublished,
            Some(Mutation::Executable) => Wrong::Executable,
            Some(Mutation::DefaultMair) => {
                self.mair = MAIR;
                return;
            }
            _ => return,
        };
        dispatch!(&mut self.tables, table => table.spoil(wrong));
    }

    /// On how many instances a guest has an SMMU over them.
    pub(crate) fn live_nests(&self) -> usize {
        self.nests.load(Ordering::Relaxed).count_ones() as usize
    }

    /// What they ask of an instance. What was left out of the driver no tables have, which is known when it is compiled.
    fn shape(&self) -> Shape {
        let mut shape = self.shape;
        if !cfg!(feature = "stage-2") {
            shape.stage = Stage::One;
            (shape.forced_types, shape.execute_by_privilege) = (false, false);
        }
        if !cfg!(feature = "granules") {
            shape.granule_shift = Granule::K4.shift();
        }
        shape.wide &= cfg!(feature = "wide");
        shape.access_flag &= cfg!(feature = "dirty");
        shape.dirty_state &= cfg!(feature = "dirty");
        shape
    }

    /// The domain's counts, if it counts: never where that was left out, which is known when the driver is compiled.
    #[inline(always)]
    pub(crate) fn counters(&self) -> Option<&statistics::Counters> {
        self.counters.as_ref().filter(|_| cfg!(feature = "counts"))
    }

    /// Which stage they are for.
    pub(crate) fn stage(&self) -> Stage {
        self.shape().stage
    }

    /// Types are those of the mappings, whatever guests and devices say.
    pub(crate) fn forces_types(&self) -> bool {
        self.shape().forced_types
    }

    /// log2 of the granule.
    pub(crate) fn granule_shift(&self) -> u32 {
        self.shape().granule_shift
    }

    fn root(&self) -> PhysAddr {
        dispatch!(&self.tables, table => table.root())
    }

    /// The context for an instance with `features`, if they are for stage 1.
    pub(crate) fn context(&self, features: &Features, asid: u16) -> Cd {
        let shape = self.shape();
        let Shape { granule_shift, input_bits, output_bits, .. } = shape;
        Context {
            upper: self.upper,
            wide: shape.wide,
            access_flag: shape.access_flag,
            dirty_state: shape.dirty_state,
            mair: self.mair,
            ..Context::new(self.root(), granule_shift, [input_bits, output_bits], asid)
        }
        .encode(features)
    }

    /// The tables as stream table entries describe them, if they are for stage 2.
    pub(crate) fn stage_2(&self, vmid: u16) -> Option<Stage2> {
        let Shape { stage, granule_shift, input_bits, output_bits, wide, .. } = self.shape();
        (stage == Stage::Two).then(|| Stage2 {
            root: self.root(),
            granule_shift,
            input_bits,
            output_bits,
            start: self.start,
            wide,
            forced_types: self.shape.forced_types,
            access_flag: self.shape.access_flag,
            dirty_state: self.shape.dirty_state,
            merged: self.guests,
            vmid,
        })
    }

    /// Whether nothing was chosen that could make the context illegal on an instance that [`Shape::fits`] accepts. The rules
    /// of both halves are the same (§7.2).
    fn is_plain(&self) -> bool {
        let Shape { stage, wide, access_flag, dirty_state, .. } = self.shape();
        stage == Stage::One && !(wide || access_flag || dirty_state)
    }

    /// Whether an SMMU with `features` can walk them, and takes the entries for legal (§7).
    pub(crate) fn fits(&self, features: &Features) -> Result<(), Mismatch> {
        self.shape().fits(features)?;
        if self.is_plain() {
            return Ok(());
        }
        let implementation = features.implementation();
        let legal = match self.stage_2(0) {
            Some(tables) => {
                legality::ste(&Stream::Stage2(tables).encode(features), &implementation)
            }
            None => {
                let stream = Stream::Stage1 {
                    contexts: PhysAddr(0),
                    format: ContextFormat::Linear,
                    bits: 0,
                    without: WithoutSubstream::First,
                    vmid: 0,
                };
                let context = self.context(features, 0);
                legality::cd(&context, &stream.encode(features), &implementation)
            }
        };
        legal.map_err(Mismatch::Illegal)
    }
}

/// The smallest granule that all sets have; if they have none in common, the smallest that any has; 4 KiB without sets.
fn common(sets: impl Iterator<Item = u32> + Clone) -> Granule {
    let smallest = |set: u32| Granule::ALL.into_iter().find(|it| set >> it.shift() & 1 == 1);
    let of_all = sets.clone().fold(u32::MAX, |all, set| all & set);
    let of_any = sets.fold(0, |any, set| any | set);
    smallest(of_all).or(smallest(of_any)).unwrap_or(Granule::K4)
}

#[cfg(test)]
mod tests {
    use core::ptr::NonNull;

    use smmuv3_pagetable::TableError;

    use super::*;

    /// A platform that has no memory.
    struct Nothing;

    // SAFETY: it hands out nothing.
    unsafe impl Frames for Nothing {
        fn allocate(&self, _: usize, _: usize) -> Option<PhysAddr> {
            None
        }

        unsafe fn free(&self, _: PhysAddr, _: usize, _: usize) {}

        fn pointer(&self, _: PhysAddr) -> NonNull<u8> {
            unreachable!("there is no memory")
        }

        fn publish(&self, _: PhysAddr, _: usize) {}
    }

    #[test]
    fn kinds_that_are_left_out_are_refused_and_no_others() {
        for stage in [Stage::One, Stage::Two] {
            for granule in Granule::ALL {
                for bits in [40, 52] {
                    let mut config = DomainConfig::default();
                    (config.stage, config.granule) = (stage, Some(granule));
                    (config.input_bits, config.output_bits) = (bits, bits);
                    let made = Own::new(&Nothing, &config, [].into_iter()).map(drop);
                    let there = (stage == Stage::One || cfg!(feature = "stage-2"))
                        && (granule == Granule::K4 || cfg!(feature = "granules"))
                        && (bits == 40 || cfg!(feature = "wide"));
                    match made {
                        Err(CreateError::LeftOut { feature }) => {
                            assert!(!there, "{stage:?} {granule:?} {bits}");
                            let left_out = match feature {
                                "stage-2" => !cfg!(feature = "stage-2") && stage == Stage::Two,
                                "granules" => !cfg!(feature = "granules") && granule != Granule::K4,
                                "wide" => !cfg!(feature = "wide") && bits == 52,
                                other => panic!("{other}"),
                            };
                            assert!(left_out, "{feature}: {stage:?} {granule:?} {bits}");
                        }
                        Err(CreateError::Table(TableError::NoFrames { .. })) => assert!(there),
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
    }

    #[test]
    fn marks_and_counts_that_are_left_out_are_refused() {
        let default = DomainConfig::default();
        for (config, feature, is_there) in [
            (default.with_dirty(Dirty::Clean), "dirty", cfg!(feature = "dirty")),
            (default.with_access_flags(), "dirty", cfg!(feature = "dirty")),
            (default.with_statistics(), "counts", cfg!(feature = "counts")),
        ] {
            let made = Own::new(&Nothing, &config, [].into_iter()).map(drop);
            match made {
                Err(CreateError::LeftOut { feature: left_out }) => {
                    assert!(!is_there && left_out == feature, "{left_out}");
                }
                Err(CreateError::Table(TableError::NoFrames { .. })) => assert!(is_there),
                other => panic!("{other:?}"),
            }
        }
    }

    /// What a driver has no tables for is not chosen by itself.
    #[test]
    fn the_granule_is_one_that_there_is() {
        let shift = common([1 << 14 | 1 << 16].into_iter().map(|set| set & GRANULES)).shift();
        assert_eq!(shift, if cfg!(feature = "granules") { 14 } else { 12 });
    }
}
