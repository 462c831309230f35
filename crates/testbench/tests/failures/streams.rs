// SPDX-License-Identifier: MIT OR Apache-2.0
//! Masters whose entries in a 2-level stream table cannot be made, or whose instance does not notice them (rule
//! R8).

use smmuv3::{
    AddMasterError, Failure, InstanceConfig, Master, MasterConfig, Split, StreamId,
    StreamTableShape, Unconfirmed,
};
use smmuv3_formats::{EventId, Opcode};
use smmuv3_model::Access;
use smmuv3_testbench::inside::Inside as _;
use smmuv3_testbench::machine::Machine;
use smmuv3_testbench::oracle::Use;
use smmuv3_testbench::platform::TestPlatform;

use crate::setup::{AT_ONCE, DISK, NARROW, NIC, PAGE, Setup, config};

const IOVA: u64 = 0x1000_0000;
const ILL: u8 = 1;
/// Bytes of a leaf.
const LEAF: u64 = 4096;
/// Bytes of a context, and of the one beside it.
const CONTEXT: u64 = 128;

/// The streams of the setup's masters are all in the first leaf.
fn two_levels() -> InstanceConfig {
    let mut config = config();
    config.sid_bits = 10;
    config.stream_table = StreamTableShape::TwoLevel { split: Split::Six };
    config
}

fn setup() -> Setup {
    Setup::with(1, two_levels(), |profile| profile)
}

fn add(setup: &Setup, streams: &[u32]) -> Result<Master<TestPlatform>, AddMasterError> {
    let streams: Vec<StreamId> = streams.iter().copied().map(StreamId).collect();
    let added = setup.iommu.add_master(&setup.smmus[NARROW], &streams, MasterConfig::default());
    setup.watch().collect(&setup.world);
    added
}

/// The first level of the narrow instance's table.
fn descriptors(setup: &Setup) -> Vec<u64> {
    let base = setup.smmus[NARROW].inside().streams().base_register().addr();
    (0..16).map(|index| setup.machine.ram().read64(base + 8 * index).unwrap()).collect()
}

/// The event that an access of `stream` is refused with.
fn refused(setup: &Setup, stream: u32) -> Option<EventId> {
    let mut model = setup.machine.model(NARROW).unwrap();
    let refusal = model.translate(Access::write(stream, IOVA)).unwrap_err();
    refusal.event.and_then(|event| event.event())
}

