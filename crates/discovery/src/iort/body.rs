// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is in a node, by its type.

use super::node::{Node, NodeKind, part};
use super::{IortError, array, u32_at, u64_at};

/// What is in a node.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Body<'a> {
    /// A group of ITSs.
    ItsGroup(ItsGroup<'a>),
    /// A device in the ACPI name space.
    NamedComponent(NamedComponent<'a>),
    /// A PCI root complex.
    RootComplex(RootComplex),
    /// An SMMUv3.
    SmmuV3(SmmuV3),
    /// Performance counters.
    Pmcg(Pmcg),
    /// Reserved memory ranges.
    Rmr(Rmr<'a>),
    /// Something else, which is not decoded: what follows the header.
    Raw(&'a [u8]),
}

/// Flags and other words as they are in the table.
pub type Flags = u32;

/// ITSs that messages of a device can go to.
#[derive(Clone, Copy, Debug)]
pub struct ItsGroup<'a> {
    list: &'a [u8],
}

impl<'a> ItsGroup<'a> {
    /// Their numbers in the MADT.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = u32> + use<'a> {
        self.list.chunks_exact(4).map(|id| u32_at(id, 0).unwrap_or(0))
    }
}

/// A device in the ACPI name space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedComponent<'a> {
    /// Bit 0: its transactions may be stalled. Bits 5:1: bits of its PASIDs.
    pub flags: Flags,
    /// How it accesses memory: bits 31:0 are 1 where it is coherent with the CPUs' caches.
    pub memory: u64,
    /// Bits of the addresses that it issues.
    pub address_bits: u8,
    /// Its full name, such as `\_SB.DMA0`.
    pub name: &'a str,
}

impl NamedComponent<'_> {
    /// Whether its transactions may be stalled.
    #[must_use]
    pub const fn can_stall(&self) -> bool {
        self.flags & 1 != 0
    }

    /// Bits of its PASIDs, as firmware says them: 0 for none, and more than 20 are not PASIDs.
    #[must_use]
    pub const fn pasid_bits(&self) -> u8 {
        // Five bits.
        (self.flags >> 1 & 0x1f) as u8
    }

    /// Whether it is coherent with the CPUs' caches.
    #[must_use]
    pub const fn coherent(&self) -> bool {
        self.memory as u32 == 1
    }
}

/// A PCI root complex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootComplex {
    /// As [`NamedComponent::memory`].
    pub memory: u64,
    /// Bit 0: ATS. Bit 1: PRI. Bit 2: forwards PASIDs on translated transactions.
    pub ats: Flags,
    /// PCI segment.
    pub segment: u32,
    /// Bits of the addresses that it issues (revision 1 and up).
    pub address_bits: Option<u8>,
    /// Bits of its PASIDs, at most (revision 4 and up).
    pub pasid_bits: Option<u8>,
    /// Bit 0: PASIDs are supported (revision 4 and up, where the node has it).
    pub flags: Option<Flags>,
}

impl RootComplex {
    /// Whether it is coherent with the CPUs' caches.
    #[must_use]
    pub const fn coherent(&self) -> bool {
        self.memory as u32 == 1
    }
}

/// An SMMUv3. Interrupts are GSIVs, which are INTIDs of the GIC; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmmuV3 {
    /// First register.
    pub base: u64,
    /// Bit 0: coherent, whatever IDR0.COHACC says. Bits 2:1: in place of IDR0.HTTU. Bit 3: [`SmmuV3::proximity`]
    /// counts. Bit 4: [`SmmuV3::own_mapping`] does (revision 5 and up).
    pub flags: Flags,
    /// VATOS page, or 0.
    pub vatos: u64,
    /// 0 generic, 1 HiSilicon Hi161x, 2 Cavium CN99xx.
    pub model: u32,
    /// Event queue.
    pub event: u32,
    /// PRI queue.
    pub pri: u32,
    /// Global errors.
    pub gerror: u32,
    /// CMD_SYNC.
    pub sync: u32,
    /// NUMA proximity domain, where it counts.
    pub proximity: Option<u32>,
    /// Which of its mappings is that of its own interrupts, if they are messages.
    pub own_mapping: Option<u32>,
}

impl SmmuV3 {
    /// Whether it is coherent with the CPUs' caches.
    #[must_use]
    pub const fn coherent(&self) -> bool {
        self.flags & 1 != 0
    }

    /// In place of IDR0.HTTU: 0 none, 1 access flag, 2 dirty state, too.
    #[must_use]
    pub const fn httu(&self) -> u8 {
        // Two bits.
        (self.flags >> 1 & 3) as u8
    }
}

/// A group of performance counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pmcg {
    /// Its first page.
    pub page0: u64,
    /// Its second page (revision 1 and up).
    pub page1: Option<u64>,
    /// Overflow interrupt, as a GSIV; 0 is none.
    pub overflow: u32,
    /// Offset of the node that it belongs to.
    pub reference: u32,
}

/// Memory that devices are using already, and that is to stay where it is for them. Which devices, its mappings say.
#[derive(Clone, Copy, Debug)]
pub struct Rmr<'a> {
    /// Bit 0: it may be moved. Bit 1: accesses are privileged. Bits 9:2: [`Rmr::attributes`]. The latter two from
    /// revision 3 on.
    pub flags: Flags,
    list: &'a [u8],
}

/// A range of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub base: u64,
    /// Bytes.
    pub len: u64,
}

/// Bytes of a range in the table.
const RANGE: usize = 20;

