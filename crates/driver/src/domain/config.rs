// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a domain is to be.

use smmuv3_formats::granule::Granule;
use smmuv3_pagetable::Dirty;

#[cfg(doc)]
use crate::Domain;
use crate::compatibility::Stage;

/// The shape of a domain. What is left open follows from the instances that are enabled when it is created; any
/// instance that can walk the tables may come later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DomainConfig {
    /// Which stage its tables are for.
    pub stage: Stage,
    /// Size of a page, and of a table; `None` for the smallest that every instance with the stage has.
    pub granule: Option<Granule>,
    /// Bits of an input address, 32 to 48; 0 for as many as every instance supports. More, up to 52, take
    /// descriptors for 52-bit addresses (LPA2, or LPA with 64 KiB), which not every instance has.
    pub input_bits: u32,
    /// Bits of an output address, in the same way.
    pub output_bits: u32,
    /// Stage 1: its addresses are those of the upper half, which are sign-extended (TTB1). Accesses to the other half
    /// are refused.
    pub upper: bool,
    /// Stage 2: the level of the first table, where there is a choice (§15.4): a later one takes up to 16 tables side by
    /// side, and one step less to walk.
    pub start_level: Option<i8>,
    /// Maps set the contiguous hint where they store all of a group, so that TLBs need fewer entries.
    pub contiguous: bool,
    /// An [`Domain::unmap`] may cut blocks, where the instances bear it (BBML, §8.2). It may take frames for tables
    /// then. Without it, and on instances of BBML 0, blocks that are cut are an error.
    pub splitting: bool,
    /// With `contiguous` or `splitting`: the IDR3.BBML (0 to 2) that every attached instance must have; `None`: the
    /// least of those enabled now.
    pub bbml: Option<u32>,
    /// Mappings may be of every memory type, and have all permissions, that the stage can say. Otherwise they are those
    /// most need, for which maps and look-ups are faster. Without the feature `fast-paths` every domain is so.
    pub all_attributes: bool,
    /// Whether hardware marks what devices write, for [`Domain::read_and_clear_dirty`] and [`Domain::unmap_reporting`]
    /// (HTTU, §14). It takes coherent instances.
    pub dirty: Dirty,
    /// Mappings begin as never accessed, and hardware marks those that devices access, for
    /// [`Domain::read_and_clear_accessed`] (HTTU, §14). It takes coherent instances.
    pub access_flags: bool,
    /// Stage 2: types are those of its mappings, whatever devices say (S2FWB).
    pub forced_types: bool,
    /// Stage 2: the VMID on all instances, one of the hypervisor's ([`Config::hypervisor_vmids`]).
    ///
    /// [`Config::hypervisor_vmids`]: crate::Config::hypervisor_vmids
    pub vmid: Option<u16>,
    /// Counts what is mapped and unmapped, commands, waits and faults, for [`Domain::statistics`], on each CPU's own cache
    /// lines.
    pub statistics: bool,
    /// Stage 2: guests may have a stage 1 over it ([`Iommu::nest`](crate::Iommu::nest)). An unmap then takes two rounds of
    /// invalidations, since what is cached of both stages together is not found by an address of the second (§4.2).
    pub guests: bool,
}

impl DomainConfig {
    /// For stage 2.
    #[must_use]
    pub const fn with_stage_2(mut self) -> Self {
        self.stage = Stage::Two;
        self
    }

    /// With that granule.
    #[must_use]
    pub const fn with_granule(mut self, granule: Granule) -> Self {
        self.granule = Some(granule);
        self
    }

    /// With input addresses of `bits` bits, 32 to 52; 0 for as many as every instance supports.
    #[must_use]
    pub const fn with_input_bits(mut self, bits: u32) -> Self {
        self.input_bits = bits;
        self
    }

    /// With output addresses of `bits` bits, 32 to 52; 0 for as many as every instance supports.
    #[must_use]
    pub const fn with_output_bits(mut self, bits: u32) -> Self {
        self.output_bits = bits;
        self
    }

    /// For the upper half of the addresses.
    #[must_use]
    pub const fn with_upper_half(mut self) -> Self {
        self.upper = true;
        self
    }

    /// With the first table at `level` (§15.4): see [`DomainConfig::start_level`].
    #[must_use]
    pub const fn with_start_level(mut self, level: i8) -> Self {
        self.start_level = Some(level);
        self
    }

    /// With the contiguous hint.
    #[must_use]
    pub const fn with_contiguous(mut self) -> Self {
        self.contiguous = true;
        self
    }

    /// With blocks that may be cut.
    #[must_use]
    pub const fn with_splitting(mut self) -> Self {
        self.splitting = true;
        self
    }

    /// For instances of at least that IDR3.BBML, 0 to 2 (§8.2).
    #[must_use]
    pub const fn with_bbml(mut self, bbml: u32) -> Self {
        self.bbml = Some(bbml);
        self
    }

    /// With all attributes.
    #[must_use]
    pub const fn with_all_attributes(mut self) -> Self {
        self.all_attributes = true;
        self
    }

    /// With marks of what devices write.
    #[must_use]
    pub const fn with_dirty(mut self, dirty: Dirty) -> Self {
        self.dirty = dirty;
        self
    }

    /// With marks of what devices access.
    #[must_use]
    pub const fn with_access_flags(mut self) -> Self {
        self.access_flags = true;
        self
    }

    /// With forced types (S2FWB, §16.3).
    #[must_use]
    pub const fn with_forced_types(mut self) -> Self {
        self.forced_types = true;
        self
    }

    /// With counts of what is mapped and unmapped.
    #[must_use]
    pub const fn with_statistics(mut self) -> Self {
        self.statistics = true;
        self
    }

    /// For guests, too.
    #[must_use]
    pub const fn with_guests(mut self) -> Self {
        self.guests = true;
        self
    }

    /// With a VMID of the hypervisor's.
    #[must_use]
    pub const fn with_vmid(mut self, vmid: u16) -> Self {
        self.vmid = Some(vmid);
        self
    }
}
