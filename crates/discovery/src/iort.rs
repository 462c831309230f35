// SPDX-License-Identifier: MIT OR Apache-2.0
//! The IORT, ACPI's I/O remapping table (Arm DEN 0049): which devices are behind which SMMUs, and what they are called
//! there.
//!
//! A parser that copies nothing and allocates nothing: [`Iort::new`] looks at the header, [`Iort::nodes`] goes from
//! node to node, and [`Node::body`] and [`Node::mappings`] decode one. All of it ends, whatever the bytes are, and
//! nothing panics: what does not fit is an [`IortError`] with offsets, in bytes from the beginning of the table.
//!
//! ```
//! use smmuv3_discovery::iort::{Body, Iort, IortError};
//!
//! fn print(table: &[u8]) -> Result<(), IortError> {
//!     for node in Iort::new(table)?.nodes() {
//!         let node = node?;
//!         if let Body::SmmuV3(smmu) = node.body()? {
//!             println!("an SMMUv3 at {:#x}, coherent: {}", smmu.base, smmu.coherent());
//!         }
//!         for mapping in node.mappings()? {
//!             println!("ids from {:#x} go to the node at {:#x}", mapping.input, mapping.reference);
//!         }
//!     }
//!     Ok(())
//! }
//! # assert!(print(&[]).is_err());
//! ```
//!
//! Tables of all revisions are read: nodes have revisions of their own, which say what is in them.

mod body;
mod error;
mod node;
mod reader;

pub use body::{Body, Flags, ItsGroup, NamedComponent, Pmcg, Range, Rmr, RootComplex, SmmuV3};
pub use error::IortError;
pub use node::{IdMapping, IdMappings, Node, NodeKind, Nodes};

pub(crate) use reader::read;

/// Bytes of the header of any ACPI table.
const ACPI_HEADER: usize = 36;

/// Bytes of the header of an IORT.
const HEADER: usize = ACPI_HEADER + 12;

/// An IORT.
#[derive(Clone, Copy, Debug)]
pub struct Iort<'a> {
    /// All of it, and nothing behind it: at least a header.
    table: &'a [u8],
}

impl<'a> Iort<'a> {
    /// The table at the beginning of `bytes`, which may be longer.
    ///
    /// # Errors
    /// [`IortError`], when it is no IORT, not complete, or its checksum is wrong.
    pub fn new(bytes: &'a [u8]) -> Result<Self, IortError> {
        let iort = Self::unsummed(bytes)?;
        match iort.table.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)) {
            0 => Ok(iort),
            sum => Err(IortError::Checksum { sum }),
        }
    }

    /// As [`Iort::new`], whatever the checksum is: for tables that are not installed yet.
    ///
    /// # Errors
    /// [`IortError`], when it is no IORT or not complete.
    pub fn unsummed(bytes: &'a [u8]) -> Result<Self, IortError> {
        let short = |needed| IortError::Short { len: bytes.len(), needed };
        let signature: [u8; 4] = array(bytes, 0).ok_or(short(HEADER))?;
        if signature != *b"IORT" {
            return Err(IortError::Signature { found: signature });
        }
        let len = u32_at(bytes, 4).ok_or(short(HEADER))? as usize;
        if len < HEADER {
            return Err(IortError::Length { len });
        }
        let table = bytes.get(..len).ok_or(short(len))?;
        Ok(Self { table })
    }

    /// Revision of the table: 0 for DEN 0049 up to D, 3 for E.b, 5 for E.d, 6 for E.e and E.f.
    #[must_use]
    pub fn revision(&self) -> u8 {
        self.table.get(8).copied().unwrap_or(0)
    }

    /// Length in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it has a header at least")]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Who made it: OEM ID, OEM table ID, OEM revision.
    #[must_use]
    pub fn oem(&self) -> ([u8; 6], [u8; 8], u32) {
        let id = array(self.table, 10).unwrap_or_default();
        (id, array(self.table, 16).unwrap_or_default(), u32_at(self.table, 24).unwrap_or(0))
    }

    /// How many nodes it says that it has.
    #[must_use]
    pub fn count(&self) -> u32 {
        u32_at(self.table, ACPI_HEADER).unwrap_or(0)
    }

    /// Its nodes, in order. After an error there is no other.
    #[must_use]
    pub fn nodes(&self) -> Nodes<'a> {
        let first = u32_at(self.table, ACPI_HEADER + 4).unwrap_or(0);
        Nodes::new(self.table, self.count(), first)
    }

    /// The node that begins at `offset`, as mappings refer to it. Goes through all nodes.
    #[must_use]
    pub fn node_at(&self, offset: u32) -> Option<Node<'a>> {
        self.nodes().map_while(Result::ok).find(|node| node.offset() == offset)
    }
}

fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    array(bytes, offset).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    array(bytes, offset).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    array(bytes, offset).map(u64::from_le_bytes)
}
