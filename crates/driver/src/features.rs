// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an SMMU can do, read from its ID registers (§2.3) and corrected by known errata (§19).

use smmuv3_formats::legality::Implementation;
use smmuv3_formats::register::{Aidr, Cr2, Idr0, Idr1, Idr2, Idr3, Idr5, Idr6, Iidr, address_bits};

use crate::ats::{AtsMode, NoAtsAlwaysOn, NoSplitAts};
use crate::command_queue::Completion;
use crate::compatibility::Stage;
use crate::instance::{Coherence, InstanceConfig};
use crate::platform::Mmio;

/// The ID registers as read (§2.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdRegisters {
    /// IDR0.
    pub idr0: Idr0,
    /// IDR1.
    pub idr1: Idr1,
    /// IDR2.
    pub idr2: Idr2,
    /// IDR3.
    pub idr3: Idr3,
    /// IDR5.
    pub idr5: Idr5,
    /// IDR6.
    pub idr6: Idr6,
    /// IIDR.
    pub iidr: Iidr,
    /// AIDR.
    pub aidr: Aidr,
}

impl IdRegisters {
    /// Reads them; they never change after reset.
    pub fn read(mmio: &impl Mmio) -> Self {
        Self {
            idr0: Idr0(mmio.read32(Idr0::OFFSET)),
            idr1: Idr1(mmio.read32(Idr1::OFFSET)),
            idr2: Idr2(mmio.read32(Idr2::OFFSET)),
            idr3: Idr3(mmio.read32(Idr3::OFFSET)),
            idr5: Idr5(mmio.read32(Idr5::OFFSET)),
            idr6: Idr6(mmio.read32(Idr6::OFFSET)),
            iidr: Iidr(mmio.read32(Iidr::OFFSET)),
            aidr: Aidr(mmio.read32(Aidr::OFFSET)),
        }
    }
}

/// Fields with a size, and the largest there is.
const LARGEST: [(&str, u64); 6] = [
    ("IDR1.SIDSIZE", 32),
    ("IDR1.SSIDSIZE", 20),
    ("IDR1.CMDQS", 19),
    ("IDR1.EVENTQS", 19),
    ("IDR1.PRIQS", 19),
    ("IDR5.VAX", 2),
];

