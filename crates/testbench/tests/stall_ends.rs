// SPDX-License-Identifier: MIT OR Apache-2.0
//! Transactions that have stalled, answered from another CPU, and at any moment of what ends them: detach, another domain,
//! reset, removal. Each ends once, and no answer reaches another that has its number.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use smmuv3::{
    Attributes, Config, Domain, DomainConfig, Fault, InstanceConfig, Interrupt, Iommu, Iova, Lost,
    Master, MasterConfig, PhysAddr, Prot, Report, Response, Smmu, StreamId,
};
use smmuv3_formats::{EventRecord, Opcode};
use smmuv3_model::{Adversary, Answer, Misuse, Observation, Profile, StallEnd};
use smmuv3_testbench::machine::{Dma, Machine, Outcome};
use smmuv3_testbench::machine_model::{ModelMachine, profile};
use smmuv3_testbench::platform::{Observer, Point, TestMmio, TestPlatform, World};

use common::parse;

const PAGE: u64 = 0x1000;
const IOVA: u64 = 0x10_0000;
/// Masters of the machine, and their streams.
const NIC: usize = 0;
const GPU: usize = 1;
const STREAMS: [u32; 2] = [5, 6];
/// log2 of the events that the queue has room for.
const EVENTS_LOG2: u32 = 4;

const MACHINE: &str = r#"
name = "stalls"
instance = [{ name = "smmu", stalls = 8 }]
master = [
    { name = "nic", instance = "smmu", streams = [5], stalls = true },
    { name = "gpu", instance = "smmu", streams = [6], stalls = true },
]
"#;

/// An SMMU with two devices that stall, both in the first domain.
struct Setup {
    machine: Arc<ModelMachine>,
    world: Arc<World>,
    iommu: Iommu<TestPlatform>,
    smmu: Smmu<TestPlatform>,
    /// Those that are not closed.
    masters: Mutex<[Option<Master<TestPlatform>>; 2]>,
    domain: Domain<TestPlatform>,
    other: Domain<TestPlatform>,
    /// What the domains may map.
    memory: u64,
}

/// Nothing goes on by itself, and each stall has an event: what a test says is what happens.
fn said(profile: Profile) -> Profile {
    Profile { adversary: Adversary { stalls: false, ..Adversary::ALL }, ..profile }
}

fn enable(world: &Arc<World>, iommu: &Iommu<TestPlatform>) -> Smmu<TestPlatform> {
    let mmio = TestMmio { world: world.clone(), instance: 0 };
    let mut config = InstanceConfig::named("smmu").with_sid_bits(4);
    config.event_queue_log2 = EVENTS_LOG2;
    let smmu = iommu.probe(mmio, config).unwrap().enable().unwrap();
    world.enabled(smmu.id(), 0);
    smmu
}

fn add(
    iommu: &Iommu<TestPlatform>,
    smmu: &Smmu<TestPlatform>,
    master: usize,
) -> Master<TestPlatform> {
    let config = MasterConfig::default().with_stalls();
    iommu.add_master(smmu, &[StreamId(STREAMS[master])], config).unwrap()
}

/// The faults that are reported, which are all that is.
fn faults_of(iommu: &Iommu<TestPlatform>, smmu: &Smmu<TestPlatform>) -> Vec<Fault<TestPlatform>> {
    let mut faults = Vec::new();
    let mut sink = |report| match report {
        Report::Stalled(fault) => faults.push(fault),
        other => panic!("{other:?}"),
    };
    while iommu.handle_interrupt(smmu, Interrupt::Any, 8, &mut sink) {}
    faults
}

