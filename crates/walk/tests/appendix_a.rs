// SPDX-License-Identifier: MIT OR Apache-2.0
//! The worked vectors of the reference's appendix A, and what must not translate.

use smmuv3_formats::register::{StrtabBase, StrtabBaseCfg};
use smmuv3_formats::{EventId, EventRecord};
use smmuv3_walk::{Access, Ending, Outcome, Smmu, Translation, Walk, What, Words, walk};

const VA: u64 = 0x0000_0012_3456_7000;
const STREAM: u32 = 5;
const STE: u64 = 0x8000_0000 + 64 * STREAM as u64;
const CD: u64 = 0x8002_0000;
const LEAF: u64 = 0x8001_3b38;

/// SMMUv3.2: stage 1 and 2, OAS 44, 16-bit ASIDs unless said otherwise, terminate only.
fn smmu() -> Smmu {
    let mut smmu = Smmu::with_everything(StrtabBase(0x8000_0000), StrtabBaseCfg(6));
    let all = &mut smmu.implementation;
    all.idr0 = all.idr0.with_stall_model(1).with_term_model(true).with_httu(0);
    all.idr5 = all.idr5.with_oas(4).with_vax(0).with_ds(false);
    smmu
}

/// A1: stage 1, 4 KiB granule, 48-bit VA.
fn a1() -> Words {
    let mut memory = Words::new().with_range(0x8000_0000, 0x10_0000);
    memory.write_words(STE, &[0x0000_0000_8002_000b, 0xd4]);
    memory.write_words(CD, &[0x0005_e204_c000_3510, 0x8001_0000, 0, 0x0004_44ff]);
    memory.write64(0x8001_0000, 0x8001_1003);
    memory.write64(0x8001_1240, 0x8001_2003);
    memory.write64(0x8001_2d10, 0x8001_3003);
    memory.write64(LEAF, 0x0060_0000_9000_0f43);
    memory
}

#[track_caller]
fn translated(found: &Walk) -> &Translation {
    match &found.outcome {
        Outcome::Translated(translation) => translation,
        other => panic!("{other:x?}"),
    }
}

/// The event, recorded, of an aborted access.
#[track_caller]
fn fault(memory: &Words, smmu: &Smmu, access: Access) -> EventRecord {
    match walk(memory, smmu, access).outcome {
        Outcome::Fault(fault) => {
            assert!(fault.recorded && fault.ending == Ending::Abort, "{fault:x?}");
            assert_eq!(fault.event.0[0] & 0xff, fault.id as u64);
            fault.event
        }
        other => panic!("{other:x?}"),
    }
}

/// Word 0 of an event of [`STREAM`].
fn head(id: EventId) -> u64 {
    (u64::from(STREAM) << 32) | id as u64
}

#[test]
fn a1_translates_through_the_descriptors_of_the_table() {
    let found = walk(&a1(), &smmu(), Access::read(STREAM, VA | 0x123));
    let translation = translated(&found);
    assert_eq!(translation.address, 0x9000_0123);
    assert_eq!(translation.bytes_log2, 12);
    assert_eq!(translation.permissions.to_string(), "rw-");
    assert_eq!(translation.attributes.to_string(), "Normal WB, ISH");
    assert_eq!(translation.updates, [""; 0]);
    let at: Vec<_> = found.steps.iter().map(|step| (step.address.unwrap(), step.index)).collect();
    let expected = [
        (STE, STREAM.into()),
        (CD, 0),
        (0x8001_0000, 0x000),
        (0x8001_1240, 0x048),
        (0x8001_2d10, 0x1a2),
        (LEAF, 0x167),
    ];
    assert_eq!(at, expected);
    assert_eq!(found.steps[1].what, What::Cd);
    assert_eq!(found.steps[5].level, Some(3));
    assert_eq!(found.steps[5].words, [0x0060_0000_9000_0f43]);
    assert_eq!(translated(&walk(&a1(), &smmu(), Access::write(STREAM, VA))).address, 0x9000_0000);
}

