// SPDX-License-Identifier: MIT OR Apache-2.0
//! The machine that the bare-metal images are booted on: QEMU's command line, and a disk.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::qemu::Qemu;

/// The machine to boot on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// How many CPUs it has.
    pub cpus: u8,
    /// The exception level that the image is entered at, 1 or 2.
    pub level: u8,
    /// How many SMMUs it has, 1 or 2.
    pub smmus: u8,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.cpus == 1 { "" } else { "s" };
        write!(f, "EL{}, {} CPU{s}", self.level, self.cpus)?;
        if self.smmus == 1 { Ok(()) } else { write!(f, ", {} SMMUs", self.smmus) }
    }
}

impl Machine {
    /// QEMU's command line: everything about the machine is here.
    ///
    /// Two SMMUs are user-created ones, each in front of a PCI root. The device tree does not have them (QEMU warns), the
    /// ACPI tables do.
    ///
    /// `-cpu max`: its counter runs at 1 GHz, one tick an instruction under `-icount shift=0`, and it has every feature
    /// that the image could trip over. A cortex-a72 does as well.
    pub fn command(self, qemu: &Qemu, disk: &Path, image: &Path) -> Command {
        let mut command = Command::new(&qemu.path);
        let mut machine = String::from("virt,gic-version=3");
        if self.level == 2 {
            machine.push_str(",virtualization=on");
        }
        if self.smmus == 1 {
            machine.push_str(",iommu=smmuv3");
        }
        command
            .args(["-no-user-config", "-nodefaults", "-display", "none", "-serial", "stdio"])
            .args(["-M", &machine, "-cpu", "max", "-m", "256M", "-smp", &self.cpus.to_string()])
            .args(["-semihosting-config", "enable=on,target=native"]);
        for id in DISKS {
            let file = disk.display();
            let drive = format!("if=none,id={id},format=raw,readonly=on,file={file}");
            command.args(["-drive", &drive]);
        }
        for device in self.devices(qemu) {
            command.args(["-device", &device]);
        }
        command.arg("-kernel").arg(image);
        command
    }

    /// PCI devices. Of the first kinds there are two, one behind a root port; with two SMMUs they are behind both.
    fn devices(self, qemu: &Qemu) -> Vec<String> {
        const VIRTIO: &str = "iommu_platform=on,disable-legacy=on";
        // Its DMA mask is 28 bits otherwise, and addresses are cut off.
        let edu = || String::from("edu,dma_mask=0xffffffffffffffff");
        let nvme = |id| format!("nvme,drive={id},serial=smmuv3");
        let mut twice = vec![[edu(), edu()], [nvme(DISKS[0]), nvme(DISKS[1])]];
        if qemu.has_testdev() {
            twice.push([String::from("iommu-testdev"), String::from("iommu-testdev")]);
        }
        let once = [
            format!("virtio-blk-pci,drive={},{VIRTIO}", DISKS[2]),
            format!("virtio-rng-pci,{VIRTIO}"),
        ];
        let mut devices = Vec::new();
        if self.smmus > 1 {
            for (index, bus) in [(0, 8), (1, 32)] {
                devices.push(format!("pxb-pcie,id=root{index},bus=pcie.0,bus_nr={bus}"));
                devices.push(format!("arm-smmuv3,primary-bus=root{index},stage=nested"));
            }
        }
        let several = self.smmus > 1;
        let mut behind_port = |device: &str, root: usize, slot: usize| {
            let bus = if several { format!("root{root}") } else { String::from("pcie.0") };
            let port = format!("pcie-root-port,id=port{slot},bus={bus},chassis=1,slot={slot}");
            devices.extend([port, format!("{device},bus=port{slot}")]);
        };
        let mut slot = 0;
        for [first, second] in &twice {
            behind_port(second, 1, slot);
            slot += 1;
            if several {
                behind_port(first, 0, slot);
                slot += 1;
            }
        }
        for device in once.iter().filter(|_| several) {
            behind_port(device, slot % 2, slot);
            slot += 1;
        }
        if !several {
            devices.extend(twice.into_iter().map(|[first, _]| first));
            devices.extend(once);
        }
        devices
    }
}

/// The machine's disks, of one content.
const DISKS: [&str; 3] = ["disk0", "disk1", "disk2"];

/// Bytes of the disk.
const DISK: u64 = 16 << 20;

/// What the disk's pattern is known by.
const SEED: u64 = 0xd15c;

/// The 64-bit little-endian word at `index` of the disk; `baremetal/src/buffer.rs` has the same.
fn word(index: u64) -> u64 {
    (SEED << 32 | index).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Writes the disk of the machine, which is only read.
pub fn write_disk(folder: &Path) -> Result<PathBuf> {
    let file = folder.join("disk.img");
    let content: Vec<u8> = (0..DISK / 8).flat_map(|index| word(index).to_le_bytes()).collect();
    if !fs::read(&file).is_ok_and(|found| found == content) {
        fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(file)
}
