// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a table is to be, and the making of it.

use smmuv3_formats::PhysAddr;

use crate::contiguous::{HAD_HINT, HINT};
use crate::error::TableError;
use crate::geometry::Geometry;
use crate::leaf::Encoding;
use crate::{Frames, MAIR, Shareability, Table};

/// What a table is to be: sizes, and what else can be chosen. Granule, stage and width are its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableConfig {
    /// Bits of an input address: 32 to 48, or to 52 for a wide table. What T0SZ, T1SZ or S2T0SZ is taken from.
    pub input_bits: u32,
    /// Bits of an output address, within the same bounds: IPS or S2PS, and no more than every instance outputs.
    pub output_bits: u32,
    /// Stage 1: the table is for the upper half of the addresses, those of TTB1. They are sign-extended: the last
    /// one is 2^64 - 1. Its last page can't be mapped, since no range can say that it ends there. Calls take the
    /// general way; what is fast is the lower half.
    pub upper: bool,
    /// Stage 2: the level of the first table, where there is a choice (§15.4): a later one than by default takes
    /// up to 16 tables side by side, and one step less to walk. `None` for the earliest that output size allows.
    pub start_level: Option<i8>,
    /// Maps set the contiguous hint where they store all of a group. Unmaps of few pages then take the general way, but
    /// for single pages that have no hint.
    pub contiguous: bool,
    /// Blocks may be split: see [`Table::split`]. Unmaps of few pages then take the general way, and name no size.
    pub splitting: bool,
    /// What changes of size the hardware bears: IDR3.BBML, the least of all instances (and CPUs) that walk the table.
    pub bbml: Bbml,
    /// Mappings may have every attribute that the tables can say, and look-ups take half as long again. Otherwise types are
    /// [`NormalCacheable`](crate::Memory::NormalCacheable), [`NormalNonCacheable`](crate::Memory::NormalNonCacheable)
    /// and [`Device`](crate::Memory::Device), and permissions without PXN, UXN and GUARDED; others are refused. A MAIR that
    /// has those types elsewhere is a reason to set it. Without the feature `fast-paths` every table is so.
    pub all_attributes: bool,
    /// Stage 1: CD.MAIR of the contexts that use the table. By default [`MAIR`](crate::MAIR).
    pub mair: u64,
    /// LPA2: CD.SHx or STE.S2SH0, which say for all leaves who shares what is cached.
    pub shareability: Shareability,
    /// Stage 2: types are those of its mappings, whatever devices say: STE.S2FWB (§16.3).
    pub forced_types: bool,
    /// Stage 2: execution may depend on privilege, which takes IDR3.XNX of every instance (§16.2).
    pub execute_by_privilege: bool,
    /// Stage 1: the table is for StreamWorld EL2, which knows one privilege (§16.1).
    pub one_privilege: bool,
    /// Whether hardware marks what devices write: see [`Dirty`].
    pub dirty: Dirty,
    /// Mappings begin as never accessed (AF = 0), and hardware marks those that devices access (§14). Then CD.HA or STE.S2HA
    /// must be 1 wherever the table is used, or every access faults; walks must be coherent.
    pub access_flags: bool,
}

/// Whether hardware marks what devices write (§14), so that [`read_and_clear_dirty`](Table::read_and_clear_dirty) can tell.
///
/// If so, CD.HA and CD.HD, or STE.S2HA and STE.S2HD, must be 1 wherever the table is used: otherwise writes to what is clean
/// fault. The hardware's updates are atomic only where its walks are coherent and cacheable: a table for others must not
/// be marked. A table of this kind takes every attribute, as with [`all_attributes`](TableConfig::all_attributes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dirty {
    /// It does not.
    #[default]
    Untracked,
    /// What may be written is clean when it is mapped. The first write through each leaf marks it.
    Clean,
    /// What may be written is dirty when it is mapped: it costs hardware nothing before somebody wants to know, which the
    /// first [`read_and_clear_dirty`](Table::read_and_clear_dirty) says.
    Born,
}

/// What the hardware bears when a translation changes its size and nothing else, without break-before-make (§8.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bbml {
    /// The hardware bears none. A group of contiguous leaves is unmapped as a whole.
    #[default]
    Zero,
    /// Changes of the contiguous hint, and of blocks that are marked (nT).
    One,
    /// The hardware bears every change of size.
    Two,
}

impl TableConfig {
    /// A table for inputs of `input_bits` and outputs of `output_bits` bits.
    pub const fn new(input_bits: u32, output_bits: u32) -> Self {
        Self {
            input_bits,
            output_bits,
            upper: false,
            start_level: None,
            contiguous: false,
            splitting: false,
            bbml: Bbml::Zero,
            all_attributes: false,
            mair: MAIR,
            shareability: Shareability::Inner,
            forced_types: false,
            execute_by_privilege: false,
            one_privilege: false,
            dirty: Dirty::Untracked,
            access_flags: false,
        }
    }

    /// For the upper half of the addresses.
    #[must_use]
    pub const fn for_upper_half(mut self) -> Self {
        self.upper = true;
        self
    }

    /// With the first table at `level`, -1 to 3 (§15.4).
    #[must_use]
    pub const fn starting_at(mut self, level: i8) -> Self {
        self.start_level = Some(level);
        self
    }

    /// With the contiguous hint, for hardware of that level.
    #[must_use]
    pub const fn with_contiguous(mut self, bbml: Bbml) -> Self {
        self.contiguous = true;
        self.bbml = bbml;
        self
    }

