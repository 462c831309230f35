// SPDX-License-Identifier: MIT OR Apache-2.0
//! Level-1 descriptors of another driver's making: leaves that end early, codes that mean none, and sizes and places that
//! lie (§5.1).

use smmuv3::{AddMasterError, Interrupt, Report};
use smmuv3_formats::{EventId, L1Std, Ste};

use super::*;

/// Bits of a StreamID within a leaf of the driver's own.
const SPLIT: u32 = 8;

impl Crashed {
    /// Where the level-1 descriptor of a stream is.
    fn descriptor(&self, stream: u32) -> u64 {
        self.table.0.addr() + 8 * u64::from(stream >> SPLIT)
    }

    /// As some driver might have left them while it was off.
    fn set_table(&self, base: StrtabBase, shape: StrtabBaseCfg) {
        let cr0 = Cr0(self.machine.read32(0, Cr0::OFFSET));
        let switch = |on: bool| {
            self.machine.write32(0, Cr0::OFFSET, cr0.with_smmuen(on).0);
            while Cr0(self.machine.read32(0, Cr0::OFFSET + 4)).smmuen() != on {
                self.machine.wait();
            }
        };
        switch(false);
        self.machine.write64(0, StrtabBase::OFFSET, base.0);
        self.machine.write32(0, StrtabBaseCfg::OFFSET, shape.0);
        switch(true);
    }

    fn set_span(&self, stream: u32, span: u64) {
        let at = self.descriptor(stream);
        self.put(at, L1Std([self.get(at)]).with_span(span).0[0]);
    }
}

#[test]
fn streams_beyond_the_end_of_a_leaf_cannot_be_added_and_those_before_it_can() {
    let crashed = crash(11, |profile| profile);
    assert_eq!(crashed.table.1.split(), u64::from(SPLIT));
    // Its leaf has 8 entries from now on: those of NET and IDLE, and up to the eighth.
    crashed.set_span(NET, 4);
    crashed.machine.model(0).unwrap().run(usize::MAX);
    let iommu = crashed.successor(AsidPolicy::PerInstance);
    let (count, smmu) = adopted(&crashed, &iommu, |_| true);
    assert_eq!(count, 3);
    let add = |stream| iommu.add_master(&smmu, &[StreamId(stream)], MasterConfig::default());
    let beyond = add(8).map(drop).unwrap_err();
    assert_eq!(beyond, AddMasterError::OutOfRange { stream: StreamId(8), bits: 10 });
    let domain = iommu.create_domain(DomainConfig::default()).unwrap();
    map(&domain, crashed.memory + 2 * PAGE);
    let masters = [7, IDLE].map(|stream| add(stream).unwrap());
    for (master, stream) in masters.iter().zip([7, IDLE]) {
        assert_eq!(crashed.reach(stream), None);
        iommu.attach(master, &domain).unwrap();
        assert_eq!(crashed.reach(stream), Some(crashed.memory + 2 * PAGE));
    }
    // Beyond it hardware finds none either, and its neighbour goes on.
    assert_eq!(crashed.reach(8), None);
    assert_eq!(crashed.reach(NET), Some(crashed.memory));
    crashed.no_misuse();
}

