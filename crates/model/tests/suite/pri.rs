// SPDX-License-Identifier: MIT OR Apache-2.0
//! Page requests: the queue, overflow, answers of the SMMU's own and of software, and what a device expects (§13).

use smmuv3_formats::command::PriResp;
use smmuv3_formats::{EventId, PageRequest};
use smmuv3_model::{Answered, Autonomous, Misuse, Observation, Page, Requested};

use crate::atc::on;
use crate::ats::ats;
use crate::machine::*;

const PRIQ: u64 = 0x8022_0000;
const PRIQ_BITS: u64 = 2;
const PRIQ_BASE: u32 = 0xc0;
const PRIQ_IRQ_CFG2: u32 = 0xdc;
const PRIQ_PROD: u32 = 0x100c8;
const PRIQ_CONS: u32 = 0x100cc;
/// SMMUEN, PRIQEN, EVENTQEN, CMDQEN, ATSCHK.
const ALL_ON: u32 = 0b1_1111;
const OVERFLOW: u32 = 1 << 31;
const SUBSTREAM: u32 = 3;

/// A device with PRI on, and a queue of four entries.
fn with_queue(required: bool, pps: bool) -> Machine {
    let mut profile = ats(quiet().ssidsize(4)).pri(PRIQ_BITS as u32);
    profile.idr3 = profile.idr3.with_pps(pps);
    let mut machine = Machine::new(profile, 1);
    machine.a1();
    let smmu = &mut machine.smmu;
    smmu.write64(PRIQ_BASE, PRIQ | PRIQ_BITS);
    smmu.write32(PRIQ_PROD, 0);
    smmu.write32(PRIQ_CONS, 0);
    smmu.write32(PRIQ_IRQ_CFG2, 0);
    smmu.write32(IRQ_CTRL, 0b111);
    machine.switch(ALL_ON);
    machine.smmu.plug(SID, on().pri(true).response_pasid(required));
    machine.smmu.observations();
    machine
}

fn page(address: u64) -> Page {
    Page { address, read: true, write: false }
}

fn entry(machine: &Machine, slot: u64) -> [u64; 2] {
    [0, 8].map(|offset| machine.get(PRIQ + 16 * slot + offset))
}

/// What the device was told since the last call.
fn told(machine: &mut Machine) -> Vec<(u16, Answered)> {
    machine.smmu.endpoint_mut(SID).unwrap().take_answers()
}

fn request(index: u64, last: bool) -> PageRequest {
    PageRequest::default()
        .with_sid(SID.into())
        .with_prg_index(index)
        .with_read(true)
        .with_last(last)
}

#[test]
fn a_group_is_written_in_order_and_its_last_request_says_so() {
    let mut machine = with_queue(false, false);
    let pages = [page(VA | 0x123), Page { address: VA + 0x1000, read: true, write: true }];
    assert_eq!(machine.smmu.ask_for_pages(SID, Some(SUBSTREAM), &pages, true), Some(0));
    assert_eq!(machine.smmu.read32(PRIQ_PROD), 2);
    // SID 5, SSID 3, R, then W and Last; SSV. The address without its offset, PRGIndex 0.
    assert_eq!(entry(&machine, 0), [0x9000_0003_0000_0005, VA]);
    assert_eq!(entry(&machine, 1), [0xf000_0003_0000_0005, VA + 0x1000]);
    assert!(machine.smmu.interrupts().priq);
    // The next group gets another index, which the first still waits with.
    assert_eq!(machine.smmu.ask_for_pages(SID, None, &[page(VA)], false), Some(1));
    assert_eq!(entry(&machine, 2), [0x1000_0000_0000_0005, VA | 1]);
    assert!(!machine.smmu.interrupts().priq, "it was not empty");
    let waiting: Vec<_> = machine.smmu.endpoint(SID).unwrap().waiting().collect();
    assert_eq!(waiting, [(0, true), (1, false)]);
    assert_eq!(told(&mut machine), []);
}

