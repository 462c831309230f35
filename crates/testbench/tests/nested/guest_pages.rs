// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest's devices ask for (PRI) is shown to the guest, and answered by it: each group once, and nobody else's (§13).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use smmuv3::features::IdRegisters;
use smmuv3::nest::{Cause, Forwarder, Nest, Stop};
use smmuv3::page_request::Answer;
use smmuv3::{
    AtsMode, Denied, Domain, DomainConfig, Interrupt, Iommu, NestConfig, NestError, PageGroup,
    Refused, Report, Smmu, StreamId, SubstreamId,
};
use smmuv3_formats::command::PriResp;
use smmuv3_formats::{Command, PageRequest, Ste};
use smmuv3_model::{Answered, Observation, Page};
use smmuv3_testbench::inside::Inside as _;
use smmuv3_testbench::platform::{Observer, Point, TestPlatform};

use crate::guest::{DATA, Guest, PAGE, VA};
use crate::host::{Host, STREAMS, Use};

/// Room for many.
const LOG2: u32 = 6;
const HOSTS: [u32; 2] = [STREAMS[0].0, STREAMS[1].0];
const GUESTS: [u64; 2] = [STREAMS[0].1 as u64, STREAMS[1].1 as u64];
const SUCCESS: u64 = 2;
const INVALID: u64 = 1;
const PRI_RESP: u64 = 0x41;

/// Both devices are the guest's, and may ask.
fn host(shown: u32, needs_pasid: bool) -> Host {
    let mut host = Host::with_pages(shown, needs_pasid, AtsMode::Full, LOG2);
    host.nest(0, asking(0), Use::Space(0));
    host.nest(1, asking(1), Use::Space(1));
    told(&host);
    host.world.take_commands();
    host
}

/// Another guest, over a domain of its own, that is shown so many groups at most.
fn another(host: &Host, groups: u32) -> (Domain<TestPlatform>, Nest<TestPlatform>) {
    let domain = DomainConfig::default().with_stage_2().with_guests().with_input_bits(40);
    let domain = host.iommu.create_domain(domain).unwrap();
    let config = NestConfig::new().with_snooped().with_page_requests(groups);
    let nest = host.iommu.nest(&host.smmu, &domain, config).unwrap();
    (domain, nest)
}

/// The entry by which a device uses a space, with ATS.
fn asking(space: usize) -> Ste {
    Guest::entry(space).with_eats(1)
}

/// What the driver reports.
fn reports(host: &Host) -> Vec<Report<TestPlatform>> {
    let mut reports = Vec::new();
    let mut keep = |report| reports.push(report);
    while host.iommu.handle_interrupt(&host.smmu, Interrupt::Any, 64, &mut keep) {}
    reports
}

/// A device asks for so many pages: its number of the group.
fn ask(host: &Host, master: usize, pasid: Option<u32>, pages: u64) -> u16 {
    let page = |at| Page { address: VA + at * PAGE, read: true, write: at % 2 == 1 };
    let pages: Vec<Page> = (0..pages).map(page).collect();
    let mut model = host.world.machine().model(0).unwrap();
    model.ask_for_pages(HOSTS[master], pasid, &pages, true).expect("it may ask")
}

/// The same, as the driver hands it out.
fn group(host: &Host, master: usize, pasid: Option<u32>) -> PageGroup<TestPlatform> {
    ask(host, master, pasid, 1);
    match reports(host).pop() {
        Some(Report::Pages(group)) => group,
        other => panic!("{other:?}"),
    }
}

/// The same, as the guest is told of it: the last record.
fn shown(host: &Host, master: usize, pasid: Option<u32>) -> PageRequest {
    let mut records = Vec::new();
    let group = group(host, master, pasid);
    let count = host.nest.show_pages(group, &mut |record| records.push(record)).unwrap();
    assert_eq!((count, records.len()), (1, 1));
    records[0]
}

