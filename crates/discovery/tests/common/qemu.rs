// SPDX-License-Identifier: MIT OR Apache-2.0
//! The device tree and the IORT that QEMU makes for a machine.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use smmuv3_testbench::qemu;

/// One SMMU, which every supported QEMU can have, in front of all PCI buses; an ITS.
pub const ONE: &[&str] = &["-M", "virt,iommu=smmuv3,gic-version=3"];

/// Three of them, each in front of PCI buses of its own, which takes QEMU 11.1; an ITS.
pub const THREE: &[&str] = &[
    "-M",
    "virt,gic-version=3",
    "-device",
    "pxb-pcie,id=pcie.1,bus_nr=8,bus=pcie.0",
    "-device",
    "pxb-pcie,id=pcie.2,bus_nr=16,bus=pcie.0",
    "-device",
    "arm-smmuv3,primary-bus=pcie.0,id=s0,stage=1",
    "-device",
    "arm-smmuv3,primary-bus=pcie.1,id=s1,stage=2",
    "-device",
    "arm-smmuv3,primary-bus=pcie.2,id=s2,stage=nested",
    "-device",
    "pcie-root-port,bus=pcie.1,id=rp1,chassis=1,slot=1",
    "-device",
    "pcie-root-port,bus=pcie.2,id=rp2,chassis=2,slot=2",
];

/// Where a QEMU with several SMMUs is; `None`, and a line for whoever counts, when there is none and none is required.
pub fn several() -> Option<PathBuf> {
    find(|version| version.has_several_instances())
}

/// Where any usable QEMU is; otherwise as [`several`].
pub fn any() -> Option<PathBuf> {
    find(|version| version.is_supported())
}

fn find(wanted: impl Fn(&qemu::Version) -> bool) -> Option<PathBuf> {
    let found = qemu::find(None).and_then(|path| Ok((qemu::version(&path)?, path)));
    match found {
        Ok((version, path)) if wanted(&version) => Some(path),
        Ok((version, _)) => {
            super::skipped(&format!("QEMU {version} lacks what the test needs"));
            None
        }
        Err(error) => {
            let required = std::env::var_os("SMMUV3_REQUIRE_QEMU");
            assert!(required.is_none_or(|value| value != "1"), "{error}");
            super::skipped(&error.to_string());
            None
        }
    }
}

const MACHINE: &[&str] =
    &["-display", "none", "-nodefaults", "-no-user-config", "-nic", "none", "-m", "256M"];

/// The device tree of a machine. `name` is the test's.
pub fn device_tree(binary: &PathBuf, machine: &[&str], name: &str) -> Vec<u8> {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.dtb"));
    let mut command = Command::new(binary);
    command.args(MACHINE).args(["-cpu", "max"]).args(machine);
    // A second -M adds to the first.
    command.arg("-M").arg(format!("dumpdtb={}", file.display()));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(file).unwrap()
}

/// A machine that stands still, and whose firmware configuration can be read.
struct Stopped {
    process: Child,
    qtest: BufReader<UnixStream>,
}

/// Registers of the firmware configuration device, and memory to read it to.
const FW_CFG_DMA: u64 = 0x0902_0010;
const REQUEST: u64 = 0x4100_0000;
const DATA: u64 = 0x4110_0000;

