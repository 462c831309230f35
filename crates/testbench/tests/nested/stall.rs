// SPDX-License-Identifier: MIT OR Apache-2.0
//! What stalls at a guest's stage 1 is shown to the guest, and answered by it: each once, and nobody else's (§11).

use smmuv3::Refused;
use smmuv3::nest::{Cause, Owner};
use smmuv3::{
    DomainConfig, Fault, Interrupt, MasterConfig, NestConfig, NestError, Report, Response, StreamId,
};
use smmuv3_formats::command::{Resume, StallTerm};
use smmuv3_formats::event::class;
use smmuv3_formats::{Command, EventId, EventRecord, Ste};
use smmuv3_model::{Answer, Misuse, Observation, StallEnd};
use smmuv3_testbench::inside::Inside as _;
use smmuv3_testbench::machine::{Dma, Outcome};
use smmuv3_testbench::platform::TestPlatform;

use crate::guest::{DATA, Guest, PAGE, PAGES, VA};
use crate::host::{Host, STREAMS, Use};

/// Device 0 uses the guest's space 0, device 1 its space 1, and nothing is mapped in either.
fn host(shown: u32) -> Host {
    let mut host = Host::with_stalls(shown, |_| ());
    host.nest(0, Guest::entry(0), Use::Space(0));
    host.nest(1, Guest::entry(1), Use::Space(1));
    host.world.take_commands();
    host
}

fn write(host: &Host, master: usize, address: u64) -> Outcome {
    let parts = host.world.machine().dma(master, None, address, Dma::Write(&[0x77; 8])).unwrap();
    parts[0].outcome
}

/// What the driver reports.
fn reports(host: &Host) -> Vec<Report<TestPlatform>> {
    let mut reports = Vec::new();
    let mut keep = |report| reports.push(report);
    while host.iommu.handle_interrupt(&host.smmu, Interrupt::Any, 64, &mut keep) {}
    reports
}

