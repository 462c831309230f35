// SPDX-License-Identifier: MIT OR Apache-2.0
//! The same on QEMU's SMMUv3, which others wrote: only what devices read is seen.

use std::sync::Arc;

use smmuv3::Config;
use smmuv3_testbench::machine::{Dma, Machine};
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::machine_qemu::QemuMachine;
use smmuv3_testbench::scenario::Scenario;

use crate::common::qemu_or_skip;
use crate::guest::{DATA, Guest, PAGE, VA};
use crate::host::{Host, MACHINE, Use};

/// What a page of data begins with.
const fn mark(page: usize) -> u64 {
    0x1234_5678_0000_0000 + page as u64
}

/// The mark that a device finds at an address.
fn read(host: &Host, address: u64) -> u64 {
    let mut buffer = [0; 8];
    host.world.machine().dma(0, None, address, Dma::Read(&mut buffer)).unwrap();
    u64::from_le_bytes(buffer)
}

fn a_guest(machine: Arc<dyn Machine>) {
    let mut host = Host::on(machine, Config::default());
    for page in DATA..DATA + 8 {
        let frame = host.guest.frames[page];
        host.world.machine().ram().write64(frame, mark(page)).unwrap();
    }
    for at in 0..4 {
        host.guest.map(0, at, DATA + at);
        host.guest.map(1, at, DATA + 4 + at);
    }
    let va = |at: u64| VA + at * PAGE;
    host.nest(0, Guest::entry(0), Use::Space(0));
    for at in 0..4 {
        assert_eq!(read(&host, va(at)), mark(DATA + at as usize));
    }
    // The guest unmaps one, and maps it anew.
    for ranges in [false, true] {
        let commands = host.guest.unmap(0, 0, ranges);
        host.commands(&commands);
        assert_ne!(read(&host, va(0)), mark(DATA));
        host.guest.map(0, 0, DATA + 1);
        assert_eq!(read(&host, va(0)), mark(DATA + 1));
        let commands = host.guest.unmap(0, 0, ranges);
        host.commands(&commands);
        host.guest.map(0, 0, DATA);
        assert_eq!(read(&host, va(0)), mark(DATA));
    }
    // The host takes one away, and gives it back; then one of the guest's tables.
    for page in [DATA + 1, 3] {
        host.take(page);
        assert_ne!(read(&host, va(1)), mark(DATA + 1));
        host.give(page);
        assert_eq!(read(&host, va(1)), mark(DATA + 1));
    }
    // Another entry, none of the guest's stages, and nothing.
    host.nest(0, Guest::entry(1), Use::Space(1));
    assert_eq!(read(&host, va(2)), mark(DATA + 6));
    host.nest(0, Guest::bypass(), Use::Bypass);
    assert_eq!(read(&host, Guest::ipa(DATA + 3)), mark(DATA + 3));
    host.nest(0, Default::default(), Use::Invalid);
    assert_ne!(read(&host, Guest::ipa(DATA + 3)), mark(DATA + 3));
    // Another ASID.
    host.nest(0, Guest::entry(0), Use::Space(0));
    assert_eq!(read(&host, va(3)), mark(DATA + 3));
    let commands = host.guest.change_asid(0, 9, &[0x20]);
    host.commands(&commands);
    let commands = host.guest.unmap(0, 3, false);
    host.commands(&commands);
    assert_ne!(read(&host, va(3)), mark(DATA + 3));
    host.detach(0);
    assert_ne!(read(&host, va(2)), mark(DATA + 2));
}

#[test]
fn a_guest_on_qemu() {
    let Some(binary) = qemu_or_skip() else { return };
    let scenario = Scenario::parse(MACHINE, "nested").unwrap();
    a_guest(Arc::new(QemuMachine::start(&scenario, binary).unwrap()));
}

#[test]
fn a_guest_on_the_model() {
    let scenario = Scenario::parse(MACHINE, "nested").unwrap();
    a_guest(Arc::new(ModelMachine::new(&scenario, 1).unwrap()));
}
