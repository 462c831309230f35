// SPDX-License-Identifier: MIT OR Apache-2.0
//! The driver's performance monitors on the model's counter groups (§18).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use smmuv3::pmcg::{Event, Filter, Group, PmcgError};
use smmuv3::{Destination, Message, Mmio, PhysAddr, StreamId};
use smmuv3_formats::register::{PmcgCfgr, PmcgIrqCtrl, PmcgIrqCtrlAck};
use smmuv3_model::{Access, Model, Monitor, Profile, Ram};

type Smmu = Model<Ram>;

/// A page of a group's registers.
struct Page(Arc<Mutex<Smmu>>, u32);

impl Mmio for Page {
    fn read32(&self, offset: u32) -> u32 {
        self.0.lock().unwrap().monitor().unwrap().read32(self.1, offset)
    }

    fn write32(&self, offset: u32, value: u32) {
        self.0.lock().unwrap().monitor().unwrap().write32(self.1, offset, value);
    }
}

fn machine(cfgr: PmcgCfgr) -> Arc<Mutex<Smmu>> {
    let mut smmu = Smmu::new(Profile::default(), Ram::new(0x8000_0000, 0x1_0000), 1);
    smmu.set_monitor(Monitor::new(cfgr));
    Arc::new(Mutex::new(smmu))
}

fn group(smmu: &Arc<Mutex<Smmu>>) -> Group<Page> {
    Group::new(Page(smmu.clone(), 0), Some(Page(smmu.clone(), 1))).unwrap()
}

/// The SMMU is off: transactions pass, and are transactions.
fn transactions(smmu: &Arc<Mutex<Smmu>>, stream: u32, times: usize) {
    for _ in 0..times {
        let _ = smmu.lock().unwrap().translate(Access::read(stream, 0x8000_0000));
    }
}

/// Four counters of 32 bits.
const SMALL: PmcgCfgr = PmcgCfgr(31 << 8 | 3);

#[test]
fn a_group_counts_what_it_is_told_to() {
    let smmu = machine(SMALL);
    let mut group = group(&smmu);
    assert_eq!((group.counters(), group.bits()), (4, 32));
    assert!(group.counts(Event::TLB_MISS) && !group.counts(Event::ATS_REQUEST));
    group.count(0, Event::TRANSACTION, Filter::Any).unwrap();
    group.count(1, Event::TRANSACTION, Filter::Stream(StreamId(5))).unwrap();
    let some = Filter::Streams { first: StreamId(8), log2: 2 };
    group.count(2, Event::TRANSACTION, some).unwrap();
    transactions(&smmu, 5, 3);
    assert_eq!(group.read(0), Ok(0), "it was not started");
    group.start();
    transactions(&smmu, 5, 3);
    transactions(&smmu, 11, 2);
    transactions(&smmu, 12, 1);
    assert_eq!([0, 1, 2].map(|counter| group.read(counter)), [Ok(6), Ok(3), Ok(2)]);
    group.release(1).unwrap();
    group.count(0, Event::TRANSACTION, Filter::Any).unwrap();
    transactions(&smmu, 5, 1);
    assert_eq!([0, 1].map(|counter| group.read(counter)), [Ok(1), Ok(3)]);
    group.stop();
    transactions(&smmu, 5, 1);
    assert_eq!(group.read(0), Ok(1));
}