impl Setup {
    fn new() -> Self {
        let machine = ModelMachine::with_profiles(&parse(MACHINE), 7, |it| said(profile(it)));
        let machine = Arc::new(machine.unwrap());
        let world = World::new(machine.clone(), 1);
        let iommu = Iommu::new(TestPlatform(world.clone()), Config::default()).unwrap();
        let smmu = enable(&world, &iommu);
        let masters = [NIC, GPU].map(|master| add(&iommu, &smmu, master));
        let domain = iommu.create_domain(DomainConfig::default()).unwrap();
        let other = iommu.create_domain(DomainConfig::default()).unwrap();
        for master in &masters {
            iommu.attach(master, &domain).unwrap();
        }
        let masters = Mutex::new(masters.map(Some));
        let memory = world.frames().allocate(PAGE, PAGE).unwrap();
        Self { machine, world, iommu, smmu, masters, domain, other, memory }
    }

    fn map(&self, domain: &Domain<TestPlatform>) {
        let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
        // SAFETY: the memory is the test's, and so are the devices.
        unsafe { domain.map(Iova(IOVA), PhysAddr(self.memory), PAGE, attributes).unwrap() };
    }

    /// A device writes where nothing is mapped, and stalls.
    fn stall(&self, master: usize, data: u64) -> Fault<TestPlatform> {
        let data = data.to_le_bytes();
        let parts = self.world.machine().dma(master, None, IOVA, Dma::Write(&data)).unwrap();
        assert_eq!(parts[0].outcome, Outcome::Stalled);
        let mut faults = faults_of(&self.iommu, &self.smmu);
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults.remove(0)
    }

    /// Lets hardware do all that it was told; what became of stalled transactions since the last look: of which stream, and
    /// how they ended.
    fn ends(&self) -> Vec<(u32, StallEnd)> {
        let mut model = self.machine.model(0).unwrap();
        model.run(usize::MAX);
        model.settle_stalls();
        let seen = model.observations();
        let misuse = |it: &&Observation| matches!(it, Observation::Misuse(_));
        assert_eq!(seen.iter().find(misuse), None);
        let end = |it| match it {
            Observation::StallEnded { access, end, .. } => Some((access.stream, end)),
            _ => None,
        };
        seen.into_iter().filter_map(end).collect()
    }

    fn of_nic(&self, call: impl FnOnce(&Master<TestPlatform>)) {
        let nic = self.masters.lock().unwrap()[NIC].take().expect("it is not closed");
        call(&nic);
        self.masters.lock().unwrap()[NIC] = Some(nic);
    }

    /// How many wait in hardware.
    fn waiting(&self) -> usize {
        self.machine.model(0).unwrap().stalled().count()
    }

    fn written(&self) -> u64 {
        self.world.machine().ram().read64(self.memory).unwrap()
    }
}

fn terminated(by: Answer) -> StallEnd {
    StallEnd::Terminated(by)
}

#[test]
fn a_stall_is_answered_from_another_thread_and_goes_on_or_ends() {
    let setup = Setup::new();
    for (response, end) in [
        (Some(Response::Abort), Answer::Abort),
        (None, Answer::Abort),
        // It cannot end without an error (IDR0.TERM_MODEL).
        (Some(Response::Terminate), Answer::Abort),
    ] {
        let fault = setup.stall(NIC, 1);
        assert_eq!((fault.stream(), fault.address()), (StreamId(STREAMS[NIC]), Iova(IOVA)));
        assert!(fault.is_write() && fault.instance() == setup.smmu.id());
        let answer = move || match response {
            Some(response) => assert_eq!(fault.respond(response), Ok(true)),
            None => drop(fault),
        };
        std::thread::spawn(answer).join().unwrap();
        assert_eq!(setup.ends(), [(STREAMS[NIC], terminated(end))], "{response:?}");
        assert_eq!(setup.waiting(), 0);
    }
    assert_eq!(setup.written(), 0);
    let fault = setup.stall(NIC, 2);
    setup.map(&setup.domain);
    std::thread::spawn(move || assert_eq!(fault.respond(Response::Retry), Ok(true)))
        .join()
        .unwrap();
    let ends = setup.ends();
    assert!(matches!(ends[..], [(_, StallEnd::Translated(_))]), "{ends:?}");
    // What was held is in memory once the pages go.
    // SAFETY: the memory is the test's.
    unsafe { setup.domain.unmap(Iova(IOVA), PAGE).unwrap() };
    assert_eq!(setup.written(), 2);
}

