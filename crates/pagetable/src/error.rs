// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a table refused something, with the values that made it.

use core::error::Error;
use core::fmt;

use smmuv3_formats::{Iova, PhysAddr};

use crate::{Memory, Prot};

/// Why a table could not be made. Nothing was allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableError {
    /// Input addresses of that many bits are not supported (32 to 48 are, in a wide table to 52; at stage 2 no wider
    /// than concatenation allows).
    InputBits(u32),
    /// Output addresses of that many bits are not supported (32 to 48 are, in a wide table to 52).
    OutputBits(u32),
    /// With these sizes the first table can't be of that level.
    StartLevel(i8),
    /// Stage 2 has no upper half, nor has StreamWorld EL2.
    UpperHalf,
    /// No memory for the first table.
    NoFrames {
        /// Bytes asked for, and their alignment.
        size: usize,
    },
    /// The allocator gave a frame that the walker can't address.
    FrameBeyondOutput {
        /// The frame; it was freed again.
        frame: PhysAddr,
        /// The table's output size.
        output_bits: u32,
    },
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InputBits(bits) => write!(f, "unsupported input size of {bits} bits"),
            Self::OutputBits(bits) => write!(f, "unsupported output size of {bits} bits"),
            Self::StartLevel(level) => write!(f, "no first table of level {level} has these sizes"),
            Self::UpperHalf => f.write_str("stage 2 and EL2 have no upper half"),
            Self::NoFrames { size } => write!(f, "no memory for a first table of {size} bytes"),
            Self::FrameBeyondOutput { frame, output_bits } => {
                write!(f, "the first table, at {frame}, is beyond {output_bits} bits of output")
            }
        }
    }
}

impl Error for TableError {}

/// Why an input range was refused. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeError {
    /// The range has no bytes.
    Empty,
    /// An end of the range is not a multiple of the granule.
    Unaligned {
        /// Start of the range.
        iova: Iova,
        /// Its bytes.
        len: u64,
        /// The granule, in bytes.
        granule: u64,
    },
    /// The range does not end within the input addresses.
    BeyondInput {
        /// Start of the range.
        iova: Iova,
        /// Its bytes.
        len: u64,
        /// The table's input size.
        input_bits: u32,
    },
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("empty range"),
            Self::Unaligned { iova, len, granule } => {
                write!(f, "{len:#x} bytes at {iova} are not aligned to {granule:#x}")
            }
            Self::BeyondInput { iova, len, input_bits } => {
                write!(f, "{len:#x} bytes at {iova} do not end within {input_bits} bits of input")
            }
        }
    }
}

impl Error for RangeError {}

/// Why a mapping was not made, or not to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapError {
    /// Bytes from the start of the range that are mapped now. The caller unmaps them, with the
    /// invalidation: a device may have used them already.
    pub mapped: u64,
    /// What went wrong behind them.
    pub kind: MapErrorKind,
}

/// What made a mapping fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapErrorKind {
    /// The input range is wrong. Nothing was changed.
    Range(RangeError),
    /// The output address is not a multiple of the granule. Nothing was changed.
    UnalignedOutput {
        /// The output address.
        pa: PhysAddr,
        /// The granule, in bytes.
        granule: u64,
    },
    /// The range does not end within the output addresses. Nothing was changed.
    BeyondOutput {
        /// Start of the output range.
        pa: PhysAddr,
        /// Its bytes.
        len: u64,
        /// The table's output size.
        output_bits: u32,
    },
    /// Neither reads nor writes are permitted, or not in a way that this stage can express. Nothing was
    /// changed.
    NoPermission {
        /// What was asked for.
        prot: Prot,
    },
    /// That type of memory can't be said: no byte of MAIR is it, FWB has or lacks it, or all leaves of the table have
    /// another shareability (§16.3). Nothing was changed.
    NoMemoryType {
        /// What was asked for.
        memory: Memory,
    },
    /// Something is mapped there already.
    Overlap {
        /// First address of the range that is taken.
        at: Iova,
    },
    /// No memory for a table. Tables made before may stay.
    NoFrames {
        /// The address whose walk needs it.
        at: Iova,
    },
    /// The allocator gave a frame that the walker can't address. It was freed again.
    FrameBeyondOutput {
        /// The frame.
        frame: PhysAddr,
        /// The table's output size.
        output_bits: u32,
    },
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if self.mapped != 0 {
            write!(f, " ({:#x} bytes before it are mapped)", self.mapped)?;
        }
        Ok(())
    }
}