/// What the driver uses of an SMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Features {
    /// The registers that this was read from.
    pub registers: IdRegisters,
    /// Stage 1 translates: IDR0.S1P.
    pub stage_1: bool,
    /// Stage 2 translates, and every EL1 translation is tagged with a VMID: IDR0.S2P.
    pub stage_2: bool,
    /// Bits of an ASID: 8 or 16 (IDR0.ASID16), or fewer where
    /// [`InstanceConfig::asid_bits`](crate::InstanceConfig::asid_bits) says so.
    pub asid_bits: u32,
    /// Bits of a VMID: 8 or 16 (IDR0.VMID16). 8 without stage 2.
    pub vmid_bits: u32,
    /// Bits of a StreamID: IDR1.SIDSIZE, or fewer where [`InstanceConfig::sid_bits`](crate::InstanceConfig::sid_bits) says so.
    pub sid_bits: u32,
    /// Stream tables can have two levels: IDR0.ST_LEVEL.
    pub two_level_streams: bool,
    /// Bits of a SubstreamID: IDR1.SSIDSIZE; 0 without.
    pub ssid_bits: u32,
    /// Tables of contexts can have two levels: IDR0.CD2L.
    pub two_level_contexts: bool,
    /// Bits of a physical address: IDR5.OAS.
    pub output_bits: u32,
    /// Bits of an input address of one half: 48 or 52 (IDR5.VAX).
    pub input_bits: u32,
    /// Tables of 4 and 16 KiB can have 52-bit addresses: IDR5.DS (§15.2).
    pub lpa2: bool,
    /// Stage 2 can force types: IDR3.FWB (§16.3).
    pub forced_types: bool,
    /// Execution can depend on privilege at stage 2: IDR3.XNX (§16.2).
    pub execute_by_privilege: bool,
    /// Shifts of the granules supported: 12, 14, 16 as bits of a mask (IDR5.GRAN4K, GRAN16K, GRAN64K).
    pub granules: u32,
    /// Tables, queues and descriptors are accessed coherently with the CPUs' caches: IDR0.COHACC, or what
    /// [`InstanceConfig::coherent`](crate::InstanceConfig::coherent) says instead.
    pub coherent: bool,
    /// Devices can have translations of their own: IDR0.ATS (§12).
    pub ats: bool,
    /// Devices can ask for pages: IDR0.PRI (§13).
    pub pri: bool,
    /// log2 of the largest queue of page requests (IDR1.PRIQS); 0 without.
    pub page_request_queue_log2: u32,
    /// Commands can invalidate ranges: IDR3.RIL (§4.2).
    pub range_invalidation: bool,
    /// Whether the SMMU takes part in the TLB maintenance that CPUs broadcast (§8.3).
    pub broadcast: bool,
    /// What the SMMU tolerates when the size of a mapping changes: `IDR3.BBML` (§8.2).
    pub bbml: u32,
    /// Access flags are set by hardware: IDR0.HTTU (§14).
    pub access_flag: bool,
    /// Dirty state is kept by hardware: IDR0.HTTU (§14).
    pub dirty_state: bool,
    /// Access flags of table descriptors are set by hardware as well, for guests that ask for that.
    pub table_access_flag: bool,
    /// Tables may be little-endian, and big-endian: IDR0.TTENDIAN.
    pub endianness: Endianness,
    /// log2 of the commands that the queue holds at most: IDR1.CMDQS, or fewer as configured.
    pub command_queue_log2: u32,
    /// log2 of the events that the queue holds at most: IDR1.EVENTQS, or fewer as configured.
    pub event_queue_log2: u32,
    /// Whether faulting transactions may be stalled (§11).
    pub stalls: Stalls,
    /// Most transactions that are stalled at the same time: IDR5.STALL_MAX; 0 where none are.
    pub most_stalls: u32,
    /// A guest's stage 1 can be put over the host's stage 2: both are there, and errata 1209401, 2268618 and
    /// 2812531 are not (§19).
    pub nesting: bool,
    /// EL2 translations exist, and must be invalidated at start: IDR0.HYP.
    pub el2: bool,
    /// Streams of stage 1 are in EL2 with E2H, as [`InstanceConfig::el2_host`](crate::InstanceConfig::el2_host) asks for
    /// and the SMMU can: their translations are told apart by ASIDs alone (§1).
    pub el2_host: bool,
    /// The SMMU can send events that end WFE: IDR0.SEV, but for MMU-600 erratum 1076982.
    pub events: bool,
    /// The SMMU can be asked what an address translates to: IDR0.ATOS ([`atos`](crate::atos)).
    pub translation_operations: bool,
    /// The SMMU can send interrupts, and tell of completed commands, by messages: IDR0.MSI.
    pub messages: bool,
    /// The SMMU has enhanced command queues beside the one that each SMMU has: IDR1.ECMDQ (§2.6).
    pub enhanced_queues: bool,
    /// Most commands that may precede a CMD_SYNC (MMU-700 erratum 2812531); `u32::MAX` without limit.
    pub largest_batch: u32,
    /// Memory type, shareability and allocation hints of what is not translated can be overridden
    /// (IDR1.ATTR_TYPES_OVR).
    pub type_overrides: bool,
    /// Privilege, and whether it is an instruction, can be overridden (IDR1.ATTR_PERMS_OVR).
    pub permission_overrides: bool,
    /// Streams of the EL2 StreamWorld are those of EL2-E2H (CR2.E2H): `el2_host`, or so since before it was adopted.
    pub e2h: bool,
    /// CMD_PREFETCH_* may be used.
    pub prefetch: bool,
    /// The registers of page 1 are in page 0 ([`Firmware::page_0_only`](crate::Firmware::page_0_only)).
    pub page_0_only: bool,
    /// Invalidations have to be made twice
    /// ([`Firmware::repeated_invalidation`](crate::Firmware::repeated_invalidation)).
    pub repeated_invalidation: bool,
}