#[test]
fn a_response_ends_a_group_once() {
    for (resp, answer) in [(0, Answered::Failure), (1, Answered::Invalid), (2, Answered::Success)] {
        let mut machine = with_queue(false, false);
        machine.smmu.ask_for_pages(SID, None, &[page(VA)], true).unwrap();
        let command = PriResp::new().with_sid(SID.into()).with_resp(resp);
        machine.command(command);
        assert_eq!(told(&mut machine), [(0, answer)]);
        assert_eq!(machine.smmu.endpoint(SID).unwrap().waiting().count(), 0);
        // A device that was told of a failure asks no more.
        let index = machine.smmu.ask_for_pages(SID, None, &[page(VA)], true);
        assert_eq!(index.is_none(), answer == Answered::Failure);
        machine.command(command);
        machine.command(command);
        let expected: Vec<_> = machine
            .smmu
            .observations()
            .iter()
            .filter_map(|seen| match seen {
                Observation::PageResponse { expected, automatic: false, .. } => Some(*expected),
                _ => None,
            })
            .collect();
        assert_eq!(expected, [true, answer != Answered::Failure, false]);
    }
}

#[test]
fn a_group_without_its_last_request_expects_no_response() {
    let mut machine = with_queue(false, false);
    machine.smmu.ask_for_pages(SID, None, &[page(VA)], false).unwrap();
    machine.command(PriResp::new().with_sid(SID.into()).with_resp(2));
    assert_eq!(told(&mut machine), []);
    assert_eq!(machine.smmu.endpoint(SID).unwrap().waiting().count(), 1);
}

#[test]
fn the_pasid_of_a_response_is_as_the_device_needs_it() {
    for required in [false, true] {
        for (asked, ssv, ssid, right) in [
            (None, false, 0, true),
            (None, true, 3, false),
            (Some(SUBSTREAM), true, 3, required),
            (Some(SUBSTREAM), false, 0, !required),
            (Some(SUBSTREAM), true, 2, false),
        ] {
            let mut machine = with_queue(required, false);
            machine.smmu.ask_for_pages(SID, asked, &[page(VA)], true).unwrap();
            let command = PriResp::new().with_sid(SID.into()).with_resp(2);
            machine.command(command.with_ssv(ssv).with_ssid(ssid));
            let answered = told(&mut machine).len() == 1;
            assert_eq!(answered, right, "{required} {asked:?} {ssv} {ssid}");
        }
    }
    let mut machine = with_queue(false, false);
    machine.command(PriResp::new().with_sid(1 << 20));
    machine.command(PriResp::new().with_sid(SID.into()).with_ssv(true).with_ssid(16));
    assert!(matches!(
        machine.misuses()[..],
        [Misuse::NoSuchStream { .. }, Misuse::NoSuchStream { stream: SID, substream: 16 }]
    ));
}

#[test]
fn an_overflow_keeps_everything_out_until_it_is_acknowledged() {
    let mut machine = with_queue(false, false);
    let index = |machine: &mut Machine, last| {
        machine.smmu.ask_for_pages(SID, None, &[page(VA)], last).unwrap()
    };
    for _ in 0..4 {
        index(&mut machine, true);
    }
    assert_eq!(machine.smmu.read32(PRIQ_PROD), 4);
    // The one that causes it is answered with Success; one that is not the last is not.
    assert_eq!(machine.smmu.page_request(request(9, false)), Requested::Dropped);
    assert_eq!(machine.smmu.read32(PRIQ_PROD), 4 | OVERFLOW);
    let group = index(&mut machine, true);
    assert_eq!(told(&mut machine), [(group, Answered::Success)]);
    // Room again, and no acknowledgement.
    machine.smmu.write32(PRIQ_CONS, 4);
    index(&mut machine, true);
    assert_eq!(told(&mut machine), [(group, Answered::Success)]);
    assert_eq!(machine.smmu.read32(PRIQ_PROD), 4 | OVERFLOW);
    machine.smmu.interrupts();
    machine.smmu.write32(PRIQ_CONS, 4 | OVERFLOW);
    index(&mut machine, true);
    assert_eq!(machine.smmu.read32(PRIQ_PROD), 5 | OVERFLOW);
    assert!(machine.smmu.interrupts().priq);
    // The next one toggles back.
    for _ in 0..4 {
        index(&mut machine, true);
    }
    assert_eq!(machine.smmu.read32(PRIQ_PROD), 0);
    assert_eq!(machine.misuses(), []);
}

