// SPDX-License-Identifier: MIT OR Apache-2.0
//! `arm,smmu-v3` nodes.

use smmuv3::{MOST_INSTANCES, NoMemory};

use super::Reader;
use super::tree::At;
use crate::What;
use crate::instance::{Instance, Model};
use crate::memory::push;

impl<'t, 'a> Reader<'t, 'a> {
    /// Adds `node`, if it is an SMMUv3.
    pub(super) fn smmu(&mut self, node: At<'t, 'a>) -> Result<(), NoMemory> {
        if !node.is_compatible("arm,smmu-v3") {
            return Ok(());
        }
        if self.topology.instances.len() == MOST_INSTANCES {
            return self.find(node, What::TooManySmmus { limit: MOST_INSTANCES });
        }
        let Some(registers) = self.reg(node, 0)? else { return Ok(()) };
        let model = if node.has("cavium,cn9900-broken-page1-regspace") {
            Model::Cn99xx
        } else if node.has("hisilicon,broken-prefetch-cmd") {
            Model::Hi161x
        } else if node.is_compatible("nvidia,tegra264-smmu") {
            Model::Tegra264
        } else {
            Model::Generic
        };
        let instance = Instance {
            name: node.path()?,
            registers,
            coherent: is_coherent(node),
            httu: None,
            interrupts: self.interrupts(node)?,
            model,
            vatos: None,
            proximity: None,
            msi: self.parent_msi(node)?.first().and_then(|mapping| mapping.map(mapping.first)),
        };
        push(&mut self.smmus, node.index())?;
        push(&mut self.topology.instances, instance)
    }
}

/// Whether a device snoops the CPUs' caches: it, or a bus above it, says so.
pub(super) fn is_coherent(node: At<'_, '_>) -> bool {
    let mut at = Some(node);
    while let Some(node) = at {
        if node.has("dma-noncoherent") {
            return false;
        }
        if node.has("dma-coherent") {
            return true;
        }
        at = node.parent();
    }
    false
}
