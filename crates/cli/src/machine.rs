// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands `smmuv3 iort` and `smmuv3 dt`: which SMMUs a machine has, what is behind them, and whether that fits
//! together.

mod device;
mod drawing;
mod tree;
mod view;

use std::io;

use crate::args::Machine;
use crate::firmware::{self, Asker, Firmware, FirmwareError};
use crate::output::show;
use crate::{BROKEN, Failure, HELD, columns, sid, write_out};
use view::View;

/// An ACPI table; the exit status.
///
/// # Errors
/// [`Failure`], when it can't be read.
pub fn iort(machine: &Machine) -> Result<u8, Failure> {
    execute(machine, firmware::iort)
}

/// A device tree; the exit status.
///
/// # Errors
/// [`Failure`], when it can't be read.
pub fn device_tree(machine: &Machine) -> Result<u8, Failure> {
    execute(machine, firmware::device_tree)
}

fn execute(
    machine: &Machine,
    read: fn(&str, Asker) -> Result<Firmware, FirmwareError>,
) -> Result<u8, Failure> {
    let refuse = |error: Box<dyn std::error::Error>| Failure::Other(error);
    // A name that is none is told before anything else is.
    let name = match &machine.device {
        Some(device) => Some(sid::read(device).map_err(|why| refuse(why.into()))?),
        None => None,
    };
    let firmware = read(&machine.file, Asker::Command).map_err(|error| refuse(Box::new(error)))?;
    if let (Some(asked), Some(name)) = (&machine.device, &name) {
        let answers = device::Answers::of(&firmware.topology, asked, name);
        show(machine.json, &answers, || answers.text(columns()))?;
        return Ok(if answers.is_found() { HELD } else { BROKEN });
    }
    let view = View::of(&firmware);
    if machine.svg {
        write_out(&drawing::draw(&view), io::stdout().lock()).map_err(Failure::Output)?;
    } else {
        show(machine.json, &view, || tree::text(&view, columns()))?;
    }
    Ok(if view.is_wrong() { BROKEN } else { HELD })
}

/// Makes text, a drawing and JSON of it, and asks for some devices.
#[cfg(test)]
pub fn look_at_all_of(topology: smmuv3_discovery::Topology) {
    let (file, about) = ("table".to_owned(), "a table".to_owned());
    let firmware = Firmware { file, topology, about, checksum: None };
    let view = View::of(&firmware);
    let (text, svg) = (tree::text(&view, 80), drawing::draw(&view));
    assert!(text.contains("SMMU") && svg.ends_with("</svg>\n"));
    // Names are text: what draws, or moves a terminal, does not get through.
    assert!(!text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\x1b')), "{text:?}");
    assert!(!svg.contains("<<") && !svg.chars().any(|c| c.is_control() && c != '\n'), "{svg}");
    assert!(serde_json::to_string(&view).is_ok());
    for asked in ["1:00:01.0", "01:00.0", "0x77", r"\_SB.DMA0"] {
        let name = sid::read(asked).unwrap();
        let answers = device::Answers::of(&firmware.topology, asked, &name);
        assert!(!answers.text(80).is_empty());
    }
}