/// What devices were told since the last call: of which stream and number, by which PASID, and what. Nothing wrong.
fn told(host: &Host) -> Vec<(u32, u16, Option<u32>, Answered)> {
    host.world.machine().model(0).unwrap().run(usize::MAX);
    let seen = host.world.observations(0).unwrap();
    let mut answers = Vec::new();
    for observation in seen {
        match observation {
            Observation::PageResponse { stream, substream, index, answer, expected, .. } => {
                assert!(expected, "{stream:#x} {index}");
                answers.push((stream, index, substream, answer));
            }
            Observation::Misuse(misuse) => panic!("{misuse}"),
            _ => {}
        }
    }
    answers
}

/// How many were told what.
fn said(host: &Host) -> Vec<Answered> {
    told(host).into_iter().map(|(.., answer)| answer).collect()
}

/// How many CMD_PRI_RESP the driver gave since the last call.
fn given(host: &Host) -> usize {
    let commands = host.world.take_commands().into_iter();
    commands.filter(|(_, command)| command.0[0] & 0xff == PRI_RESP).count()
}

/// The guest's answer to what it was told, without a PASID.
fn respond(told: &PageRequest, answer: u64) -> PriResp {
    PriResp::new().with_sid(told.sid()).with_prg_index(told.prg_index()).with_resp(answer)
}

fn waiting(host: &Host) -> usize {
    host.smmu.statistics().groups
}

#[test]
fn a_guest_sees_what_is_asked_for_maps_it_and_lets_its_device_go_on() {
    for ats in [AtsMode::Full, AtsMode::Split] {
        let mut host = Host::with_pages(4, false, ats, LOG2);
        host.nest(0, asking(0), Use::Space(0));
        told(&host);
        let index = ask(&host, 0, None, 3);
        let Some(Report::Pages(group)) = reports(&host).pop() else { panic!("no group") };
        assert_eq!(group.len(), 3);
        let mut records = Vec::new();
        let count = host.nest.show_pages(group, &mut |record| records.push(record)).unwrap();
        // SID [31:0], R 60, W 61, Last 62; PRGIndex [8:0], Addr [63:12].
        let sid = GUESTS[0];
        let word = |at: u64| (VA + at * PAGE) | u64::from(index);
        let expected = [
            [sid | 1 << 60, word(0)],
            [sid | 3 << 60, word(1)],
            [sid | 1 << 60 | 1 << 62, word(2)],
        ];
        assert_eq!((count, records), (3, expected.map(PageRequest).to_vec()));
        for at in 0..3 {
            host.guest.map(0, at, DATA + at);
        }
        host.commands(&[respond(&PageRequest(expected[2]), SUCCESS).into()]);
        assert_eq!(told(&host), [(HOSTS[0], index, None, Answered::Success)]);
        assert_eq!((waiting(&host), host.verdict()), (0, Ok(())));
        // The other words, by the other device.
        host.nest(1, asking(1), Use::Space(1));
        for (word, answer) in [(INVALID, Answered::Invalid), (0, Answered::Failure)] {
            let record = shown(&host, 1, None);
            host.commands(&[respond(&record, word).into()]);
            assert_eq!(said(&host), [answer]);
        }
    }
}

#[test]
fn nothing_but_what_it_is_shown_is_its_to_answer() {
    let mut host = host(4, false);
    let record = shown(&host, 0, None);
    let own = respond(&record, SUCCESS);
    // One that nobody has shown it.
    let unshown = group(&host, 1, None);
    host.world.take_commands();
    let mut wrong: Vec<Command> = Vec::new();
    for sid in GUESTS {
        for index in 0..512 {
            let it = own.with_sid(sid).with_prg_index(index);
            if it != own {
                wrong.push(it.into());
            }
        }
    }
    // The host's number of the stream, and one that is nobody's; and by PASIDs, of which it has none.
    wrong.extend([u64::from(HOSTS[0]), 0x77].map(|sid| Command::from(own.with_sid(sid))));
    let by_pasid = |pasid| Command::from(own.with_ssv(true).with_ssid(pasid));
    wrong.extend([0, 1, 5, 255, 256].map(by_pasid));
    host.commands(&wrong);
    assert_eq!(host.world.take_commands(), [], "nothing of that is the host's business");
    assert_eq!((told(&host), waiting(&host)), (vec![], 2));
    assert_eq!(unshown.respond(Answer::Invalid), Ok(true));
    assert_eq!(said(&host), [Answered::Invalid]);
    // Twice in one go: the second is none.
    host.world.take_commands();
    host.commands(&[own.into(), own.into(), own.with_resp(INVALID).into()]);
    assert_eq!((given(&host), said(&host)), (1, vec![Answered::Success]));
    host.commands(&[own.into()]);
    assert_eq!((given(&host), said(&host)), (0, vec![]));
}

