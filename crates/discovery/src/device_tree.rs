// SPDX-License-Identifier: MIT OR Apache-2.0
//! SMMUs and their devices in a flattened device tree.
//!
//! The blob is checked here, and then read with `dtoolkit`, whose iterators panic on what is not a device tree. Its own
//! check is not used: it refuses names of more than 31 characters, which the trees of real SMMUv3 machines have, and
//! allows nodes of any depth, over which its iterators take quadratic time.

mod address;
mod blob;
mod interrupt;
mod master;
mod monitor;
mod msi;
mod pci;
mod reserved;
mod smmu;
mod tree;

pub use blob::{BlobError, total_size};

use alloc::vec::Vec;

use smmuv3::NoMemory;

use crate::device::InstanceIndex;
use crate::topology::{ReadError, Topology};
use tree::{At, Tree};

/// Fills `topology` from the device tree at the beginning of `blob`.
pub(crate) fn read(topology: &mut Topology, blob: &[u8]) -> Result<(), ReadError> {
    let tree = Tree::new(blob::check(blob)?)?;
    for phandle in tree.repeated_phandles() {
        topology.find(phandle.1, crate::What::PhandleTwice { phandle: phandle.0 })?;
    }
    let mut reader = Reader {
        tree: &tree,
        topology,
        smmus: Vec::new(),
        masters: Vec::new(),
        hosts: Vec::new(),
        doorbells: Vec::new(),
        segments: Vec::new(),
        segment: 0,
        steps: address::MOST_STEPS,
        bus: None,
    };
    reader.segments()?;
    reader.doorbells()?;
    for node in tree.nodes().filter(At::enabled) {
        reader.smmu(node)?;
    }
    for node in tree.nodes().filter(At::enabled) {
        if pci::is_host(node) {
            reader.host(node)?;
        } else {
            reader.master(node)?;
        }
        reader.monitor(node)?;
    }
    reader.reserved()?;
    Ok(())
}

/// The tree, and what was found of it so far.
struct Reader<'t, 'a> {
    tree: &'t Tree<'a>,
    topology: &'t mut Topology,
    /// Index of the node of each instance, in order, as for those below.
    smmus: Vec<usize>,
    /// Of each device.
    masters: Vec<usize>,
    /// Of each root.
    hosts: Vec<usize>,
    /// Of each doorbell.
    doorbells: Vec<usize>,
    /// Segments that host bridges say they have, in order.
    segments: Vec<u32>,
    /// Where to look for the next segment that nobody has.
    segment: u32,
    /// How many entries of `ranges` may still be looked at.
    steps: usize,
    /// The bus whose `dma-ranges` were looked at last.
    bus: Option<usize>,
}

impl<'t, 'a> Reader<'t, 'a> {
    /// The instance that `node` is.
    fn instance_of(&self, node: At<'t, 'a>) -> Option<InstanceIndex> {
        // In order of the tree.
        self.smmus.binary_search(&node.index()).ok().map(InstanceIndex)
    }

    /// Notes something odd about `node`.
    fn find(&mut self, node: At<'t, 'a>, what: crate::What) -> Result<(), NoMemory> {
        self.topology.find(node, what)
    }

    /// The value of `property`, a list of `unit` bytes each.
    fn list(
        &mut self,
        node: At<'t, 'a>,
        property: &'static str,
        unit: usize,
    ) -> Result<Option<core::slice::ChunksExact<'a, u8>>, NoMemory> {
        let Some(value) = node.property(property) else { return Ok(None) };
        if unit == 0 || !value.len().is_multiple_of(unit) {
            self.find(node, crate::What::Length { property, len: value.len(), unit })?;
        }
        Ok((unit != 0).then(|| value.chunks_exact(unit)))
    }
}
