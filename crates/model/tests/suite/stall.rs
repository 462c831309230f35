// SPDX-License-Identifier: MIT OR Apache-2.0
//! Stalled transactions: their events, answers, limits, and what ends them (§5.4, §11).

use smmuv3_formats::command::{Resume, StallTerm};
use smmuv3_formats::register::cerror;
use smmuv3_formats::{Cd, EventId, EventRecord, Ste};
use smmuv3_model::{
    Access, Adversary, Answer, Misuse, Observation, Profile, Reason, StallEnd, Transfer,
};

use crate::machine::*;
use crate::nested::{OFFSET, OUTPUT, OUTPUT_SLOT, a3, a3_ste, slot_of};

/// A page of RAM that VA is mapped to in the end.
const PAGE: u64 = 0x8030_0000;

fn profile() -> Profile {
    quiet().stalls(0, 4)
}

/// A1 whose context stalls, with nothing mapped.
fn machine_with(profile: Profile, seed: u64) -> Machine {
    let machine = Machine::new(profile, seed);
    machine.a1();
    machine.cd_at(CD, Cd(cd_words(5, L0)).with_s(true).0);
    machine.put(leaf_slot(L0), 0);
    machine
}

fn machine() -> Machine {
    machine_with(profile(), 1)
}

fn stall(machine: &mut Machine, access: Access) -> u64 {
    match machine.translate(access).unwrap_err().reason {
        Reason::Stalled(id) => id,
        other => panic!("{other:?}"),
    }
}

fn only_event(machine: &mut Machine) -> EventRecord {
    let events = machine.events();
    assert_eq!(events.len(), 1, "{events:?}");
    events[0]
}

fn resume(stag: u64) -> Resume {
    Resume::new().with_sid(SID.into()).with_stag(stag)
}

fn retry(stag: u64) -> Resume {
    resume(stag).with_ac(true)
}

/// What became of stalled transactions.
fn ends(machine: &mut Machine) -> Vec<(u64, StallEnd)> {
    let seen = machine.smmu.observations().into_iter();
    let ends = seen.filter_map(|observation| match observation {
        Observation::StallEnded { id, end, .. } => Some((id, end)),
        Observation::Misuse(misuse) => panic!("{misuse}"),
        _ => None,
    });
    ends.collect()
}

/// Makes everything of `SID` terminate (§11, shutdown).
fn terminate(machine: &mut Machine) {
    machine.put(STRTAB + 64 * u64::from(SID), 1);
    machine.command(cfgi_ste(SID));
    machine.sync();
}

#[test]
fn a_fault_stalls_and_its_event_names_it() {
    let mut machine = machine();
    let id = stall(&mut machine, Access::write(SID, VA + 8));
    // F_TRANSLATION, Stall = 1, STAG 0, write, CLASS = IN (§10.1).
    let words = [0x5_0000_0010, 0x200_8000_0000, VA + 8, 0];
    assert_eq!(only_event(&mut machine).0, words);
    assert_eq!(machine.smmu.stalled().map(|it| it.id).collect::<Vec<_>>(), [id]);
    // Another one is told apart.
    stall(&mut machine, Access::read(SID, VA));
    let words = [0x5_0000_0010, 0x208_8000_0001, VA, 0];
    assert_eq!(only_event(&mut machine).0, words);
}

#[test]
fn stalls_are_recorded_whatever_r_says_and_other_faults_do_not_stall() {
    let mut machine = machine();
    let quiet = Cd(cd_words(5, L0)).with_s(true).with_r(false);
    machine.cd_at(CD, quiet.0);
    stall(&mut machine, Access::read(SID, VA));
    assert!(only_event(&mut machine).stall());
    // A walk that aborts terminates.
    machine.put(L0, 0xf000_0003);
    machine.command(tlbi_asid(5));
    machine.sync();
    let refusal = machine.translate(Access::read(SID, VA)).unwrap_err();
    assert_eq!(refusal.reason, Reason::Event(EventId::FWalkEabt));
    let event = only_event(&mut machine);
    assert_eq!((event.event(), event.stall()), (Some(EventId::FWalkEabt), false));
}

