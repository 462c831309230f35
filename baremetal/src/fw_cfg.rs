// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU's configuration device, for the ACPI tables that firmware would have found there.

use alloc::vec::Vec;

use crate::registers::Registers;

/// Its registers: data, selector.
const DATA: usize = 0x00;
const SELECTOR: usize = 0x08;

/// The directory of files.
const DIRECTORY: u16 = 0x19;
/// All ACPI tables, one behind the other.
const TABLES: &[u8] = b"etc/acpi/tables";

/// Whose tables they are.
const MAKER: &[u8; 6] = b"BOCHS ";

/// Bytes of a table's header; its length is at 4 (ACPI 5.2.6).
const HEADER: usize = 36;

/// The device, whose registers are at `base`.
pub struct FwCfg(Registers);

impl FwCfg {
    /// The device that the device tree says is at `base`.
    pub fn new(base: usize) -> Self {
        // SAFETY: the registers are there, mapped as Device memory, and nobody else's.
        Self(unsafe { Registers::new(base, 0x18) })
    }

    /// The ACPI table `signature`. Its checksum is not there yet: firmware would do what `etc/table-loader` says, which is
    /// to add them up and to fill in where tables are.
    pub fn acpi_table(&self, signature: [u8; 4]) -> Option<Vec<u8>> {
        let (selector, size) = self.find(TABLES)?;
        self.select(selector);
        let all: Vec<u8> = (0..size).map(|_| self.byte()).collect();
        // Between tables there may be anything.
        (0..all.len().saturating_sub(HEADER)).find_map(|start| {
            let rest = &all[start..];
            let length = u32::from_le_bytes(rest[4..8].try_into().ok()?) as usize;
            let table = rest.get(..length.max(HEADER))?;
            (table.starts_with(&signature) && table[10..16] == *MAKER).then(|| table.to_vec())
        })
    }

    /// Selector and size of the file `name`.
    fn find(&self, name: &[u8]) -> Option<(u16, u32)> {
        self.select(DIRECTORY);
        let word = || u32::from_be_bytes([(); 4].map(|()| self.byte()));
        let count = word();
        (0..count).find_map(|_| {
            let (size, selector) = (word(), (word() >> 16) as u16);
            let found: [u8; 56] = [(); 56].map(|()| self.byte());
            let end = found.iter().position(|byte| *byte == 0)?;
            (&found[..end] == name).then_some((selector, size))
        })
    }

    fn select(&self, selector: u16) {
        self.0.write16(SELECTOR, selector.to_be());
    }

    /// The next byte of what is selected.
    fn byte(&self) -> u8 {
        self.0.read8(DATA)
    }
}