#[test]
fn a_command_that_the_guests_smmu_does_not_know_is_refused_with_the_field() {
    let host = host(4, false);
    let record = shown(&host, 0, None);
    let refused = |word: Command| {
        let done = host.nest.forward(&mut Forwarder::new(), &[word]).unwrap();
        let Stop::Refused { index: 0, illegal } = done.stop else { panic!("{:?}", done.stop) };
        illegal.rule.field
    };
    let [first, second] = respond(&record, SUCCESS).0;
    assert_eq!(refused(respond(&record, 3).into()), "Resp");
    assert_eq!(refused(Command([first | 1 << 10, second])), "word 0");
    assert_eq!(refused(Command([first, second | 1 << 40])), "word 1");
    assert_eq!(waiting(&host), 1);
    host.iommu.detach(&host.masters[0]).unwrap();
}

/// By SSV and SSID where the device needs them in answers, and without where it does not (§13).
#[test]
fn a_pasid_is_in_an_answer_as_its_device_needs_it() {
    for needs_pasid in [false, true] {
        let mut host = host(4, needs_pasid);
        for pasid in [Some(5), Some(0), None, Some(255)] {
            let record = shown(&host, 0, pasid);
            assert_eq!(record.ssv(), pasid.is_some());
            assert_eq!(record.ssid(), u64::from(pasid.unwrap_or(0)));
            let without = respond(&record, SUCCESS);
            let with = without.with_ssv(true).with_ssid(record.ssid());
            let carries = needs_pasid && pasid.is_some();
            let (right, wrong) = if carries { (with, without) } else { (without, with) };
            let other = right.with_ssv(true).with_ssid(record.ssid() ^ 1);
            host.world.take_commands();
            host.commands(&[wrong.into(), other.into()]);
            assert_eq!((given(&host), waiting(&host)), (0, 1), "{needs_pasid} {pasid:?}");
            host.commands(&[right.into()]);
            let [(stream, index, substream, answer)] = told(&host)[..] else { panic!("none") };
            assert_eq!((stream, u64::from(index)), (HOSTS[0], record.prg_index()));
            assert_eq!(substream, pasid.filter(|_| carries));
            assert_eq!(answer, Answered::Success);
        }
        // Two of one number, which are not told apart by that alone.
        if needs_pasid {
            let first = shown(&host, 0, Some(1));
            let index = first.prg_index();
            let again = first.with_ssid(2);
            let raw = again.with_sid(HOSTS[0].into());
            host.world.machine().model(0).unwrap().page_request(raw);
            let Some(Report::Pages(group)) = reports(&host).pop() else { panic!("no group") };
            assert_eq!(host.nest.show_pages(group, &mut |it| assert_eq!(it, again)).unwrap(), 1);
            host.world.take_commands();
            let answer =
                PriResp::new().with_sid(GUESTS[0]).with_prg_index(index).with_resp(SUCCESS);
            host.commands(&[answer.with_ssv(true).with_ssid(2).into()]);
            assert_eq!((given(&host), waiting(&host)), (1, 1));
            host.commands(&[answer.with_ssv(true).with_ssid(1).into()]);
            assert_eq!((given(&host), waiting(&host)), (1, 0));
        }
    }
}

