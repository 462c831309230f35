// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guests whose devices use PASIDs: their tables of contexts, of every layout, are read by the SMMU, and what they say of one
//! PASID is carried over by its number.

use smmuv3_testbench::keeping::trusted;
use std::sync::Arc;

use smmuv3::nest::Owner;
use smmuv3::{Config, Interrupt, Report, StreamId};
use smmuv3_formats::command::{AtcInv, CfgiCd, CfgiCdAll, Sync};
use smmuv3_formats::{Cd, Command, EventId, EventRecord, Ste};
use smmuv3_testbench::machine::{Dma, Outcome};
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::scenario::Scenario;

use crate::guest::{DATA, Guest, VA};
use crate::host::{Host, MACHINE, STREAMS, Use};

const NIC: usize = 0;
/// The guest's number of the stream.
const SID: u64 = STREAMS[NIC].1 as u64;
/// Pages of the guest's memory for contexts: two leaves, and a first level. A leaf of 64 KiB begins at the second one.
const FIRST: usize = 31;
const LEAF: usize = 32;
const OTHER_LEAF: usize = 33;
/// Of space 1; of none; and one of space 0 beside no PASID.
const PASID: u32 = 5;
const INVALID: u32 = 6;
const FAR: u32 = 64 + 3;

/// How a table of contexts is laid out: S1Fmt and S1CDMax.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shape {
    format: u64,
    bits: u32,
}

const LINEAR: Shape = Shape { format: 0, bits: 6 };
const LEAVES_4K: Shape = Shape { format: 1, bits: 8 };
const LEAVES_64K: Shape = Shape { format: 2, bits: 8 };

/// S1DSS.
const TERMINATE: u64 = 0;
const BYPASS: u64 = 1;
const FIRST_CONTEXT: u64 = 2;

/// With substreams, and devices that keep translations where `ats` says so.
fn host(ats: bool) -> Host {
    let keys = "stages = [1, 2]\nssid-bits = 8\ntwo-level-contexts = true\nats = true";
    let text = MACHINE.replace("stages = [1, 2]", keys);
    let text = if ats { text.replace("[0x900]", "[0x900]\nats = true") } else { text };
    let scenario = Scenario::parse(&text, "nested").unwrap();
    let machine = Arc::new(ModelMachine::new(&scenario, 1).unwrap());
    let mut host = Host::on(machine, Config::default());
    if ats {
        host.masters.remove(NIC).close().unwrap();
        let config = trusted();
        let streams = [StreamId(STREAMS[NIC].0)];
        let master = host.iommu.add_master(&host.smmu, &streams, config).unwrap();
        host.masters.insert(NIC, master);
    }
    for space in 0..2 {
        host.guest.map(space, 0, DATA + space);
    }
    put(&host, LEAF, 0, &host.guest.context(0));
    put(&host, LEAF, PASID, &host.guest.context(1));
    put(&host, OTHER_LEAF, FAR % 64, &host.guest.context(0));
    // L1CD: V and L2Ptr (§6).
    host.guest.put(FIRST, 0, Guest::ipa(LEAF) | 1);
    host.guest.put(FIRST, 1, Guest::ipa(OTHER_LEAF) | 1);
    host
}

fn put(host: &Host, page: usize, at: u32, context: &Cd) {
    for (index, word) in context.0.into_iter().enumerate() {
        host.guest.put(page, 8 * at as usize + index, word);
    }
}

fn entry(shape: Shape, without: u64) -> Ste {
    let table = Guest::ipa(if shape.format == 0 { LEAF } else { FIRST });
    let ste = Guest::entry(0).with_s1_context_ptr(table).with_s1_fmt(shape.format);
    ste.with_s1_cd_max(shape.bits.into()).with_s1_dss(without)
}

fn attach(host: &mut Host, shape: Shape, without: u64) {
    host.nest(NIC, entry(shape, without), Use::Space(0));
}

fn reached(host: &Host, pasid: Option<u32>, address: u64) -> Option<u64> {
    let mut buffer = [0; 8];
    let machine = host.world.machine();
    let parts = machine.dma(NIC, pasid, address, Dma::Read(&mut buffer)).unwrap();
    match parts[0].outcome {
        Outcome::Reached(pa) => Some(pa),
        _ => None,
    }
}