#[test]
fn a1_gives_every_negative_result_of_the_table() {
    let read = Access::read(STREAM, VA);
    let write = Access::write(STREAM, VA);
    let change = |at, word| {
        let mut memory = a1();
        memory.write64(at, word);
        memory
    };
    let smmu = smmu();
    // V of the CD is clear.
    let event = fault(&change(CD, 0x0005_e204_4000_3510), &smmu, read);
    assert_eq!(event.0, [head(EventId::CBadCd), 0, 0, 0]);
    // An ASID of 9 bits, where there are 8.
    let mut narrow = smmu;
    narrow.implementation.idr0 = narrow.implementation.idr0.with_asid16(false);
    let event = fault(&change(CD, 0x0105_e204_c000_3510), &narrow, read);
    assert_eq!(event.0, [head(EventId::CBadCd), 0, 0, 0]);
    translated(&walk(&change(CD, 0x0105_e204_c000_3510), &smmu, read));
    // AF is clear.
    let event = fault(&change(LEAF, 0x0060_0000_9000_0b43), &smmu, read);
    assert_eq!(event.0, [head(EventId::FAccess), 0x208_0000_0000, VA, 0]);
    // Read-only.
    let read_only = change(LEAF, 0x0060_0000_9000_0fc3);
    let event = fault(&read_only, &smmu, write);
    assert_eq!(event.0, [head(EventId::FPermission), 0x200_0000_0000, VA, 0]);
    translated(&walk(&read_only, &smmu, read));
    // Outside the lower half, and in the upper one, which is off.
    let address = 0x0001_0000_0000_0000;
    let event = fault(&a1(), &smmu, Access::read(STREAM, address));
    assert_eq!(event.0, [head(EventId::FTranslation), 0x208_0000_0000, address, 0]);
    let address = 0xffff_0000_1234_5678;
    let event = fault(&a1(), &smmu, Access::write(STREAM, address));
    assert_eq!(event.0, [head(EventId::FTranslation), 0x200_0000_0000, address, 0]);
    // An output of 45 bits, where there are 44.
    let event = fault(&change(LEAF, 0x0060_1000_9000_0f43), &smmu, read);
    assert_eq!(event.0, [head(EventId::FAddrSize), 0x208_0000_0000, VA, 0]);
    // No execution, with or without privilege.
    for privileged in [false, true] {
        let fetch = Access { instruction: true, privileged, ..read };
        let event = fault(&a1(), &smmu, fetch);
        let flags = 0x20c_0000_0000 | u64::from(privileged) << 33;
        assert_eq!(event.0, [head(EventId::FPermission), flags, VA, 0]);
    }
}

/// A2: stage 2, 40-bit IPA, two concatenated tables.
const A2_W2: u64 = 0x040c_3558_0000_0007;
const A2_W3: u64 = 0x8004_0000;

fn a2_tables(memory: &mut Words, ipa: u64, leaf: u64) {
    memory.write64(0x8004_0000 + 8 * (ipa >> 30), 0x8004_2003);
    memory.write64(0x8004_2000 + 8 * (ipa >> 21 & 0x1ff), 0x8004_3003);
    memory.write64(0x8004_3000 + 8 * (ipa >> 12 & 0x1ff), leaf);
}

/// A stage-2 page: read and write, WB, ISH, AF, never executed.
const fn page(address: u64) -> u64 {
    address | 0b10 << 53 | 1 << 10 | 0b11 << 8 | 0b11 << 6 | 0b1111 << 2 | 0b11
}

fn a2() -> Words {
    let mut memory = Words::new().with_range(0x8000_0000, 0x10_0000);
    memory.write_words(STE, &[0xd, 0x0000_1000_0000_0000, A2_W2, A2_W3]);
    a2_tables(&mut memory, 0xff_1234_5000, page(0x9000_0000));
    memory
}

#[test]
fn a2_begins_in_the_second_of_two_concatenated_tables() {
    let found = walk(&a2(), &smmu(), Access::write(STREAM, 0xff_1234_5678));
    assert_eq!(translated(&found).address, 0x9000_0678);
    let at: Vec<_> = found
        .steps
        .iter()
        .skip(1)
        .map(|step| (step.level.unwrap(), step.index, step.address.unwrap()))
        .collect();
    assert_eq!(at, [(1, 0x3fc, 0x8004_1fe0), (2, 0x91, 0x8004_2488), (3, 0x145, 0x8004_3a28)]);
    assert_eq!(translated(&found).attributes.to_string(), "Normal WB, ISH");
}