#[track_caller]
fn failure(added: Result<Master<TestPlatform>, AddMasterError>) -> Failure {
    match added.err() {
        Some(AddMasterError::Unconfirmed(Unconfirmed { instance, what, .. })) => {
            assert_eq!(instance.index(), NARROW);
            what
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_master_gets_all_of_its_entries_or_leaves_everything_as_it_was() {
    let setup = setup();
    // Three leaves that are new, one of them needed twice, and the first, which is there.
    let streams = [0x3ff, 0x40, 4, 0x3c0, 0x80];
    let before = (descriptors(&setup), setup.live_bytes());
    let _ = setup.world.take_commands();
    // The instance keeps that there are no such streams, and has to forget it for each.
    for stream in [0x3ff, 0x40, 0x3c0, 0x80] {
        assert_eq!(refused(&setup, stream), Some(EventId::CBadStreamId), "{stream:#x}");
    }
    let mut failures = 0;
    let master = loop {
        setup.world.frames().fail(Some(failures + 1));
        match add(&setup, &streams) {
            Ok(master) => break master,
            Err(error) => {
                assert_eq!(error, AddMasterError::NoMemory);
                let after = (descriptors(&setup), setup.live_bytes());
                assert_eq!(after, before, "allocation {}", failures + 1);
                assert_eq!(setup.world.take_commands(), []);
                failures += 1;
            }
        }
    };
    setup.world.frames().fail(None);
    assert_eq!(failures, 4, "its context, three leaves");
    assert_eq!(setup.live_bytes(), before.1 + CONTEXT + 3 * LEAF);
    let valid = descriptors(&setup).iter().filter(|word| *word & 0x1f == 7).count();
    assert_eq!(valid, 4);
    for stream in streams {
        assert_eq!(refused(&setup, stream), None, "{stream:#x}");
    }
    assert!(master.close().is_ok());
    setup.tear_down("after a master without memory");
}

#[test]
fn a_master_whose_instance_does_not_answer_is_not_added_until_it_is_reset() {
    let setup = setup();
    setup.map(0, IOVA, 0, PAGE).unwrap();
    setup.attach(NIC, Use::Domain(0)).unwrap();
    // The instance keeps that there are no such streams.
    assert_eq!(refused(&setup, 0x40), Some(EventId::CBadStreamId));
    let before = setup.live_bytes();
    setup.machine.model(NARROW).unwrap().wedge_after(Some(0));
    let what = failure(add(&setup, &[0x40]));
    assert!(matches!(what, Failure::Timeout { .. }), "{what}");
    // The leaf stays, the context does not.
    let after = (descriptors(&setup), setup.live_bytes());
    assert_eq!(after.1, before + LEAF);
    let begun = setup.now();
    for streams in [&[0x40][..], &[0x80]] {
        assert_eq!(failure(add(&setup, streams)), Failure::Failed);
    }
    assert!(setup.now() - begun < AT_ONCE);
    assert_eq!((descriptors(&setup), setup.live_bytes()), after);
    setup.machine.model(NARROW).unwrap().wedge_after(None);
    setup.reset(NARROW, &[], &[]);
    // The table is as it was, with all that it leads to.
    assert_eq!(descriptors(&setup), after.0);
    assert_eq!(setup.dma(NIC, IOVA), Some(setup.memory));
    let master = add(&setup, &[0x40]).unwrap();
    assert_eq!(setup.live_bytes(), after.1 + CONTEXT);
    assert_eq!(refused(&setup, 0x40), None);
    assert!(master.close().is_ok());
    setup.check("after a master that was not confirmed");
    setup.tear_down("after a master that was not confirmed");
}

#[test]
fn a_master_whose_command_was_refused_is_confirmed_by_the_next_call() {
    let setup = setup();
    setup.map(0, IOVA, 0, PAGE).unwrap();
    assert_eq!(refused(&setup, 0x40), Some(EventId::CBadStreamId));
    setup.machine.model(NARROW).unwrap().fail_next_command(ILL);
    let what = failure(add(&setup, &[0x40]));
    let Failure::Refused { command, code: ILL } = what else { panic!("{what}") };
    assert_eq!(command.opcode(), Some(Opcode::CfgiSte));
    assert!(!setup.has_failed(NARROW));
    assert_eq!(refused(&setup, 0x40), Some(EventId::CBadStreamId), "it was not told");
    // No descriptor changes this time; the instance has to be told all the same.
    let before = (descriptors(&setup), setup.live_bytes());
    let master = add(&setup, &[0x40]).unwrap();
    assert_eq!((descriptors(&setup), setup.live_bytes()), (before.0, before.1 + CONTEXT));
    assert_eq!(refused(&setup, 0x40), None);
    assert!(master.close().is_ok());
    // Others were not concerned.
    setup.attach(DISK, Use::Domain(0)).unwrap();
    assert_eq!(setup.dma(DISK, IOVA), Some(setup.memory));
    setup.tear_down("after a refused command");
}

/// IDR0.STALL_MODEL = 1 (§2.3).
#[test]
fn a_master_cannot_stall_behind_an_instance_that_only_terminates() {
    let setup = Setup::new(1);
    let streams = [smmuv3::StreamId(0x30)];
    let config = smmuv3::MasterConfig::default();
    let refused = setup.iommu.add_master(&setup.smmus[0], &streams, config.with_stalls());
    assert_eq!(refused.err(), Some(smmuv3::AddMasterError::NoStalls));
}