#[test]
fn a_retry_begins_anew_and_moves_what_it_has_to() {
    let mut machine = machine();
    let refusal = machine.smmu.hold(Access::write(SID, VA), Transfer::Write(vec![7; 4]));
    assert!(matches!(refusal.unwrap_err().reason, Reason::Stalled(_)));
    machine.events();
    // Not repaired: it stalls once more, and that is another event.
    machine.command(retry(0));
    assert!(only_event(&mut machine).stall());
    assert_eq!(machine.smmu.stalled().count(), 1);
    // No TLBI for what was invalid (§8.1).
    machine.put(leaf_slot(L0), PAGE | LEAF);
    ends(&mut machine);
    machine.command(retry(0));
    let ended = ends(&mut machine);
    assert!(matches!(&ended[..], [(_, StallEnd::Translated(to))] if to.pa == PAGE), "{ended:?}");
    assert_eq!((machine.smmu.stalled().count(), machine.events().len()), (0, 0));
    let held: Vec<u64> = machine.smmu.held().map(|held| held.id).collect();
    machine.smmu.perform(held[0]).unwrap().result.unwrap();
    assert_eq!(machine.get(PAGE) & 0xffff_ffff, 0x0707_0707);
}

#[test]
fn ab_tells_an_abort_from_raz_wi_unless_the_model_terminates_only_by_aborts() {
    for (term_model, ab, answer) in
        [(false, true, Answer::Abort), (false, false, Answer::Ignore), (true, false, Answer::Abort)]
    {
        let mut profile = profile();
        profile.idr0 = profile.idr0.with_term_model(term_model);
        let mut machine = machine_with(profile, 1);
        let id = stall(&mut machine, Access::read(SID, VA));
        ends(&mut machine);
        machine.command(resume(0).with_ab(ab));
        assert_eq!(ends(&mut machine), [(id, StallEnd::Terminated(answer))]);
    }
}

#[test]
fn an_answer_to_nobody_does_nothing_and_is_told_of() {
    let mut machine = machine();
    stall(&mut machine, Access::read(SID, VA));
    machine.misuses();
    for (command, stream, stag) in [(retry(1), SID, 1), (retry(0).with_sid(6), 6, 0)] {
        machine.command(command);
        assert_eq!(machine.misuses(), [Misuse::UnknownStall { stream, stag }]);
        assert_eq!(machine.smmu.stalled().count(), 1);
    }
    machine.command(resume(0));
    assert_eq!(machine.misuses(), []);
    machine.command(resume(0));
    assert_eq!(machine.misuses(), [Misuse::UnknownStall { stream: SID, stag: 0 }]);
}

#[test]
fn as_many_stall_as_stall_max_says_and_the_rest_terminates() {
    let mut machine = machine();
    for page in 0..4 {
        stall(&mut machine, Access::read(SID, VA + 0x1000 * page));
    }
    let refusal = machine.translate(Access::read(SID, VA + 0x4000)).unwrap_err();
    assert_eq!(refusal.reason, Reason::Event(EventId::FTranslation));
    let stalls: Vec<bool> = machine.events().iter().map(EventRecord::stall).collect();
    assert_eq!(stalls, [true, true, true, true, false]);
    // The number of one that was answered is soon another's.
    machine.command(resume(2));
    stall(&mut machine, Access::read(SID, VA + 0x4000));
    assert_eq!(only_event(&mut machine).stag(), 2);
}

#[test]
fn events_of_stalls_wait_for_room_and_cause_no_overflow() {
    let mut machine = machine_with(quiet().stalls(0, 16), 1);
    for page in 0..10 {
        stall(&mut machine, Access::read(SID, VA + 0x1000 * page));
    }
    // The queue has 8 entries.
    assert_eq!(machine.smmu.read32(EVENTQ_PROD), 8);
    assert_eq!(machine.smmu.stalled().filter(|it| !it.recorded).count(), 2);
    // Not visible yet: nobody can mean it.
    machine.smmu.observations();
    machine.command(retry(9));
    assert_eq!(machine.misuses(), [Misuse::UnknownStall { stream: SID, stag: 9 }]);
    assert_eq!(machine.events().len(), 8);
    let later: Vec<u64> = machine.events().iter().map(EventRecord::stag).collect();
    assert_eq!(later, [8, 9]);
    // Nor are they lost where the queue cannot be written.
    machine.smmu.observations();
    machine.switch(0b1001);
    let refusal = machine.translate(Access::read(SID, VA + 0xb000)).unwrap_err();
    assert_eq!(refusal.reason, Reason::Event(EventId::FTranslation), "no stall without a queue");
}

