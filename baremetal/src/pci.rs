// SPDX-License-Identifier: MIT OR Apache-2.0
//! PCI as firmware would leave it: buses numbered, windows of bridges open, BARs placed.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use smmuv3_discovery::Device as Name;
use virtio_drivers::Hal;
use virtio_drivers::transport::pci::bus::{
    BarInfo, Command, ConfigurationAccess, DeviceFunction, HeaderType, PciRoot,
};
use virtio_drivers::transport::pci::{PciTransport, VirtioPciError};

use crate::machine::Host;
use crate::registers::Registers;

// Offsets in configuration space, of 32-bit words.
const BAR0: u8 = 0x10;
/// Of a bridge: secondary latency timer, subordinate, secondary and primary bus.
const BUSES: u8 = 0x18;
/// Of a bridge: memory limit and base, bits 31:20 of the addresses, each in a half.
const MEMORY_WINDOW: u8 = 0x20;

/// What the window of a bridge is aligned to.
const BRIDGE_WINDOW: u64 = 1 << 20;

/// Configuration space.
#[derive(Clone, Copy, Debug)]
pub struct Ecam(Registers);

impl ConfigurationAccess for Ecam {
    fn read_word(&self, function: DeviceFunction, offset: u8) -> u32 {
        self.0.read32(place(function) + usize::from(offset))
    }

    fn write_word(&mut self, function: DeviceFunction, offset: u8, data: u32) {
        self.0.write32(place(function) + usize::from(offset), data);
    }

    unsafe fn unsafe_clone(&self) -> Self {
        *self
    }
}

/// Where the configuration space of a function begins: 4 KiB each.
fn place(function: DeviceFunction) -> usize {
    usize::from(requester(function)) << 12
}

/// The requester ID of a function.
fn requester(function: DeviceFunction) -> u16 {
    u16::from(function.bus) << 8 | u16::from(function.device) << 3 | u16::from(function.function)
}

/// A device that answers.
#[derive(Clone, Debug)]
pub struct Device {
    /// Bus, device and function.
    pub function: DeviceFunction,
    /// Vendor and device.
    pub id: (u16, u16),
    /// Class, subclass, programming interface.
    pub class: [u8; 3],
    /// Address and bytes of BAR 0, 0 where there is none.
    pub bar0: (usize, usize),
}

impl Device {
    /// What discovery calls it.
    pub fn name(&self) -> Name<'static> {
        let DeviceFunction { bus, device, function } = self.function;
        Name::pci(bus, device, function)
    }

    /// The registers behind BAR 0.
    pub fn registers(&self) -> Registers {
        let (base, bytes) = self.bar0;
        // SAFETY: `Pci::scan` placed it in PCI memory space, which is mapped as Device memory, and nowhere else.
        unsafe { Registers::new(base, bytes) }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:04x}:{:04x}", self.function, self.id.0, self.id.1)
    }
}

/// The bus.
pub struct Pci {
    ecam: Ecam,
    root: PciRoot<Ecam>,
    /// Addresses that no BAR has yet.
    free: Range<u64>,
    next_bus: u8,
    /// What there is, bridges left out.
    pub devices: Vec<Device>,
}

impl Pci {
    /// Finds what is behind `host`. No device can do DMA afterwards.
    pub fn scan(host: &Host) -> Self {
        let (base, bytes) = host.ecam;
        // SAFETY: the device tree says that it is there; it is mapped as Device memory. Whoever else has a copy of it
        // uses other functions.
        let ecam = Ecam(unsafe { Registers::new(base, bytes) });
        let (root, free) = (PciRoot::new(ecam), host.window.clone());
        let mut pci = Self { ecam, root, free, next_bus: 0, devices: Vec::new() };
        // Nobody has numbered a bridge yet: what answers is a root.
        let roots: Vec<u8> = (0..=u8::MAX).filter(|bus| pci.is_there(*bus)).collect();
        for root in roots {
            pci.next_bus = root + 1;
            pci.scan_bus(root);
        }
        pci
    }