/// `IDR0.STALL_MODEL` (§2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stalls {
    /// Software chooses whether a fault stalls or terminates.
    Chosen,
    /// Faults terminate.
    Never,
    /// Translation faults of whatever is translated stall.
    Forced,
}

/// `IDR0.TTENDIAN` (§2.3), of an SMMU that reads little-endian tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endianness {
    /// Each context chooses.
    Chosen,
    /// Little-endian only.
    Little,
}

impl Features {
    /// Decodes and checks the ID registers.
    ///
    /// # Errors
    /// What makes the SMMU unusable for this driver, or contradicts the architecture.
    pub fn decode(registers: IdRegisters) -> Result<Self, Unsupported> {
        let IdRegisters { idr0, idr1, idr3, idr5, aidr, .. } = registers;
        if aidr.major() != 0 {
            return Err(Unsupported::Version { aidr: aidr.0 });
        }
        if !idr0.s1p() && !idr0.s2p() {
            return Err(Unsupported::NoStage { idr0: idr0.0 });
        }
        if idr0.ttf() & 0b10 == 0 {
            return Err(Unsupported::TableFormat { ttf: idr0.ttf() });
        }
        if !matches!(idr0.ttendian(), 0 | 2) {
            return Err(Unsupported::Endianness { ttendian: idr0.ttendian() });
        }
        if idr1.tables_preset() || idr1.queues_preset() {
            return Err(Unsupported::Preset { idr1: idr1.0 });
        }
        let sizes = [
            idr1.sidsize(),
            idr1.ssidsize(),
            idr1.cmdqs(),
            idr1.eventqs(),
            idr1.priqs(),
            idr5.vax(),
        ];
        for (value, &(field, largest)) in sizes.into_iter().zip(&LARGEST) {
            if value > largest {
                return Err(Unsupported::Size { field, value, largest });
            }
        }
        if idr1.cmdqs() == 0 {
            return Err(Unsupported::CommandQueue { cmdqs: 0 });
        }
        let granules = u32::from(idr5.gran4k()) << 12
            | u32::from(idr5.gran16k()) << 14
            | u32::from(idr5.gran64k()) << 16;
        if granules == 0 {
            return Err(Unsupported::NoGranule { idr5: idr5.0 });
        }
        let output_bits = address_bits(idr5.oas())
            .filter(|bits| *bits <= 52 || idr5.d128())
            .ok_or(Unsupported::OutputSize { oas: idr5.oas() })?;
        // What no SMMU contradicts.
        let is_3_2 = aidr.minor() >= 2;
        let broken = if idr0.stall_model() == 3 {
            Some("IDR0.STALL_MODEL 3 is reserved")
        } else if idr0.pri() && !idr0.ats() {
            Some("PRI needs ATS")
        } else if is_3_2 && !idr3.ril() {
            Some("v3.2 and later have range invalidation")
        } else if is_3_2 && idr3.bbml() == 0 {
            Some("v3.2 and later have BBML 1 or 2")
        } else {
            None
        };
        if let Some(rule) = broken {
            return Err(Unsupported::Contradiction { rule });
        }
        let plain = Self {
            registers,
            stage_1: idr0.s1p(),
            stage_2: idr0.s2p(),
            asid_bits: if idr0.asid16() { 16 } else { 8 },
            // Without stage 2 IDR0.VMID16 means nothing; QEMU's SMMU sets it all the same.
            vmid_bits: if idr0.s2p() && idr0.vmid16() { 16 } else { 8 },
            sid_bits: idr1.sidsize() as u32,
            // Other values of ST_LEVEL are reserved.
            two_level_streams: idr0.st_level() == 1,
            ssid_bits: idr1.ssidsize() as u32,
            two_level_contexts: idr0.cd2l(),
            output_bits,
            input_bits: if idr5.vax() == 0 { 48 } else { 52 },
            lpa2: idr5.ds(),
            forced_types: idr3.fwb(),
            execute_by_privilege: idr3.xnx(),
            granules,
            coherent: idr0.cohacc(),
            ats: idr0.ats(),
            pri: idr0.ats() && idr0.pri(),
            page_request_queue_log2: idr1.priqs() as u32,
            range_invalidation: idr3.ril(),
            broadcast: idr0.btm(),
            bbml: idr3.bbml() as u32,
            access_flag: idr0.httu() >= 1,
            dirty_state: idr0.httu() >= 2,
            table_access_flag: idr0.httu() == 3,
            endianness: if idr0.ttendian() == 0 { Endianness::Chosen } else { Endianness::Little },
            command_queue_log2: idr1.cmdqs() as u32,
            event_queue_log2: idr1.eventqs() as u32,
            stalls: match idr0.stall_model() {
                0 => Stalls::Chosen,
                2 => Stalls::Forced,
                _ => Stalls::Never,
            },
            most_stalls: if idr0.stall_model() == 1 { 0 } else { idr5.stall_max() as u32 },
            nesting: idr0.s1p() && idr0.s2p(),
            el2: idr0.hyp(),
            el2_host: false,
            events: idr0.sev(),
            translation_operations: idr0.atos(),
            messages: idr0.msi(),
            enhanced_queues: idr1.ecmdq(),
            largest_batch: u32::MAX,
            type_overrides: idr1.attr_types_ovr(),
            permission_overrides: idr1.attr_perms_ovr(),
            e2h: false,
            prefetch: true,
            page_0_only: false,
            repeated_invalidation: false,
        };
        Ok(plain.corrected())
    }

