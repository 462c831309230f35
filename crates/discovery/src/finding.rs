// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is odd about what firmware says.

use alloc::string::String;
use core::fmt;

use crate::device::InstanceIndex;

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something to know.
    Note,
    /// Firmware is wrong, and it was possible to go on.
    Warning,
    /// Devices or SMMUs cannot be used, or not kept apart.
    Error,
}

/// Something odd, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// The node: its path in the device tree, or its type and offset in the IORT.
    pub place: String,
    /// What it is.
    pub what: What,
}

/// What is odd. Ranges include their last number.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// These streams belong to another node, too: neither can be given memory without the other.
    StreamsTwice {
        /// The SMMU.
        instance: InstanceIndex,
        /// The first stream.
        first: u32,
        /// The last stream.
        last: u32,
        /// The other node.
        other: String,
    },
    /// Several of its mappings have these IDs. If it is the last one of a range only, the next range is believed; otherwise
    /// such devices cannot be used.
    MappingsOverlap {
        /// The first ID.
        first: u32,
        /// The last ID.
        last: u32,
    },
    /// A mapping that passes 32 bits, on either side. It is left out.
    IdsTooWide {
        /// The first ID.
        first: u32,
        /// How many.
        count: u64,
        /// What the first becomes.
        output: u32,
    },
    /// None of its IDs leads to an SMMU.
    NoSmmu,
    /// It uses an SMMU, or another IOMMU, that is not driven.
    NotDriven {
        /// That one.
        other: String,
    },
    /// It refers to something that is neither an SMMU nor an ITS.
    NotAnSmmu {
        /// A phandle, or an offset in the IORT.
        reference: u32,
    },
    /// It refers to something that does not exist.
    Nowhere {
        /// A phandle, or an offset in the IORT.
        reference: u32,
    },
    /// The device issues streams to several SMMUs. It cannot be used.
    SeveralSmmus {
        /// One.
        first: InstanceIndex,
        /// Another.
        second: InstanceIndex,
    },
    /// Kept memory that no stream of an SMMU uses.
    KeptByNobody,
    /// A region of kept memory that overlaps another.
    KeptTwice {
        /// Where they begin to overlap.
        base: u64,
        /// The node of the other.
        other: String,
    },
    /// A region of kept memory that is empty or passes 64 bits. It is left out.
    KeptRange {
        /// Its base.
        base: u64,
        /// Its length.
        len: u64,
    },
    /// A region of kept memory that is not made of whole pages (64 KiB in the IORT). Whole 4 KiB pages are kept.
    KeptUnaligned {
        /// Its base.
        base: u64,
        /// Its length.
        len: u64,
    },
    /// Memory that a device is to see at an address other than its own. It is not kept: only its addresses are reserved.
    KeptElsewhere {
        /// Where the device sees it.
        iova: u64,
        /// Where it is.
        address: u64,
    },
    /// A kept range of more streams than anybody uses. It is left out.
    KeptStreams {
        /// The first stream.
        first: u32,
        /// How many.
        count: u64,
    },
    /// Registers that are not two (with [`Model::Cn99xx`](crate::Model::Cn99xx), one) pages of 64 KiB.
    Registers {
        /// Their base.
        base: u64,
        /// Their size.
        len: u64,
    },
    /// Registers that overlap those of another SMMU.
    RegistersTwice {
        /// The other.
        other: String,
    },
    /// A property whose length is wrong. What is left over is ignored.
    Length {
        /// The property.
        property: &'static str,
        /// Its length in bytes.
        len: usize,
        /// What it should be a multiple of.
        unit: usize,
    },
    /// A property with more entries than are looked at. The rest is ignored.
    TooMany {
        /// The property.
        property: &'static str,
        /// How many are looked at.
        limit: usize,
    },
    /// A property that is missing.
    Missing {
        /// The property.
        property: &'static str,
    },
    /// A property with a value that cannot be.
    Value {
        /// The property.
        property: &'static str,
        /// The value, as far as it is a number.
        value: u64,
    },
    /// An address that has no meaning for CPUs: no `ranges` on its way to the root has it.
    Untranslated {
        /// The property.
        property: &'static str,
        /// The address.
        address: u64,
    },
    /// An interrupt that is no line of a GIC, or one this reader does not know how to read. The line is left out.
    Interrupt {
        /// Which, counted from 0.
        index: usize,
    },
    /// No interrupt for events or none for errors: they must be polled.
    NoInterrupt,
    /// Two nodes have this phandle. The first is taken.
    PhandleTwice {
        /// The phandle.
        phandle: u32,
    },
    /// Bits of the first ID of a mapping are masked away: nothing matches it.
    Masked {
        /// The first ID.
        first: u32,
        /// The mask.
        mask: u32,
    },
    /// No segment is given; this one was taken.
    Segment {
        /// The segment.
        segment: u32,
    },
    /// Another node has the same identifier. Nothing uses it.
    IdentifierTwice {
        /// The identifier.
        identifier: u32,
    },
    /// A node of this revision is known to be wrong. It is left out.
    Revision {
        /// The revision.
        revision: u8,
    },
    /// A mapping for a single ID where there must be none. It is left out.
    Single,
    /// The node cannot be read. It is left out.
    Iort(crate::iort::IortError),
    /// There are more SMMUs than can be used. It is left out.
    TooManySmmus {
        /// How many can be.
        limit: usize,
    },
    /// There is more to say than this.
    More,
}