impl fmt::Display for MapErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(error) => error.fmt(f),
            Self::UnalignedOutput { pa, granule } => {
                write!(f, "output address {pa} is not aligned to {granule:#x}")
            }
            Self::BeyondOutput { pa, len, output_bits } => {
                write!(f, "{len:#x} bytes at {pa} do not end within {output_bits} bits of output")
            }
            Self::NoPermission { prot } => write!(f, "permissions {prot} can't be given"),
            Self::NoMemoryType { memory } => {
                write!(f, "memory of type {} can't be given", memory.name())
            }
            Self::Overlap { at } => write!(f, "{at} is mapped already"),
            Self::NoFrames { at } => write!(f, "no memory for a table for {at}"),
            Self::FrameBeyondOutput { frame, output_bits } => {
                write!(f, "a table at {frame} is beyond {output_bits} bits of output")
            }
        }
    }
}

impl Error for MapError {}

/// Why an unmap was refused. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnmapError {
    /// The range is wrong.
    Range(RangeError),
    /// A block reaches over an end of the range; blocks are not split. Or a group of contiguous leaves does, at BBML 0
    /// (§8.2).
    Straddle {
        /// Where the block or the group starts.
        block: Iova,
        /// Its bytes.
        size: u64,
    },
}

impl fmt::Display for UnmapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(error) => error.fmt(f),
            Self::Straddle { block, size } => {
                write!(f, "the block of {size:#x} bytes at {block} reaches over the range's end")
            }
        }
    }
}

impl Error for UnmapError {}

impl From<RangeError> for UnmapError {
    fn from(error: RangeError) -> Self {
        Self::Range(error)
    }
}

/// Why the marks of hardware could not be read. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HarvestError {
    /// The range is wrong.
    Range(RangeError),
    /// Hardware does not mark the leaves of this table, or not for that: see [`TableConfig`](crate::TableConfig).
    Untracked,
    /// A block or a group of contiguous leaves reaches over an end of the range. It has one mark, which can't be taken for
    /// a part of it.
    Straddle {
        /// Where the block or the group starts.
        block: Iova,
        /// Its bytes.
        size: u64,
    },
}

impl fmt::Display for HarvestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Range(error) => error.fmt(f),
            Self::Untracked => f.write_str("hardware does not mark the leaves of this table"),
            Self::Straddle { block, size } => UnmapError::Straddle { block, size }.fmt(f),
        }
    }
}

impl Error for HarvestError {}

/// Why blocks were not split, or not all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitError {
    /// The table does not allow it, or hardware does not (BBML 0, §8.2).
    NotAllowed {
        /// Where the block starts that would have to be.
        block: Iova,
        /// Its bytes.
        size: u64,
    },
    /// No memory for a table.
    NoFrames {
        /// The block whose place it would take.
        at: Iova,
    },
    /// The allocator gave a frame that the walker can't address. It was freed again.
    FrameBeyondOutput {
        /// The frame.
        frame: PhysAddr,
        /// The table's output size.
        output_bits: u32,
    },
}

impl fmt::Display for SplitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed { block, size } => {
                write!(f, "the block of {size:#x} bytes at {block} can't be split")
            }
            Self::NoFrames { at } => write!(f, "no memory for a table for {at}"),
            Self::FrameBeyondOutput { frame, output_bits } => {
                write!(f, "a table at {frame} is beyond {output_bits} bits of output")
            }
        }
    }
}

impl Error for SplitError {}