/// What aborts late has not arrived, although PROD has moved on: in its slot is what was there a lap before (§3.3).
#[test]
fn what_did_not_arrive_is_not_taken_for_what_was_there_before() {
    for (case, by) in [Answer::Abort, Answer::Disabled].into_iter().enumerate() {
        let setup = Setup::new();
        for data in 0..1 << EVENTS_LOG2 {
            drop(setup.stall(NIC, data));
            assert_eq!(setup.ends(), [(STREAMS[NIC], terminated(Answer::Abort))]);
        }
        // It has the number that each of these had.
        let fault = setup.stall(NIC, 1);
        setup.machine.model(0).unwrap().lose_events(1);
        let parts = setup.world.machine().dma(GPU, None, IOVA, Dma::Write(&[2; 8])).unwrap();
        assert_eq!(parts[0].outcome, Outcome::Stalled);
        let mut reports = Vec::new();
        let mut sink = |report| reports.push(report);
        while setup.iommu.handle_interrupt(&setup.smmu, Interrupt::Any, 8, &mut sink) {}
        let [Report::GlobalError(error), Report::EventsLost(Lost::Aborted), Report::Event(event)] =
            &reports[..]
        else {
            panic!("{reports:?}")
        };
        assert!(error.eventq_abt_err());
        assert_eq!(event.record(), EventRecord::default(), "nothing is there");
        assert_eq!(setup.ends(), []);
        assert_eq!(fault.respond(Response::Abort), Ok(true));
        assert_eq!(setup.ends(), [(STREAMS[NIC], terminated(Answer::Abort))]);
        // Nobody can answer the other one, whose number nobody knows. It ends with its entry, or with all.
        assert_eq!(setup.waiting(), 1);
        match case {
            0 => setup.iommu.detach(setup.masters.lock().unwrap()[GPU].as_ref().unwrap()).unwrap(),
            _ => setup.iommu.reset(&setup.smmu).unwrap(),
        }
        assert_eq!(setup.ends(), [(STREAMS[GPU], terminated(by))]);
    }
}

/// Nor what nobody had read when the SMMU was reset.
#[test]
fn what_did_not_arrive_after_a_reset_is_not_taken_for_what_was_there_before() {
    let setup = Setup::new();
    let write = |master| {
        let parts = setup.world.machine().dma(master, None, IOVA, Dma::Write(&[2; 8])).unwrap();
        assert_eq!(parts[0].outcome, Outcome::Stalled);
    };
    write(NIC);
    setup.iommu.reset(&setup.smmu).unwrap();
    assert_eq!(setup.ends(), [(STREAMS[NIC], terminated(Answer::Disabled))]);
    setup.machine.model(0).unwrap().lose_events(1);
    write(GPU);
    let mut stalled = 0;
    let mut sink = |report| stalled += u32::from(matches!(report, Report::Stalled(_)));
    while setup.iommu.handle_interrupt(&setup.smmu, Interrupt::Any, 8, &mut sink) {}
    assert_eq!((stalled, setup.ends(), setup.waiting()), (0, vec![], 1));
}

