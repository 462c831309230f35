// SPDX-License-Identifier: MIT OR Apache-2.0
//! `arm,smmu-v3-pmcg` nodes.

use smmuv3::NoMemory;

use super::Reader;
use super::tree::At;
use crate::What;
use crate::instance::Region;
use crate::memory::push;
use crate::monitor::{MONITOR_PAGE, Monitor, Watched};

impl<'t, 'a> Reader<'t, 'a> {
    /// Adds `node`, if it is a group of performance monitors.
    pub(super) fn monitor(&mut self, node: At<'t, 'a>) -> Result<(), NoMemory> {
        if !node.is_compatible("arm,smmu-v3-pmcg") {
            return Ok(());
        }
        let Some(page_0) = self.page(node, 0)? else { return Ok(()) };
        let page_1 = self.page(node, 1)?;
        let interrupt = self.interrupt(node)?;
        let msi = self.parent_msi(node)?.first().and_then(|mapping| mapping.map(mapping.first));
        let (name, watches) = (node.path()?, Watched::Unknown);
        let monitor = Monitor { name, page_0, page_1, interrupt, msi, watches };
        push(&mut self.topology.monitors, monitor)
    }

    /// A page of its registers, if there is one.
    fn page(&mut self, node: At<'t, 'a>, index: usize) -> Result<Option<Region>, NoMemory> {
        let Some(region) = self.reg(node, index)? else { return Ok(None) };
        let Region { base, len } = region;
        if !base.is_multiple_of(MONITOR_PAGE) || len < MONITOR_PAGE {
            self.find(node, What::Registers { base, len })?;
            return Ok(None);
        }
        Ok(Some(region))
    }
}