#[test]
fn a2_refuses_addresses_beyond_its_input() {
    // Within IAS: stage 2 faults. Beyond: there is no such intermediate address.
    let inside = 0x100_0000_0000;
    let event = fault(&a2(), &smmu(), Access::read(STREAM, inside));
    assert_eq!(event.0, [head(EventId::FTranslation), 0x288_0000_0000, inside, inside]);
    let outside = 0x1000_0000_0000;
    let event = fault(&a2(), &smmu(), Access::read(STREAM, outside));
    assert_eq!(event.0, [head(EventId::FAddrSize), 0x208_0000_0000, outside, 0]);
}

#[test]
fn a2_start_levels_must_go_with_the_input_size() {
    let mut memory = a2();
    // 32 concatenated tables.
    memory.write64(STE + 16, 0x040c_3554_0000_0007);
    let event = fault(&memory, &smmu(), Access::read(STREAM, 0));
    assert_eq!(event.0, [head(EventId::CBadSte), 0, 0, 0]);
    // A single table at level 0.
    memory.write64(STE + 16, 0x040c_3598_0000_0007);
    memory.write64(0x8004_0008, 0x8004_2003);
    memory.write64(0x8004_2000 + 8 * 0x1fc, 0x8004_3003);
    memory.write64(0x8004_3000 + 8 * 0x91, 0x8004_4003);
    memory.write64(0x8004_4000 + 8 * 0x145, page(0xa000_0000));
    let found = walk(&memory, &smmu(), Access::read(STREAM, 0xff_1234_5000));
    assert_eq!(translated(&found).address, 0xa000_0000);
    let levels: Vec<_> = found.steps.iter().filter_map(|step| step.level).collect();
    assert_eq!(levels, [0, 1, 2, 3]);
}

/// A3: both stages. Intermediate addresses are the physical ones plus 0xff_0000_0000.
const OFFSET: u64 = 0xff_0000_0000;

fn a3() -> Words {
    let mut memory = Words::new().with_range(0x8000_0000, 0x10_0000);
    memory.write_words(STE, &[(OFFSET + CD) | 0xf, 0xd4 | 1 << 44, A2_W2, A2_W3]);
    memory.write_words(CD, &[0x0005_e204_c000_3510, OFFSET + 0x8001_0000, 0, 0x0004_44ff]);
    memory.write64(0x8001_0000, OFFSET + 0x8001_1003);
    memory.write64(0x8001_1240, OFFSET + 0x8001_2003);
    memory.write64(0x8001_2d10, OFFSET + 0x8001_3003);
    memory.write64(LEAF, 0x0060_00ff_9000_0f43);
    // The intermediate GiBs 0x3fe (configuration and tables) and 0x3fe + the output.
    memory.write64(0x8004_0000 + 8 * 0x3fe, 0x8004_2003);
    memory.write64(0x8004_2000, 0x8004_3003);
    for index in [0x10, 0x11, 0x12, 0x13, 0x20] {
        memory.write64(0x8004_3000 + 8 * index, page(0x8000_0000 + (index << 12)));
    }
    memory.write64(0x8004_2000 + 8 * 0x80, 0x8004_4003);
    memory.write64(0x8004_4000, page(0xa000_0000));
    memory
}

#[test]
fn a3_translates_everything_twice() {
    let found = walk(&a3(), &smmu(), Access::write(STREAM, VA | 0x10));
    assert_eq!(translated(&found).address, 0xa000_0010);
    // STE; CD, L0 to L3, each with three descriptors of stage 2; three for the output.
    assert_eq!(found.steps.len(), 1 + 5 * 4 + 3);
    let cd = &found.steps[1];
    assert_eq!((cd.what, cd.ipa, cd.address), (What::Cd, Some(OFFSET + CD), Some(CD)));
    assert!(found.steps[2..5].iter().all(|step| step.depth == cd.depth + 1));
}

