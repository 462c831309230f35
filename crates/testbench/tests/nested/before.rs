// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whose an event is that was recorded before a guest was given the device: not that guest's, wherever it waited.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use smmuv3::nest::{Cause, Owner};
use smmuv3::{
    Config, DomainConfig, Event, InstanceConfig, Interrupt, Iommu, MasterConfig, Nest, NestConfig,
    Report, Smmu, StreamId,
};
use smmuv3_formats::EventId;
use smmuv3_testbench::machine::Dma;
use smmuv3_testbench::machine_model::ModelMachine;
use smmuv3_testbench::platform::{Observer, Point, TestMmio, TestPlatform, World};
use smmuv3_testbench::scenario::Scenario;

use crate::guest::{DATA, Guest, PAGE, VA};
use crate::host::{self, Host, STREAMS, Use};

/// The device.
const NIC: usize = 0;
/// What it is refused, by whichever guest.
const NOWHERE: u64 = VA + 5 * PAGE;

/// All events that wait.
fn read(host: &Host, smmu: &Smmu<TestPlatform>) -> Vec<Event> {
    let mut events = Vec::new();
    let mut sink = |report| match report {
        Report::Event(event) => events.push(event),
        // What was not read before a reset.
        Report::EventsLost(_) => {}
        other => panic!("{other:?}"),
    };
    while host.iommu.handle_interrupt(smmu, Interrupt::Any, 64, &mut sink) {}
    events
}

/// The device is refused, which is recorded.
fn refused(host: &Host) {
    assert_eq!(host.reached(NIC, NOWHERE), None);
}

/// The same, and the event is read at once.
fn event(host: &Host) -> Event {
    refused(host);
    let [event] = read(host, &host.smmu)[..] else { panic!("one access was refused") };
    event
}

fn is_told(nest: &Nest<TestPlatform>, event: &Event) -> bool {
    match nest.owner(event) {
        Owner::Guest(told) => {
            assert_eq!((told.event(), told.input_addr()), (Some(EventId::FTranslation), NOWHERE));
            true
        }
        Owner::Host(Cause::Before | Cause::Stream) => false,
        Owner::Host(cause) => panic!("{cause:?}"),
    }
}

/// The device uses space 0 of the guest of `host.nest`.
fn host() -> Host {
    let mut host = Host::new(1, Config::default());
    host.guest.map(0, 0, DATA);
    host.nest(NIC, Guest::entry(0), Use::Space(0));
    host
}

/// Another guest, with memory of its own, of which it has none yet.
fn other(host: &Host) -> Nest<TestPlatform> {
    let shape = DomainConfig::default().with_stage_2().with_guests().with_input_bits(40);
    let domain = host.iommu.create_domain(shape).unwrap();
    host.iommu.nest(&host.smmu, &domain, NestConfig::new().with_snooped()).unwrap()
}

fn attach(host: &Host, nest: &Nest<TestPlatform>) {
    let streams = [StreamId(STREAMS[NIC].1)];
    nest.attach(&host.masters[NIC], &streams, &Guest::bypass()).unwrap();
}

#[test]
fn what_another_guest_caused_is_not_told_whoever_has_the_device_next() {
    let host = host();
    let nest = other(&host);
    let handed = event(&host);
    assert!(is_told(&host.nest, &handed));
    // Once more, elsewhere in the page: nothing is merged with what was read.
    refused(&host);
    attach(&host, &nest);
    let [waited] = read(&host, &host.smmu)[..] else { panic!("one access was refused") };
    for old in [handed, waited] {
        assert_eq!(nest.owner(&old), Owner::Host(Cause::Before));
        assert_eq!(host.nest.owner(&old), Owner::Host(Cause::Stream));
    }
    assert!(handed.number() < waited.number());
    assert_eq!(waited.instance(), host.smmu.id());
}

/// A device that accesses what its guest has, while it is taken from it, and a host that reads events at once.
struct Losing {
    world: Arc<World>,
    iommu: Iommu<TestPlatform>,
    smmu: Smmu<TestPlatform>,
    nest: Nest<TestPlatform>,
    busy: AtomicBool,
    /// What came, and whose it is said to be.
    read: Mutex<Vec<(Event, Owner)>>,
}