#[test]
fn answers_to_an_overflow_carry_a_pasid_where_software_wants_it() {
    let overflowing = |pps: bool, ppar: Option<bool>| {
        let mut machine = with_queue(false, pps);
        match ppar {
            Some(ppar) => {
                let mut ste = ste_words(CD);
                ste[1] |= u64::from(ppar) << 18;
                machine.ste(SID, ste);
            }
            None => machine.ste(SID, [0; 8]),
        }
        for index in 0..4 {
            machine.smmu.page_request(request(index, true));
        }
        let asked = request(5, true).with_ssv(true).with_ssid(SUBSTREAM.into());
        let answer = machine.smmu.page_request(asked);
        let Requested::Autonomous(answer) = answer else { panic!("{answer:?}") };
        assert_eq!(machine.events(), [], "REC_CFG_ATS is 0");
        (answer.answer, answer.substream)
    };
    assert_eq!(overflowing(false, Some(false)), (Answered::Success, None));
    assert_eq!(overflowing(false, Some(true)), (Answered::Success, Some(SUBSTREAM)));
    assert_eq!(overflowing(true, Some(false)), (Answered::Success, Some(SUBSTREAM)));
    assert_eq!(overflowing(true, None), (Answered::Success, Some(SUBSTREAM)));
    assert_eq!(overflowing(false, None), (Answered::Failure, None));
}

#[test]
fn without_a_queue_everything_fails_at_once() {
    const FAILED: Requested =
        Requested::Autonomous(Autonomous { answer: Answered::Failure, substream: None });
    for cr0 in [ALL_ON & !2, ALL_ON & !1] {
        let mut machine = with_queue(true, false);
        machine.switch(cr0);
        assert_eq!(machine.smmu.page_request(request(1, true)), FAILED);
        assert_eq!(machine.smmu.page_request(request(1, false)), Requested::Dropped);
        // A failure needs no PASID, and the device asks no more.
        machine.smmu.ask_for_pages(SID, Some(SUBSTREAM), &[page(VA)], true).unwrap();
        assert_eq!(told(&mut machine), [(0, Answered::Failure)]);
        assert_eq!(machine.smmu.ask_for_pages(SID, None, &[page(VA)], true), None);
        assert_eq!(machine.smmu.read32(PRIQ_PROD), 0, "no overflow");
    }
    let mut machine = with_queue(false, false);
    machine.ram.break_range(PRIQ, 8);
    assert_eq!(machine.smmu.page_request(request(1, true)), FAILED);
    assert_eq!(machine.smmu.read32(GERROR), 1 << 3, "PRIQ_ABT_ERR");
    machine.ram.repair();
    assert_eq!(machine.smmu.page_request(request(1, true)), FAILED, "until it is acknowledged");
    machine.smmu.write32(GERRORN, 1 << 3);
    assert_eq!(machine.smmu.page_request(request(1, true)), Requested::Queued);
}