impl Stopped {
    fn start(binary: &PathBuf, machine: &[&str]) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let theirs = OwnedFd::from(theirs);
        // The child inherits what is not closed on execution.
        rustix::io::fcntl_setfd(&theirs, rustix::io::FdFlags::empty()).unwrap();
        let mut command = Command::new(binary);
        // No CPU runs: under -S even a build without the qtest accelerator stands still.
        command.args(MACHINE).args(["-cpu", "max", "-S"]).args(machine);
        command.arg("-chardev").arg(format!("socket,id=q,fd={}", theirs.as_raw_fd()));
        command.args(["-object", "qtest,id=qt,chardev=q,log=/dev/null"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { process, qtest: BufReader::new(ours) }
    }

    fn ask(&mut self, request: &str) -> String {
        self.qtest.get_mut().write_all(format!("{request}\n").as_bytes()).unwrap();
        loop {
            let mut line = String::new();
            self.qtest.read_line(&mut line).unwrap();
            let line = line.trim();
            if line.starts_with("IRQ") {
                continue;
            }
            let reply = line.strip_prefix("OK");
            return reply.unwrap_or_else(|| panic!("{request}: {line}")).trim().to_owned();
        }
    }

    /// The first `len` bytes of the item with this key.
    fn item(&mut self, key: u16, len: usize) -> Vec<u8> {
        // Select and read, then length and address, all big-endian.
        let control = u32::from(key) << 16 | 1 << 3 | 1 << 1;
        let mut request = String::from("0x");
        for byte in control.to_be_bytes().into_iter().chain((len as u32).to_be_bytes()) {
            request += &format!("{byte:02x}");
        }
        DATA.to_be_bytes().iter().for_each(|byte| request += &format!("{byte:02x}"));
        self.ask(&format!("write {REQUEST:#x} 16 {request}"));
        self.ask(&format!("writeq {FW_CFG_DMA:#x} {:#x}", REQUEST.swap_bytes()));
        let answer = self.ask(&format!("read {DATA:#x} {len:#x}"));
        let digits = answer.strip_prefix("0x").unwrap().as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        digits.chunks_exact(2).map(|pair| byte(pair).unwrap()).collect()
    }

    /// A file of the firmware configuration.
    fn file(&mut self, name: &str) -> Vec<u8> {
        const DIRECTORY: u16 = 0x19;
        let count = self.item(DIRECTORY, 4);
        let count = u32::from_be_bytes(count.try_into().unwrap()) as usize;
        let directory = self.item(DIRECTORY, 4 + 64 * count);
        let mut entries = directory[4..].chunks_exact(64);
        let entry = entries.find(|entry| entry[8..].starts_with(format!("{name}\0").as_bytes()));
        let entry = entry.unwrap_or_else(|| panic!("no {name}"));
        let size = u32::from_be_bytes(entry[..4].try_into().unwrap());
        let key = u16::from_be_bytes(entry[4..6].try_into().unwrap());
        self.item(key, size as usize)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Configuration space of PCI.
const ECAM: u64 = 0x40_1000_0000;

/// The IORT of a machine, as its firmware would install it: with the checksum that QEMU leaves to it. Firmware has
/// numbered the bus behind the first root port of each of `buses` one higher.
pub fn iort(binary: &PathBuf, machine: &[&str], buses: &[u64]) -> Vec<u8> {
    let mut stopped = Stopped::start(binary, machine);
    for bus in buses {
        let functions = (0..32).map(|device| ECAM + (bus << 20) + (device << 15));
        let port = functions.into_iter().find(|at| {
            let id = stopped.ask(&format!("readl {at:#x}"));
            // A root port of QEMU's own.
            id.ends_with("000c1b36")
        });
        let port = port.unwrap_or_else(|| panic!("no root port on bus {bus}"));
        // Primary, secondary and subordinate bus.
        let numbers = bus | (bus + 1) << 8 | (bus + 1) << 16;
        stopped.ask(&format!("writel {:#x} {numbers:#x}", port + 0x18));
    }
    let mut tables = stopped.file("etc/acpi/tables");
    for command in stopped.file("etc/table-loader").chunks_exact(128) {
        let word = |at: usize| u32::from_le_bytes(command[at..at + 4].try_into().unwrap());
        // ADD_CHECKSUM: where it goes, and what it is of.
        if word(0) == 3 && command[4..].starts_with(b"etc/acpi/tables\0") {
            let (at, start, len) = (word(60) as usize, word(64) as usize, word(68) as usize);
            let sum = tables[start..start + len].iter().fold(0, |sum: u8, b| sum.wrapping_add(*b));
            tables[at] = tables[at].wrapping_sub(sum);
        }
    }
    let mut at = 0;
    loop {
        let len = u32::from_le_bytes(tables[at + 4..at + 8].try_into().unwrap()) as usize;
        assert_ne!(len, 0, "no IORT");
        if &tables[at..at + 4] == b"IORT" {
            return tables[at..at + len].to_vec();
        }
        at += len;
    }
}
