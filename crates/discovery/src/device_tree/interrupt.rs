// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interrupt lines of a GIC.

use smmuv3::NoMemory;

use super::Reader;
use super::tree::{At, cells};
use crate::What;
use crate::instance::{Interrupts, Line, Trigger};

/// GICs whose interrupt specifiers are {kind, number, flags, ..}.
const GICS: [&str; 7] = [
    "arm,gic-v3",
    "arm,gic-400",
    "arm,cortex-a15-gic",
    "arm,cortex-a7-gic",
    "arm,cortex-a9-gic",
    "arm,cortex-a5-gic",
    "qcom,msm-qgic2",
];

/// The line that a specifier means.
fn line(controller: At<'_, '_>, specifier: &[u8]) -> Option<Line> {
    if !GICS.iter().any(|gic| controller.is_compatible(gic)) {
        return None;
    }
    let [kind, number, flags] = cells(specifier);
    let (first, count) = match kind {
        // SPIs, PPIs, and the extended ones of both.
        0 => (32, 988),
        1 => (16, 16),
        2 => (4096, 1024),
        3 => (1056, 64),
        _ => return None,
    };
    let trigger = if flags & 0b1100 != 0 { Trigger::Level } else { Trigger::Edge };
    (number < count).then(|| Line { intid: first + number, trigger })
}

impl<'t, 'a> Reader<'t, 'a> {
    /// The interrupts of an SMMU, by name.
    pub(super) fn interrupts(&mut self, node: At<'t, 'a>) -> Result<Interrupts, NoMemory> {
        let mut interrupts = Interrupts::default();
        let property = "interrupt-names";
        if !node.has(property) {
            self.find(node, What::Missing { property })?;
            return Ok(interrupts);
        }
        for (index, name) in node.strings(property).enumerate() {
            let field = match name {
                "eventq" => &mut interrupts.event,
                "priq" => &mut interrupts.pri,
                "cmdq-sync" => &mut interrupts.sync,
                "gerror" => &mut interrupts.gerror,
                "combined" => {
                    if let Some(line) = self.nth(node, index) {
                        return Ok(Interrupts::combined(line));
                    }
                    self.find(node, What::Interrupt { index })?;
                    continue;
                }
                _ => continue,
            };
            *field = self.nth(node, index);
            if field.is_none() {
                self.find(node, What::Interrupt { index })?;
            }
        }
        Ok(interrupts)
    }

    /// Interrupt number `index` of a node.
    fn nth(&self, node: At<'t, 'a>, index: usize) -> Option<Line> {
        if let Some(mut list) = node.property("interrupts-extended") {
            let mut left = index;
            loop {
                let (phandle, rest) = list.split_at_checked(4)?;
                let [phandle] = cells(phandle);
                let controller = self.tree.by_phandle(phandle)?;
                let len = (controller.cell("#interrupt-cells")? as usize).checked_mul(4)?;
                let (specifier, rest) = rest.split_at_checked(len)?;
                if left == 0 {
                    return line(controller, specifier);
                }
                (left, list) = (left - 1, rest);
            }
        }
        let [phandle] = cells(node.inherited("interrupt-parent")?);
        let controller = self.tree.by_phandle(phandle)?;
        let len = (controller.cell("#interrupt-cells")? as usize).checked_mul(4)?;
        let list = node.property("interrupts")?;
        if len == 0 {
            return None;
        }
        line(controller, list.chunks_exact(len).nth(index)?)
    }
}
