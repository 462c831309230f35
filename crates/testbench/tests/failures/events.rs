// SPDX-License-Identifier: MIT OR Apache-2.0
//! Events that come in unknown shapes, or in greater numbers than there is room for (rule R9).

use smmuv3::{Lost, Report};
use smmuv3_formats::register::{EventqCons, EventqProd, Gerror};
use smmuv3_formats::{EVENT_BYTES, EventId, EventRecord};
use smmuv3_testbench::inside::Inside as _;
use smmuv3_testbench::machine::{Dma, Machine};
use smmuv3_testbench::oracle::Use;
use smmuv3_testbench::platform::TestPlatform;

use crate::setup::{NARROW, NIC, PAGE, Setup, config};

const NOWHERE: u64 = 0x1000_0000;

/// An event queue of four records.
fn prepared() -> Setup {
    let mut small = config();
    small.event_queue_log2 = 2;
    let setup = Setup::with(1, small, |profile| profile);
    setup.attach(NIC, Use::Domain(0)).unwrap();
    setup
}

/// Lets the device access `count` pages that are not mapped, from the `first` on.
fn fault(setup: &Setup, first: u64, count: u64) {
    for page in first..first + count {
        assert_eq!(setup.dma(NIC, NOWHERE + page * PAGE), None);
    }
}

/// The pages of the events among `reports`.
fn pages(reports: &[Report<TestPlatform>]) -> Vec<u64> {
    let page = |report: &Report<TestPlatform>| match report {
        Report::Event(record) if record.event() == Some(EventId::FTranslation) => {
            Some((record.input_addr() - NOWHERE) / PAGE)
        }
        _ => None,
    };
    reports.iter().filter_map(page).collect()
}

#[test]
fn events_of_unknown_and_reserved_types_are_handed_on_as_they_are() {
    let setup = prepared();
    let base = setup.smmus[NARROW].inside().events().base_register().addr();
    let ram = setup.machine.ram();
    for (number, id) in [0x00, 0x0f, 0x22, 0x7f, 0xe0, 0xff].into_iter().enumerate() {
        fault(&setup, number as u64, 1);
        let slot = base + (number % 4 * EVENT_BYTES) as u64;
        ram.write64(slot, 0x1234_5678_9abc_de00 | id).unwrap();
        ram.write64(slot + 16, u64::MAX).unwrap();
        let words = [0, 8, 16, 24].map(|byte| ram.read64(slot + byte).unwrap());
        let (reports, more) = setup.reports(NARROW, 8);
        let [Report::Event(event)] = reports[..] else { panic!("{id:#x}: {reports:?}") };
        assert_eq!((event.record(), more), (EventRecord(words), false), "{id:#x}");
    }
    setup.tear_down("after unknown events");
}

#[test]
fn no_more_events_are_handed_over_than_asked_for() {
    let setup = prepared();
    for round in 0..5 {
        fault(&setup, 0, 4);
        let (reports, more) = setup.reports(NARROW, 0);
        assert_eq!((reports, more), (vec![], true), "round {round}");
        let (reports, more) = setup.reports(NARROW, 3);
        assert_eq!((pages(&reports), reports.len(), more), (vec![0, 1, 2], 3, true));
        // There is room for three more now.
        fault(&setup, 4, 1);
        let (reports, more) = setup.reports(NARROW, 2);
        assert_eq!((pages(&reports), reports.len(), more), (vec![3, 4], 2, false));
        assert_eq!(setup.reports(NARROW, usize::MAX), (vec![], false), "round {round}");
    }
    setup.tear_down("after events in portions");
}

#[test]
fn events_that_found_no_room_are_reported_as_lost_each_time() {
    let setup = prepared();
    for round in 0..5 {
        fault(&setup, 0, 6);
        let (reports, more) = setup.reports(NARROW, 3);
        assert_eq!(pages(&reports), [0, 1, 2], "round {round}");
        // There are four, among or after which are the two that did not fit.
        let lost = Report::EventsLost(Lost::Overflow { among: 4 });
        assert_eq!((&reports[0], reports.len()), (&lost, 4), "round {round}");
        assert!(more, "round {round}");
        let (reports, more) = setup.reports(NARROW, 3);
        assert_eq!((pages(&reports), reports.len(), more), (vec![3], 1, false), "round {round}");
        // The queue takes events again.
        fault(&setup, 7, 2);
        let (reports, more) = setup.reports(NARROW, 8);
        assert_eq!((pages(&reports), reports.len(), more), (vec![7, 8], 2, false));
    }
    setup.tear_down("after lost events");
}

