// SPDX-License-Identifier: MIT OR Apache-2.0
//! Does what firmware would do: numbers the buses, opens the root ports' windows, places the BARs.

use super::error::QemuError;
use super::qtest::Qtest;
use super::topology::{MasterPlan, WINDOW};

/// A root port's device ID and vendor ID.
const ROOT_PORT: u32 = 0x000c_1b36;

// Offsets in configuration space, of 32-bit words.
const ID: u64 = 0x00;
const COMMAND: u64 = 0x04;
const BAR0: u64 = 0x10;
/// Of a bridge: secondary latency timer, subordinate, secondary and primary bus.
const BUSES: u64 = 0x18;
/// Of a bridge: memory limit and base, bits 31:20 of the addresses, each in a half.
const MEMORY_WINDOW: u64 = 0x20;

/// Memory space and bus master enable.
const ENABLE: u32 = 1 << 1 | 1 << 2;

/// Makes each master answer at its BAR and able to do DMA with its own StreamID.
pub(super) fn bring_up(qtest: &mut Qtest, masters: &[MasterPlan]) -> Result<(), QemuError> {
    for (index, master) in masters.iter().enumerate() {
        // The BAR and its window end below 4 GiB, where PCI's 32-bit memory does.
        let bar = master.bar as u32;
        if let Some(port) = master.port {
            expect(qtest, index, master, "its root port", port.config(), ROOT_PORT)?;
            let bus = u32::from(master.place.bus);
            qtest.writel(port.config() + BUSES, bus << 16 | bus << 8 | u32::from(port.bus))?;
            let (first, last) = (bar >> 16, (bar + (WINDOW as u32 - 1)) >> 16);
            qtest.writel(port.config() + MEMORY_WINDOW, (last & 0xfff0) << 16 | first & 0xfff0)?;
            qtest.writel(port.config() + COMMAND, ENABLE)?;
        }
        let config = master.place.config();
        expect(qtest, index, master, "the device", config, master.kind.pci_id())?;
        qtest.writel(config + BAR0, bar)?;
        qtest.writel(config + COMMAND, ENABLE)?;
    }
    Ok(())
}

fn expect(
    qtest: &mut Qtest,
    index: usize,
    master: &MasterPlan,
    what: &str,
    config: u64,
    wanted: u32,
) -> Result<(), QemuError> {
    let found = qtest.readl(config + ID)?;
    if found == wanted {
        return Ok(());
    }
    let kind = master.kind;
    let what = format!("{what} has PCI ID {found:#010x} instead of {wanted:#010x}");
    Err(qtest.fail(|_| QemuError::Device { master: index, kind, what }))
}