#[test]
fn a_stall_without_event_begins_anew_with_the_sync_of_what_reaches_it() {
    let mut machine = machine_with(quiet().stalls(0, 16), 1);
    for page in 0..10 {
        stall(&mut machine, Access::read(SID, VA + 0x1000 * page));
    }
    ends(&mut machine);
    terminate(&mut machine);
    let ended = ends(&mut machine);
    assert_eq!(ended.len(), 2);
    for (_, end) in ended {
        assert!(matches!(end, StallEnd::Refused(refusal) if refusal.reason == Reason::Config));
    }
    // Those whose events are there wait on, and no event of the others comes.
    assert_eq!(machine.smmu.stalled().count(), 8);
    machine.events();
    assert_eq!(machine.events().len(), 0);
    machine.command(StallTerm::new().with_sid(SID.into()));
    let ended = ends(&mut machine);
    assert_eq!(ended.len(), 8);
    assert!(ended.iter().all(|(_, end)| *end == StallEnd::Terminated(Answer::Abort)));
}

#[test]
fn recorded_stalls_outlive_invalidations_and_see_the_new_configuration() {
    let mut machine = machine();
    stall(&mut machine, Access::read(SID, VA));
    machine.events();
    terminate(&mut machine);
    assert_eq!(machine.smmu.stalled().count(), 1);
    ends(&mut machine);
    machine.command(retry(0));
    let ended = ends(&mut machine);
    assert!(
        matches!(&ended[..], [(_, StallEnd::Refused(refusal))] if refusal.reason == Reason::Config),
        "{ended:?}"
    );
}

#[test]
fn stall_term_is_for_streams_that_terminate() {
    let mut machine = machine();
    stall(&mut machine, Access::read(SID, VA));
    machine.misuses();
    machine.command(StallTerm::new().with_sid(SID.into()));
    assert_eq!(machine.misuses(), [Misuse::StallTermEarly { stream: SID }]);
    // It does end them.
    assert_eq!(machine.smmu.stalled().count(), 0);
}

#[test]
fn turning_the_smmu_off_ends_all() {
    let mut machine = machine();
    let id = stall(&mut machine, Access::read(SID, VA));
    ends(&mut machine);
    machine.switch(0b1100);
    assert_eq!(ends(&mut machine), [(id, StallEnd::Terminated(Answer::Disabled))]);
    machine.switch(0b1101);
    machine.command(retry(0));
    assert_eq!(machine.misuses(), [Misuse::UnknownStall { stream: SID, stag: 0 }]);
}

#[test]
fn without_stalls_the_commands_are_illegal_and_so_is_the_context() {
    for command in [retry(0).into(), StallTerm::new().into()] {
        let command: smmuv3_formats::Command = command;
        let mut machine = machine_with(quiet(), 1);
        assert!(machine.translate(Access::read(SID, VA)).is_err());
        assert_eq!(only_event(&mut machine).event(), Some(EventId::CBadCd));
        machine.command(command);
        assert_eq!(u64::from(machine.smmu.read32(CMDQ_CONS)) >> 24 & 0x7f, cerror::ILL);
    }
}

#[test]
fn where_stalls_are_forced_a_context_has_no_choice() {
    let mut machine = machine_with(quiet().stalls(2, 4), 1);
    stall(&mut machine, Access::read(SID, VA));
    let mut machine = Machine::new(quiet().stalls(2, 4), 1);
    machine.a1();
    assert!(machine.translate(Access::read(SID, VA)).is_err());
    assert_eq!(only_event(&mut machine).event(), Some(EventId::CBadCd));
}

#[test]
fn an_entry_can_forbid_stalls() {
    let mut machine = machine();
    machine.ste(SID, Ste(ste_words(CD)).with_s1_stalld(true).0);
    assert!(machine.translate(Access::read(SID, VA)).is_err());
    assert_eq!(only_event(&mut machine).event(), Some(EventId::CBadCd));
}