#[test]
fn what_cannot_be_counted_is_refused() {
    let smmu = machine(SMALL.with_sid_filter_type(true));
    let mut group = group(&smmu);
    let one = Filter::Stream(StreamId(5));
    let (counter, counters) = (4, 4);
    let refused = group.count(4, Event::CYCLE, one);
    assert_eq!(refused, Err(PmcgError::NoCounter { counter, counters }));
    let event = Event::ATS_TRANSLATED;
    assert_eq!(group.count(0, event, one), Err(PmcgError::NoEvent { event }));
    // One filter for all counters.
    group.count(2, Event::TRANSACTION, one).unwrap();
    let other = group.count(1, Event::TRANSACTION, Filter::Any);
    assert_eq!(other, Err(PmcgError::OneFilter { filter: one }));
    group.count(1, Event::TRANSACTION, one).unwrap();
    group.start();
    transactions(&smmu, 5, 2);
    transactions(&smmu, 6, 2);
    assert_eq!([1, 2].map(|counter| group.read(counter)), [Ok(2), Ok(2)]);
    // The only one that counts may change it.
    group.release(2).unwrap();
    group.count(1, Event::TRANSACTION, Filter::Any).unwrap();
    let page_0 = Page(machine(SMALL.with_reloc_ctrs(true)), 0);
    assert_eq!(Group::new(page_0, None).map(drop).unwrap_err(), PmcgError::NoPage1);
    // SAFETY: the group's memory is the test's.
    let message = unsafe { Message::new(PhysAddr(0x8000_0000), 1) };
    assert_eq!(group.set_interrupt(true, Some(message)), Err(PmcgError::NoMessages));
}

#[test]
fn overflows_are_added_up() {
    // One counter of 4 bits, in page 1.
    let smmu = machine(PmcgCfgr(3 << 8).with_reloc_ctrs(true));
    let mut group = group(&smmu);
    group.count(0, Event::TRANSACTION, Filter::Any).unwrap();
    group.set_interrupt(true, None).unwrap();
    group.start();
    let mut counted = 0;
    for times in [15, 1, 3, 16, 15, 20, 2] {
        transactions(&smmu, 1, times);
        counted += times as u64;
        assert_eq!(group.read(0), Ok(counted), "after {times} more");
    }
    transactions(&smmu, 1, 10);
    assert!(smmu.lock().unwrap().monitor().unwrap().interrupt());
    assert_eq!(group.handle_interrupt(), 1);
    transactions(&smmu, 1, 12);
    assert_eq!(group.read(0), Ok(counted + 22));
    let (page_0, _) = group.close();
    transactions(&smmu, 1, 1);
    assert_eq!(page_0.read32(0xc00), 0);
}

#[test]
fn wide_counters_keep_their_upper_half() {
    let smmu = machine(PmcgCfgr(63 << 8 | 40));
    let mut group = group(&smmu);
    assert_eq!((group.counters(), group.bits()), (41, 64));
    group.count(40, Event::TRANSACTION, Filter::Any).unwrap();
    group.start();
    smmu.lock().unwrap().monitor().unwrap().write32(0, 40 * 8, u32::MAX);
    transactions(&smmu, 1, 3);
    assert_eq!(group.read(40), Ok((1 << 32) + 2));
}

/// Registers that hold what is written, of a group that sends messages.
#[derive(Clone, Default)]
struct Plain(Arc<Mutex<BTreeMap<u32, u32>>>);

impl Mmio for Plain {
    fn read32(&self, offset: u32) -> u32 {
        match offset {
            PmcgCfgr::OFFSET => SMALL.with_msi(true).0,
            PmcgIrqCtrlAck::OFFSET => self.read32(PmcgIrqCtrl::OFFSET),
            _ => self.0.lock().unwrap().get(&offset).copied().unwrap_or(0),
        }
    }

    fn write32(&self, offset: u32, value: u32) {
        self.0.lock().unwrap().insert(offset, value);
    }
}

#[test]
fn overflows_tell_by_the_message_that_is_given() {
    let registers = Plain::default();
    let mut group = Group::new(registers.clone(), None).unwrap();
    let configured = || [0xe58, 0xe5c, 0xe60, 0xe64].map(|offset| registers.read32(offset));
    // SAFETY: it is sent by nobody.
    let message = unsafe { Message::new(PhysAddr(0x8_8000_1000), 0x55) };
    group.set_interrupt(true, Some(message)).unwrap();
    // Device-nGnRE.
    assert_eq!(configured(), [0x8000_1000, 8, 0x55, 0x01]);
    // Write-back, inner shareable.
    group.set_interrupt(true, Some(message.to(Destination::Memory))).unwrap();
    assert_eq!(configured(), [0x8000_1000, 8, 0x55, 0x3f]);
    group.set_interrupt(true, None).unwrap();
    assert_eq!(configured()[..2], [0, 0]);
}
