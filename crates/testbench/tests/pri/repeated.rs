// SPDX-License-Identifier: MIT OR Apache-2.0
//! A device that sends the last request of a group twice: one answer comes, and the second is reported.

use smmuv3::page_request::Answer;
use smmuv3::{Denied, Report, SubstreamId};
use smmuv3_formats::register::CmdqCons;
use smmuv3_model::{Answered, Page, Requested};

use crate::setup::{GPU, IOVA, NIC, PAGE, Setup, config};

fn again(setup: &Setup, stream: u32, index: u16) {
    let page = Page { address: IOVA + 9 * PAGE, read: true, write: true };
    let asked = setup.world.machine().model(0).unwrap().ask_again(stream, index, page);
    assert_eq!(asked, Some(Requested::Queued));
}

fn is_repeated(setup: &Setup) {
    let (reports, more) = setup.reports(8);
    assert!(!more && reports.len() == 1, "{reports:?}");
    let Report::PageDenied { page, why: Denied::Repeated } = &reports[0] else {
        panic!("{reports:?}")
    };
    assert_eq!(page.iova.0, IOVA + 9 * PAGE);
}

#[test]
fn a_group_that_waits_is_answered_once_however_often_it_ends() {
    let setup = Setup::new(5);
    let index = setup.ask(NIC, None, 2);
    let group = setup.group();
    assert_eq!(group.len(), 2);
    for _ in 0..3 {
        again(&setup, NIC, index);
        is_repeated(&setup);
    }
    assert!(setup.responses().is_empty(), "nothing was answered yet");
    assert_eq!(group.respond(Answer::Success), Ok(true));
    let responses = setup.responses();
    assert_eq!(responses, [(NIC, None, index, Answered::Success, true)]);
    // Its number is free again, and nothing of the second is left in it.
    assert_eq!(setup.ask(NIC, None, 1), index);
    let group = setup.group();
    assert_eq!(group.len(), 1);
    assert_eq!(group.respond(Answer::Invalid), Ok(true));
    assert_eq!(setup.responses(), [(NIC, None, index, Answered::Invalid, true)]);
}

#[test]
fn both_in_the_queue_at_once_are_one_group() {
    let setup = Setup::new(5);
    let index = setup.ask(NIC, None, 1);
    again(&setup, NIC, index);
    let (mut reports, more) = setup.reports(8);
    assert!(!more && reports.len() == 2, "{reports:?}");
    let second = reports.pop();
    assert!(matches!(second, Some(Report::PageDenied { why: Denied::Repeated, .. })), "{second:?}");
    let Some(Report::Pages(group)) = reports.pop() else { panic!("{reports:?}") };
    // Dropping it is an answer, too.
    drop(group);
    assert_eq!(setup.responses(), [(NIC, None, index, Answered::Invalid, true)]);
    assert!(!setup.waits(NIC));
}

#[test]
fn a_detach_answers_it_once() {
    let setup = Setup::new(5);
    let index = setup.ask(NIC, None, 1);
    again(&setup, NIC, index);
    setup.iommu.detach(&setup.nic).unwrap();
    let responses = setup.responses();
    let once: Vec<u16> = responses.iter().map(|(_, _, index, ..)| *index).collect();
    assert_eq!(once, [index], "{responses:?}");
}

/// The first was answered, but the SMMU had not come to that: a reset finds the answer in the command queue, and the second among
/// those that wait.
#[test]
fn a_reset_answers_it_once() {
    let setup = Setup::new(5);
    let stuck = |stuck| setup.world.machine().model(0).unwrap().set_stuck(stuck);
    let index = setup.ask(NIC, None, 1);
    let first = setup.group();
    stuck(true);
    assert_eq!(first.respond(Answer::Success), Ok(true));
    again(&setup, NIC, index);
    let second = setup.group();
    stuck(false);
    setup.iommu.reset(&setup.smmu).unwrap();
    let responses = setup.responses();
    let once: Vec<u16> = responses.iter().map(|(_, _, index, ..)| *index).collect();
    assert_eq!(once, [index], "{responses:?}");
    assert_eq!(second.respond(Answer::Success), Ok(false));
    assert_eq!((setup.smmu.statistics().groups, setup.waits(NIC)), (0, false));
}