    /// Nobody answers what has stalled. Without a heap that is the caller's affair.
    const LEAVES_STALLS_OUT: bool = cfg!(all(feature = "alloc", not(feature = "stalls")));

    /// Limited to what `config` lets it be used for, and as firmware says that it is. Nothing else is subject to either.
    #[must_use]
    pub fn limited(mut self, config: &InstanceConfig) -> Self {
        self.limit(config);
        self
    }

    /// As [`Features::limited`].
    pub(crate) fn limit(&mut self, config: &InstanceConfig) {
        self.asid_bits = self.asid_bits.min(config.asid_bits);
        self.sid_bits = self.sid_bits.min(config.sid_bits);
        // At least 2 entries: a command and its CMD_SYNC.
        self.command_queue_log2 = self.command_queue_log2.min(config.command_queue_log2.max(1));
        self.event_queue_log2 = self.event_queue_log2.min(config.event_queue_log2);
        self.most_stalls = self.most_stalls.min(config.stalls);
        self.broadcast &= config.broadcast;
        self.el2_host = self.el2 && self.stage_1 && config.el2_host;
        self.e2h = self.el2_host;
        // No instance has what was left out of the driver.
        self.ats &= cfg!(feature = "ats");
        self.pri &= cfg!(feature = "ats");
        self.nesting &= cfg!(feature = "nested");
        if Self::LEAVES_STALLS_OUT && !self.always_stalls() {
            (self.stalls, self.most_stalls) = (Stalls::Never, 0);
        }
        self.coherent = match config.coherent {
            Coherence::Detected => self.coherent,
            Coherence::Yes => true,
            Coherence::No => false,
        };
        *self = self.told(&config.firmware);
    }

    /// The features anew, of the same registers: without what [`Features::adopted`] or anything else took away.
    #[must_use]
    pub(crate) fn anew(self, config: &InstanceConfig) -> Self {
        // The registers were decoded before, so this succeeds.
        Self::decode(self.registers).map_or(self, |features| features.limited(config))
    }

    /// Limited to what `cr2` says: CR2 cannot be changed while the SMMU translates (§2.4).
    #[must_use]
    pub(crate) const fn adopted(mut self, cr2: Cr2) -> Self {
        self.e2h = cr2.e2h();
        self.el2_host &= cr2.e2h();
        self.broadcast &= !cr2.ptm();
        self
    }

