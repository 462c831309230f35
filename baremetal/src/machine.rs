// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the image itself needs to know of the machine, from the device tree. SMMUs are none of its business.

use alloc::vec::Vec;
use core::ops::Range;

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property, ToCellInt};

/// Where QEMU puts the device tree: x0 is 0 for an image in an ELF file.
const BLOB: *const u8 = 0x4000_0000 as *const u8;
/// The first word of one.
const MAGIC: u32 = 0xd00d_feed;

/// How PSCI is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// By a call of a hypervisor.
    Hvc,
    /// By a call of the secure monitor.
    Smc,
}

/// The PCI host bridge.
#[derive(Clone, Debug)]
pub struct Host {
    /// Configuration space, and its length in bytes.
    pub ecam: (usize, usize),
    /// Addresses for BARs of 32 bits.
    pub window: Range<u64>,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// MPIDR of each CPU.
    pub cpus: Vec<u64>,
    /// Distributor and redistributors.
    pub gic: [usize; 2],
    /// How PSCI is called.
    pub conduit: Conduit,
    /// PCI.
    pub host: Host,
    /// QEMU's configuration device.
    pub fw_cfg: Option<usize>,
}

/// The device tree of this machine. `argument` is where whoever started the image says it is, if that is not 0.
pub fn device_tree(argument: u64) -> Option<&'static [u8]> {
    let blob = if argument == 0 { BLOB } else { argument as *const u8 };
    // SAFETY: both are in RAM, which is mapped; nobody writes to it.
    unsafe {
        let word = |index: usize| u32::from_be(blob.cast::<u32>().add(index).read());
        (word(0) == MAGIC).then(|| core::slice::from_raw_parts(blob, word(1) as usize))
    }
}

/// The RAM of a machine.
pub fn ram(tree: Fdt<'static>) -> Option<Range<usize>> {
    let (start, size) = registers(tree.memory().ok().map(|memory| *memory)?)?;
    Some(start..start + size)
}

impl Machine {
    /// Reads a device tree; what is missing in it, if something is.
    ///
    /// # Errors
    /// The name of what is missing.
    pub fn read(tree: Fdt<'static>) -> Result<Self, &'static str> {
        let root = tree.root();
        let gic = compatible(root, "arm,gic-v3").ok_or("no GICv3")?;
        let mut parts = gic.reg().ok().flatten().ok_or("no registers of the GICv3")?;
        let mut part = || parts.next().and_then(|part| part.address::<u64>().ok());
        let (Some(distributor), Some(redistributors)) = (part(), part()) else {
            return Err("the GICv3 has too few registers");
        };
        let host = compatible(root, "pci-host-ecam-generic").ok_or("no PCI host bridge")?;
        let method = tree.find_node("/psci").ok_or("no PSCI")?;
        let method = method.property("method").ok_or("no method of PSCI")?;
        let conduit = match method.value_as::<&str>() {
            Ok("hvc") => Conduit::Hvc,
            Ok("smc") => Conduit::Smc,
            _ => return Err("an unknown method of PSCI"),
        };
        let cpus = tree.find_node("/cpus").ok_or("no CPUs")?;
        let cpus = cpus.children().filter(|node| node.name_without_address() == "cpu");
        Ok(Self {
            cpus: cpus.filter_map(|cpu| cpu.reg().ok()??.next()?.address().ok()).collect(),
            gic: [distributor as usize, redistributors as usize],
            conduit,
            fw_cfg: compatible(root, "qemu,fw-cfg-mmio").and_then(|node| Some(registers(node)?.0)),
            host: Host {
                ecam: registers(host).ok_or("no configuration space")?,
                window: window(host).ok_or("no PCI window of 32 bits")?,
            },
        })
    }
}

/// Address and size of the first registers of `node`.
fn registers(node: FdtNode) -> Option<(usize, usize)> {
    let first = node.reg().ok()??.next()?;
    Some((first.address::<u64>().ok()? as usize, first.size::<u64>().ok()? as usize))
}

/// The window for BARs of 32 bits: the addresses on the bus are those of the CPU.
fn window(host: FdtNode) -> Option<Range<u64>> {
    const KIND: u32 = 0x0300_0000;
    const MEMORY_32: u32 = 0x0200_0000;
    // Three cells of the bus's address, of which the first is the kind; two of the CPU's; two of the length.
    let ranges = host.property("ranges")?;
    let mut ranges = ranges.as_prop_encoded_array([1, 2, 2, 2]).ok()?;
    ranges.find_map(|[kind, bus, cpu, length]| {
        let kind: u32 = kind.to_int().ok()?;
        let (bus, cpu): (u64, u64) = (bus.to_int().ok()?, cpu.to_int().ok()?);
        let length: u64 = length.to_int().ok()?;
        (kind & KIND == MEMORY_32 && bus == cpu).then_some(bus..bus + length)
    })
}

/// The first node that says it is a `what`.
fn compatible<'a>(node: FdtNode<'a>, what: &str) -> Option<FdtNode<'a>> {
    let mut names = node.compatible().into_iter().flatten();
    if names.any(|name| name == what) {
        return Some(node);
    }
    node.children().find_map(|child| compatible(child, what))
}