/// The queue overflows after the driver has looked at PROD, and before it makes room. No interrupt comes of that, since the
/// queue was not empty before: whoever reads it looks once more.
#[test]
fn events_that_are_lost_while_others_are_read_are_reported_although_none_comes_after() {
    let setup = prepared();
    for round in 0..3 {
        fault(&setup, 0, 4);
        // The records that are read are given back by a write of CONS.
        setup.machine.on_write(|machine, instance, offset, _| {
            if (instance, offset) == (NARROW, EventqCons::OFFSET) {
                let to = Dma::Read(&mut [0; 4]);
                assert_eq!(machine.dma(NIC, None, NOWHERE + 4 * PAGE, to).unwrap().len(), 1);
            }
        });
        let (reports, more) = setup.reports(NARROW, 8);
        let seen = (pages(&reports), reports.len(), more);
        assert_eq!(seen, (vec![0, 1, 2, 3], 4, true), "round {round}");
        setup.machine.behave();
        let lost = Report::EventsLost(Lost::Overflow { among: 0 });
        assert_eq!(setup.reports(NARROW, 8), (vec![lost], false), "round {round}");
        fault(&setup, 5, 2);
        let (reports, more) = setup.reports(NARROW, 8);
        assert_eq!((pages(&reports), reports.len(), more), (vec![5, 6], 2, false));
    }
    setup.tear_down("after events lost while others were read");
}

#[test]
fn events_that_a_reset_throws_away_are_reported_as_lost() {
    let setup = prepared();
    fault(&setup, 0, 2);
    setup.reset(NARROW, &[], &[]);
    let (reports, more) = setup.reports(NARROW, 8);
    let lost = Report::EventsLost(Lost::Reset { unread: 2, overflow: false });
    assert_eq!((reports, more), (vec![lost], false));
    setup.reset(NARROW, &[], &[]);
    assert_eq!(setup.reports(NARROW, 8), (vec![], false), "nothing was waiting");
    fault(&setup, 0, 3);
    assert_eq!(pages(&setup.reports(NARROW, 8).0), [0, 1, 2]);
    // Two resets before anybody looks, the first one of a full queue.
    fault(&setup, 0, 5);
    setup.reset(NARROW, &[], &[]);
    fault(&setup, 0, 3);
    setup.reset(NARROW, &[], &[]);
    fault(&setup, 5, 1);
    let (reports, more) = setup.reports(NARROW, 8);
    let lost = Report::EventsLost(Lost::Reset { unread: 7, overflow: true });
    assert_eq!((&reports[0], pages(&reports), reports.len(), more), (&lost, vec![5], 2, false));
    setup.tear_down("after a reset with events");
}

/// A reset acknowledges all errors. That events could not be written is not forgotten with it.
#[test]
fn events_that_could_not_be_written_before_a_reset_are_reported_after_it() {
    let setup = prepared();
    setup.world.set_observer(None);
    setup.machine.lie(NARROW, Gerror::OFFSET, Some(Gerror::default().with_eventq_abt_err(true).0));
    setup.iommu.reset(&setup.smmus[NARROW]).unwrap();
    // The reset has acknowledged it.
    setup.machine.lie(NARROW, Gerror::OFFSET, None);
    let (reports, more) = setup.reports(NARROW, 8);
    let lost = Report::EventsLost(Lost::Reset { unread: 0, overflow: true });
    assert_eq!((reports, more), (vec![lost], false));
    assert_eq!(setup.reports(NARROW, 8), (vec![], false));
}

#[test]
fn an_index_that_makes_no_sense_is_reported_and_reads_nothing() {
    let setup = prepared();
    fault(&setup, 0, 2);
    // Seven records in a queue of four.
    setup.machine.lie(NARROW, EventqProd::OFFSET, Some(7));
    let (reports, more) = setup.reports(NARROW, 8);
    assert_eq!((&reports[..], more), (&[Report::BadIndex { register: 7 }][..], false));
    assert_eq!(reports[0].to_string(), "an index register shows the impossible value 0x7");
    assert!(!setup.has_failed(NARROW));
    setup.machine.lie(NARROW, EventqProd::OFFSET, None);
    assert_eq!(setup.machine.read32(NARROW, EventqCons::OFFSET), 0);
    assert_eq!(pages(&setup.reports(NARROW, 8).0), [0, 1]);
    setup.tear_down("after a wrong index");
}