    /// Whether any device answers on `bus`.
    fn is_there(&self, bus: u8) -> bool {
        (0..32).any(|device| {
            let function = DeviceFunction { bus, device, function: 0 };
            self.ecam.read_word(function, 0) != u32::MAX
        })
    }

    fn scan_bus(&mut self, bus: u8) {
        let found: Vec<_> = self.root.enumerate_bus(bus).collect();
        for (function, info) in found {
            let bar0 = self.place_bars(function);
            match info.header_type {
                HeaderType::Standard => {
                    let id = (info.vendor_id, info.device_id);
                    let class = [info.class, info.subclass, info.prog_if];
                    self.devices.push(Device { function, id, class, bar0 });
                    self.root.set_command(function, Command::MEMORY_SPACE);
                }
                HeaderType::PciPciBridge => self.open_bridge(function),
                _ => {}
            }
        }
    }

    /// Numbers the bus behind a bridge, finds what is there, and opens the window for it.
    fn open_bridge(&mut self, bridge: DeviceFunction) {
        let bus = self.next_bus;
        self.next_bus += 1;
        let buses = |last: u8| u32::from(last) << 16 | u32::from(bus) << 8 | u32::from(bridge.bus);
        // Everything, until it is known how much there is.
        self.ecam.write_word(bridge, BUSES, buses(u8::MAX));
        self.free.start = self.free.start.next_multiple_of(BRIDGE_WINDOW);
        let first = self.free.start;
        self.scan_bus(bus);
        self.free.start = self.free.start.next_multiple_of(BRIDGE_WINDOW);
        self.ecam.write_word(bridge, BUSES, buses(self.next_bus - 1));
        if first < self.free.start {
            // PCI memory of 32 bits.
            let (first, last) = ((first >> 16) as u32, ((self.free.start - 1) >> 16) as u32);
            self.ecam.write_word(bridge, MEMORY_WINDOW, (last & 0xfff0) << 16 | first & 0xfff0);
        }
        self.root.set_command(bridge, Command::MEMORY_SPACE | Command::BUS_MASTER);
    }

    /// Gives the BARs of `function` addresses; BAR 0's.
    fn place_bars(&mut self, function: DeviceFunction) -> (usize, usize) {
        let mut bar0 = (0, 0);
        let mut index = 0;
        // A bridge has two only.
        let bridge = self.ecam.read_word(function, 0x0c) >> 16 & 0x7f == 1;
        while index < if bridge { 2 } else { 6 } {
            let Ok(info) = self.root.bar_info(function, index) else { break };
            let two = info.as_ref().is_some_and(BarInfo::takes_two_entries);
            if let Some((_, size)) = info.and_then(|info| info.memory_address_size()) {
                let start = self.free.start.next_multiple_of(size);
                assert!(start + size <= self.free.end, "PCI memory is full");
                self.free.start = start + size;
                if two {
                    self.root.set_bar_64(function, index, start);
                } else {
                    // PCI memory of 32 bits.
                    self.ecam.write_word(function, BAR0 + 4 * index, start as u32);
                }
                if index == 0 {
                    bar0 = (start as usize, size as usize);
                }
            }
            index += if two { 2 } else { 1 };
        }
        bar0
    }

    /// The devices of `vendor` and `device`.
    pub fn find(&self, vendor: u16, device: u16) -> impl Iterator<Item = &Device> {
        self.devices.iter().filter(move |found| found.id == (vendor, device))
    }

    /// The devices of a class.
    pub fn find_class(&self, class: [u8; 3]) -> impl Iterator<Item = &Device> {
        self.devices.iter().filter(move |found| found.class == class)
    }

    /// The way to a virtio device.
    pub fn virtio<H: Hal>(&self, device: &Device) -> Result<PciTransport, VirtioPciError> {
        PciTransport::new::<H, _>(&mut PciRoot::new(self.ecam), device.function)
    }

    /// Lets every device do DMA. The SMMUs must be in use by then.
    pub fn enable_dma(&mut self) {
        for device in &self.devices {
            let command = Command::MEMORY_SPACE | Command::BUS_MASTER;
            self.root.set_command(device.function, command);
        }
    }
}