impl What {
    /// How bad it is.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::NoSmmu
            | Self::NotDriven { .. }
            | Self::NoInterrupt
            | Self::Segment { .. }
            | Self::IdentifierTwice { .. }
            | Self::More => Severity::Note,
            // One ID too many is common, and has an answer.
            Self::MappingsOverlap { first, last } if *first != *last => Severity::Error,
            Self::MappingsOverlap { .. }
            | Self::Interrupt { .. }
            | Self::Length { .. }
            | Self::PhandleTwice { .. }
            | Self::Masked { .. }
            | Self::KeptByNobody
            | Self::KeptTwice { .. }
            | Self::KeptUnaligned { .. }
            | Self::Single
            | Self::TooMany { .. }
            | Self::Missing { .. } => Severity::Warning,
            Self::StreamsTwice { .. }
            | Self::IdsTooWide { .. }
            | Self::NotAnSmmu { .. }
            | Self::Nowhere { .. }
            | Self::SeveralSmmus { .. }
            | Self::KeptRange { .. }
            | Self::KeptElsewhere { .. }
            | Self::KeptStreams { .. }
            | Self::Registers { .. }
            | Self::RegistersTwice { .. }
            | Self::Value { .. }
            | Self::Untranslated { .. }
            | Self::Revision { .. }
            | Self::Iort(_)
            | Self::TooManySmmus { .. } => Severity::Error,
        }
    }
}

impl Finding {
    /// How bad it is.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        self.what.severity()
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.severity(), self.place, self.what)
    }
}

/// `streams 0x100 to 0x1ff`, `stream 0x77`: what, the first and the last of them.
struct Span(&'static str, u32, u32);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self(what, first, last) if first == last => write!(f, "{what} {first:#x}"),
            Self(what, first, last) => write!(f, "{what}s {first:#x} to {last:#x}"),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StreamsTwice { instance, first, last, other } => write!(
                f,
                "{} of {instance} {} also {} of {other}: the devices cannot be told apart",
                Span("stream", *first, *last),
                if first == last { "is" } else { "are" },
                if first == last { "one" } else { "those" },
            ),
            Self::MappingsOverlap { first, last } => {
                write!(f, "several mappings have {}", Span("id", *first, *last))
            }
            Self::IdsTooWide { first, count, output } => write!(
                f,
                "a mapping of {count} ids from {first:#x} to {output:#x} passes 32 bits: left out"
            ),
            Self::NoSmmu => {
                f.write_str("none of its ids leads to an SMMU: its DMA is not translated")
            }
            Self::NotDriven { other } => {
                write!(f, "it is behind {other}, which is not driven here: it cannot be attached")
            }
            Self::NotAnSmmu { reference } => {
                write!(f, "it refers to {reference:#x}, which is neither an SMMU nor an ITS")
            }
            Self::Nowhere { reference } => {
                write!(f, "it refers to {reference:#x}, and there is nothing there")
            }
            Self::SeveralSmmus { first, second } => write!(
                f,
                "it issues streams to both {first} and {second}: a master is behind one SMMU"
            ),
            Self::KeptByNobody => {
                f.write_str("memory to be kept, but no stream of an SMMU uses it: ignored")
            }
            Self::KeptTwice { base, other } => {
                write!(f, "memory to be kept at {base:#x} is also in {other}")
            }
            Self::KeptRange { base, len } => {
                write!(f, "{len:#x} bytes at {base:#x} are no memory that can be kept: left out")
            }
            Self::KeptUnaligned { base, len } => write!(
                f,
                "{len:#x} bytes at {base:#x} are not whole pages: the pages around them are kept"
            ),
            Self::KeptElsewhere { iova, address } => write!(
                f,
                "memory at {address:#x} that a device is to see at {iova:#x}: only the latter is \
                 reserved, the device's DMA will be refused"
            ),
            Self::KeptStreams { first, count } => {
                write!(f, "{count} streams from {first:#x} are too many to be kept: left out")
            }
            Self::Registers { base, len } => write!(
                f,
                "registers of {len:#x} bytes at {base:#x}: an SMMUv3 has two pages of 64 KiB, \
                 aligned to 64 KiB"
            ),
            Self::RegistersTwice { other } => write!(f, "its registers are also those of {other}"),
            Self::Length { property, len, unit } => {
                write!(f, "`{property}` has {len} bytes, which is no multiple of {unit}")
            }
            Self::TooMany { property, limit } => {
                write!(f, "`{property}` has more than {limit} entries: the rest is ignored")
            }
            Self::Missing { property } => write!(f, "`{property}` is missing"),
            Self::Value { property, value } => write!(f, "`{property}` cannot be {value:#x}"),
            Self::Untranslated { property, address } => {
                write!(f, "address {address:#x} of `{property}` is no address of the CPUs")
            }
            Self::Interrupt { index } => {
                write!(f, "interrupt number {index} of its list is no line of a GIC: left out")
            }
            Self::NoInterrupt => {
                f.write_str("no interrupt for events and errors: they have to be polled")
            }
            Self::PhandleTwice { phandle } => write!(
                f,
                "phandle {phandle:#x} belongs to an earlier node, too, which is the one that is taken"
            ),
            Self::Masked { first, mask } => {
                write!(f, "a mapping from id {first:#x} matches nothing under the mask {mask:#x}")
            }
            Self::Segment { segment } => {
                write!(f, "no PCI segment is given: taken to be {segment}")
            }
            Self::IdentifierTwice { identifier } => {
                write!(f, "another node has the identifier {identifier} as well")
            }
            Self::Revision { revision } => {
                write!(f, "revision {revision} of such nodes is known to be wrong: left out")
            }
            Self::Single => f.write_str("a mapping of a single id is not allowed here: left out"),
            Self::Iort(error) => write!(f, "{error}: left out"),
            Self::TooManySmmus { limit } => {
                write!(f, "more than the {limit} SMMUs that can be used: left out")
            }
            Self::More => f.write_str("there is more to say, but not here"),
        }
    }
}