/// What the guest is told, of one access that is refused.
fn told(host: &Host, pasid: Option<u32>, address: u64) -> EventRecord {
    assert_eq!(reached(host, pasid, address), None, "{pasid:x?}");
    let mut events = Vec::new();
    let mut sink = |report| match report {
        Report::Event(event) => events.push(event),
        other => panic!("{other:?}"),
    };
    let _ = host.iommu.handle_interrupt(&host.smmu, Interrupt::Any, 64, &mut sink);
    let [event] = events[..] else { panic!("{pasid:x?}: {events:?}") };
    match host.nest.owner(&event) {
        Owner::Guest(record) => record,
        owner => panic!("{event:?}: {owner:?}"),
    }
}

/// Where space `space` leads.
fn data(host: &Host, space: usize) -> Option<u64> {
    Some(host.guest.frames[DATA + space])
}

fn forget(pasid: u32, leaf: bool) -> [Command; 2] {
    let named = CfgiCd::new().with_sid(SID).with_ssid(pasid.into()).with_leaf(leaf);
    [named.into(), Sync::new().into()]
}

#[test]
fn each_pasid_has_its_context_in_tables_of_every_layout() {
    for shape in [LINEAR, LEAVES_4K, LEAVES_64K] {
        let mut host = host(false);
        for without in [TERMINATE, BYPASS, FIRST_CONTEXT] {
            attach(&mut host, shape, without);
            let what = format!("{shape:?}, S1DSS = {without}");
            assert_eq!(reached(&host, Some(PASID), VA), data(&host, 1), "{what}");
            match without {
                TERMINATE => {
                    let record = told(&host, None, VA);
                    let expected = (Some(EventId::FStreamDisabled), SID, false);
                    assert_eq!((record.event(), record.sid(), record.ssv()), expected, "{what}");
                }
                BYPASS => {
                    let ipa = Guest::ipa(DATA + 2);
                    assert_eq!(reached(&host, None, ipa), Some(host.guest.frames[DATA + 2]));
                }
                _ => {
                    assert_eq!(reached(&host, None, VA), data(&host, 0), "{what}");
                    assert_eq!(host.verdict(), Ok(()), "{what}");
                    host.read_events();
                }
            }
            let told = |pasid: u32| {
                let record = told(&host, Some(pasid), VA);
                assert_eq!((record.sid(), record.ssid()), (SID, pasid.into()), "{what}");
                record.event()
            };
            assert_eq!(told(INVALID), Some(EventId::CBadCd), "{what}");
            assert_eq!(told(1 << shape.bits), Some(EventId::CBadSubstreamId), "{what}");
        }
        if shape == LEAVES_4K {
            assert_eq!(reached(&host, Some(FAR), VA), data(&host, 0));
        }
    }
}

/// The guest puts another context in the place of a PASID's, and says so, first wrongly.
#[test]
fn a_context_is_forgotten_by_the_pasid_that_the_guest_names() {
    for shape in [LINEAR, LEAVES_4K, LEAVES_64K] {
        let mut host = host(false);
        attach(&mut host, shape, FIRST_CONTEXT);
        assert_eq!(reached(&host, Some(PASID), VA), data(&host, 1));
        put(&host, LEAF, PASID, &host.guest.context(0));
        for wrong in [0, PASID - 1, PASID + 1, 1 << shape.bits] {
            host.commands(&forget(wrong, true));
            let stale = reached(&host, Some(PASID), VA);
            assert_eq!(stale, data(&host, 1), "{shape:?}: by PASID {wrong} it stays");
        }
        host.commands(&forget(PASID, true));
        assert_eq!(reached(&host, Some(PASID), VA), data(&host, 0), "{shape:?}");
        // All of them.
        put(&host, LEAF, PASID, &host.guest.context(1));
        assert_eq!(reached(&host, Some(PASID), VA), data(&host, 0), "{shape:?}");
        host.commands(&[CfgiCdAll::new().with_sid(SID).into(), Sync::new().into()]);
        assert_eq!(reached(&host, Some(PASID), VA), data(&host, 1), "{shape:?}");
    }
}