#[test]
fn where_answers_carry_pasids_groups_of_others_have_numbers_of_their_own() {
    let setup = Setup::new(5);
    let pasid = setup.iommu.allocate_pasid().unwrap();
    setup.iommu.attach_pasid(&setup.gpu, pasid, &setup.other).unwrap();
    setup.send(GPU, Some(pasid.0), 3, true);
    let with = setup.group();
    assert_eq!(with.group().pasid, Some(SubstreamId(pasid.0)));
    // The same number without a PASID is another group.
    setup.send(GPU, None, 3, true);
    let without = setup.group();
    assert_eq!(without.group().pasid, None);
    assert_eq!(with.respond(Answer::Success), Ok(true));
    assert_eq!(without.respond(Answer::Success), Ok(true));
    setup.send(GPU, Some(pasid.0), 3, true);
    let group = setup.group();
    setup.send(GPU, Some(pasid.0), 3, true);
    let (reports, _) = setup.reports(8);
    assert!(
        matches!(reports[..], [Report::PageDenied { why: Denied::Repeated, .. }]),
        "{reports:?}"
    );
    assert_eq!(group.respond(Answer::Success), Ok(true));
    setup.iommu.detach_pasid(&setup.gpu, pasid).unwrap();
    setup.iommu.free_pasid(pasid).unwrap();
}

/// The SMMU had not come to the answer to a group without a PASID, nor to that to one with it, when it is reset; a third of the same
/// number waits.
#[test]
fn a_reset_gives_all_answers_of_one_number() {
    let setup = Setup::new(5);
    let pasids = [(); 2].map(|()| setup.iommu.allocate_pasid().unwrap());
    for pasid in pasids {
        setup.iommu.attach_pasid(&setup.gpu, pasid, &setup.other).unwrap();
    }
    let [one, other] = pasids.map(|pasid| Some(pasid.0));
    let stuck = |stuck| setup.world.machine().model(0).unwrap().set_stuck(stuck);
    stuck(true);
    for pasid in [other, None] {
        setup.send(GPU, pasid, 3, true);
        assert_eq!(setup.group().respond(Answer::Success), Ok(true));
    }
    setup.send(GPU, one, 3, true);
    let waits = setup.group();
    stuck(false);
    setup.iommu.reset(&setup.smmu).unwrap();
    let mut answered: Vec<_> = setup.responses().iter().map(|it| (it.1, it.2)).collect();
    answered.sort_unstable();
    let mut expected = [(None, 3), (one, 3), (other, 3)];
    expected.sort_unstable();
    assert_eq!(answered, expected);
    assert_eq!(waits.respond(Answer::Success), Ok(false));
}

/// CONS shows anything after that: what it seems not to have come to was carried out. The queue is so long that nobody has noted
/// yet how far it came.
#[test]
fn nothing_is_answered_again_after_a_suspend_whose_first_resume_fails() {
    for reset in [false, true] {
        let setup = Setup::blocked(config(5, 10));
        setup.iommu.attach(&setup.nic, &setup.domain).unwrap();
        let index = setup.ask(NIC, None, 1);
        assert_eq!(setup.group().respond(Answer::Success), Ok(true));
        assert_eq!(setup.responses(), [(NIC, None, index, Answered::Success, true)]);
        setup.iommu.suspend(&setup.smmu, &mut |_| ()).unwrap();
        let power = |on| {
            let mut model = setup.world.machine().model(0).unwrap();
            if on { model.power_on(true) } else { model.power_off() }
        };
        power(false);
        setup.iommu.resume(&setup.smmu).unwrap_err();
        power(true);
        // As it may be after power was lost.
        setup.world.machine().model(0).unwrap().write32(CmdqCons::OFFSET, 0);
        let works =
            if reset { setup.iommu.reset(&setup.smmu) } else { setup.iommu.resume(&setup.smmu) };
        works.unwrap();
        assert_eq!(setup.responses(), [], "a reset: {reset}");
        // And it goes on.
        let index = setup.ask(NIC, None, 1);
        assert_eq!(setup.group().respond(Answer::Success), Ok(true));
        assert_eq!(setup.responses(), [(NIC, None, index, Answered::Success, true)]);
    }
}