#[test]
fn stop_markers_are_queued_or_dropped_and_never_answered() {
    let mut machine = with_queue(false, false);
    assert_eq!(machine.smmu.stop_pasid(SID, SUBSTREAM), Requested::Queued);
    // Last and SSV alone.
    assert_eq!(entry(&machine, 0), [0xc000_0003_0000_0005, 0]);
    for _ in 0..3 {
        machine.smmu.stop_pasid(SID, SUBSTREAM);
    }
    assert_eq!(machine.smmu.stop_pasid(SID, SUBSTREAM), Requested::Dropped);
    assert_eq!(machine.smmu.read32(PRIQ_PROD), 4 | OVERFLOW);
    machine.switch(ALL_ON & !2);
    assert_eq!(machine.smmu.stop_pasid(SID, SUBSTREAM), Requested::Dropped);
    assert_eq!(told(&mut machine), []);
}

#[test]
fn requests_are_taken_from_whoever_sends_them() {
    // Neither EATS nor the stream table decide (§13).
    let mut machine = with_queue(false, false);
    let stranger = request(7, true).with_sid(0xffff);
    assert_eq!(machine.smmu.page_request(stranger), Requested::Queued);
    assert_eq!(entry(&machine, 0), [0x5000_0000_0000_ffff, 7]);
    assert_eq!(machine.events(), []);
}

#[test]
fn with_lo_the_interrupt_tells_of_each_group() {
    let mut machine = with_queue(false, false);
    machine.smmu.write32(IRQ_CTRL, 0b101);
    machine.smmu.write32(PRIQ_IRQ_CFG2, 1 << 31);
    machine.smmu.write32(IRQ_CTRL, 0b111);
    let mut told = |last| {
        machine.smmu.page_request(request(1, last));
        machine.smmu.interrupts().priq
    };
    assert_eq!([false, true, false, true].map(&mut told), [false, true, false, true]);
    // Full: also of one that is lost.
    assert_eq!([false, true].map(&mut told), [false, true]);
    assert_eq!(machine.misuses(), []);
}

#[test]
fn the_registers_of_the_queue_are_guarded_and_absent_without_pri() {
    let mut machine = with_queue(false, false);
    machine.smmu.write64(PRIQ_BASE, 0);
    machine.smmu.write32(PRIQ_PROD, 1);
    machine.smmu.write32(PRIQ_CONS, 1);
    assert_eq!(
        machine.misuses(),
        [
            Misuse::GuardedWrite { offset: PRIQ_BASE, value: 0 },
            Misuse::GuardedWrite { offset: PRIQ_PROD, value: 1 },
            Misuse::InconsistentIndex { queue: "PRIQ", prod: 0, cons: 1 },
        ]
    );
    assert_eq!(machine.smmu.read64(PRIQ_BASE), PRIQ | PRIQ_BITS);
    // SMMUEN alone unlocks nothing.
    machine.smmu.write32(PRIQ_CONS, 0);
    machine.switch(ALL_ON & !1);
    machine.smmu.write64(PRIQ_BASE, 0);
    assert_eq!(machine.smmu.read64(PRIQ_BASE), PRIQ | PRIQ_BITS);
    let mut machine = Machine::new(quiet(), 1);
    machine.smmu.observations();
    machine.smmu.write64(PRIQ_BASE, 0x1000);
    machine.smmu.write32(PRIQ_CONS, 0);
    let without = |offset| Misuse::NotWritable { offset };
    assert_eq!(machine.misuses(), [without(PRIQ_BASE), without(PRIQ_CONS)]);
}

#[test]
fn an_overflow_answer_that_needs_an_entry_records_why_there_is_none() {
    let mut machine = with_queue(false, false);
    machine.switch(ALL_ON & !1);
    machine.smmu.write32(CR2, 0b1010);
    machine.switch(ALL_ON);
    for index in 0..4 {
        machine.smmu.page_request(request(index, true));
    }
    machine.ste(SID, [0; 8]);
    for (sid, id) in [(SID, EventId::CBadSte), (64, EventId::CBadStreamId)] {
        let asked = request(5, true).with_ssv(true).with_ssid(3).with_sid(sid.into());
        machine.smmu.page_request(asked);
        let events: Vec<_> = machine.events().iter().filter_map(|event| event.event()).collect();
        assert_eq!(events, [id]);
    }
}
