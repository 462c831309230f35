// SPDX-License-Identifier: MIT OR Apache-2.0
//! Nodes, and the mappings that each of them may have.

use core::fmt;

use super::body::{self, Body};
use super::{HEADER, IortError, u16_at, u32_at};

/// Bytes of a node's header.
const NODE_HEADER: usize = 16;

/// Bytes of a mapping.
const MAPPING: usize = 20;

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeKind {
    /// A group of ITSs.
    ItsGroup,
    /// A device in the ACPI name space.
    NamedComponent,
    /// A PCI root complex.
    RootComplex,
    /// An SMMUv1 or v2.
    SmmuV1V2,
    /// An SMMUv3.
    SmmuV3,
    /// Performance counters of an SMMUv3 or another node.
    Pmcg,
    /// Reserved memory ranges.
    Rmr,
    /// Another type.
    Other(u8),
}

impl NodeKind {
    const fn of(number: u8) -> Self {
        match number {
            0 => Self::ItsGroup,
            1 => Self::NamedComponent,
            2 => Self::RootComplex,
            3 => Self::SmmuV1V2,
            4 => Self::SmmuV3,
            5 => Self::Pmcg,
            6 => Self::Rmr,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for NodeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ItsGroup => "ITS group",
            Self::NamedComponent => "named component",
            Self::RootComplex => "root complex",
            Self::SmmuV1V2 => "SMMUv1/v2",
            Self::SmmuV3 => "SMMUv3",
            Self::Pmcg => "PMCG",
            Self::Rmr => "RMR",
            Self::Other(number) => return write!(f, "node of type {number}"),
        })
    }
}

/// A node of an [`Iort`](super::Iort).
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    offset: u32,
    /// All of it, at least a header.
    bytes: &'a [u8],
}

impl<'a> Node<'a> {
    /// Where it begins, which is how mappings refer to it.
    #[must_use]
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> NodeKind {
        NodeKind::of(self.bytes.first().copied().unwrap_or(u8::MAX))
    }

    /// Revision of such nodes.
    #[must_use]
    pub fn revision(&self) -> u8 {
        self.bytes.get(3).copied().unwrap_or(0)
    }

    /// What makes it different from others, from table revision 1 on; 0 before.
    #[must_use]
    pub fn identifier(&self) -> u32 {
        u32_at(self.bytes, 4).unwrap_or(0)
    }

    /// What is in it.
    ///
    /// # Errors
    /// [`IortError::Body`], [`IortError::List`] or [`IortError::Name`].
    pub fn body(&self) -> Result<Body<'a>, IortError> {
        body::decode(self)
    }

    /// Its mappings.
    ///
    /// # Errors
    /// [`IortError::Mappings`], when they are not within the node.
    pub fn mappings(&self) -> Result<IdMappings<'a>, IortError> {
        let field = |at| u32_at(self.bytes, at).unwrap_or(0);
        let (count, first) = (field(8), field(12));
        if count == 0 {
            return Ok(IdMappings::none());
        }
        let list = if (first as usize) < NODE_HEADER {
            None
        } else {
            (count as usize).checked_mul(MAPPING).and_then(|len| part(self.bytes, first, len))
        };
        let (offset, length) = (self.offset, self.bytes.len());
        let left = list.ok_or(IortError::Mappings { offset, first, count, length })?;
        Ok(IdMappings { left })
    }
}

/// `len` bytes from `first`.
pub(super) fn part(bytes: &[u8], first: u32, len: usize) -> Option<&[u8]> {
    let first = first as usize;
    bytes.get(first..first.checked_add(len)?)
}

/// `root complex at offset 0x1c`.
impl fmt::Display for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset {:#x}", self.kind(), self.offset)
    }
}

/// Goes from node to node.
#[derive(Clone, Debug)]
pub struct Nodes<'a> {
    table: &'a [u8],
    index: u32,
    count: u32,
    offset: usize,
}

impl<'a> Nodes<'a> {
    pub(super) fn new(table: &'a [u8], count: u32, first: u32) -> Self {
        Self { table, index: 0, count, offset: first as usize }
    }

    fn step(&mut self) -> Result<Node<'a>, IortError> {
        let (index, offset, len) = (self.index, self.offset, self.table.len());
        let outside = IortError::NodeOutside { index, offset, len };
        let rest = self.table.get(offset..).filter(|rest| rest.len() >= NODE_HEADER);
        let rest = rest.filter(|_| offset >= HEADER).ok_or(outside)?;
        let length = u16_at(rest, 1).unwrap_or(0);
        let bytes = rest.get(..usize::from(length)).filter(|bytes| bytes.len() >= NODE_HEADER);
        let bytes = bytes.ok_or(IortError::NodeLength { index, offset, length })?;
        // Within the table, whose length is 32 bits wide.
        let node = Node { offset: offset as u32, bytes };
        self.index += 1;
        self.offset += bytes.len();
        Ok(node)
    }
}

impl<'a> Iterator for Nodes<'a> {
    type Item = Result<Node<'a>, IortError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.count {
            return None;
        }
        let node = self.step();
        if node.is_err() {
            self.count = 0;
        }
        Some(node)
    }
}

impl core::iter::FusedIterator for Nodes<'_> {}

/// What becomes of a range of IDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdMapping {
    /// The first ID. Means nothing for a single one.
    pub input: u32,
    /// How many IDs, less one: as it is in the table.
    pub count: u32,
    /// What the first ID becomes.
    pub output: u32,
    /// Offset of the node that it goes to.
    pub reference: u32,
    /// Bit 0: [`IdMapping::single`].
    pub flags: u32,
}

impl IdMapping {
    /// Whether it is for a node that issues one ID, whatever it be.
    #[must_use]
    pub const fn single(&self) -> bool {
        self.flags & 1 != 0
    }
}

/// Goes through the mappings of a node.
#[derive(Clone, Debug)]
pub struct IdMappings<'a> {
    /// Whole mappings.
    left: &'a [u8],
}

impl IdMappings<'_> {
    /// None at all.
    pub(super) const fn none() -> Self {
        Self { left: &[] }
    }
}

impl Iterator for IdMappings<'_> {
    type Item = IdMapping;

    fn next(&mut self) -> Option<IdMapping> {
        let (mapping, left) = self.left.split_at_checked(MAPPING)?;
        self.left = left;
        Some(IdMapping {
            input: u32_at(mapping, 0)?,
            count: u32_at(mapping, 4)?,
            output: u32_at(mapping, 8)?,
            reference: u32_at(mapping, 12)?,
            flags: u32_at(mapping, 16)?,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.left.len() / MAPPING;
        (left, Some(left))
    }
}

impl ExactSizeIterator for IdMappings<'_> {}
impl core::iter::FusedIterator for IdMappings<'_> {}
