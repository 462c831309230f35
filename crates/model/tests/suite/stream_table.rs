// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stream table lookup, and what STEs mean (§5.1, §5.2, §9).

use smmuv3_formats::EventId;
use smmuv3_formats::command::CfgiSte;
use smmuv3_model::{Access, Misuse, Reason};

use crate::machine::*;

#[test]
fn while_disabled_traffic_bypasses_or_aborts_as_gbpa_says() {
    let mut machine = Machine::reset(quiet(), 1);
    let found = machine.translate(Access::read(1, 0x1234)).unwrap();
    assert_eq!((found.pa, found.tag), (0x1234, None));
    // Beyond the output size: aborted without an event.
    let refusal = machine.translate(Access::read(1, 1 << 44)).unwrap_err();
    assert_eq!((refusal.reason, refusal.event), (Reason::Disabled, None));
    machine.smmu.write32(GBPA, 1 << 31 | 1 << 20);
    assert_eq!(machine.smmu.read32(GBPA), 1 << 20);
    assert!(machine.translate(Access::read(1, 0x1234)).is_err());
}

#[test]
fn streams_beyond_the_table_are_bad_and_reported_if_asked() {
    let mut machine = Machine::new(quiet(), 1);
    let refusal = machine.translate(Access::read(64, 0)).unwrap_err();
    assert_eq!(refusal.reason, Reason::Event(EventId::CBadStreamId));
    assert_eq!(machine.events()[0].0, [0x0000_0040_0000_0002, 0, 0, 0]);
    // RECINVSID off: the same, silently.
    machine.switch(0b1100);
    machine.smmu.write32(CR2, 0);
    machine.switch(0b1101);
    let refusal = machine.translate(Access::read(64, 0)).unwrap_err();
    assert_eq!(refusal.event, None);
    assert_eq!(machine.events(), []);
}

#[test]
fn the_table_is_never_larger_than_sidsize() {
    let mut machine = Machine::new(quiet().sidsize(4), 1);
    machine.smmu.observations();
    let refusal = machine.translate(Access::read(16, 0)).unwrap_err();
    assert_eq!(refusal.reason, Reason::Event(EventId::CBadStreamId));
    let refusal = machine.translate(Access::read(15, 0)).unwrap_err();
    assert_eq!(refusal.reason, Reason::Event(EventId::CBadSte));
}

#[test]
fn a_misaligned_base_loses_its_low_bits_and_is_reported() {
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    machine.switch(0b1100);
    machine.smmu.write64(STRTAB_BASE, STRTAB | 0x40);
    machine.smmu.observations();
    machine.switch(0b1101);
    assert_eq!(
        machine.misuses(),
        [Misuse::Misaligned { offset: STRTAB_BASE, value: STRTAB | 0x40 }]
    );
    assert_eq!(machine.read(VA), Some(PA));
}

#[test]
fn entries_abort_bypass_or_are_bad() {
    let mut machine = Machine::new(quiet(), 1);
    machine.ste(1, [1, 0, 0, 0, 0, 0, 0, 0]);
    machine.ste(2, [9, 1 << 44, 0, 0, 0, 0, 0, 0]);
    let refusal = machine.translate(Access::read(1, 0x1000)).unwrap_err();
    assert_eq!((refusal.reason, refusal.event), (Reason::Config, None));
    assert_eq!(machine.translate(Access::read(2, 0x1000)).unwrap().pa, 0x1000);
    assert_eq!(machine.events(), []);
    // Bypass beyond the output size is a stage-1 F_ADDR_SIZE.
    assert!(machine.translate(Access::write(2, 1 << 44)).is_err());
    assert_eq!(machine.events()[0].0, [0x0000_0002_0000_0011, 0x200_0000_0000, 1 << 44, 0]);
    // Bypass has no substreams.
    let access = Access { substream: Some(7), ..Access::read(2, 0) };
    assert!(machine.translate(access).is_err());
    assert_eq!(machine.events()[0].0, [0x0000_0002_0000_7008, 0, 0, 0]);
    assert!(machine.translate(Access::read(3, 0)).is_err());
    assert_eq!(machine.events()[0].0, [0x0000_0003_0000_0004, 0, 0, 0]);
}

#[test]
fn two_levels_lead_to_the_same_entries() {
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    machine.switch(0b1100);
    // 2^8 streams, SPLIT 6: four L1 descriptors.
    let (l1, l2) = (0x8030_0000, 0x8031_0000);
    machine.smmu.write64(STRTAB_BASE, l1);
    machine.smmu.write32(STRTAB_BASE_CFG, 8 | 6 << 6 | 1 << 16);
    machine.switch(0b1101);
    // Descriptor 1: 2^(4-1) = 8 STEs.
    machine.put(l1 + 8, l2 | 4);
    for (index, word) in ste_words(CD).into_iter().enumerate() {
        machine.put(l2 + 5 * 64 + 8 * index as u64, word);
    }
    assert_eq!(machine.translate(Access::read(64 + 5, VA)).map(|t| t.pa).ok(), Some(PA));
    for invalid in [5, 64 + 8, 128, 255, 256] {
        let refusal = machine.translate(Access::read(invalid, VA)).unwrap_err();
        assert_eq!(refusal.reason, Reason::Event(EventId::CBadStreamId), "{invalid}");
    }
    // The invalid descriptor 0 is cached now: only Leaf = 0 forgets it.
    machine.put(l1, l2 | 4);
    let bad = |machine: &mut Machine| {
        machine.translate(Access::read(5, VA)).err().map(|refusal| refusal.reason)
    };
    let stale = Some(Reason::Event(EventId::CBadStreamId));
    machine.command(cfgi_ste(5));
    machine.sync();
    assert_eq!(bad(&mut machine), stale);
    machine.command(CfgiSte::new().with_sid(5));
    machine.sync();
    assert_eq!(bad(&mut machine), None);
    // Spans that do not fit SPLIT are invalid.
    for span in [0, 8, 12, 31] {
        machine.put(l1 + 16, l2 | span);
        machine.command(CfgiSte::new().with_sid(128));
        machine.sync();
        let refusal = machine.translate(Access::read(128, VA)).unwrap_err();
        assert_eq!(refusal.reason, Reason::Event(EventId::CBadStreamId), "Span {span}");
    }
}

#[test]
fn disabling_keeps_the_caches() {
    let mut machine = Machine::new(quiet(), 1);
    machine.a1();
    assert_eq!(machine.read(VA), Some(PA));
    machine.switch(0b1100);
    machine.ste(SID, [0; 8]);
    machine.put(leaf_slot(L0), 0);
    assert_eq!(machine.read(VA), Some(VA), "bypass");
    machine.switch(0b1101);
    assert_eq!(machine.read(VA), Some(PA), "stale");
}