    /// With blocks that may be split, if hardware of that level allows it.
    #[must_use]
    pub const fn with_splitting(mut self, bbml: Bbml) -> Self {
        self.splitting = true;
        self.bbml = bbml;
        self
    }

    /// With all attributes.
    #[must_use]
    pub const fn with_all_attributes(mut self) -> Self {
        self.all_attributes = true;
        self
    }

    /// For contexts with this MAIR.
    #[must_use]
    pub const fn with_mair(mut self, mair: u64) -> Self {
        self.mair = mair;
        self
    }

    /// With that shareability, if leaves can't say it.
    #[must_use]
    pub const fn with_shareability(mut self, shareability: Shareability) -> Self {
        self.shareability = shareability;
        self
    }

    /// For stage 2 with forced types (S2FWB).
    #[must_use]
    pub const fn with_forced_types(mut self) -> Self {
        self.forced_types = true;
        self
    }

    /// For stage 2 of instances with XNX: execution may depend on privilege.
    #[must_use]
    pub const fn with_execute_by_privilege(mut self) -> Self {
        self.execute_by_privilege = true;
        self
    }

    /// For StreamWorld EL2.
    #[must_use]
    pub const fn with_one_privilege(mut self) -> Self {
        self.one_privilege = true;
        self
    }

    /// With leaves that hardware marks when devices write.
    #[must_use]
    pub const fn with_dirty(mut self, dirty: Dirty) -> Self {
        self.dirty = dirty;
        self
    }

    /// With leaves that hardware marks when devices access them.
    #[must_use]
    pub const fn with_access_flags(mut self) -> Self {
        self.access_flags = true;
        self
    }
}

impl<const SHIFT: u32, const STAGE: u8, const WIDE: bool> Table<SHIFT, STAGE, WIDE> {
    /// An empty table for inputs of `input_bits` and outputs of `output_bits` bits, with nothing chosen.
    ///
    /// # Errors
    /// [`TableError`]; nothing stays allocated then.
    pub fn new<F: Frames + ?Sized>(
        frames: &F,
        input_bits: u32,
        output_bits: u32,
    ) -> Result<Self, TableError> {
        Self::with(frames, &TableConfig::new(input_bits, output_bits))
    }

    /// An empty table.
    ///
    /// # Errors
    /// [`TableError`]; nothing stays allocated then.
    pub fn with<F: Frames + ?Sized>(frames: &F, config: &TableConfig) -> Result<Self, TableError> {
        let TableConfig { input_bits, output_bits, upper, .. } = *config;
        if !Geometry::<SHIFT, WIDE>::WIDTHS.contains(&input_bits) {
            return Err(TableError::InputBits(input_bits));
        }
        if !Geometry::<SHIFT, WIDE>::WIDTHS.contains(&output_bits) {
            return Err(TableError::OutputBits(output_bits));
        }
        if upper && (STAGE == 2 || config.one_privilege) {
            return Err(TableError::UpperHalf);
        }
        let level = Self::first_level(config)?;
        let mut table = Self::shaped(config, Geometry::<SHIFT, WIDE>::shift(level));
        let size = table.root_bytes();
        table.root = frames.allocate(size, size).ok_or(TableError::NoFrames { size })?;
        if !table.reaches(table.root, size as u64) {
            // SAFETY: allocated two lines above with these values, and nobody else knows it.
            unsafe { frames.free(table.root, size, size) };
            return Err(TableError::FrameBeyondOutput { frame: table.root, output_bits });
        }
        frames.publish(table.root, size);
        Ok(table)
    }

    /// Level of the first table; the widths are in bounds.
    fn first_level(config: &TableConfig) -> Result<i8, TableError> {
        let TableConfig { input_bits, output_bits, start_level, .. } = *config;
        let found = if STAGE == 1 {
            let level = Geometry::<SHIFT, WIDE>::stage_1(input_bits);
            level.filter(|level| start_level.is_none_or(|chosen| chosen == *level))
        } else {
            Geometry::<SHIFT, WIDE>::stage_2(input_bits, output_bits, start_level)
        };
        found.ok_or(match start_level {
            Some(level) => TableError::StartLevel(level),
            None => TableError::InputBits(input_bits),
        })
    }

    /// Without its first table.
    fn shaped(config: &TableConfig, root_shift: u32) -> Self {
        let direct_end = if config.upper { 0 } else { 1 << config.input_bits };
        let first = Geometry::<SHIFT, WIDE>::shift(Geometry::<SHIFT, WIDE>::FIRST);
        let straight_end = if root_shift == first { direct_end } else { 0 };
        let encoding = Encoding::new(config, Geometry::<SHIFT, WIDE>::LPA2);
        Self {
            root: PhysAddr(0),
            straight_end,
            plain_end: if encoding.has_all() { 0 } else { straight_end },
            output_end: 1 << config.output_bits,
            // At most 52, and at most a shift: both fit in 8 bits.
            input_bits: config.input_bits as u8,
            root_shift: root_shift as u8,
            upper: config.upper,
            unmaps_parts: !(config.upper || config.contiguous || config.splitting),
            special: match (config.splitting, config.contiguous) {
                (true, _) => u64::MAX,
                (_, true) => HINT | HAD_HINT,
                _ => 0,
            },
            contiguous: config.contiguous,
            splits: config.splitting && config.bbml != Bbml::Zero,
            marks_blocks: config.bbml == Bbml::One,
            refuses_cuts: config.contiguous && config.bbml == Bbml::Zero,
            encoding,
            #[cfg(feature = "mutation")]
            wrong: None,
        }
    }
}