/// 0, what exceeds the split, and what is reserved, are all no leaf (§5.1): the driver puts its own there.
#[test]
fn every_code_that_means_no_leaf_makes_room_for_one() {
    for span in [0, u64::from(SPLIT) + 2, 11, 12, 31] {
        let crashed = crash(12, |profile| profile);
        // What is left of the descriptor looks like the leaf of another.
        let at = crashed.descriptor(NEW);
        crashed.put(at, L1Std([crashed.get(crashed.descriptor(NET))]).with_span(span).0[0]);
        let iommu = crashed.successor(AsidPolicy::PerInstance);
        let (count, smmu) = adopted(&crashed, &iommu, |_| true);
        assert_eq!((count, crashed.reach(NEW)), (3, None), "{span}");
        let master = iommu.add_master(&smmu, &[StreamId(NEW)], MasterConfig::default()).unwrap();
        assert_eq!(crashed.reach(NEW), None, "{span}");
        let domain = iommu.create_domain(DomainConfig::default()).unwrap();
        map(&domain, crashed.memory + 2 * PAGE);
        iommu.attach(&master, &domain).unwrap();
        assert_eq!(crashed.reach(NEW), Some(crashed.memory + 2 * PAGE), "{span}");
        // A new leaf, not the one of NET.
        assert_ne!(crashed.get(at) & !0x3f, crashed.get(crashed.descriptor(NET)) & !0x3f);
        assert_eq!(crashed.reach(NET), Some(crashed.memory), "{span}");
        crashed.no_misuse();
    }
}

/// What the driver has put beside what was there before goes with it, and nothing else does.
#[test]
fn leaves_of_its_own_are_freed_in_the_end_and_those_of_before_are_not() {
    let crashed = crash(15, |profile| profile);
    let live = || crashed.world.frames().live_bytes();
    let (before, leaf) = (live(), crashed.get(crashed.descriptor(NET)));
    let iommu = crashed.successor(AsidPolicy::PerInstance);
    let (_, smmu) = adopted(&crashed, &iommu, |_| true);
    let domain = iommu.create_domain(DomainConfig::default()).unwrap();
    map(&domain, crashed.memory + 2 * PAGE);
    for stream in [NEW, IDLE] {
        let master = iommu.add_master(&smmu, &[StreamId(stream)], MasterConfig::default()).unwrap();
        iommu.attach(&master, &domain).unwrap();
        assert_eq!(crashed.reach(stream), Some(crashed.memory + 2 * PAGE));
        iommu.detach(&master).unwrap();
        assert!(master.close().is_ok());
    }
    assert_ne!(crashed.get(crashed.descriptor(NEW)), 0);
    assert!(domain.close().is_ok());
    iommu.end_adoption(&smmu).unwrap();
    assert!(iommu.remove(smmu).is_ok());
    drop(iommu);
    assert_eq!(live(), before);
    assert_eq!(crashed.world.frames().bad_frees(), 0);
    assert_eq!(crashed.get(crashed.descriptor(NEW)), 0, "it leads nowhere");
    assert_eq!(crashed.get(crashed.descriptor(NET)), leaf);
    crashed.no_misuse();
}

/// The leaf of another that ends early works on: what was there goes on, and nothing beyond is looked at.
#[test]
fn what_lies_beyond_a_leaf_is_not_believed() {
    let crashed = crash(13, |profile| profile);
    // An entry that is nonsense, and that nobody reads.
    let beyond = crashed.entry(9);
    crashed.put(beyond, Ste::default().with_v(true).with_config(7).0[0] | 31 << 59);
    let error = crashed.adopt(&crashed.everything()).unwrap_err();
    assert!(matches!(error, AdoptError::Entry { stream: StreamId(9), .. }), "{error}");
    crashed.set_span(NET, 4);
    assert_eq!(crashed.adopt(&crashed.everything()), Ok(3));
}

/// A leaf may have room for more streams than the table is for: hardware has none there, whatever it says (§5.1).
#[test]
fn what_lies_beyond_the_table_is_not_believed() {
    let crashed = crash(15, |profile| profile);
    let beyond = crashed.entry(200);
    crashed.put(beyond, Ste::default().with_v(true).with_config(7).0[0] | 31 << 59);
    let error = crashed.adopt(&crashed.everything()).unwrap_err();
    assert!(matches!(error, AdoptError::Entry { stream: StreamId(200), .. }), "{error}");
    let shape = crashed.table.1;
    assert_eq!(shape.split(), 8);
    crashed.set_table(crashed.table.0, shape.with_log2size(7));
    // One of the three that worked is in it.
    assert_eq!(crashed.adopt(&crashed.everything()), Ok(1));
    crashed.no_misuse();
}

