// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be wrong with the bytes of an IORT.

use core::fmt;

use super::NodeKind;

/// What is wrong with an IORT. Offsets are in bytes from the beginning of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IortError {
    /// Fewer bytes than it says that it has, or than the header of one.
    Short {
        /// How many there are.
        len: usize,
        /// How many there should be.
        needed: usize,
    },
    /// It is another table.
    Signature {
        /// Its signature.
        found: [u8; 4],
    },
    /// It says that it is shorter than its header.
    Length {
        /// What it says.
        len: usize,
    },
    /// Its bytes add up to this, and not to 0.
    Checksum {
        /// The sum.
        sum: u8,
    },
    /// A node that begins before the end of the header, or that has no room for a header of its own.
    NodeOutside {
        /// Its number, from 0.
        index: u32,
        /// Where it would begin.
        offset: usize,
        /// The length of the table.
        len: usize,
    },
    /// A node that says that it is shorter than its header, or longer than what is left.
    NodeLength {
        /// Its number, from 0.
        index: u32,
        /// Where it begins.
        offset: usize,
        /// What it says.
        length: u16,
    },
    /// A node that is too short for what is in such a node.
    Body {
        /// The node.
        offset: u32,
        /// What it is.
        kind: NodeKind,
        /// Its length.
        length: usize,
        /// The least that it should be.
        needed: usize,
    },
    /// Mappings that are not within the node that they belong to.
    Mappings {
        /// The node.
        offset: u32,
        /// Where they begin, from there.
        first: u32,
        /// How many.
        count: u32,
        /// The node's length.
        length: usize,
    },
    /// A list (of ITSs, of memory ranges) that is not within its node.
    List {
        /// The node.
        offset: u32,
        /// Where it begins, from there.
        first: u32,
        /// How many entries it has.
        count: u32,
        /// The node's length.
        length: usize,
    },
    /// The name of a component has no end within 256 bytes, or is not ASCII.
    Name {
        /// The node.
        offset: u32,
    },
    /// An SMMUv3 whose own mapping is not among its mappings, or not for a single ID.
    OwnMapping {
        /// The node.
        offset: u32,
        /// Which mapping it says it is.
        index: u32,
    },
}

impl fmt::Display for IortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { len, needed } => {
                write!(f, "the IORT has {needed} bytes, of which only {len} are there")
            }
            Self::Signature { found } => {
                write!(f, "no IORT: the table is `{}`", found.escape_ascii())
            }
            Self::Length { len } => write!(f, "an IORT of {len} bytes is shorter than its header"),
            Self::Checksum { sum } => {
                write!(f, "the bytes of the IORT add up to {sum:#04x} instead of 0")
            }
            Self::NodeOutside { index, offset, len } => write!(
                f,
                "node {index} of the IORT, at offset {offset:#x}, is not within its {len:#x} bytes"
            ),
            Self::NodeLength { index, offset, length } => write!(
                f,
                "node {index} of the IORT, at offset {offset:#x}, cannot have {length} bytes"
            ),
            Self::Body { offset, kind, length, needed } => write!(
                f,
                "the {kind} at offset {offset:#x} of the IORT has {length} bytes, and needs {needed}"
            ),
            Self::Mappings { offset, first, count, length } => write!(
                f,
                "{count} mappings at {first:#x} of the node at offset {offset:#x} of the IORT do \
                 not fit in its {length:#x} bytes"
            ),
            Self::List { offset, first, count, length } => write!(
                f,
                "a list of {count} at {first:#x} of the node at offset {offset:#x} of the IORT \
                 does not fit in its {length:#x} bytes"
            ),
            Self::Name { offset } => {
                write!(f, "the name of the component at offset {offset:#x} of the IORT is none")
            }
            Self::OwnMapping { offset, index } => write!(
                f,
                "mapping {index} of the SMMU at offset {offset:#x} of the IORT cannot be the one \
                 for its own interrupts"
            ),
        }
    }
}

impl core::error::Error for IortError {}