impl<'a> Rmr<'a> {
    /// The memory.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = Range> + use<'a> {
        self.list.chunks_exact(RANGE).map(|range| {
            let field = |at| u64_at(range, at).unwrap_or(0);
            Range { base: field(0), len: field(8) }
        })
    }

    /// How it is accessed: 0 to 3 Device-nGnRnE, -nGnRE, -nGRE, -GRE; 4 Normal not cacheable; 5 Normal write-back.
    #[must_use]
    pub const fn attributes(&self) -> u8 {
        // Eight bits.
        (self.flags >> 2 & 0xff) as u8
    }

    /// Whether the operating system may move it.
    #[must_use]
    pub const fn may_move(&self) -> bool {
        self.flags & 1 != 0
    }

    /// Whether accesses are privileged.
    #[must_use]
    pub const fn privileged(&self) -> bool {
        self.flags >> 1 & 1 != 0
    }
}

/// Reads fields of a node that is long enough for them.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u8(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    fn u16(&self, at: usize) -> u16 {
        array(self.0, at).map_or(0, u16::from_le_bytes)
    }

    fn u32(&self, at: usize) -> u32 {
        u32_at(self.0, at).unwrap_or(0)
    }

    fn u64(&self, at: usize) -> u64 {
        u64_at(self.0, at).unwrap_or(0)
    }
}

pub(super) fn decode<'a>(node: &Node<'a>) -> Result<Body<'a>, IortError> {
    let (bytes, revision, offset) = (node.bytes(), node.revision(), node.offset());
    let field = Fields(bytes);
    let needed = match node.kind() {
        NodeKind::ItsGroup => 20,
        NodeKind::NamedComponent => 30,
        NodeKind::RootComplex if revision == 0 => 32,
        NodeKind::RootComplex if revision < 4 => 33,
        NodeKind::RootComplex => 36,
        NodeKind::SmmuV3 if revision == 0 => 60,
        NodeKind::SmmuV3 => 68,
        NodeKind::Pmcg if revision == 0 => 32,
        NodeKind::Pmcg => 40,
        NodeKind::Rmr => 28,
        NodeKind::SmmuV1V2 | NodeKind::Other(_) => 16,
    };
    if bytes.len() < needed {
        let (kind, length) = (node.kind(), bytes.len());
        return Err(IortError::Body { offset, kind, length, needed });
    }
    let list = |first: u32, count: u32, size: usize| {
        let len = (count as usize).checked_mul(size);
        let list = len.and_then(|len| part(bytes, first, len));
        list.ok_or(IortError::List { offset, first, count, length: bytes.len() })
    };
    Ok(match node.kind() {
        NodeKind::ItsGroup => Body::ItsGroup(ItsGroup { list: list(20, field.u32(16), 4)? }),
        NodeKind::NamedComponent => Body::NamedComponent(NamedComponent {
            flags: field.u32(16),
            memory: field.u64(20),
            address_bits: field.u8(28),
            name: name(bytes).ok_or(IortError::Name { offset })?,
        }),
        NodeKind::RootComplex => Body::RootComplex(RootComplex {
            memory: field.u64(16),
            ats: field.u32(24),
            segment: field.u32(28),
            address_bits: (revision >= 1).then(|| field.u8(32)),
            pasid_bits: (revision >= 4).then(|| (field.u16(33) & 0x1f) as u8),
            flags: (revision >= 4 && bytes.len() >= 40).then(|| field.u32(36)),
        }),
        NodeKind::SmmuV3 => Body::SmmuV3(smmu(&field, revision)),
        NodeKind::Pmcg => Body::Pmcg(Pmcg {
            page0: field.u64(16),
            overflow: field.u32(24),
            reference: field.u32(28),
            page1: (revision >= 1).then(|| field.u64(32)),
        }),
        NodeKind::Rmr => {
            let flags = if revision >= 3 { field.u32(16) } else { field.u32(16) & 1 };
            Body::Rmr(Rmr { flags, list: list(field.u32(24), field.u32(20), RANGE)? })
        }
        NodeKind::SmmuV1V2 | NodeKind::Other(_) => Body::Raw(bytes.get(16..).unwrap_or_default()),
    })
}

fn smmu(field: &Fields<'_>, revision: u8) -> SmmuV3 {
    let flags = field.u32(24);
    let [event, pri, gerror, sync] = [44, 48, 52, 56].map(|at| field.u32(at));
    // Before revision 5 there was no flag: the mapping counts unless all interrupts are lines.
    let own = match revision {
        0 => false,
        1..5 => [event, pri, gerror, sync].contains(&0),
        5.. => flags >> 4 & 1 != 0,
    };
    SmmuV3 {
        base: field.u64(16),
        flags,
        vatos: field.u64(32),
        model: field.u32(40),
        event,
        pri,
        gerror,
        sync,
        proximity: (revision >= 1 && flags >> 3 & 1 != 0).then(|| field.u32(60)),
        own_mapping: own.then(|| field.u32(64)),
    }
}

/// Bytes of a name with its end: topologies have copies of it.
const LONGEST_NAME: usize = 256;

/// The name of a component.
fn name(bytes: &[u8]) -> Option<&str> {
    let name = bytes.get(29..)?;
    let name = name.get(..LONGEST_NAME).unwrap_or(name);
    let name = name.get(..name.iter().position(|byte| *byte == 0)?)?;
    core::str::from_utf8(name).ok().filter(|name| name.is_ascii() && !name.is_empty())
}
