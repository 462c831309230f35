// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a space refused something, with the values that made it.

use core::error::Error;
use core::fmt;

use smmuv3::{CreateError, Iova, NoMemory, Refused, Unconfirmed, pagetable};

/// Why something is no buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferError {
    /// It has no bytes.
    Empty,
    /// It does not end within the CPU's addresses.
    Wraps {
        /// Where it begins.
        address: usize,
        /// Its bytes.
        len: usize,
    },
}

impl fmt::Display for BufferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("an empty buffer"),
            Self::Wraps { address, len } => {
                write!(f, "{len:#x} bytes at {address:#x} do not end within the address space")
            }
        }
    }
}

impl Error for BufferError {}

/// Why a space could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NewError {
    /// No heap memory.
    NoMemory,
    /// No domain could be made.
    Domain(CreateError),
    /// The window is not a power of two from 2^16 to 2^32 bytes, at a multiple of its size, below the limit.
    Window {
        /// Its first address.
        start: Iova,
        /// log2 of its bytes.
        bits: u32,
        /// log2 of the limit.
        limit_bits: u32,
    },
    /// The window ends beyond what the domain translates.
    BeyondInput {
        /// Bits of an input address of the domain.
        input_bits: u32,
    },
    /// The domain has pages of 16 or 64 KiB ([`DomainConfig::granule`](smmuv3::DomainConfig::granule), or no instance has those of
    /// 4 KiB): buffers are mapped by 4 KiB.
    Granule,
    /// Whole pages cannot be lent to devices that are not coherent: the neighbours' cache lines would be lost.
    WholePages,
    /// More bytes are to be copied than a mapping can copy.
    CopyUpTo {
        /// What was asked for.
        bytes: usize,
        /// The most.
        most: usize,
    },
    /// A flush queue has to hold this many entries at least, for one mapping.
    Queue {
        /// What was asked for.
        entries: usize,
        /// The least.
        least: usize,
    },
}

impl From<NoMemory> for NewError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

impl fmt::Display for NewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMemory => f.write_str("no memory"),
            Self::Domain(error) => error.fmt(f),
            Self::Window { start, bits, limit_bits } => {
                write!(f, "no window of 2^{bits} bytes at {start} below 2^{limit_bits}")
            }
            Self::BeyondInput { input_bits } => {
                write!(f, "the window ends beyond {input_bits} bits of input")
            }
            Self::Granule => f.write_str("the domain has no pages of 4 KiB"),
            Self::WholePages => f.write_str("whole pages of memory that is not coherent"),
            Self::CopyUpTo { bytes, most } => {
                write!(f, "{bytes} bytes to be copied, {most} at most")
            }
            Self::Queue { entries, least } => {
                write!(f, "a flush queue of {entries} entries, {least} at least")
            }
        }
    }
}

impl Error for NewError {}

/// Why a range was not reserved, or is reserved and not mapped ([`Map`](Self::Map)). Nothing else was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReserveError {
    /// It is empty, or does not begin and end with a page.
    Range {
        /// Its first address.
        start: Iova,
        /// Its end, exclusive.
        end: u64,
    },
    /// A part of it has been given out.
    InUse {
        /// The first page of that.
        iova: Iova,
    },
    /// So many ranges are reserved already.
    TooMany {
        /// How many there can be.
        most: usize,
    },
    /// It could not be mapped to itself; it is reserved.
    Map(smmuv3::MapError),
}

impl fmt::Display for ReserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range { start, end } => write!(f, "{start} to {end:#x} are not whole pages"),
            Self::InUse { iova } => write!(f, "{iova} is in use"),
            Self::TooMany { most } => write!(f, "{most} ranges are reserved already"),
            Self::Map(error) => error.fmt(f),
        }
    }
}

impl Error for ReserveError {}

/// Why a buffer was not mapped. Nothing of it is, and no device reaches it unless that is
/// [`Unconfirmed`](Self::Unconfirmed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MapError {
    /// It is no buffer.
    Buffer(BufferError),
    /// The platform has no physical address for a part of it that begins here.
    NotMemory {
        /// The CPU's address.
        address: usize,
    },
    /// Not so many pages of input addresses are free in a row, though all caches were emptied and a flush was tried.
    NoIova {
        /// Rounded up to a power of two.
        pages: u64,
    },
    /// As many bounce pages as there may be are in use, or there is no memory for another.
    NoBouncePage {
        /// [`DmaConfig::bounce_pages`](crate::DmaConfig::bounce_pages).
        most: usize,
    },
    /// There is no memory of this size.
    NoMemory {
        /// Bytes.
        size: usize,
    },
    /// The domain refused it, most of all for lack of memory for tables.
    Domain(smmuv3::MapError),
    /// A part had been mapped when the rest could not be, and was unmapped again; but an instance may still let a device
    /// reach it. The buffer is not to be used for anything else until a [`DmaSpace::flush`](crate::DmaSpace::flush) has
    /// returned `Ok`, after the instance was reset.
    Unconfirmed(Unconfirmed),
}