/// A device writes where nothing is mapped: what the driver hands out.
fn stall(host: &Host, master: usize, address: u64) -> Fault<TestPlatform> {
    assert_eq!(write(host, master, address), Outcome::Stalled);
    match reports(host).pop() {
        Some(Report::Stalled(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

/// What the guest is told of it.
fn shown(host: &Host, master: usize, address: u64) -> EventRecord {
    host.nest.show(stall(host, master, address)).unwrap()
}

/// What hardware did since the last call: the answers that it took, and the transactions that ended. Nothing wrong.
fn done(host: &Host) -> (Vec<(u32, Answer)>, Vec<StallEnd>) {
    let (mut answers, mut ends) = (Vec::new(), Vec::new());
    {
        let mut model = host.world.machine().model(0).unwrap();
        model.run(usize::MAX);
        model.settle_stalls();
    }
    for observation in host.world.observations(0).unwrap() {
        match observation {
            Observation::StallAnswered { stream, answer, .. } => answers.push((stream, answer)),
            Observation::StallEnded { end, .. } => ends.push(end),
            Observation::Misuse(misuse) => panic!("{misuse}"),
            _ => {}
        }
    }
    (answers, ends)
}

fn answers(host: &Host) -> Vec<(u32, Answer)> {
    done(host).0
}

/// The opcodes of what the driver gave since the last call, but for CMD_SYNC.
fn given(host: &Host) -> Vec<u64> {
    let commands = host.world.take_commands().into_iter();
    commands.map(|(_, command)| command.0[0] & 0xff).filter(|opcode| *opcode != 0x46).collect()
}

const RESUME: u64 = 0x44;

fn waiting(host: &Host) -> usize {
    host.world.machine().model(0).unwrap().stalled().count()
}

fn resume(told: &EventRecord) -> Resume {
    Resume::new().with_sid(told.sid()).with_stag(told.stag())
}

const fn retry(told: Resume) -> Command {
    Command(told.with_ac(true).0)
}

const fn abort(told: Resume) -> Command {
    Command(told.with_ab(true).0)
}

const HOSTS: [u32; 2] = [STREAMS[0].0, STREAMS[1].0];

#[test]
fn a_guest_sees_a_stall_maps_the_page_and_lets_it_go_on() {
    let mut host = host(4);
    let told = shown(&host, 0, VA + 3 * PAGE);
    assert_eq!((told.event(), told.sid()), (Some(EventId::FTranslation), STREAMS[0].1.into()));
    assert!(told.stall() && !told.rnw() && !told.s2());
    assert_eq!((told.class(), told.input_addr()), (class::INPUT, VA + 3 * PAGE));
    // What was not there needs no invalidation.
    host.guest.map(0, 3, DATA);
    host.commands(&[retry(resume(&told))]);
    let (answers, ends) = done(&host);
    assert_eq!(answers, [(HOSTS[0], Answer::Retry)]);
    let [StallEnd::Translated(to)] = &ends[..] else { panic!("{ends:?}") };
    assert_eq!(to.pa, host.guest.frames[DATA]);
    assert_eq!(waiting(&host), 0);
    // The other words end it.
    for word in [abort, Command::from] {
        let told = shown(&host, 1, VA);
        host.commands(&[word(resume(&told))]);
        // This SMMU knows no other end (TERM_MODEL = 1).
        assert_eq!(self::answers(&host), [(HOSTS[1], Answer::Abort)]);
    }
}

#[test]
fn what_it_retries_before_it_mapped_it_stalls_anew() {
    let mut host = host(4);
    let told = shown(&host, 0, VA);
    host.commands(&[retry(resume(&told))]);
    assert_eq!(answers(&host), [(HOSTS[0], Answer::Retry)]);
    let Some(Report::Stalled(fault)) = reports(&host).pop() else { panic!("no other") };
    let again = host.nest.show(fault).unwrap();
    assert_ne!(
        again.stag(),
        told.stag(),
        "the SMMU's own number is free again, the guest's is not"
    );
    // What it answered already it cannot answer again, nor that one by it.
    host.commands(&[abort(resume(&told))]);
    assert_eq!((answers(&host), waiting(&host)), (vec![], 1));
    host.commands(&[abort(resume(&again))]);
    assert_eq!(answers(&host), [(HOSTS[0], Answer::Abort)]);
}

#[test]
fn nothing_but_what_it_is_shown_is_its_to_answer() {
    let mut host = host(4);
    let told = shown(&host, 0, VA);
    let own = resume(&told);
    // One that nobody has shown it, by the number that the SMMU knows it by, and one of stage 2.
    let unshown = stall(&host, 0, VA + PAGE);
    host.guest.map(1, 0, DATA);
    host.take(DATA);
    let below = stall(&host, 1, VA);
    given(&host);
    let mut wrong = vec![];
    for (_, sid) in STREAMS {
        for stag in 0..=u16::MAX {
            let it = own.with_sid(sid.into()).with_stag(stag.into());
            if it != own {
                wrong.push(abort(it));
            }
        }
    }
    // The host's number of the stream, and one that is nobody's.
    wrong.extend([HOSTS[0], 0x77].map(|sid| abort(own.with_sid(sid.into()))));
    host.commands(&wrong);
    assert_eq!(host.world.take_commands(), [], "nothing of that is the host's business");
    assert_eq!((answers(&host), waiting(&host)), (vec![], 3));
    let Refused { value: fault, error: cause } = host.nest.show(below).unwrap_err();
    assert_eq!(cause, Cause::Stage2);
    host.give(DATA);
    assert_eq!(fault.respond(Response::Retry), Ok(true));
    let (answered, ends) = done(&host);
    assert_eq!(answered, [(HOSTS[1], Answer::Retry)]);
    assert!(matches!(ends[..], [StallEnd::Translated(_)]), "{ends:?}");
    drop(unshown);
    // Twice in one go: the second is none.
    host.commands(&[retry(own), retry(own), abort(own)]);
    assert_eq!(answers(&host), [(HOSTS[0], Answer::Abort), (HOSTS[0], Answer::Retry)]);
    given(&host);
    host.commands(&[retry(own)]);
    assert_eq!(given(&host), [0; 0]);
}

#[test]
fn a_command_that_the_guests_smmu_does_not_know_is_refused_with_the_field() {
    let host = host(4);
    let told = shown(&host, 0, VA);
    let mut forwarder = smmuv3::nest::Forwarder::new();
    let mut refused = |word: Command| {
        let done = host.nest.forward(&mut forwarder, &[word]).unwrap();
        let smmuv3::nest::Stop::Refused { index: 0, illegal } = done.stop else {
            panic!("{:?}", done.stop)
        };
        illegal.rule.field
    };
    let [first, second] = resume(&told).0;
    assert_eq!(refused(Command([first | 1 << 10, second])), "SSec");
    assert_eq!(refused(Command([first, second | 1 << 40])), "word 1");
    assert_eq!(waiting(&host), 1);
    host.iommu.detach(&host.masters[0]).unwrap();
}

#[test]
fn all_of_a_stream_end_by_one_command_and_those_of_no_other() {
    let mut host = host(4);
    let mine: Vec<EventRecord> = (0..2).map(|at| shown(&host, 0, VA + at * PAGE)).collect();
    let other = shown(&host, 1, VA);
    let unshown = stall(&host, 0, VA + 5 * PAGE);
    host.world.take_commands();
    // As a guest does that is about to take a device away: its own entry terminates. The host's does not.
    host.commands(&[StallTerm::new().with_sid(STREAMS[0].1.into()).into()]);
    assert_eq!(answers(&host), [(HOSTS[0], Answer::Abort); 2]);
    assert_eq!(given(&host), [RESUME; 2]);
    // Too late.
    host.commands(&mine.iter().map(|told| retry(resume(told))).collect::<Vec<_>>());
    assert_eq!((answers(&host), waiting(&host)), (vec![], 2));
    host.commands(&[abort(resume(&other))]);
    assert_eq!(answers(&host), [(HOSTS[1], Answer::Abort)]);
    let told = host.nest.show(unshown).unwrap();
    host.commands(&[abort(resume(&told))]);
    assert_eq!(answers(&host), [(HOSTS[0], Answer::Abort)]);
}

#[test]
fn a_guest_that_does_not_answer_has_no_more_than_it_is_shown() {
    let mut host = host(2);
    assert_eq!(host.nest.guest().shown().idr5.stall_max(), 2);
    let first: Vec<EventRecord> = (0..2).map(|at| shown(&host, 0, VA + at * PAGE)).collect();
    for at in 2..20 {
        // By either device: what its SMMU cannot stall is terminated.
        let told = shown(&host, at % 2, VA + at as u64 * PAGE);
        assert!(!told.stall() && told.stag() == 0 && told.event() == Some(EventId::FTranslation));
        assert_eq!(answers(&host), [(HOSTS[at % 2], Answer::Abort)]);
    }
    assert_eq!(waiting(&host), 2);
    host.commands(&[abort(resume(&first[1]))]);
    assert_eq!(answers(&host), [(HOSTS[0], Answer::Abort)]);
    assert!(shown(&host, 1, VA).stall(), "there is room again");
    // No more than the host has room for.
    assert_eq!(self::host(100).nest.guest().shown().idr5.stall_max(), 8);
}

/// What the driver has no room for is aborted, and the guest is told that it is over.
#[test]
fn what_the_host_has_no_room_for_the_guest_does_not_wait_for() {
    let mut host = Host::with_stalls(8, |it| it.stalls = 80);
    host.nest(0, Guest::entry(0), Use::Space(0));
    // Half of the 64 that the driver has room for.
    let mut kept: Vec<_> = (0..32).map(|at| stall(&host, 0, VA + at * PAGE)).collect();
    assert_eq!(write(&host, 0, VA + 64 * PAGE), Outcome::Stalled);
    let Some(Report::Aborted(record)) = reports(&host).pop() else { panic!("there is room") };
    let Owner::Guest(told) = host.nest.owner(&record) else { panic!("{record}") };
    assert!(record.stall() && !told.stall() && told.stag() == 0, "{told}");
    assert_eq!(answers(&host), [(HOSTS[0], Answer::Abort)]);
    // What is not handed on is its holder's.
    let told = host.nest.show(kept.remove(0)).unwrap();
    assert!(told.stall());
    host.commands(&[abort(resume(&told))]);
    assert_eq!(answers(&host), [(HOSTS[0], Answer::Abort)]);
    host.detach(0);
    drop(kept);
    assert_eq!(answers(&host).len(), 31);
    assert_eq!(host.smmu.statistics().refused_stalls, 1);
}

/// Device 0 writes to 20 pages from `from` on, where nothing is mapped: what is handed out, and how many were aborted.
fn burst(host: &Host, from: u64) -> (Vec<Fault<TestPlatform>>, usize) {
    let (mut kept, mut aborted) = (Vec::new(), 0);
    for at in 0..20 {
        assert_eq!(write(host, 0, from + at * PAGE), Outcome::Stalled, "{at}");
        for report in reports(host) {
            match report {
                Report::Stalled(fault) => kept.push(fault),
                Report::Aborted(_) => {
                    aborted += 1;
                    // Hardware has room for 8 as well, until it comes to the answer.
                    assert_eq!(answers(host), [(HOSTS[0], Answer::Abort)]);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    (kept, aborted)
}

/// A guest's device that stalls as fast as it can, before anybody is shown any of it: what is left is the host's, and of that it
/// loses nothing.
#[test]
fn a_burst_of_a_guests_stalls_leaves_room_for_the_host() {
    let mut host = host(8);
    host.plain(1);
    // Of room for 8.
    let (kept, aborted) = burst(&host, VA);
    assert_eq!((kept.len(), aborted), (4, 16));
    let hosts: Vec<_> = (0..4).map(|at| stall(&host, 1, VA + at * PAGE)).collect();
    assert_eq!(hosts.len(), 4);
    assert_eq!(host.smmu.statistics().refused_stalls, 16);
    drop(hosts);
    drop(kept);
    assert_eq!(answers(&host).len(), 8);
    // It has as much again.
    let (kept, aborted) = burst(&host, VA);
    assert_eq!((kept.len(), aborted), (4, 16));
}

/// A guest that bypasses its stage 1 is a guest still: its device stalls at the host's stage 2.
#[test]
fn a_guest_that_bypasses_its_stage_1_has_no_more_room() {
    let mut host = host(8);
    host.plain(1);
    host.nest(0, Guest::bypass(), Use::Bypass);
    let (kept, aborted) = burst(&host, Guest::ipa(PAGES));
    assert_eq!((kept.len(), aborted), (4, 16));
    let other = stall(&host, 1, VA);
    // The host's own device over the same tables has all that is left.
    host.plain(0);
    assert_eq!(answers(&host), [(HOSTS[0], Answer::Abort); 4]);
    let own: Vec<_> = (0..7).map(|at| stall(&host, 0, Guest::ipa(PAGES) + at * PAGE)).collect();
    assert_eq!(own.len(), 7);
    drop((kept, other, own));
}

/// Each takes what the guest is to answer away: no STAG is answered twice, and the guest's answer does nothing.
#[test]
fn what_it_never_answered_ends_with_what_it_was_subject_to() {
    for (case, aborts) in (0..8).map(|case| (case, case < 6)) {
        let mut host = host(4);
        let told: Vec<EventRecord> = (0..2).map(|at| shown(&host, 0, VA + at * PAGE)).collect();
        let others = shown(&host, 1, VA);
        assert_eq!(waiting(&host), 3);
        match case {
            0 => host.detach(0),
            1 => host.plain(0),
            2 => host.nest(0, Guest::entry(1), Use::Space(1)),
            3 => host.nest(0, Guest::bypass(), Use::Bypass),
            4 => host.nest(0, Ste::default(), Use::Invalid),
            5 => host.nest(0, Guest::entry(0).with_s1_stalld(true), Use::Space(0)),
            6 => {
                host.iommu.suspend(&host.smmu, &mut |_| ()).unwrap();
                host.iommu.resume(&host.smmu).unwrap();
            }
            _ => host.iommu.reset(&host.smmu).unwrap(),
        }
        let ended = answers(&host);
        let (answer, count) = if aborts { (Answer::Abort, 2) } else { (Answer::Disabled, 3) };
        assert_eq!(ended.len(), count, "case {case}: {ended:?}");
        assert!(ended.iter().all(|(_, it)| *it == answer), "case {case}: {ended:?}");
        assert_eq!(host.smmu.statistics().stalls, 3 - count, "case {case}");
        host.world.take_commands();
        host.commands(&told.iter().map(|told| retry(resume(told))).collect::<Vec<_>>());
        assert_eq!(given(&host), [0; 0], "case {case}");
        host.commands(&[abort(resume(&others))]);
        assert_eq!(answers(&host).len(), 3 - count, "case {case}");
        assert_eq!(waiting(&host), 0, "case {case}");
        reports(&host);
    }
}

/// An entry that says the same, and a context that the guest changes itself, leave to the guest what it was shown.
#[test]
fn a_stall_outlives_what_changes_nothing_of_its_entry() {
    let mut host = host(4);
    let told = shown(&host, 0, VA);
    host.nest(0, Guest::entry(0), Use::Space(0));
    host.commands(&Guest::changed_entry(STREAMS[0].1.into()));
    let commands = host.guest.change_asid(0, 7, &[STREAMS[0].1.into()]);
    host.commands(&commands);
    assert_eq!((answers(&host), waiting(&host)), (vec![], 1));
    host.guest.map(0, 0, DATA);
    host.commands(&[retry(resume(&told))]);
    assert_eq!(answers(&host), [(HOSTS[0], Answer::Retry)]);
    assert_eq!(host.verdict(), Ok(()));
}

#[test]
fn a_nest_that_is_dropped_aborts_what_its_guest_was_to_answer() {
    let host = host(4);
    let _ = (shown(&host, 0, VA), shown(&host, 1, VA));
    let unshown = stall(&host, 1, VA + PAGE);
    let Host { nest, world, iommu, masters, .. } = host;
    drop(nest);
    let mut model = world.machine().model(0).unwrap();
    model.run(usize::MAX);
    model.settle_stalls();
    assert_eq!(model.stalled().count(), 1, "that is its holder's");
    drop(model);
    assert_eq!(unshown.respond(Response::Abort), Ok(true));
    masters.iter().for_each(|master| iommu.detach(master).unwrap());
    for observation in world.observations(0).unwrap() {
        assert!(!matches!(observation, Observation::Misuse(_)), "{observation:?}");
    }
}

#[test]
fn what_was_over_before_it_was_shown_is_nobodys() {
    let mut host = host(4);
    let fault = stall(&host, 0, VA);
    host.nest(0, Guest::entry(1), Use::Space(1));
    assert_eq!(answers(&host), [(HOSTS[0], Answer::Abort)]);
    let Refused { value: fault, error: cause } = host.nest.show(fault).unwrap_err();
    assert_eq!(cause, Cause::Over);
    assert_eq!(fault.respond(Response::Retry), Ok(false));
    let fault = stall(&host, 0, VA);
    host.detach(0);
    let cause = host.nest.show(fault).unwrap_err().error;
    assert_eq!(cause, Cause::Stream, "it is not the guest's any more");
}

/// Where the instance always stalls, there are guests that are shown that, and no others.
#[test]
fn an_smmu_that_always_stalls_has_guests_that_answer() {
    let mut host = Host::with_stalls(4, |it| it.forced_stalls = true);
    assert_eq!(host.nest.guest().shown().idr0.stall_model(), 2);
    host.nest(0, Guest::entry(0), Use::Space(0));
    let told = shown(&host, 0, VA);
    host.guest.map(0, 0, DATA);
    host.commands(&[retry(resume(&told))]);
    assert_eq!(answers(&host), [(HOSTS[0], Answer::Retry)]);
    assert_eq!(host.reached(0, VA), Some(host.guest.frames[DATA]));
    // S1STALLD is illegal there (§7.1), and so is CD.S = 0 (§7.2).
    let illegal = Guest::entry(0).with_s1_stalld(true);
    let result = host.nest.attach(&host.masters[0], &[StreamId(STREAMS[0].1)], &illegal);
    let Err(smmuv3::AttachError::Illegal(illegal)) = result else { panic!("{result:?}") };
    assert_eq!(illegal.rule.field, "S1STALLD");
    host.guest.stall(false);
    host.nest(1, Guest::entry(1), Use::Space(1));
    assert_eq!(write(&host, 1, VA), Outcome::Refused);
    let Some(Report::Event(record)) = reports(&host).pop() else { panic!("no event") };
    assert_eq!(record.event(), Some(EventId::CBadCd));
    let second = DomainConfig::default().with_stage_2().with_guests().with_input_bits(40);
    let second = host.iommu.create_domain(second).unwrap();
    let result = host.iommu.nest(&host.smmu, &second, NestConfig::new().with_snooped());
    let Some(NestError::Illegal(illegal)) = result.err() else { panic!("it is shown none") };
    assert_eq!(illegal.rule.field, "IDR0.STALL_MODEL");
}

/// What is shown is what there is, and the same model.
#[test]
fn a_guest_is_shown_no_other_stalls_than_its_host_has() {
    let host = Host::with_stalls(4, |_| ());
    let shown = *host.nest.guest().shown();
    let second = DomainConfig::default().with_stage_2().with_guests().with_input_bits(40);
    let second = host.iommu.create_domain(second).unwrap();
    for (model, most, refused) in [
        (0, 9, Some(("IDR5.STALL_MAX", 9))),
        (0, 0, Some(("IDR5.STALL_MAX", 0))),
        (2, 4, Some(("IDR0.STALL_MODEL", 2))),
        (1, 0, None),
        (0, 8, None),
    ] {
        let mut registers = shown;
        registers.idr0 = registers.idr0.with_stall_model(model);
        registers.idr5 = registers.idr5.with_stall_max(most);
        let config = NestConfig::new().with_snooped().with_shown(registers);
        let found = match host.iommu.nest(&host.smmu, &second, config) {
            Ok(_) => None,
            Err(NestError::Illegal(illegal)) => Some((illegal.rule.field, illegal.value)),
            Err(other) => panic!("{other}"),
        };
        assert_eq!(found, refused, "{model} {most}");
    }
    // None unless they are asked for, and as many as the driver has room for.
    let default = host.iommu.nest(&host.smmu, &second, NestConfig::new().with_snooped()).unwrap();
    let shown = default.guest().shown();
    assert_eq!((shown.idr0.stall_model(), shown.idr5.stall_max()), (1, 0));
}

/// S1STALLD is the guest's, and the host's where the device cannot wait, or the guest is shown none (§11).
#[test]
fn contexts_stall_where_guest_and_host_let_them() {
    // Shown, said by the guest, and whether the device waits.
    for (shown, forbids, waits) in
        [(4, false, true), (4, true, true), (0, false, true), (4, false, false)]
    {
        let mut host = Host::with_stalls(shown, |_| ());
        if !waits {
            host.masters.remove(0).close().unwrap();
            let plain = MasterConfig::default();
            let master = host.iommu.add_master(&host.smmu, &[StreamId(HOSTS[0])], plain).unwrap();
            host.masters.insert(0, master);
        }
        let allowed = shown > 0 && !forbids && waits;
        // Without stalls to be shown the field is no legal one.
        let forbids = forbids && shown > 0;
        host.nest(0, Guest::entry(0).with_s1_stalld(forbids), Use::Space(0));
        let entry = host.smmu.inside().streams().entry(host.iommu.platform(), StreamId(HOSTS[0]));
        let entry = Ste(entry.unwrap().load(host.iommu.platform()));
        assert_eq!(entry.s1_stalld(), !allowed, "{shown} {forbids} {waits}");
        // The guest's context says that it stalls.
        let outcome = write(&host, 0, VA);
        assert_eq!(outcome == Outcome::Stalled, allowed, "{shown} {forbids} {waits}");
        match reports(&host).pop() {
            Some(Report::Stalled(fault)) => drop(host.nest.show(fault).unwrap()),
            Some(Report::Event(record)) => {
                assert_eq!(record.event(), Some(EventId::CBadCd));
                let Owner::Guest(told) = host.nest.owner(&record) else { panic!("{record}") };
                assert_eq!(told.sid(), u64::from(STREAMS[0].1));
            }
            other => panic!("{other:?}"),
        }
        host.iommu.detach(&host.masters[0]).unwrap();
    }
}

/// RAZ/WI where both SMMUs have that (TERM_MODEL = 0), an abort where the guest's has not.
#[test]
fn an_end_without_an_error_is_what_the_guests_smmu_has() {
    let mut host = Host::with_stalls(4, |it| it.quirks.silent_termination = true);
    assert!(!host.nest.guest().shown().idr0.term_model());
    host.nest(0, Guest::entry(0), Use::Space(0));
    let told = shown(&host, 0, VA);
    host.commands(&[resume(&told).into()]);
    assert_eq!(answers(&host), [(HOSTS[0], Answer::Ignore)]);
    host.detach(0);
    let second = DomainConfig::default().with_stage_2().with_guests().with_input_bits(40);
    let second = host.iommu.create_domain(second).unwrap();
    let mut registers = *host.nest.guest().shown();
    registers.idr0 = registers.idr0.with_term_model(true);
    let config = NestConfig::new().with_snooped().with_shown(registers);
    let nest = host.iommu.nest(&host.smmu, &second, config).unwrap();
    let old = std::mem::replace(&mut host.domain, second);
    drop((std::mem::replace(&mut host.nest, nest), old));
    (0..crate::guest::PAGES).for_each(|page| host.give(page));
    host.nest(0, Guest::entry(0), Use::Space(0));
    let told = shown(&host, 0, VA);
    host.commands(&[resume(&told).into()]);
    assert_eq!(answers(&host), [(HOSTS[0], Answer::Abort)]);
}

/// What is wrong is seen: the model knows which stalls there are.
#[test]
fn an_answer_that_is_given_twice_is_noticed() {
    let mut host = host(4);
    let told = shown(&host, 0, VA);
    host.commands(&[abort(resume(&told))]);
    let again: Command = Resume::new().with_sid(HOSTS[0].into()).with_ab(true).into();
    host.smmu.inside().carry_out(host.iommu.platform(), [again]).unwrap();
    let seen = host.world.observations(0).unwrap();
    let noticed = |it: &Observation| matches!(it, Observation::Misuse(Misuse::UnknownStall { stream, .. }) if *stream == HOSTS[0]);
    assert!(seen.iter().any(noticed), "{seen:?}");
}