impl Observer for Losing {
    fn at(&self, _: Point, interruptible: bool) {
        if !interruptible || self.busy.swap(true, Ordering::Relaxed) {
            return;
        }
        self.world.machine().dma(NIC, None, VA, Dma::Read(&mut [0; 8])).unwrap();
        let mut sink = |report| {
            let (event, owner) = match report {
                Report::Event(event) => (event, self.nest.owner(&event)),
                Report::Stalled(fault) => {
                    let event = fault.event();
                    // What is the host's is aborted: it is dropped.
                    (
                        event,
                        self.nest
                            .show(fault)
                            .map_or_else(|refused| Owner::Host(refused.error), Owner::Guest),
                    )
                }
                _ => return,
            };
            self.read.lock().unwrap().push((event, owner));
        };
        while self.iommu.handle_interrupt(&self.smmu, Interrupt::Any, 64, &mut sink) {}
        self.busy.store(false, Ordering::Relaxed);
    }
}

/// Hardware goes by the new entry before the guest that had the device has lost it.
fn loses(host: Host) {
    let Host { world, iommu, smmu, nest, masters, .. } = host;
    let (busy, read) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let losing = Arc::new(Losing { world: world.clone(), iommu, smmu, nest, busy, read });
    // It has nothing where the guest has.
    let next = losing.iommu.create_domain(DomainConfig::default()).unwrap();
    world.set_observer(Some(losing.clone()));
    losing.iommu.attach(&masters[NIC], &next).unwrap();
    world.set_observer(None);
    let read = losing.read.lock().unwrap();
    let refused =
        |(event, _): &&(Event, Owner)| event.event() == Some(EventId::FTranslation) && !event.s2();
    assert!(read.iter().filter(refused).count() > 1, "{read:?}");
    for (event, owner) in read.iter() {
        assert!(matches!(owner, Owner::Host(_)), "{event:?} was told to the guest: {owner:?}");
    }
}

#[test]
fn what_the_next_one_causes_while_a_guest_loses_the_device_is_not_told_to_it() {
    loses(host());
}

#[test]
fn what_stalls_by_the_next_one_while_a_guest_loses_the_device_is_not_shown_to_it() {
    let mut host = Host::with_stalls(8, |_| ());
    host.guest.map(0, 0, DATA);
    host.nest(NIC, Guest::entry(0), Use::Space(0));
    loses(host);
}

/// The input address of a host's driver is no business of a guest's, even where it has the memory behind it.
#[test]
fn what_the_host_caused_is_not_told_to_a_guest() {
    let mut host = host();
    let before = event(&host);
    let stage_1 = host.iommu.create_domain(DomainConfig::default()).unwrap();
    host.iommu.attach(&host.masters[NIC], &stage_1).unwrap();
    let of_host = event(&host);
    refused(&host);
    host.nest(NIC, Guest::entry(0), Use::Space(0));
    let [waited] = read(&host, &host.smmu)[..] else { panic!("one access was refused") };
    // What was its own was so under an attach that is over.
    for old in [before, of_host, waited] {
        assert_eq!(host.nest.owner(&old), Owner::Host(Cause::Before));
    }
    assert!(is_told(&host.nest, &event(&host)));
    // Over the same tables.
    host.plain(NIC);
    assert_eq!(host.reached(NIC, Guest::ipa(DATA) + (1 << 30)), None);
    let of_host = read(&host, &host.smmu);
    host.nest(NIC, Guest::entry(0), Use::Space(0));
    assert!(of_host.iter().all(|event| matches!(host.nest.owner(event), Owner::Host(_))));
    assert!(of_host.iter().all(|event| host.nest.blamed(event).is_none()));
    assert!(is_told(&host.nest, &event(&host)));
}

