// SPDX-License-Identifier: MIT OR Apache-2.0
//! Performance monitors (§18): what is counted, for which streams, and what an overflow does.

use smmuv3_formats::register::PmcgCfgr;
use smmuv3_model::{Access, Monitor};

use crate::machine::*;

const EVCNTR: u32 = 0x000;
const EVTYPER: u32 = 0x400;
const SMR: u32 = 0xa00;
const CNTENSET: u32 = 0xc00;
const CNTENCLR: u32 = 0xc20;
const INTENSET: u32 = 0xc40;
const OVSCLR: u32 = 0xc80;
const OVSSET: u32 = 0xcc0;
const CFGR: u32 = 0xe00;
const CR: u32 = 0xe04;
const IRQ_CTRL: u32 = 0xe50;
const IRQ_CFG0: u32 = 0xe58;
const ANY: u32 = u32::MAX;
const SPAN: u32 = 1 << 29;

fn with(cfgr: PmcgCfgr) -> Machine {
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    machine.smmu.set_monitor(Monitor::new(cfgr));
    machine
}

/// Four counters of 32 bits.
const SMALL: PmcgCfgr = PmcgCfgr(31 << 8 | 3);

fn monitor(machine: &mut Machine) -> &mut Monitor {
    machine.smmu.monitor().unwrap()
}

fn set(machine: &mut Machine, index: u32, event: u32, filter: u32, span: bool) {
    let monitor = monitor(machine);
    monitor.write32(0, EVTYPER + 4 * index, event | if span { SPAN } else { 0 });
    monitor.write32(0, SMR + 4 * index, filter);
    monitor.write32(0, CNTENSET, 1 << index);
    monitor.write32(0, CR, 1);
}

fn value(machine: &mut Machine, index: u32) -> u32 {
    monitor(machine).read32(0, EVCNTR + 4 * index)
}

#[test]
fn transactions_misses_and_accesses_are_counted() {
    let mut machine = with(SMALL);
    assert_eq!(monitor(&mut machine).read32(0, CFGR), 0x1f03);
    for (index, event) in [1, 2, 4, 5].into_iter().enumerate() {
        set(&mut machine, index as u32, event, ANY, true);
    }
    assert_eq!(machine.read(VA), Some(PA));
    assert_eq!(machine.read(VA), Some(PA));
    // Two transactions, one miss; a walk of four levels; an STE and a CD.
    let values: Vec<u32> = (0..4).map(|index| value(&mut machine, index)).collect();
    assert_eq!(values, [2, 1, 4, 2]);
    monitor(&mut machine).write32(0, CNTENCLR, 1);
    monitor(&mut machine).write32(0, EVCNTR + 4, 7);
    machine.read(VA);
    assert_eq!((value(&mut machine, 0), value(&mut machine, 1)), (2, 7));
    // Off, nothing counts.
    monitor(&mut machine).write32(0, CR, 0);
    monitor(&mut machine).write32(0, CNTENSET, 1);
    machine.read(VA);
    assert_eq!(value(&mut machine, 0), 2);
}

#[test]
fn streams_are_filtered_exactly_or_by_a_mask() {
    let mut machine = with(SMALL);
    set(&mut machine, 0, 1, 5, false);
    // ...0111 with bits above: 0x10 to 0x1f.
    set(&mut machine, 1, 1, 0x17, true);
    set(&mut machine, 2, 1, ANY, false);
    for stream in [5, 4, 0x0f, 0x10, 0x18, 0x1f, 0x20] {
        let _ = machine.translate(Access::read(stream, VA));
    }
    assert_eq!((value(&mut machine, 0), value(&mut machine, 1), value(&mut machine, 2)), (1, 3, 0));
    // One filter for all: the first's.
    let mut machine = with(SMALL.with_sid_filter_type(true));
    set(&mut machine, 1, 1, ANY, true);
    set(&mut machine, 0, 1, 5, false);
    for stream in [5, 6] {
        let _ = machine.translate(Access::read(stream, VA));
    }
    assert_eq!((value(&mut machine, 0), value(&mut machine, 1)), (1, 1));
}

#[test]
fn an_overflow_is_noted_and_interrupts_where_that_is_wanted() {
    let mut machine = with(SMALL.with_size(15).with_msi(true));
    set(&mut machine, 0, 1, ANY, true);
    set(&mut machine, 1, 1, ANY, true);
    let all = |machine: &mut Machine, offset, value| monitor(machine).write32(0, offset, value);
    all(&mut machine, EVCNTR, 0xffff);
    all(&mut machine, EVCNTR + 4, 0xfffe);
    all(&mut machine, INTENSET, 0b10);
    all(&mut machine, IRQ_CTRL, 1);
    let message = RAM + 0x60_0000;
    machine.put(message, u64::MAX);
    all(&mut machine, IRQ_CFG0, message as u32);
    machine.read(VA);
    assert_eq!((monitor(&mut machine).read32(0, OVSSET), value(&mut machine, 0)), (0b01, 0));
    assert!(!monitor(&mut machine).interrupt());
    machine.read(VA);
    assert_eq!(monitor(&mut machine).read32(0, OVSSET), 0b11);
    assert!(monitor(&mut machine).interrupt());
    assert_eq!(machine.get(message), 0xffff_ffff_0000_0000);
    all(&mut machine, OVSCLR, 0b01);
    assert_eq!(monitor(&mut machine).read32(0, OVSSET), 0b10);
}

#[test]
fn wide_counters_are_eight_bytes_apart_and_may_be_in_page_1() {
    let mut machine = with(PmcgCfgr(63 << 8 | 1).with_reloc_ctrs(true));
    let monitor = machine.smmu.monitor().unwrap();
    monitor.write32(0, 8, 5);
    assert_eq!(monitor.read32(1, 8), 0, "counters are in page 1");
    monitor.write32(1, 8, 5);
    monitor.write32(1, 12, 6);
    assert_eq!((monitor.read32(1, 8), monitor.read32(1, 12)), (5, 6));
    assert_eq!((monitor.read32(0, CFGR), monitor.read32(1, CFGR)), (0x10_3f01, 0));
    monitor.write32(1, OVSSET, 0b111);
    assert_eq!(monitor.read32(1, OVSCLR), 0b11, "there are two");
}