#[test]
fn a3_faults_of_stage_2_say_what_was_being_fetched() {
    let read = Access::read(STREAM, VA);
    let without = |at| {
        let mut memory = a3();
        memory.write64(at, 0);
        fault(&memory, &smmu(), read)
    };
    // CLASS CD, TT and IN, each with its intermediate address.
    let event = without(0x8004_3000 + 8 * 0x20);
    assert_eq!(event.0, [head(EventId::FTranslation), 0x88_0000_0000, VA, OFFSET + CD]);
    let event = without(0x8004_3000 + 8 * 0x12);
    assert_eq!(event.0, [head(EventId::FTranslation), 0x188_0000_0000, VA, OFFSET + 0x8001_2000]);
    let event = without(0x8004_4000);
    assert_eq!(event.0, [head(EventId::FTranslation), 0x288_0000_0000, VA, OFFSET + 0x9000_0000]);
    // Stage 1 faults as if it were alone.
    let event = without(LEAF);
    assert_eq!(event.0, [head(EventId::FTranslation), 0x208_0000_0000, VA, 0]);
}

#[test]
fn a3_permissions_of_both_stages_count() {
    let change = |at, word| {
        let mut memory = a3();
        memory.write64(at, word);
        memory
    };
    // Read-only output of stage 2.
    let read_only = page(0xa000_0000) & !(0b10 << 6);
    let memory = change(0x8004_4000, read_only);
    let event = fault(&memory, &smmu(), Access::write(STREAM, VA));
    assert_eq!(event.0, [head(EventId::FPermission), 0x280_0000_0000, VA, OFFSET + 0x9000_0000]);
    assert_eq!(
        translated(&walk(&memory, &smmu(), Access::read(STREAM, VA))).permissions.to_string(),
        "r--"
    );
    // A table that stage 2 does not let be read: TTRnW is set.
    let memory = change(0x8004_3000 + 8 * 0x11, page(0x8001_1000) & !(0b01 << 6));
    let event = fault(&memory, &smmu(), Access::write(STREAM, VA));
    let flags = 0x180_0000_0000 | 1 << 44;
    // The IPA is that of the page.
    assert_eq!(event.0, [head(EventId::FPermission), flags, VA, OFFSET + 0x8001_1000]);
    // A table in Device memory, with S2PTW.
    let device = page(0x8001_1000) & !(0b1111 << 2);
    let mut memory = change(0x8004_3000 + 8 * 0x11, device);
    translated(&walk(&memory, &smmu(), Access::read(STREAM, VA)));
    memory.write64(STE + 16, A2_W2 | 1 << 54);
    let event = fault(&memory, &smmu(), Access::read(STREAM, VA));
    assert_eq!(event.event(), Some(EventId::FPermission));
    assert_eq!((event.s2(), event.class()), (true, 1));
}

#[test]
fn aborts_name_what_could_not_be_read_and_missing_memory_is_told_apart() {
    let read = Access::read(STREAM, VA);
    let aborts = |memory: Words, at| memory.with_abort(at, 8);
    let event = fault(&aborts(a1(), STE), &smmu(), read);
    assert_eq!(event.0, [head(EventId::FSteFetch), 0, 0, STE]);
    let event = fault(&aborts(a1(), CD + 8), &smmu(), read);
    assert_eq!(event.0, [head(EventId::FCdFetch), 0, 0, CD]);
    let event = fault(&aborts(a1(), LEAF), &smmu(), read);
    assert_eq!(event.0, [head(EventId::FWalkEabt), 0x108_0000_0000, VA, LEAF]);
    // Stage 2's own tables, for the context, a table and the output.
    let event = fault(&aborts(a3(), 0x8004_3000 + 8 * 0x20), &smmu(), read);
    assert_eq!(event.0, [head(EventId::FWalkEabt), 0x88_0000_0000, VA, 0x8004_3100]);
    let event = fault(&aborts(a3(), 0x8004_3000 + 8 * 0x13), &smmu(), read);
    assert_eq!(event.0, [head(EventId::FWalkEabt), 0x188_0000_0000, VA, 0x8004_3098]);
    let event = fault(&aborts(a3(), 0x8004_4000), &smmu(), read);
    assert_eq!(event.0, [head(EventId::FWalkEabt), 0x288_0000_0000, VA, 0x8004_4000]);

    let mut memory = a1();
    memory.write64(0x8001_2d10, 0x7000_0003);
    let Outcome::Missing { address, what, event } = walk(&memory, &smmu(), read).outcome else {
        panic!();
    };
    assert_eq!((address, what.name()), (0x7000_0b38, "stage-1 descriptor"));
    assert_eq!(event.0, [head(EventId::FWalkEabt), 0x108_0000_0000, VA, 0x7000_0b38]);
}
