// SPDX-License-Identifier: MIT OR Apache-2.0
//! An SMMU, as firmware describes it.

use alloc::string::String;

use core::ops::Range;

use smmuv3::{Completion, Firmware, Interrupt};

/// A range of physical addresses, or of those of a bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The first.
    pub base: u64,
    /// Bytes. `base + len` is at most 2^64.
    pub len: u64,
}

impl Region {
    /// The last address; of an empty region, its base.
    #[must_use]
    pub const fn last(&self) -> u64 {
        // Regions are checked when they are read; a hand-made one that is too long ends with the address space.
        self.base.saturating_add(self.len.saturating_sub(1))
    }

    /// From the first to behind the last. The very last address of 64 bits is left out, which nobody can issue.
    #[must_use]
    pub const fn range(&self) -> Range<u64> {
        self.base..self.base.saturating_add(self.len)
    }

    /// Whether both have an address in common.
    #[must_use]
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.len != 0 && other.len != 0 && self.base <= other.last() && other.base <= self.last()
    }
}

/// An SMMUv3 that firmware describes.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Instance {
    /// Path in the device tree, or `SMMUv3 at offset 0x48`, in the IORT.
    pub name: String,
    /// Its registers: two 64 KiB pages, one with [`Model::Cn99xx`] (§2.1).
    pub registers: Region,
    /// Whether its accesses to memory are coherent with the CPUs' caches: `dma-coherent`; the COHACC override of the
    /// IORT. It is what counts, whatever IDR0.COHACC says ([`smmuv3::Coherence`]), as far as the other SMMUs are
    /// coherent, too ([`crate::Topology::coherent`]).
    pub coherent: bool,
    /// What hardware management of access and dirty flags it has, where firmware says so in place of IDR0.HTTU: 0
    /// none, 1 access flag, 2 both. Always `None` from a device tree.
    pub httu: Option<u8>,
    /// Its wired interrupts.
    pub interrupts: Interrupts,
    /// What it is known to do differently.
    pub model: Model,
    /// Base of its VATOS page, where it has one and firmware says so.
    pub vatos: Option<u64>,
    /// Its NUMA proximity domain. Always `None` from a device tree.
    pub proximity: Option<u32>,
    /// Where its own interrupts go if they are messages, and as which device: see [`crate::Msi`].
    pub msi: Option<crate::Msi>,
}

impl Instance {
    /// Whether its registers are all there, as far as their size and place say (§2.1): two pages of 64 KiB (one with
    /// [`Model::Cn99xx`]), aligned to as much.
    pub(crate) fn has_registers(&self) -> bool {
        let Region { base, len } = self.registers;
        let pages = if self.model == Model::Cn99xx { 1 } else { 2 };
        base.is_multiple_of(0x1_0000) && len >= pages * 0x1_0000
    }

    /// What the driver is to know beside the ID registers ([`smmuv3::InstanceConfig::firmware`]).
    #[must_use]
    pub fn firmware(&self) -> Firmware {
        let mut firmware = Firmware::NONE;
        firmware.no_prefetch = self.model == Model::Hi161x;
        firmware.page_0_only = self.model == Model::Cn99xx;
        firmware.repeated_invalidation = self.model == Model::Tegra264;
        firmware.httu = self.httu;
        firmware
    }

    /// What there is room for in [`smmuv3::Name`]: its node without the path that leads to it (`iommu@9050000`), as
    /// [`Smmu::name`](smmuv3::Smmu::name) calls it.
    #[must_use]
    pub fn short_name(&self) -> &str {
        self.name.rsplit_once('/').map_or(self.name.as_str(), |(_, node)| node)
    }
}

/// What firmware says of an implementation that the ID registers do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Model {
    /// Nothing.
    Generic,
    /// HiSilicon Hi161x (`hisilicon,broken-prefetch-cmd`): CMD_PREFETCH_* must not be used.
    Hi161x,
    /// Cavium CN99xx (`cavium,cn9900-broken-page1-regspace`): the registers of page 1 are in page 0.
    Cn99xx,
    /// NVIDIA Tegra264 (`nvidia,tegra264-smmu`): has to be told twice of what it is to forget.
    Tegra264,
    /// Another number of the IORT.
    Other(u32),
}

/// How an interrupt line is triggered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// By an edge, as those of an SMMU should be (§2.4).
    Edge,
    /// By a level.
    Level,
}

/// An interrupt of the GIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// INTID: 32 and up for SPIs.
    pub intid: u32,
    /// How it is triggered.
    pub trigger: Trigger,
}

/// The wired interrupts of an SMMU. `None`: not wired, or not described.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interrupts {
    /// Event queue.
    pub event: Option<Line>,
    /// PRI queue.
    pub pri: Option<Line>,
    /// CMD_SYNC completion: for [`smmuv3::Completion::Interrupt`].
    pub sync: Option<Line>,
    /// Global errors.
    pub gerror: Option<Line>,
}

impl Interrupts {
    /// All interrupts by one line.
    #[must_use]
    pub const fn combined(line: Line) -> Self {
        Self { event: Some(line), pri: Some(line), sync: Some(line), gerror: Some(line) }
    }

    /// The lines to enable for [`smmuv3::Iommu::handle_interrupt`], each once, with what it is to be called with: with
    /// [`Completion::Interrupt`], that of CMD_SYNC, too. How an SMMU in use tells of completed commands,
    /// [`Smmu::config`](smmuv3::Smmu::config) says.
    pub fn lines(&self, completion: Completion) -> impl Iterator<Item = (Line, Interrupt)> {
        // A line of two is one to look at everything for.
        let shared = |line: Option<Line>| {
            let all = [self.event, self.pri, self.gerror];
            line.is_some() && all.iter().filter(|other| **other == line).count() > 1
        };
        let of = |line, which| if shared(line) { Interrupt::Any } else { which };
        let pri = self.pri.filter(|_| self.pri != self.event);
        let gerror = self.gerror.filter(|_| self.gerror != self.event && self.gerror != self.pri);
        // Nothing is to be done for it that a handler of the others would have to know.
        let sync = self.sync.filter(|_| completion == Completion::Interrupt);
        let sync = sync.filter(|_| ![self.event, self.pri, self.gerror].contains(&self.sync));
        let all = [
            (self.event, of(self.event, Interrupt::Events)),
            (pri, of(pri, Interrupt::PageRequests)),
            (gerror, Interrupt::Error),
            (sync, Interrupt::Sync),
        ];
        all.into_iter().filter_map(|(line, which)| Some((line?, which)))
    }
}