#[test]
fn a_guest_that_does_not_answer_has_no_more_than_it_is_shown() {
    let mut host = host(2, false);
    let first: Vec<PageRequest> = (0..2).map(|_| shown(&host, 0, None)).collect();
    for at in 2..12 {
        let group = group(&host, at % 2, None);
        let count = host.nest.show_pages(group, &mut |record| panic!("{record:?}"));
        assert_eq!(count.unwrap(), 0);
        let [(stream, .., answer)] = told(&host)[..] else { panic!("it is to try again") };
        assert_eq!((stream, answer), (HOSTS[at % 2], Answered::Success));
    }
    assert_eq!(waiting(&host), 2);
    host.commands(&[respond(&first[1], INVALID).into()]);
    assert_eq!(said(&host), [Answered::Invalid]);
    shown(&host, 1, None);
}

/// A guest's devices that ask for more than they may: what is left of the room is the host's.
#[test]
fn a_burst_of_a_guests_requests_leaves_room_for_the_host() {
    let mut host = Host::with_pages(100, false, AtsMode::Full, 4);
    host.nest(0, asking(0), Use::Space(0));
    host.plain(1);
    told(&host);
    let (mut kept, mut denied) = (Vec::new(), 0);
    for _ in 0..20 {
        ask(&host, 0, None, 1);
        for report in reports(&host) {
            match report {
                Report::Pages(group) => kept.push(group),
                Report::PageDenied { why: Denied::Full, .. } => denied += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    // Of room for 16.
    assert_eq!((kept.len(), denied), (8, 12));
    assert_eq!(said(&host), [Answered::Success; 12]);
    let hosts: Vec<_> = (0..8).map(|_| group(&host, 1, None)).collect();
    // What is handed on is as much.
    for group in kept {
        assert_eq!(host.nest.show_pages(group, &mut |_| ()).unwrap(), 1);
    }
    ask(&host, 0, None, 1);
    let full = reports(&host);
    assert!(matches!(full[..], [Report::PageDenied { why: Denied::Full, .. }]), "{full:?}");
    for group in hosts {
        assert_eq!(group.respond(Answer::Success), Ok(true));
    }
    host.detach(0);
    assert_eq!(waiting(&host), 0);
}

/// Each takes what the guest is to answer away: no group is answered twice, and the guest's answer does nothing.
#[test]
fn what_it_never_answered_ends_with_what_it_was_asked_of() {
    for case in 0..9 {
        let mut host = host(8, false);
        let mine: Vec<_> = [None, Some(3)].into_iter().map(|it| shown(&host, 0, it)).collect();
        let other = shown(&host, 1, None);
        let late = group(&host, 0, Some(7));
        match case {
            0 => host.detach(0),
            1 => host.plain(0),
            2 => host.nest(0, asking(1), Use::Space(1)),
            3 => host.nest(0, Guest::bypass(), Use::Bypass),
            4 => host.nest(0, Ste::default(), Use::Invalid),
            5 => host.nest(0, Guest::entry(0), Use::Space(0)),
            6 => host.iommu.reset(&host.smmu).unwrap(),
            7 => {
                host.iommu.suspend(&host.smmu, &mut |_| ()).unwrap();
                host.iommu.resume(&host.smmu).unwrap();
            }
            // Another guest's domain, of stage 2 alone.
            _ => {
                let second = DomainConfig::default().with_stage_2().with_guests();
                let second = host.iommu.create_domain(second.with_input_bits(40)).unwrap();
                host.iommu.attach(&host.masters[0], &second).unwrap();
            }
        }
        let all = matches!(case, 6 | 7);
        let ended = told(&host);
        assert_eq!(ended.len(), if all { 4 } else { 3 }, "case {case}: {ended:?}");
        assert_eq!(waiting(&host), usize::from(!all), "case {case}");
        host.world.take_commands();
        let answers = mine.iter().map(|it| respond(it, SUCCESS).into());
        host.commands(&answers.collect::<Vec<_>>());
        assert_eq!(given(&host), 0, "case {case}");
        let shown = host.nest.show_pages(late, &mut |record| panic!("{record:?}"));
        let Refused { value: late, error: cause } = shown.unwrap_err();
        let expected = if matches!(case, 0 | 1 | 8) { Cause::Stream } else { Cause::Over };
        assert_eq!(cause, expected, "case {case}");
        assert_eq!(late.respond(Answer::Success), Ok(false), "case {case}");
        host.commands(&[respond(&other, SUCCESS).into()]);
        assert_eq!(told(&host).len(), usize::from(!all), "case {case}");
        assert_eq!(waiting(&host), 0, "case {case}");
        reports(&host);
    }
}

/// From one guest to another at once, both of which let the device ask: what it asked of the first, by whichever PASID, is over.
#[test]
fn what_one_guest_was_asked_no_other_is_shown() {
    let mut host = host(8, false);
    let (_second, nest) = another(&host, 8);
    let mine: Vec<_> = [None, Some(3)].into_iter().map(|it| shown(&host, 0, it)).collect();
    let late: Vec<_> = [None, Some(3)].into_iter().map(|it| group(&host, 0, it)).collect();
    // Nobody has read these.
    let _ = [None, Some(3)].map(|pasid| ask(&host, 0, pasid, 1));
    assert_eq!(told(&host), []);
    nest.attach(&host.masters[0], &[StreamId(7)], &asking(0)).unwrap();
    assert_eq!(told(&host).len(), 6);
    for group in late {
        let refused = nest.show_pages(group, &mut |record| panic!("{record:?}")).unwrap_err();
        assert_eq!(refused.error, Cause::Over);
    }
    assert_eq!(reports(&host), []);
    host.world.take_commands();
    host.commands(&mine.iter().map(|it| respond(it, SUCCESS).into()).collect::<Vec<_>>());
    assert_eq!((given(&host), waiting(&host)), (0, 0));
    // What it asks from now on is the other's.
    let count = nest.show_pages(group(&host, 0, Some(3)), &mut |it| assert_eq!(it.sid(), 7));
    assert_eq!((count.unwrap(), waiting(&host)), (1, 1));
    host.iommu.detach(&host.masters[0]).unwrap();
    assert_eq!(waiting(&host), 0);
}

/// At one moment while the device goes from one guest to another, whatever it is, the host reads what was asked of the first, and
/// offers it, with what it had read before, to the second and then to the first.
struct Meanwhile {
    iommu: Iommu<TestPlatform>,
    smmu: Smmu<TestPlatform>,
    nests: [Nest<TestPlatform>; 2],
    /// How many moments there still are before.
    before: AtomicUsize,
    handed: Mutex<Vec<PageGroup<TestPlatform>>>,
    /// By which guest each was taken.
    taken: Mutex<Vec<usize>>,
}

impl Observer for Meanwhile {
    fn at(&self, _: Point, interruptible: bool) {
        if !interruptible {
            return;
        }
        match self.before.load(Ordering::Relaxed) {
            0 => return,
            left => self.before.store(left - 1, Ordering::Relaxed),
        }
        if self.before.load(Ordering::Relaxed) != 0 {
            return;
        }
        let mut handed = std::mem::take(&mut *self.handed.lock().unwrap());
        let mut sink = |report| {
            if let Report::Pages(group) = report {
                handed.push(group);
            }
        };
        while self.iommu.handle_interrupt(&self.smmu, Interrupt::Any, 64, &mut sink) {}
        for group in handed {
            let mut left = Some(group);
            for (index, nest) in self.nests.iter().enumerate().rev() {
                left = left.take().and_then(|group| match nest.show_pages(group, &mut |_| ()) {
                    Ok(_) => {
                        self.taken.lock().unwrap().push(index);
                        None
                    }
                    Err(refused) => Some(refused.value),
                });
            }
        }
    }
}

#[test]
fn what_one_guest_was_asked_no_other_is_shown_at_any_moment() {
    let (mut moment, mut taken_by_first) = (1, 0);
    loop {
        let host = host(8, false);
        let (second, nest) = another(&host, 8);
        let handed = vec![group(&host, 0, None), group(&host, 0, Some(3))];
        let _ = [None, Some(3)].map(|pasid| ask(&host, 0, pasid, 1));
        told(&host);
        let Host { world, iommu, smmu, nest: first, masters, domain, .. } = host;
        let meanwhile = Arc::new(Meanwhile {
            iommu,
            smmu,
            nests: [first, nest],
            before: AtomicUsize::new(moment),
            handed: Mutex::new(handed),
            taken: Mutex::default(),
        });
        world.set_observer(Some(meanwhile.clone()));
        meanwhile.nests[1].attach(&masters[0], &[StreamId(7)], &asking(0)).unwrap();
        world.set_observer(None);
        let taken = std::mem::take(&mut *meanwhile.taken.lock().unwrap());
        assert!(!taken.contains(&1), "moment {moment}: {taken:?}");
        taken_by_first += taken.len();
        // Each was answered once, whoever had it.
        world.machine().model(0).unwrap().run(usize::MAX);
        let seen = world.observations(0).unwrap();
        let answers = seen.iter().filter(|it| match it {
            Observation::PageResponse { expected, .. } => {
                assert!(expected, "moment {moment}: {it:?}");
                true
            }
            _ => false,
        });
        assert_eq!(answers.count(), 4, "moment {moment}");
        meanwhile.iommu.detach(&masters[0]).unwrap();
        drop((domain, second));
        if meanwhile.before.load(Ordering::Relaxed) != 0 {
            break;
        }
        moment += 1;
    }
    assert!(moment > 4 && taken_by_first > 0, "{moment} {taken_by_first}");
}

/// At one moment while a device goes from one guest to another, whatever it is, the second answers what it cannot know.
struct Guesses {
    nest: Nest<TestPlatform>,
    /// How many moments there still are before.
    before: AtomicUsize,
    guess: Command,
}

impl Observer for Guesses {
    fn at(&self, _: Point, interruptible: bool) {
        let left = self.before.load(Ordering::Relaxed);
        if !interruptible || left == 0 {
            return;
        }
        self.before.store(left - 1, Ordering::Relaxed);
        if left == 1 {
            let done = self.nest.forward(&mut Forwarder::new(), &[self.guess]).unwrap();
            assert_eq!(done.consumed, 1);
        }
    }
}

#[test]
fn what_one_guest_is_shown_no_other_answers_at_any_moment() {
    let mut moment = 1;
    loop {
        let host = host(8, false);
        let (_second, nest) = another(&host, 8);
        let record = shown(&host, 0, None);
        told(&host);
        let index = record.prg_index();
        let guess = PriResp::new().with_sid(7).with_prg_index(index).with_resp(INVALID);
        let before = AtomicUsize::new(moment);
        let guesses = Arc::new(Guesses { nest, before, guess: guess.into() });
        host.world.set_observer(Some(guesses.clone()));
        guesses.nest.attach(&host.masters[0], &[StreamId(7)], &asking(0)).unwrap();
        host.world.set_observer(None);
        // By the driver, which lets the device try again, and by nobody else.
        assert_eq!(said(&host), [Answered::Success], "moment {moment}");
        host.iommu.detach(&host.masters[0]).unwrap();
        if guesses.before.load(Ordering::Relaxed) != 0 {
            break;
        }
        moment += 1;
    }
    assert!(moment > 4, "{moment}");
}

/// An entry that says the same leaves to the guest what it was shown.
#[test]
fn a_group_outlives_what_changes_nothing_of_its_entry() {
    let mut host = host(4, false);
    let record = shown(&host, 0, None);
    host.nest(0, asking(0), Use::Space(0));
    host.commands(&Guest::changed_entry(GUESTS[0]));
    assert_eq!((told(&host), waiting(&host)), (vec![], 1));
    host.commands(&[respond(&record, SUCCESS).into()]);
    assert_eq!(said(&host), [Answered::Success]);
}

#[test]
fn a_nest_that_is_dropped_denies_what_its_guest_was_to_answer() {
    let host = host(4, false);
    let _ = (shown(&host, 0, None), shown(&host, 1, Some(2)));
    let unshown = group(&host, 1, None);
    told(&host);
    let Host { nest, world, iommu, masters, smmu, .. } = host;
    drop(nest);
    assert_eq!(smmu.statistics().groups, 1, "that is its holder's");
    assert_eq!(unshown.respond(Answer::Invalid), Ok(true));
    masters.iter().for_each(|master| iommu.detach(master).unwrap());
    world.machine().model(0).unwrap().run(usize::MAX);
    let seen = world.observations(0).unwrap();
    let answers = seen.iter().filter_map(|it| match it {
        Observation::PageResponse { answer, expected: true, .. } => Some(*answer),
        Observation::PageResponse { .. } | Observation::Misuse(_) => panic!("{it:?}"),
        _ => None,
    });
    assert_eq!(answers.collect::<Vec<_>>(), [Answered::Invalid; 3]);
}

/// Two guests, whose devices use the same numbers.
#[test]
fn what_one_guest_is_shown_no_other_can_answer() {
    let mut host = host(4, false);
    let (_second, nest) = another(&host, 4);
    // By the number that the first guest has for its own.
    let own = [StreamId(STREAMS[0].1)];
    // Without tables, which nobody walks here.
    nest.attach(&host.masters[1], &own, &asking(0)).unwrap();
    told(&host);
    let record = shown(&host, 0, None);
    let (index, theirs) = (record.prg_index(), group(&host, 1, None));
    assert_eq!(u64::from(theirs.group().index), index, "the devices use one number");
    host.world.take_commands();
    let answer = Command::from(respond(&record, SUCCESS));
    let forward = |command| {
        let done = nest.forward(&mut Forwarder::new(), &[command]).unwrap();
        assert_eq!(done.consumed, 1);
    };
    forward(answer);
    assert_eq!((given(&host), waiting(&host)), (0, 2));
    // Nor is it shown the other's.
    let Refused { value: theirs, error } = host.nest.show_pages(theirs, &mut |_| ()).unwrap_err();
    assert_eq!(error, Cause::Stream);
    assert_eq!(nest.show_pages(theirs, &mut |it| assert_eq!(it, record)).unwrap(), 1);
    forward(answer);
    let [(stream, ..)] = told(&host)[..] else { panic!("its own is answered") };
    assert_eq!(stream, HOSTS[1]);
    host.commands(&[answer]);
    let [(stream, ..)] = told(&host)[..] else { panic!("and the other's") };
    assert_eq!(stream, HOSTS[0]);
    host.iommu.detach(&host.masters[1]).unwrap();
}

/// The device waits for no answer to what it asked with a PASID that it uses no more.
#[test]
fn a_guest_is_told_that_a_pasid_is_used_no_more() {
    let mut host = host(4, true);
    let with = [5, 6].map(|pasid| shown(&host, 0, Some(pasid)));
    host.world.machine().model(0).unwrap().stop_pasid(HOSTS[0], 5);
    let reports = reports(&host);
    let [Report::PasidStopped { stream, pasid }] = reports[..] else { panic!("{reports:?}") };
    // SID, SSID [51:32], Last 62, SSV 63.
    let marker = PageRequest([GUESTS[0] | 5 << 32 | 3 << 62, 0]);
    assert_eq!(host.nest.stopped(stream, pasid), Some(marker));
    assert!(marker.is_stop_marker());
    assert_eq!(host.nest.stopped(StreamId(0x77), pasid), None);
    assert_eq!(host.nest.stopped(stream, SubstreamId(256)), None);
    assert_eq!(waiting(&host), 1);
    assert_eq!(said(&host), [Answered::Invalid]);
    host.world.take_commands();
    for (record, count) in with.iter().zip([0, 1]) {
        let answer = respond(record, SUCCESS).with_ssv(true).with_ssid(record.ssid());
        host.commands(&[answer.into()]);
        assert_eq!(given(&host), count);
    }
}

/// What it is shown is what there is, and only where it was chosen.
#[test]
fn a_guest_is_shown_page_requests_where_that_is_chosen() {
    let host = host(4, false);
    let shown = *host.nest.guest().shown();
    assert!(shown.idr0.pri());
    assert_eq!(shown.idr1.priqs(), u64::from(LOG2));
    let second = DomainConfig::default().with_stage_2().with_guests().with_input_bits(40);
    let second = host.iommu.create_domain(second).unwrap();
    let plain = NestConfig::new().with_snooped();
    let nest = |config| host.iommu.nest(&host.smmu, &second, config);
    assert!(!nest(plain).unwrap().guest().shown().idr0.pri());
    let result = nest(plain.with_shown(shown));
    let Some(NestError::Illegal(illegal)) = result.err() else { panic!("nobody says how many") };
    assert_eq!((illegal.rule.field, illegal.value), ("IDR0.PRI", 1));
    assert!(nest(plain.with_shown(shown).with_page_requests(1)).is_ok());
    // Those that are not shown any are not asked, and not handed on to.
    let without = IdRegisters { idr0: shown.idr0.with_pri(false), ..shown };
    let nest = nest(plain.with_shown(without).with_page_requests(1)).unwrap();
    host.iommu.detach(&host.masters[0]).unwrap();
    nest.attach(&host.masters[0], &[StreamId(7)], &asking(0)).unwrap();
    let model = host.world.machine().model(0).unwrap();
    let endpoint = model.endpoint(HOSTS[0]).unwrap();
    assert_eq!((endpoint.ats, endpoint.pri), (true, false));
    let raw = PageRequest::default().with_sid(HOSTS[0].into()).with_read(true).with_last(true);
    drop(model);
    host.world.machine().model(0).unwrap().page_request(raw);
    let told = reports(&host);
    assert!(matches!(told[..], [Report::PageDenied { why: Denied::Unknown, .. }]), "{told:?}");
    assert_eq!(nest.stopped(StreamId(HOSTS[0]), SubstreamId(1)), None);
    host.iommu.detach(&host.masters[0]).unwrap();
    // A host without has none to show.
    let other = Host::with_ats(1);
    let domain = DomainConfig::default().with_stage_2().with_guests().with_input_bits(40);
    let domain = other.iommu.create_domain(domain).unwrap();
    let nest = other.iommu.nest(&other.smmu, &domain, plain.with_page_requests(4)).unwrap();
    assert!(!nest.guest().shown().idr0.pri());
}

/// Of fewer PASIDs than its host's SMMU has.
#[test]
fn a_pasid_that_its_smmu_does_not_have_is_not_shown() {
    let host = host(4, false);
    let mut registers = *host.nest.guest().shown();
    registers.idr1 = registers.idr1.with_ssidsize(4);
    let second = DomainConfig::default().with_stage_2().with_guests().with_input_bits(40);
    let second = host.iommu.create_domain(second).unwrap();
    let config = NestConfig::new().with_snooped().with_shown(registers).with_page_requests(4);
    let nest = host.iommu.nest(&host.smmu, &second, config).unwrap();
    nest.attach(&host.masters[0], &[StreamId(7)], &asking(0)).unwrap();
    told(&host);
    let wide = group(&host, 0, Some(16));
    let Refused { value: wide, error } = nest.show_pages(wide, &mut |_| ()).unwrap_err();
    assert_eq!(error, Cause::Unknown);
    assert_eq!(wide.respond(Answer::Invalid), Ok(true));
    assert_eq!(nest.show_pages(group(&host, 0, Some(15)), &mut |_| ()).unwrap(), 1);
    host.iommu.detach(&host.masters[0]).unwrap();
}

/// What is wrong is seen: the model knows which groups there are.
#[test]
fn an_answer_that_is_given_twice_is_noticed() {
    let mut host = host(4, false);
    let record = shown(&host, 0, None);
    host.commands(&[respond(&record, SUCCESS).into()]);
    assert_eq!(said(&host), [Answered::Success]);
    let again: Command = respond(&record, SUCCESS).with_sid(HOSTS[0].into()).into();
    host.smmu.inside().carry_out(host.iommu.platform(), [again]).unwrap();
    let seen = host.world.observations(0).unwrap();
    let noticed =
        |it: &Observation| matches!(it, Observation::PageResponse { expected: false, .. });
    assert!(seen.iter().any(noticed), "{seen:?}");
}