#[test]
fn what_a_guest_caused_by_its_former_entry_it_is_told() {
    let mut host = host();
    let handed = event(&host);
    refused(&host);
    host.nest(NIC, Guest::entry(1), Use::Space(1));
    let [waited] = read(&host, &host.smmu)[..] else { panic!("one access was refused") };
    for old in [handed, waited] {
        assert!(is_told(&host.nest, &old));
    }
    // Another device that is given to it changes nothing of that.
    host.nest(1, Guest::entry(0), Use::Space(0));
    assert!(is_told(&host.nest, &handed));
    host.detach(1);
    assert!(is_told(&host.nest, &handed));
    // By another number it would be another stream's.
    host.nest.attach(&host.masters[NIC], &[StreamId(0x21)], &Guest::entry(0)).unwrap();
    assert_eq!(host.nest.owner(&handed), Owner::Host(Cause::Before));
}

/// Contexts and tables of a guest that are in pages which the host took: also what it would be told instead.
#[test]
fn a_guest_is_not_blamed_for_what_came_before_it() {
    let mut host = host();
    // Of its tables.
    host.take(3);
    assert_eq!(host.reached(NIC, VA), None);
    let [old] = read(&host, &host.smmu)[..] else { panic!("one access was refused") };
    assert!(host.nest.blamed(&old).is_some());
    host.detach(NIC);
    host.nest(NIC, Guest::entry(0), Use::Space(0));
    assert_eq!(host.nest.blamed(&old), None);
    assert_eq!(host.reached(NIC, VA), None);
    let [new] = read(&host, &host.smmu)[..] else { panic!("one access was refused") };
    assert!(host.nest.blamed(&new).is_some());
}

/// The SMMU's index begins anew, and what was handed out before is still known for older.
#[test]
fn events_keep_their_order_over_a_reset_and_a_suspend() {
    let mut host = host();
    let old = event(&host);
    host.iommu.reset(&host.smmu).unwrap();
    let new = event(&host);
    assert!(old.number() < new.number());
    assert!(is_told(&host.nest, &old) && is_told(&host.nest, &new), "it stayed attached");
    host.detach(NIC);
    host.nest(NIC, Guest::entry(0), Use::Space(0));
    assert!(!is_told(&host.nest, &old) && !is_told(&host.nest, &new));
    host.iommu.reset(&host.smmu).unwrap();
    assert!(!is_told(&host.nest, &old) && !is_told(&host.nest, &new));
    let old = event(&host);
    assert!(is_told(&host.nest, &old));
    // Where the index cannot be read.
    host.iommu.suspend(&host.smmu, &mut |_| ()).unwrap();
    host.detach(NIC);
    host.nest(NIC, Guest::entry(0), Use::Space(0));
    assert!(!is_told(&host.nest, &old));
    host.iommu.resume(&host.smmu).unwrap();
    assert!(!is_told(&host.nest, &old));
    assert!(is_told(&host.nest, &event(&host)));
}

#[test]
fn events_of_another_instance_are_not_the_guests() {
    let text = host::MACHINE.replace(
        "[[master]]\nname = \"gpu\"",
        "[[instance]]\nname = \"far\"\n[[master]]\nname = \"gpu\"",
    );
    let text = text + "[[master]]\nname = \"same\"\ninstance = \"far\"\nstreams = [0x900]\n";
    let scenario = Scenario::parse(&text, "nested").unwrap();
    let mut host = Host::on(Arc::new(ModelMachine::new(&scenario, 1).unwrap()), Config::default());
    host.nest(NIC, Guest::entry(0), Use::Space(0));
    let mmio = TestMmio { world: host.world.clone(), instance: 1 };
    let far = host.iommu.probe(mmio, InstanceConfig::named("far")).unwrap().enable().unwrap();
    let streams = [StreamId(STREAMS[NIC].0)];
    let master = host.iommu.add_master(&far, &streams, MasterConfig::default()).unwrap();
    let domain = host.iommu.create_domain(DomainConfig::default()).unwrap();
    host.iommu.attach(&master, &domain).unwrap();
    // So that numbers do not tell.
    for page in 0..8 {
        assert_eq!(host.reached(2, NOWHERE + page * PAGE), None);
    }
    for event in read(&host, &far) {
        assert_eq!(host.nest.owner(&event), Owner::Host(Cause::Stream));
        assert_eq!(host.nest.blamed(&event), None);
    }
}