    /// Streams of stage 1 are in EL1, and not in a host's EL2 (§1).
    pub const fn in_el1(&self) -> bool {
        !self.el2_host
    }

    /// Translations of stage 1 are tagged with a VMID, too (§8.1): where there is a stage 2, and they are of EL1.
    pub const fn has_vmids(&self) -> bool {
        self.stage_2 && self.in_el1()
    }

    /// Whether faults may stall at all, asked for or not.
    pub const fn can_stall(&self) -> bool {
        !matches!(self.stalls, Stalls::Never)
    }

    /// IDR0.STALL_MODEL, as it is read.
    pub const fn stall_model(&self) -> u64 {
        match self.stalls {
            Stalls::Chosen => 0,
            Stalls::Never => 1,
            Stalls::Forced => 2,
        }
    }

    /// Whether faults stall whatever was asked for.
    pub const fn always_stalls(&self) -> bool {
        matches!(self.stalls, Stalls::Forced)
    }

    /// Whether nothing stalls where nobody would answer it.
    ///
    /// # Errors
    /// [`Unsupported::Stalls`].
    pub(crate) const fn can_do_without_stalls(&self) -> Result<(), Unsupported> {
        if Self::LEAVES_STALLS_OUT && self.always_stalls() {
            return Err(Unsupported::Stalls);
        }
        Ok(())
    }

    /// Whether faults stall where that is asked for, or is not.
    pub const fn stalls_if(&self, asked: bool) -> bool {
        match self.stalls {
            Stalls::Never => false,
            Stalls::Chosen => asked,
            Stalls::Forced => true,
        }
    }

    /// How devices keep translations where `asked` is asked for: where they cannot, full ATS counts for nothing.
    ///
    /// # Errors
    /// Why there is no split-stage ATS, if that is asked for: a device that has it expects nothing else, and whoever asks
    /// for it does not trust the device with full ATS.
    pub const fn ats_if(&self, asked: AtsMode) -> Result<AtsMode, NoSplitAts> {
        // Split-stage ATS also needs CR0.ATSCHK, which is set wherever there is ATS.
        match asked {
            AtsMode::Off => Ok(AtsMode::Off),
            AtsMode::Full if self.ats => Ok(AtsMode::Full),
            AtsMode::Always if self.ats => Ok(AtsMode::Always),
            AtsMode::Full | AtsMode::Always => Ok(AtsMode::Off),
            AtsMode::Split if !self.ats => Err(NoSplitAts::NoAts),
            AtsMode::Split if !self.nesting => Err(NoSplitAts::NoNesting),
            AtsMode::Split if self.registers.idr0.ns1ats() => Err(NoSplitAts::Ns1ats),
            AtsMode::Split => Ok(AtsMode::Split),
        }
    }

    /// Whether devices can have ATS on under identity as well ([`AtsMode::Always`]).
    ///
    /// # Errors
    /// What the instance lacks for an entry that skips stage 1 and has ATS (§5.3, §12.1).
    pub const fn ats_always_on(&self) -> Result<(), NoAtsAlwaysOn> {
        if !self.ats {
            return Err(NoAtsAlwaysOn::NoAts);
        }
        if !self.stage_1 {
            return Err(NoAtsAlwaysOn::NoStage1);
        }
        if self.ssid_bits == 0 { Err(NoAtsAlwaysOn::NoSubstreams) } else { Ok(()) }
    }

    /// There is CR0.ATSCHK (§2.4), whether or not the driver lets any device keep translations.
    pub const fn checks_translated(&self) -> bool {
        self.registers.idr0.ats()
    }

    /// There is a queue of page requests, whether or not the driver uses it.
    pub const fn has_page_requests(&self) -> bool {
        self.registers.idr0.pri()
    }

    /// Whether the SMMU may cache translations of guests' stage 1 over stage 2, which take invalidations of their own.
    pub const fn may_hold_guests(&self) -> bool {
        self.nesting
    }

