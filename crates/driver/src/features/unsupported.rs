// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why the driver cannot use an SMMU.

use core::fmt;

use smmuv3_formats::PhysAddr;

use crate::overrides::OverrideError;

/// Why an SMMU cannot be driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsupported {
    /// Neither stage is implemented (IDR0.S1P and S2P are 0).
    NoStage {
        /// IDR0.
        idr0: u32,
    },
    /// No AArch64 tables (IDR0.TTF).
    TableFormat {
        /// IDR0.TTF.
        ttf: u64,
    },
    /// Only big-endian tables, or a reserved code (IDR0.TTENDIAN).
    Endianness {
        /// IDR0.TTENDIAN.
        ttendian: u64,
    },
    /// Tables or queues are fixed in place (IDR1.TABLES_PRESET, QUEUES_PRESET).
    Preset {
        /// IDR1.
        idr1: u32,
    },
    /// No granule at all (IDR5).
    NoGranule {
        /// IDR5.
        idr5: u32,
    },
    /// A reserved output size (IDR5.OAS).
    OutputSize {
        /// IDR5.OAS.
        oas: u64,
    },
    /// A queue or identifier size beyond what the architecture allows.
    Size {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
        /// The largest legal value.
        largest: u64,
    },
    /// Two fields contradict each other.
    Contradiction {
        /// What the architecture requires.
        rule: &'static str,
    },
    /// The command queue cannot hold a command and its CMD_SYNC (IDR1.CMDQS).
    CommandQueue {
        /// IDR1.CMDQS.
        cmdqs: u64,
    },
    /// An interrupt is to be a message, and it cannot send any (IDR0.MSI = 0).
    NoMessages {
        /// IDR0.
        idr0: u32,
    },
    /// An interrupt is to be a message that it cannot send there: not a multiple of 4, beyond what it can output, or
    /// memory although it is not coherent.
    Message {
        /// Where to.
        address: PhysAddr,
    },
    /// What [`InstanceConfig::while_off`](crate::InstanceConfig::while_off) asks for cannot be had.
    WhileOff(OverrideError),
    /// [`InstanceConfig::asid_bits`](crate::InstanceConfig::asid_bits) is not 6 to 16.
    AsidBits {
        /// What it is.
        asked: u32,
    },
    /// Its registers reach no further than that ([`Mmio::bytes`](crate::Mmio::bytes)): page 1 has those of the event queue and of the
    /// queue of page requests, of which nothing would be heard. Where an SMMU has none, firmware says so
    /// ([`Firmware::page_0_only`](crate::Firmware::page_0_only)).
    Pages {
        /// Bytes.
        bytes: u64,
    },
    /// Its faults always stall (IDR0.STALL_MODEL = 2), and the feature `stalls` was left out of the driver.
    Stalls,
    /// An architecture version with another major number.
    Version {
        /// AIDR.
        aidr: u32,
    },
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStage { idr0 } => write!(f, "no stage translates (IDR0 {idr0:#x})"),
            Self::TableFormat { ttf } => write!(f, "no AArch64 tables (IDR0.TTF {ttf})"),
            Self::Endianness { ttendian } => {
                write!(f, "no little-endian tables (IDR0.TTENDIAN {ttendian})")
            }
            Self::Preset { idr1 } => write!(f, "tables or queues are preset (IDR1 {idr1:#x})"),
            Self::NoGranule { idr5 } => write!(f, "no translation granule (IDR5 {idr5:#x})"),
            Self::OutputSize { oas } => write!(f, "reserved output size (IDR5.OAS {oas})"),
            Self::Size { field, value, largest } => {
                write!(f, "{field} is {value}; the architecture allows {largest}")
            }
            Self::Contradiction { rule } => write!(f, "contradicting ID registers: {rule}"),
            Self::CommandQueue { cmdqs } => {
                write!(f, "the command queue holds one command only (IDR1.CMDQS {cmdqs})")
            }
            Self::NoMessages { idr0 } => {
                write!(f, "interrupts cannot be messages (IDR0 {idr0:#x})")
            }
            Self::Message { address } => write!(f, "an interrupt's message cannot go to {address}"),
            Self::WhileOff(error) => write!(f, "while it is off: {error}"),
            Self::AsidBits { asked } => write!(f, "ASIDs of {asked} bits: 6 to 16 can be had"),
            Self::Pages { bytes } => write!(f, "registers of {bytes:#x} bytes, without page 1"),
            Self::Stalls => {
                f.write_str("its faults always stall, and the driver was built without `stalls`")
            }
            Self::Version { aidr } => write!(f, "unknown architecture version (AIDR {aidr:#x})"),
        }
    }
}

impl core::error::Error for Unsupported {}