/// A leaf of contexts takes the place of another.
#[test]
fn a_first_level_is_forgotten_where_the_guest_does_not_say_leaf() {
    let mut host = host(false);
    attach(&mut host, LEAVES_4K, FIRST_CONTEXT);
    assert_eq!(reached(&host, Some(PASID), VA), data(&host, 1));
    put(&host, OTHER_LEAF, PASID, &host.guest.context(0));
    host.guest.put(FIRST, 0, Guest::ipa(OTHER_LEAF) | 1);
    host.commands(&forget(PASID, true));
    assert_eq!(reached(&host, Some(PASID), VA), data(&host, 1), "the first level is as it was");
    host.commands(&forget(PASID, false));
    assert_eq!(reached(&host, Some(PASID), VA), data(&host, 0));
}

/// The host takes the page of a leaf: what the guest is told is what it would be of an address that is not there.
#[test]
fn contexts_that_the_host_takes_are_out_of_reach() {
    let mut host = host(false);
    attach(&mut host, LEAVES_4K, FIRST_CONTEXT);
    host.take(OTHER_LEAF);
    assert_eq!(reached(&host, Some(FAR), VA), None);
    let mut blamed = None;
    let _ = host.iommu.handle_interrupt(&host.smmu, Interrupt::Any, 64, &mut |report| {
        let Report::Event(event) = report else { panic!("{report:?}") };
        assert!(matches!(host.nest.owner(&event), Owner::Host(_)));
        blamed = host.nest.blamed(&event);
    });
    let blamed = blamed.expect("it is of the guest's contexts");
    let expected = (Some(EventId::FCdFetch), SID, true, u64::from(FAR));
    assert_eq!((blamed.event(), blamed.sid(), blamed.ssv(), blamed.ssid()), expected);
    assert_eq!(reached(&host, Some(PASID), VA), data(&host, 1));
    host.give(OTHER_LEAF);
    assert_eq!(reached(&host, Some(FAR), VA), data(&host, 0));
}

/// What a device keeps with a PASID goes by that (ATC_INV with SSV).
#[test]
fn what_a_device_keeps_goes_by_the_pasid_that_the_guest_names() {
    let mut host = host(true);
    let ste = entry(LEAVES_4K, FIRST_CONTEXT).with_eats(1);
    host.nest(NIC, ste, Use::Space(0));
    assert_eq!(reached(&host, Some(PASID), VA), data(&host, 1));
    let kept = |host: &Host| {
        let model = host.world.machine().model(0).unwrap();
        model.endpoint(STREAMS[NIC].0).unwrap().atc().iter().count()
    };
    assert_eq!(kept(&host), 1);
    let commands = host.guest.unmap(1, 0, false);
    host.commands(&commands);
    let of = |pasid: Option<u32>| {
        let named = AtcInv::new().with_sid(SID).with_size(52).with_ssv(pasid.is_some());
        let named = named.with_ssid(pasid.unwrap_or(0).into());
        [Command::from(named), Sync::new().into()]
    };
    for wrong in [0, PASID - 1, PASID + 1, 1 << LEAVES_4K.bits] {
        host.commands(&of(Some(wrong)));
        let stale = reached(&host, Some(PASID), VA);
        assert_eq!(stale, data(&host, 1), "by PASID {wrong} it stays");
    }
    host.commands(&of(Some(PASID)));
    assert_eq!(kept(&host), 0);
    assert_eq!(reached(&host, Some(PASID), VA), None);
    assert_eq!(host.verdict(), Ok(()));
    // What it keeps without a PASID goes by none.
    assert_ne!(kept(&host), 0);
    host.commands(&of(None));
    assert_eq!(kept(&host), 0);
}

/// What a guest's device is refused in the guest's stage 1 is no domain's, however many PASIDs it uses: it takes none of the room in
/// which others' faults wait to be counted.
#[test]
#[cfg(feature = "counts")]
fn a_guest_with_many_pasids_takes_no_room_from_others() {
    let mut host = host(false);
    let config = smmuv3::DomainConfig::default().with_statistics();
    let domain = host.iommu.create_domain(config).unwrap();
    for pasid in 1..64 {
        put(&host, LEAF, pasid, &host.guest.context(1));
    }
    attach(&mut host, LINEAR, TERMINATE);
    const ELSEWHERE: u64 = 0x7f00_0000_0000;
    for pasid in 1..64 {
        let record = told(&host, Some(pasid), ELSEWHERE);
        assert_eq!(record.event(), Some(EventId::FTranslation));
    }
    assert_eq!(host.smmu.statistics().events.untold, 0);
    domain.close().unwrap();
}
