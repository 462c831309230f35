// SPDX-License-Identifier: MIT OR Apache-2.0
//! Groups that are asked for, handed out, and answered.

use smmuv3_testbench::keeping::trusted;
use std::sync::{Arc, Mutex};

use smmuv3::page_request::{Answer, Page};
use smmuv3::{
    AddMasterError, Denied, Interrupt, Iova, MasterConfig, PagesLost, Report, StreamId,
    SubstreamId, Trace,
};
use smmuv3_model::{Answered, Observation};

use crate::setup::{GPU, IOVA, NIC, PAGE, STRANGER, Setup, config, named};

#[test]
fn a_group_comes_whole_and_is_answered_from_another_thread() {
    let setup = Setup::new(5);
    let index = setup.ask(NIC, None, 3);
    assert!(setup.world.machine().model(0).unwrap().interrupts().priq, "an interrupt");
    let group = setup.group();
    assert_eq!(group.group(), named(NIC, None, index));
    assert_eq!((group.instance(), group.len()), (setup.smmu.id(), 3));
    let told = group.to_string();
    assert!(told.starts_with("group ") && told.ends_with(" of 3 pages"), "{told}");
    let page = |at: u64| Page {
        group: group.group(),
        iova: Iova(IOVA + at * PAGE),
        read: true,
        write: at == 0,
        execute: false,
        privileged: false,
        last: at == 2,
    };
    assert!(group.pages().eq((0..3).map(page)));
    assert!(setup.waits(NIC));
    std::thread::spawn(move || assert_eq!(group.respond(Answer::Success), Ok(true)))
        .join()
        .unwrap();
    assert_eq!(setup.answers(NIC), [(index, Answered::Success)]);
    assert!(!setup.waits(NIC));
}

#[test]
fn each_answer_is_what_the_device_gets_and_none_is_invalid() {
    let setup = Setup::new(5);
    for (answer, got) in [
        (Some(Answer::Success), Answered::Success),
        (Some(Answer::Invalid), Answered::Invalid),
        (None, Answered::Invalid),
        (Some(Answer::Failure), Answered::Failure),
    ] {
        let index = setup.ask(NIC, None, 1);
        match answer {
            Some(answer) => assert_eq!(setup.group().respond(answer), Ok(true)),
            None => drop(setup.group()),
        }
        assert_eq!(setup.answers(NIC), [(index, got)], "{answer:?}");
    }
    // It makes no requests any more, until it is attached anew.
    let is_on = || setup.world.machine().model(0).unwrap().endpoint(NIC).unwrap().pri;
    assert!(!is_on());
    setup.iommu.detach(&setup.nic).unwrap();
    setup.iommu.attach(&setup.nic, &setup.domain).unwrap();
    assert!(is_on());
}

#[test]
fn answers_carry_the_pasid_where_devices_need_it() {
    let setup = Setup::new(5);
    for (master, stream, with) in [(&setup.nic, NIC, false), (&setup.gpu, GPU, true)] {
        let pasid = setup.iommu.allocate_pasid().unwrap();
        setup.iommu.attach_pasid(master, pasid, &setup.domain).unwrap();
        let index = setup.ask(stream, Some(pasid), 2);
        let group = setup.group();
        assert_eq!(group.group(), named(stream, Some(pasid.0), index));
        assert_eq!(group.respond(Answer::Success), Ok(true));
        let said = with.then_some(pasid.0);
        assert_eq!(setup.responses(), [(stream, said, index, Answered::Success, true)]);
        // One without a PASID has none in its answer.
        let index = setup.ask(stream, None, 1);
        assert_eq!(setup.group().respond(Answer::Success), Ok(true));
        assert_eq!(setup.responses(), [(stream, None, index, Answered::Success, true)]);
    }
}