    /// {log2 of control pages, log2 of the queues of each} of enhanced command queues (IDR6, §2.6), at most 15 each; `None`
    /// without.
    pub const fn enhanced_queues_log2(&self) -> Option<(u32, u32)> {
        let idr6 = self.registers.idr6;
        if !self.enhanced_queues {
            return None;
        }
        Some((idr6.log2_num_p() as u32, idr6.log2_num_q() as u32))
    }

    /// Tables of the granule of 2^`shift` bytes can have 52-bit addresses (§15.2).
    pub const fn has_wide_addresses(&self, shift: u32) -> bool {
        if shift == 16 { self.output_bits > 48 } else { self.lpa2 }
    }

    /// Bits of output addresses in tables that have no 52-bit addresses.
    pub const fn narrow_output_bits(&self) -> u32 {
        narrow(self.output_bits)
    }

    /// Bits of input addresses in tables that have no 52-bit addresses.
    pub const fn narrow_input_bits(&self) -> u32 {
        narrow(self.input_bits)
    }

    /// Whether the SMMU can write messages to memory that CPUs see.
    pub const fn has_memory_messages(&self) -> bool {
        self.messages && self.coherent
    }

    /// How it tells of completed commands where `asked` is asked for: what it cannot is polled.
    pub const fn completion(&self, asked: Completion) -> Completion {
        match asked {
            Completion::Event if !self.events => Completion::Poll,
            Completion::Message if !cfg!(feature = "sync-messages") => Completion::Poll,
            Completion::Message if !self.has_memory_messages() => Completion::Poll,
            asked => asked,
        }
    }

    /// log2 of the smallest unit of translations that devices keep (STU, §12.1): the smallest granule.
    pub const fn unit_shift(&self) -> u32 {
        self.granules.trailing_zeros()
    }

    /// The granule of 2^`shift` bytes is supported.
    pub const fn has_granule(&self, shift: u32) -> bool {
        self.granules >> shift & 1 == 1
    }

    /// Bits of a StreamID that commands and tables can name (IDR1.SIDSIZE), however few of them are used.
    pub const fn implemented_sid_bits(&self) -> u32 {
        self.registers.idr1.sidsize() as u32
    }

    /// Bits of the VMID in tags: none without stage 2, whatever is written there (§5.2).
    pub const fn tag_vmid_bits(&self) -> u32 {
        if self.stage_2 { self.vmid_bits } else { 0 }
    }

    /// Software chooses whether faults stall, and an entry can forbid it to contexts (STE.S1STALLD).
    pub const fn stalls_are_chosen(&self) -> bool {
        matches!(self.stalls, Stalls::Chosen)
    }

    /// IDR0.HTTU as read, or as firmware says instead.
    pub const fn httu(&self) -> u64 {
        match (self.access_flag, self.dirty_state, self.table_access_flag) {
            (false, _, _) => 0,
            (true, false, _) => 1,
            (true, true, false) => 2,
            (true, true, true) => 3,
        }
    }

    /// The ID registers as they count: as read, but for what is said of the SMMU that they do not know (HTTU, COHACC).
    pub const fn registers_in_effect(&self) -> IdRegisters {
        let mut registers = self.registers;
        registers.idr0 = registers.idr0.with_httu(self.httu()).with_cohacc(self.coherent);
        registers
    }

    /// The stage translates.
    pub const fn has_stage(&self, stage: Stage) -> bool {
        match stage {
            Stage::One => self.stage_1,
            Stage::Two => self.stage_2,
        }
    }

    /// What [`smmuv3_formats::legality`] checks entries against.
    pub const fn implementation(&self) -> Implementation {
        let IdRegisters { idr0, idr1, idr3, idr5, aidr, .. } = self.registers_in_effect();
        Implementation { idr0, idr1, idr3, idr5, aidr, e2h: self.e2h || self.el2_host }
    }
}

/// Bits of an address where descriptors have no more than 48.
const fn narrow(bits: u32) -> u32 {
    if bits > 48 { 48 } else { bits }
}

mod unsupported;

pub use unsupported::Unsupported;

#[cfg(test)]
mod tests;
