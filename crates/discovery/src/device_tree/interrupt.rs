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

/// Names that are looked at: an SMMU has four lines.
const MOST_LINES: usize = 16;

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
        let mut lines = self.lines(node);
        for (index, name) in node.strings(property).take(MOST_LINES).enumerate() {
            let line = lines.next().flatten();
            let field = match name {
                "eventq" => &mut interrupts.event,
                "priq" => &mut interrupts.pri,
                "cmdq-sync" => &mut interrupts.sync,
                "gerror" => &mut interrupts.gerror,
                "combined" => {
                    if let Some(line) = line {
                        return Ok(Interrupts::combined(line));
                    }
                    self.find(node, What::Interrupt { index })?;
                    continue;
                }
                _ => continue,
            };
            *field = line;
            if line.is_none() {
                self.find(node, What::Interrupt { index })?;
            }
        }
        Ok(interrupts)
    }

    /// The only interrupt of a node, if it has one.
    pub(super) fn interrupt(&mut self, node: At<'t, 'a>) -> Result<Option<Line>, NoMemory> {
        if !node.has("interrupts") && !node.has("interrupts-extended") {
            return Ok(None);
        }
        let line = self.lines(node).next().flatten();
        if line.is_none() {
            self.find(node, What::Interrupt { index: 0 })?;
        }
        Ok(line)
    }

    /// The interrupts of a node, in order; `None` for what is no line of a GIC.
    fn lines(&self, node: At<'t, 'a>) -> impl Iterator<Item = Option<Line>> + use<'t, 'a> {
        let extended = node.references("interrupts-extended", "#interrupt-cells", None);
        let extended = extended.map(|entry| entry.ok().and_then(|to| line(to.to, to.cells)));
        // Where there are both, those are meant.
        let all = if node.has("interrupts-extended") { None } else { self.plain(node) };
        extended.chain(all.into_iter().flatten())
    }

    /// What `interrupts` of a node says.
    fn plain(&self, node: At<'t, 'a>) -> Option<impl Iterator<Item = Option<Line>> + use<'t, 'a>> {
        let [phandle] = cells(node.inherited("interrupt-parent")?);
        let controller = self.tree.by_phandle(phandle)?;
        let len = (controller.cell("#interrupt-cells")? as usize).checked_mul(4)?;
        let list = node.property("interrupts")?;
        (len != 0).then(|| list.chunks_exact(len).map(move |one| line(controller, one)))
    }
}