#[test]
fn groups_that_come_mixed_are_told_apart() {
    let setup = Setup::new(5);
    for (index, last) in [(1, false), (2, false), (1, false), (2, true), (1, true)] {
        setup.send(NIC, None, index, last);
    }
    let (reports, more) = setup.reports(3);
    assert!(reports.is_empty() && more);
    let (reports, more) = setup.reports(3);
    let lens: Vec<_> = reports
        .iter()
        .map(|report| match report {
            Report::Pages(group) => (group.group(), group.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lens, [(named(NIC, None, 2), 2), (named(NIC, None, 1), 3)]);
    assert!(!more);
}

#[test]
fn streams_that_may_not_ask_are_denied_and_reported() {
    let mut config = config(5, 6);
    config.sid_bits = 8;
    let setup = Setup::blocked(config);
    let denied = |stream, pasid| {
        setup.send(stream, pasid, 3, false);
        setup.send(stream, pasid, 3, true);
        let (reports, more) = setup.reports(8);
        assert!(!more && reports.len() == 2, "{reports:?}");
        for (report, last) in reports.iter().zip([false, true]) {
            let Report::PageDenied { page, why: Denied::Unknown } = report else {
                panic!("{report:?}")
            };
            assert_eq!((page.group, page.last), (named(stream, pasid, 3), last));
        }
        let [(of, with, 3, Answered::Invalid, false)] = setup.responses()[..] else {
            panic!("one answer, since it has an end")
        };
        assert_eq!(of, stream);
        with
    };
    // Nobody's, beyond the stream table, or not attached.
    assert_eq!(denied(STRANGER, None), None);
    assert_eq!(denied(0x300, Some(1)), None);
    assert_eq!(denied(NIC, None), None);
    // Attached once, and answered as it needs that.
    setup.iommu.attach(&setup.gpu, &setup.domain).unwrap();
    setup.iommu.detach(&setup.gpu).unwrap();
    assert_eq!(denied(GPU, Some(2)), Some(2));
    // PASID 0 is nobody's.
    setup.iommu.attach(&setup.gpu, &setup.domain).unwrap();
    assert_eq!(denied(GPU, Some(0)), Some(0));
    // Nor may one that reaches all memory untranslated.
    // SAFETY: the device does nothing.
    unsafe { setup.iommu.attach_identity(&setup.gpu).unwrap() };
    assert_eq!(denied(GPU, None), None);
}

/// No command may name what an SMMU does not have, since that may be taken for something else.
#[test]
fn what_no_answer_can_name_is_reported_and_not_answered() {
    let setup = Setup::new(5);
    let observed = |stream, pasid| {
        setup.world.observations(0);
        setup.send(stream, pasid, 3, true);
        let (reports, more) = setup.reports(8);
        assert!(!more && reports.len() == 1, "{reports:?}");
        let denied = matches!(reports[0], Report::PageDenied { why: Denied::Unknown, .. });
        assert!(denied, "{reports:?}");
        setup.world.machine().model(0).unwrap().run(usize::MAX);
        let observations = setup.world.observations(0).unwrap();
        let wrong = |it: &Observation| matches!(it, Observation::Misuse(_));
        assert!(!observations.iter().any(wrong), "{observations:?}");
        let answer = |it: &Observation| matches!(it, Observation::PageResponse { .. });
        observations.iter().any(answer)
    };
    // 16 bits of streams, 4 of PASIDs.
    assert!(!observed(0xffff_fff0, None));
    assert!(!observed(0x1_0000 + NIC, None));
    assert!(!observed(GPU, Some(0x10 + 1)));
    // Answers to this one have none.
    assert!(observed(NIC, Some(0x10 + 1)));
}

#[test]
fn a_device_that_stops_a_pasid_waits_for_nothing_of_it() {
    let setup = Setup::new(5);
    let pasid = setup.iommu.allocate_pasid().unwrap();
    setup.iommu.attach_pasid(&setup.gpu, pasid, &setup.domain).unwrap();
    let stopped = setup.ask(GPU, Some(pasid), 2);
    let of_pasid = setup.group();
    let other = setup.ask(GPU, None, 1);
    let of_none = setup.group();
    // It has begun another, and never ends it.
    setup.send(GPU, Some(pasid.0), 0x100, false);
    setup.world.machine().model(0).unwrap().stop_pasid(GPU, pasid.0);
    let (reports, more) = setup.reports(8);
    let said = Report::PasidStopped { stream: StreamId(GPU), pasid };
    assert!(!more && reports == [said]);
    assert_eq!(setup.answers(GPU), [(stopped, Answered::Invalid)], "for its credits");
    assert_eq!(of_pasid.respond(Answer::Success), Ok(false));
    assert_eq!(of_none.respond(Answer::Success), Ok(true));
    assert_eq!(setup.answers(GPU), [(other, Answered::Success)]);
    // The number comes back, and nothing of before is in that group.
    setup.send(GPU, Some(pasid.0), 0x100, true);
    assert_eq!(setup.group().len(), 1);
}

#[test]
fn nothing_is_looked_at_but_what_the_interrupt_is_of() {
    let setup = Setup::new(5);
    setup.ask(NIC, None, 1);
    for which in [Interrupt::Sync, Interrupt::Error, Interrupt::Events] {
        let mut sink = |report| panic!("{report:?}");
        assert!(!setup.iommu.handle_interrupt(&setup.smmu, which, 8, &mut sink));
    }
    let mut count = 0;
    let _ = setup.iommu.handle_interrupt(&setup.smmu, Interrupt::Any, 8, &mut |_| count += 1);
    assert_eq!(count, 1);
}

#[test]
fn masters_that_cannot_ask_or_ask_for_too_much_are_refused() {
    let setup = Setup::blocked(config(3, 6));
    let add = |setup: &Setup, streams: &[u32], ats, credits| {
        let streams: Vec<StreamId> = streams.iter().copied().map(StreamId).collect();
        let config = if ats { trusted() } else { MasterConfig::default() };
        let config = config.with_page_requests(credits, false);
        setup.iommu.add_master(&setup.smmu, &streams, config).map(drop)
    };
    assert_eq!(add(&setup, &[20], false, 1), Err(AddMasterError::NoPageRequests));
    // Two of eight are each of the others'.
    assert_eq!(add(&setup, &[20], true, 4), Err(AddMasterError::NoCredits { free: 4 }));
    assert_eq!(add(&setup, &[20, 21], true, 2), Err(AddMasterError::NoCredits { free: 4 }));
    assert_eq!(add(&setup, &[20, 21], true, u32::MAX), Err(AddMasterError::NoCredits { free: 4 }));
    assert_eq!(add(&setup, &[20], true, 3), Ok(()));
    assert_eq!(add(&setup, &[21], true, 1), Err(AddMasterError::NoCredits { free: 0 }));
    assert_eq!(add(&setup, &[21], true, 0), Ok(()));
}

#[test]
fn pasids_that_nobody_has_are_the_callers_to_judge() {
    let setup = Setup::new(5);
    let index = setup.ask(NIC, Some(SubstreamId(9)), 1);
    let group = setup.group();
    assert_eq!(group.group(), named(NIC, Some(9), index));
    drop(group);
    assert_eq!(setup.answers(NIC), [(index, Answered::Invalid)]);
}

#[test]
fn what_is_handed_over_is_traced_and_counted() {
    let setup = Setup::new(3);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    setup.world.set_hook(Some(Arc::new(move |event: &Trace<'_>| {
        let word = match event {
            Trace::Pages { instance, group, pages } => format!("{instance} {pages} {group:?}"),
            Trace::PageDenied { instance, page, why } => {
                format!("{instance} denied {:?} {why:?}", page.group)
            }
            Trace::PasidStopped { instance, stream, pasid } => {
                format!("{instance} {stream} stopped {pasid:?}")
            }
            Trace::PagesLost { instance, lost } => format!("{instance} {lost:?}"),
            _ => return,
        };
        sink.lock().unwrap().push(word);
    })));
    let index = setup.ask(NIC, None, 2);
    let group = setup.group();
    setup.send(STRANGER, None, 7, true);
    setup.world.machine().model(0).unwrap().stop_pasid(GPU, 3);
    // More than fit.
    for index in 0x100..0x109 {
        setup.send(GPU, None, index, false);
    }
    while setup.reports(8).1 {}
    let words = [
        format!("smmu 2 {:?}", named(NIC, None, index)),
        format!("smmu denied {:?} Unknown", named(STRANGER, None, 7)),
        format!("smmu {} stopped {:?}", StreamId(GPU), SubstreamId(3)),
        format!("smmu {:?}", PagesLost::Overflow { begun: 6 }),
    ];
    assert_eq!(*seen.lock().unwrap(), words);
    let said = setup.smmu.statistics();
    let pages = said.pages;
    assert_eq!([pages.groups, pages.denied, pages.stops, pages.gaps], [1, 1, 1, 1]);
    assert_eq!(said.groups, 1);
    assert_eq!(group.respond(Answer::Success), Ok(true));
    assert_eq!(setup.smmu.statistics().groups, 0);
}

/// What aborts late has not arrived, although PROD has moved on: in its slot is what was there a lap before.
#[test]
fn what_did_not_arrive_is_not_taken_for_what_was_there_before() {
    let setup = Setup::new(3);
    for _ in 0..8 {
        setup.ask(NIC, None, 1);
        assert_eq!(setup.group().respond(Answer::Success), Ok(true));
        assert!(matches!(setup.responses()[..], [(NIC, None, _, Answered::Success, true)]));
    }
    for unread in [false, true] {
        if unread {
            // Nor what nobody had read when the SMMU was reset.
            setup.ask(NIC, None, 1);
            setup.iommu.reset(&setup.smmu).unwrap();
            setup.responses();
        }
        setup.world.machine().model(0).unwrap().lose_requests(1);
        setup.send(GPU, None, 3, true);
        let mut reports = Vec::new();
        let mut sink = |report| reports.push(report);
        while setup.iommu.handle_interrupt(&setup.smmu, Interrupt::Any, 64, &mut sink) {}
        let aborted = Report::PagesLost(PagesLost::Aborted { begun: 0 });
        assert!(reports.contains(&aborted), "{reports:?}");
        let of_device = |report: &Report<_>| {
            matches!(
                report,
                Report::Pages(_) | Report::PageDenied { .. } | Report::PasidStopped { .. }
            )
        };
        assert!(!reports.iter().any(of_device), "{reports:?}");
        drop(reports);
        assert_eq!(setup.responses(), []);
    }
    // Those that come after are as before.
    let index = setup.ask(NIC, None, 1);
    assert_eq!(setup.group().respond(Answer::Success), Ok(true));
    assert_eq!(setup.responses(), [(NIC, None, index, Answered::Success, true)]);
}