#[test]
fn sizes_and_places_that_lie_are_refused_and_everything_aborts() {
    let registers = |base: StrtabBase, shape: StrtabBaseCfg| {
        let crashed = crash(14, |profile| profile);
        crashed.set_table(base, shape);
        refused(&crashed, &crashed.everything())
    };
    let (base, shape) = crash(14, |profile| profile).table;
    let what = Structure::StreamTable;
    // More streams than there are, a split that is none, a format that is reserved.
    for wrong in [shape.with_log2size(11), shape.with_split(7), shape.with_fmt(2)] {
        let strtab_base_cfg = wrong.0;
        assert_eq!(registers(base, wrong), AdoptError::Shape { strtab_base_cfg });
    }
    // In no memory.
    let nowhere = StrtabBase::default().with_addr(0x10_0000_0000);
    let error = registers(nowhere, shape);
    assert_eq!(error, AdoptError::Outside { what, pa: 0x10_0000_0000 });
    // Contexts that are the stream table, or a part of it.
    let crashed = crash(14, |profile| profile);
    let entry = crashed.entry(NET);
    let inside = crashed.entry(IDLE);
    crashed.put(entry, crashed.get(entry) & !0x00ff_ffff_ffff_ffc0 | inside);
    let error = refused(&crashed, &crashed.everything());
    assert!(matches!(error, AdoptError::Overlap { .. } | AdoptError::Context { .. }), "{error}");
    // A leaf of contexts that is the table that leads to it.
    let crashed = crash(14, |profile| profile);
    let contexts = crashed.get(crashed.entry(DISK)) & 0x00ff_ffff_ffff_ffc0;
    crashed.put(crashed.entry(DISK), crashed.get(crashed.entry(DISK)) & !0x30 | 1 << 4);
    crashed.put(contexts, contexts & !0xfff | 1);
    let error = refused(&crashed, &crashed.everything());
    let named = matches!(
        error,
        AdoptError::Entry { .. } | AdoptError::Context { .. } | AdoptError::Overlap { .. }
    );
    assert!(named, "{error}");
}

/// Whether accesses of streams without an entry are recorded can be changed only while nothing is translated (CR2, §2.4): it
/// stays as it was, until a reset.
#[test]
fn whether_streams_without_a_leaf_are_reported_stays_as_it_was_until_a_reset() {
    for recorded in [true, false] {
        let crashed = crash(29, |profile| profile);
        let enable = |on: bool| {
            let cr0 = Cr0(crashed.machine.read32(0, Cr0::OFFSET)).with_smmuen(on);
            crashed.machine.write32(0, Cr0::OFFSET, cr0.0);
            while Cr0(crashed.machine.read32(0, Cr0Ack::OFFSET)).smmuen() != on {
                crashed.machine.act();
            }
        };
        enable(false);
        let cr2 = Cr2(crashed.machine.read32(0, Cr2::OFFSET));
        assert!(cr2.recinvsid());
        crashed.machine.write32(0, Cr2::OFFSET, cr2.with_recinvsid(recorded).0);
        enable(true);
        let iommu = crashed.successor(AsidPolicy::PerInstance);
        let (_, smmu) = adopted(&crashed, &iommu, |_| true);
        let told = || {
            assert_eq!(crashed.reach(NEW), None);
            let mut told = Vec::new();
            let mut sink = |report| match report {
                Report::Event(record) => told.push((record.event(), record.sid())),
                other => panic!("{other:?}"),
            };
            while iommu.handle_interrupt(&smmu, Interrupt::Events, 8, &mut sink) {}
            told
        };
        let bad = [(Some(EventId::CBadStreamId), NEW.into())];
        assert_eq!(told(), if recorded { &bad[..] } else { &[] }, "{recorded}");
        iommu.reset(&smmu).unwrap();
        assert_eq!(crashed.reach(NET), Some(crashed.memory));
        assert_eq!(told(), bad, "{recorded}");
    }
}