impl From<BufferError> for MapError {
    fn from(error: BufferError) -> Self {
        Self::Buffer(error)
    }
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Buffer(error) => error.fmt(f),
            Self::NotMemory { address } => {
                write!(f, "{address:#x} is not memory that devices may be lent")
            }
            Self::NoIova { pages } => write!(f, "no {pages} pages of input addresses are free"),
            Self::NoBouncePage { most } => write!(f, "all of {most} bounce pages are in use"),
            Self::NoMemory { size } => write!(f, "no memory of {size:#x} bytes"),
            Self::Domain(error) => error.fmt(f),
            Self::Unconfirmed(unconfirmed) => {
                write!(f, "not all of it could be mapped; while undoing a part: {unconfirmed}")
            }
        }
    }
}

impl Error for MapError {}

impl<T> From<Refused<T, Self>> for MapError {
    fn from(refused: Refused<T, Self>) -> Self {
        refused.error
    }
}

/// Why an unmap is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnmapError {
    /// It is no buffer. Nothing was changed.
    Buffer(BufferError),
    /// That buffer is not mapped there, or somebody has unmapped a part of it by hand. Nothing was changed, unless its pages are
    /// [lost](crate::Usage::lost_pages) now: then the rest is unmapped, too, devices may reach it until a flush, and what
    /// they wrote to bounce pages is not brought back.
    NotMapped {
        /// Where it was said to be.
        iova: Iova,
    },
    /// It belongs to another space. Nothing was changed.
    OtherSpace,
    /// The range cannot be unmapped. Nothing was changed.
    Table(pagetable::UnmapError),
    /// The buffer is unmapped, and holds what devices had written; but an instance may still let a device reach it,
    /// until a [`DmaSpace::flush`](crate::DmaSpace::flush) has returned `Ok`, after the instance was reset. Where devices are
    /// not coherent, its cache lines are to be invalidated once more then, before it is used.
    Unconfirmed(Unconfirmed),
}

impl From<BufferError> for UnmapError {
    fn from(error: BufferError) -> Self {
        Self::Buffer(error)
    }
}

impl fmt::Display for UnmapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Buffer(error) => error.fmt(f),
            Self::NotMapped { iova } => write!(f, "the buffer is not mapped at {iova}"),
            Self::OtherSpace => f.write_str("it belongs to another space"),
            Self::Table(error) => error.fmt(f),
            Self::Unconfirmed(unconfirmed) => unconfirmed.fmt(f),
        }
    }
}

impl Error for UnmapError {}

impl<T> From<Refused<T, Self>> for UnmapError {
    fn from(refused: Refused<T, Self>) -> Self {
        refused.error
    }
}

/// Why a space was not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseError {
    /// Masters are attached to it, or guests have SMMUs over its domain.
    Attached {
        /// How many masters.
        masters: usize,
        /// How many SMMUs of guests.
        nests: usize,
    },
    /// Buffers are still mapped, or held for lack of a flush; or addresses were lost
    /// ([`Usage::lost_pages`](crate::Usage::lost_pages)), and then for good.
    Mapped {
        /// Pages of input addresses.
        pages: u64,
    },
    /// An instance did not confirm the last flush.
    Unconfirmed(Unconfirmed),
}

impl fmt::Display for CloseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attached { masters, nests: 0 } => write!(f, "{masters} masters are attached"),
            Self::Attached { masters, nests } => {
                write!(f, "{masters} masters are attached, and SMMUs of guests over it: {nests}")
            }
            Self::Mapped { pages } => write!(f, "{pages} pages are in use"),
            Self::Unconfirmed(unconfirmed) => unconfirmed.fmt(f),
        }
    }
}

impl Error for CloseError {}

impl<T> From<Refused<T, Self>> for CloseError {
    fn from(refused: Refused<T, Self>) -> Self {
        refused.error
    }
}
