// SPDX-License-Identifier: MIT OR Apache-2.0
//! More than there is room for: of the queue, of what was gathered, of the command queue.

use smmuv3::page_request::Answer;
use smmuv3::{Denied, Interrupt, PagesLost, Report};
use smmuv3_model::Answered;
use smmuv3_testbench::platform::TestPlatform;

use crate::setup::{GPU, NIC, STRANGER, Setup, config, named};

fn is_lost(report: &Report<TestPlatform>, lost: PagesLost) -> bool {
    *report == Report::PagesLost(lost)
}

#[test]
fn an_overflow_is_reported_and_the_device_asks_again() {
    let setup = Setup::new(3);
    setup.ask(GPU, None, 1);
    // It fills the queue, and its end does not fit: the SMMU answers.
    let index = setup.ask(NIC, None, 8);
    assert_eq!(setup.answers(NIC), [(index, Answered::Success)]);
    // Until that is acknowledged nothing is taken, also where there is room.
    let (reports, more) = setup.reports(4);
    assert!(more && reports.len() == 1 && matches!(reports[0], Report::Pages(_)), "{reports:?}");
    let index = setup.ask(NIC, None, 1);
    assert_eq!(setup.answers(NIC), [(index, Answered::Success)]);
    let (reports, more) = setup.reports(4);
    assert!(!more && reports.len() == 1, "{reports:?}");
    assert!(is_lost(&reports[0], PagesLost::Overflow { begun: 1 }), "{reports:?}");
    // The group that was begun is forgotten, since its number comes back.
    let again = setup.ask(NIC, None, 2);
    assert_eq!(again, index);
    let group = setup.group();
    assert_eq!(group.len(), 2);
    assert_eq!(group.respond(Answer::Success), Ok(true));
    assert_eq!(setup.answers(NIC), [(again, Answered::Success)]);
}

#[test]
fn groups_without_an_end_cost_their_device_and_not_others() {
    let setup = Setup::new(3);
    setup.send(GPU, None, 7, false);
    assert!(setup.reports(8).0.is_empty());
    let mut forgotten = 0;
    for index in 0..200 {
        setup.send(NIC, None, index, false);
        let (reports, more) = setup.reports(8);
        assert!(!more && reports.len() <= 1);
        for report in reports {
            let oldest = named(NIC, None, forgotten);
            assert!(is_lost(&report, PagesLost::Begun(oldest)), "{report:?}");
            forgotten += 1;
        }
    }
    // Eight in all, one of which is the other's.
    assert_eq!(forgotten, 200 - 7);
    assert!(setup.responses().is_empty(), "no answer is due");
    setup.send(GPU, None, 7, true);
    let (reports, _) = setup.reports(8);
    let Report::Pages(group) = &reports[1] else { panic!("{reports:?}") };
    assert_eq!((group.group(), group.len()), (named(GPU, None, 7), 2));
}

#[test]
fn what_has_no_room_among_those_that_wait_is_denied() {
    let setup = Setup::new(3);
    let mut kept = Vec::new();
    for index in 0..8 {
        setup.send(NIC, None, index, true);
        kept.push(setup.group());
    }
    for round in 0..3 {
        setup.send(NIC, None, 100, false);
        setup.send(NIC, None, 100, true);
        let (reports, more) = setup.reports(8);
        assert!(!more && reports.len() == 2, "round {round}: {reports:?}");
        for report in &reports {
            assert!(matches!(report, Report::PageDenied { why: Denied::Full, .. }), "{report:?}");
        }
        // It may try again, as where the queue itself is full.
        assert_eq!(setup.responses(), [(NIC, None, 100, Answered::Success, false)]);
    }
    drop(kept.pop());
    assert_eq!(setup.responses().len(), 1);
    setup.send(NIC, None, 100, true);
    assert_eq!(setup.group().len(), 1);
}

#[test]
fn answers_that_find_no_room_in_the_command_queue_are_given_later() {
    let setup = Setup::blocked(config(4, 1));
    setup.iommu.attach(&setup.nic, &setup.domain).unwrap();
    setup.responses();
    for index in 0..8 {
        let stream = if index % 2 == 0 { NIC } else { STRANGER };
        setup.send(stream, None, index, true);
    }
    // Each that is handed out is dropped where nothing can be waited for.
    let look = || {
        let which = Interrupt::PageRequests;
        setup.iommu.handle_interrupt(&setup.smmu, which, 3, &mut drop)
    };
    let (mut count, mut looks) = (0, 0);
    while look() {
        count += setup.responses().len();
        looks += 1;
        assert!(looks < 50, "{count} answers");
    }
    assert_eq!(count + setup.responses().len(), 8);
}

#[test]
fn a_flood_of_strangers_is_bounded_work_for_each_call() {
    let setup = Setup::new(5);
    for round in 0..4 {
        for index in 0..32 {
            setup.send(STRANGER + index, None, 0, true);
        }
        let mut left = 32;
        while left > 0 {
            let (reports, more) = setup.reports(5);
            assert!(reports.len() <= 5, "round {round}");
            left -= reports.len();
            assert_eq!(more, left > 0);
            setup.responses();
        }
    }
}