/// What another CPU does at one moment of a call.
struct Meanwhile {
    left: AtomicU64,
    act: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Observer for Meanwhile {
    fn at(&self, _: Point, interruptible: bool) {
        if interruptible && self.left.fetch_sub(1, Ordering::Relaxed) == 0 {
            let act = self.act.lock().unwrap().take();
            if let Some(act) = act {
                act();
            }
        }
    }
}

/// Does `call`, and lets another CPU answer at each of its moments, one after the other; `judge` is told at which.
fn at_every_moment(call: impl Fn(&Setup), judge: impl Fn(&Setup, u64)) {
    let mut answered = [0; 2];
    for moment in 0.. {
        let setup = Setup::new();
        let fault = setup.stall(NIC, 1);
        let others = setup.stall(GPU, 2);
        assert_eq!(setup.ends(), []);
        let said = Arc::new(Mutex::new(None));
        let to = said.clone();
        let act = move || {
            // Another CPU: the driver's calls are from any.
            let answer = std::thread::spawn(move || fault.respond(Response::Abort));
            *to.lock().unwrap() = Some(answer.join().unwrap());
        };
        let act: Box<dyn FnOnce() + Send> = Box::new(act);
        let meanwhile = Meanwhile { left: AtomicU64::new(moment), act: Mutex::new(Some(act)) };
        let meanwhile = Arc::new(meanwhile);
        setup.world.set_observer(Some(meanwhile.clone()));
        call(&setup);
        setup.world.set_observer(None);
        // The call has fewer moments: then the answer comes after it.
        let over = meanwhile.act.lock().unwrap().is_some();
        let said = *said.lock().unwrap();
        if let Some(said) = said {
            // An SMMU that is being reset may take none: then its reset is the end.
            answered[usize::from(said.unwrap_or(false))] += 1;
        }
        judge(&setup, moment);
        // Of the other device, or of a number that is nobody's any more.
        drop(others);
        if over {
            break;
        }
    }
    let [late, in_time] = answered;
    assert!(late > 0 && in_time > 0, "{late} came late, {in_time} in time");
}

/// What became of the first device's transaction, and of no other.
fn ended_once(setup: &Setup, moment: u64) {
    let ends = setup.ends();
    assert_eq!(ends, [(STREAMS[NIC], terminated(Answer::Abort))], "moment {moment}");
    assert_eq!(setup.waiting(), 1, "the other device's waits, at moment {moment}");
}

#[test]
fn an_answer_at_any_moment_of_a_detach_and_the_detach_end_it_once() {
    at_every_moment(|setup| setup.of_nic(|nic| setup.iommu.detach(nic).unwrap()), ended_once);
}

#[test]
fn an_answer_at_any_moment_of_an_attach_to_another_domain_and_the_attach_end_it_once() {
    at_every_moment(
        |setup| setup.of_nic(|nic| setup.iommu.attach(nic, &setup.other).unwrap()),
        ended_once,
    );
}

/// SMMUEN = 0 ends all (§2.4). An answer that is given later finds nothing; and none is found in a queue by what stalls
/// next, which has the same number.
#[test]
fn an_answer_at_any_moment_of_a_reset_is_to_nothing_that_stalls_afterwards() {
    at_every_moment(
        |setup| setup.iommu.reset(&setup.smmu).unwrap(),
        |setup, moment| {
            let mut streams: Vec<u32> = setup.ends().iter().map(|(stream, _)| *stream).collect();
            streams.sort_unstable();
            assert_eq!(streams, STREAMS, "moment {moment}");
            assert_eq!(setup.waiting(), 0);
            let next = setup.stall(NIC, 3);
            assert_eq!((setup.ends(), setup.waiting()), (vec![], 1), "moment {moment}");
            assert_eq!(next.respond(Response::Abort), Ok(true));
            assert_eq!(setup.ends(), [(STREAMS[NIC], terminated(Answer::Abort))]);
        },
    );
}

/// The instance goes, with its masters, while another CPU still has what had stalled there.
fn remove(setup: &Setup) {
    let masters = std::mem::take(&mut *setup.masters.lock().unwrap());
    for master in masters.into_iter().flatten() {
        setup.iommu.detach(&master).unwrap();
        master.close().unwrap();
    }
    setup.iommu.remove(setup.smmu.clone()).unwrap();
}

#[test]
fn an_answer_at_any_moment_of_a_removal_and_the_removal_end_it_once() {
    at_every_moment(remove, |setup, moment| {
        let mut streams: Vec<u32> = setup.ends().iter().map(|(stream, _)| *stream).collect();
        streams.sort_unstable();
        assert_eq!(streams, STREAMS, "moment {moment}");
        assert_eq!(setup.waiting(), 0);
    });
}

#[test]
fn an_instance_that_is_removed_takes_no_answers() {
    let setup = Setup::new();
    let faults = [setup.stall(NIC, 1), setup.stall(GPU, 2)];
    remove(&setup);
    assert_eq!(setup.ends().len(), 2);
    let before = setup.world.given(0);
    for fault in faults {
        let late = std::thread::spawn(move || fault.respond(Response::Retry));
        assert_eq!(late.join().unwrap(), Ok(false));
    }
    assert_eq!(setup.world.given(0), before);
    assert!(setup.machine.model(0).unwrap().observations().is_empty());
}

/// A fault that somebody still has keeps its instance's number from another instance, whose stalls have the same places and
/// the same STAGs.
#[test]
fn a_fault_of_an_instance_that_was_removed_is_of_no_other() {
    let setup = Setup::new();
    let late = setup.stall(NIC, 1);
    remove(&setup);
    setup.ends();
    let former = setup.smmu.id();
    let Setup { machine, world, iommu, smmu, domain, .. } = setup;
    drop(smmu);
    let smmu = enable(&world, &iommu);
    assert_eq!((smmu.id().index(), late.instance()), (1, former));
    let nic = add(&iommu, &smmu, NIC);
    iommu.attach(&nic, &domain).unwrap();
    let parts = world.machine().dma(NIC, None, IOVA, Dma::Write(&[3; 8])).unwrap();
    assert_eq!(parts[0].outcome, Outcome::Stalled);
    let mut faults = faults_of(&iommu, &smmu);
    let [fault] = &faults[..] else { panic!("{faults:?}") };
    assert!(*fault != late && fault.record().stag() == late.record().stag());
    assert_eq!(late.respond(Response::Abort), Ok(false));
    let waits = || {
        let mut model = machine.model(0).unwrap();
        model.run(usize::MAX);
        model.stalled().count()
    };
    assert_eq!((smmu.statistics().stalls, waits()), (1, 1), "that one waits as before");
    assert_eq!(faults.remove(0).respond(Response::Abort), Ok(true));
    assert_eq!(waits(), 0);
    // Nobody has anything of the first any more.
    iommu.detach(&nic).unwrap();
    assert!(nic.close().is_ok() && iommu.remove(smmu).is_ok());
    let again = enable(&world, &iommu);
    assert_eq!((again.id().index(), again.id().generation()), (0, 1));
}

/// The twin of all: an answer that names another number does nothing, and is noticed.
#[test]
fn an_answer_with_another_number_is_misuse() {
    let setup = Setup::new();
    let fault = setup.stall(NIC, 1);
    let stag = fault.record().stag() as u16;
    let resume = smmuv3_formats::command::Resume::new()
        .with_sid(STREAMS[NIC].into())
        .with_stag(u64::from(stag ^ 1))
        .with_ab(true);
    assert_eq!(smmuv3_formats::Command::from(resume).opcode(), Some(Opcode::Resume));
    let instance = smmuv3_testbench::inside::Inside::inside(&setup.smmu);
    let platform = TestPlatform(setup.world.clone());
    instance.commands().carry_out(&platform, instance.mmio(), [resume.into()]).unwrap();
    let seen = setup.machine.model(0).unwrap().observations();
    let unknown = Misuse::UnknownStall { stream: STREAMS[NIC], stag: stag ^ 1 };
    assert!(seen.contains(&Observation::Misuse(unknown)));
    assert_eq!(setup.waiting(), 1);
    assert_eq!(fault.respond(Response::Abort), Ok(true));
}