#[test]
fn faults_of_stage_2_stall_as_the_entry_says_also_of_tables() {
    let profile = quiet().s2p(true).vmid16(true).oas(48).stalls(0, 4);
    let mut machine = a3(profile, 1);
    machine.ste(SID, Ste(a3_ste()).with_s2_s(true).0);
    // The output, and a table of stage 1.
    for (slot, class) in [(OUTPUT_SLOT, 2u64), (slot_of(L0 + 0x1000), 1)] {
        let before = machine.get(slot);
        machine.put(slot, 0);
        stall(&mut machine, Access::read(SID, VA));
        let event = only_event(&mut machine);
        assert!(event.stall() && event.s2());
        assert_eq!(event.class(), class);
        machine.put(slot, before);
        ends(&mut machine);
        machine.command(retry(event.stag()));
        let ended = ends(&mut machine);
        assert!(matches!(ended[..], [(_, StallEnd::Translated(_))]), "{ended:?}");
        machine.command(tlbi_everything());
        machine.sync();
    }
}

/// Over stage 2 a fault of stage 1 is the context's: it stalls by that, says nothing of stage 2, and needs S1STALLD = 0.
#[test]
fn a_fault_of_stage_1_over_stage_2_stalls_as_the_context_says() {
    let profile = quiet().s2p(true).vmid16(true).oas(48).stalls(0, 4);
    let mut machine = a3(profile, 1);
    machine.cd_at(CD, Cd(cd_words(5, OFFSET + L0)).with_s(true).0);
    let before = machine.get(leaf_slot(L0));
    machine.put(leaf_slot(L0), 0);
    stall(&mut machine, Access::write(SID, VA));
    let event = only_event(&mut machine);
    assert_eq!(event.event(), Some(EventId::FTranslation));
    assert!(event.stall() && !event.s2() && event.class() == 2 && event.0[3] == 0, "{event}");
    machine.put(leaf_slot(L0), before);
    ends(&mut machine);
    machine.command(retry(event.stag()));
    let ended = ends(&mut machine);
    let [(_, StallEnd::Translated(to))] = &ended[..] else { panic!("{ended:?}") };
    assert_eq!(to.pa & !0xfff, OUTPUT);
    let mut machine = a3(quiet().s2p(true).vmid16(true).oas(48).stalls(0, 4), 1);
    machine.cd_at(CD, Cd(cd_words(5, OFFSET + L0)).with_s(true).0);
    machine.ste(SID, Ste(a3_ste()).with_s1_stalld(true).0);
    assert!(machine.translate(Access::read(SID, VA)).is_err());
    assert_eq!(only_event(&mut machine).event(), Some(EventId::CBadCd));
}

/// Whatever the adversary does, each event has one answer, and no transaction is left.
#[test]
fn adversarial_stalls_end_once_each() {
    let habits = Adversary { stalls: true, ..Adversary::NONE };
    let (mut gone, mut behind) = (0, 0);
    for seed in 0..64 {
        let mut machine = machine_with(quiet().stalls(0, 6).adversary(habits), seed);
        let mut begun = 0u32;
        for access in [Access::read(SID, VA), Access::write(SID, VA), Access::read(SID, VA + 4)] {
            stall(&mut machine, access);
            begun += 1;
        }
        machine.put(leaf_slot(L0), PAGE | LEAF);
        for _ in 0..16 {
            machine.smmu.act();
        }
        let all: Vec<_> = machine.smmu.stalled().cloned().collect();
        gone += all.iter().filter(|it| it.gone).count();
        behind += all.iter().filter(|it| it.behind.is_some()).count();
        for event in machine.events() {
            machine.command(retry(event.stag()));
        }
        for _ in 0..64 {
            machine.smmu.act();
        }
        assert_eq!(machine.smmu.stalled().count(), 0);
        let ended = ends(&mut machine);
        assert_eq!(ended.len() as u32, begun, "{ended:?}");
        assert!(ended.iter().all(|(_, end)| matches!(end, StallEnd::Translated(_))), "{ended:?}");
    }
    assert!(gone > 16 && behind > 8, "{gone}, {behind}");
}
