// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guests whose devices keep translations (ATS): the guest turns that on in its entries, and tells its devices to forget.

use smmuv3::{AttachError, InstanceConfig, Interrupt, Report, StreamId};
use smmuv3_formats::{Command, Opcode, Ste};
use smmuv3_model::Answers;
use smmuv3_testbench::inside::Inside as _;
use smmuv3_testbench::run::{Options, run};
use smmuv3_testbench::scenario::Scenario;

use crate::guest::{DATA, Guest, PAGE, VA};
use crate::host::{Host, STREAMS, Use};

/// Devices of a guest, and one of the host's, that keep translations; one that does not.
const RANDOM: &str = r#"
name = "guests-ats"
instance = [
    { name = "smmu0", asid-bits = 8, ats = true },
    { name = "smmu1", ats = true },
]
master = [
    { name = "nic", instance = "smmu0", streams = [0x900, 0x902], ats = true },
    { name = "disk", instance = "smmu0", streams = [0xa00] },
    { name = "gpu", instance = "smmu1", streams = [0x1100], ats = true },
]
domain = [
    { name = "memory", stage = 2 },
    { name = "driver", over = "memory" },
    { name = "program", over = "memory" },
    { name = "host" },
]
[[step]]
random = { steps = 1500, pages = 16, weights = { attach = 12, detach = 4, identity = 2 } }
"#;

fn verdicts(options: &Options) -> Vec<String> {
    let scenario = Scenario::parse(RANDOM, "ats").unwrap_or_else(|errors| panic!("{errors}"));
    let verdict = |seed| {
        let options = Options { seed: Some(seed), no_shrink: true, ..options.clone() };
        let report = run(&scenario, &options, &mut |_| ()).unwrap();
        if let Some(failure) = &report.failure {
            println!("seed {seed}: line {}: {}", failure.line, failure.text);
        }
        report.verdict
    };
    (0..20).map(verdict).collect()
}

#[test]
fn random_operations_hold_all_rules() {
    let verdicts = verdicts(&Options::default());
    assert!(verdicts.iter().all(|verdict| verdict == "ok"), "{verdicts:?}");
}

#[cfg(feature = "mutation")]
#[test]
fn a_guests_command_for_another_stream_is_caught_on_nearly_every_seed() {
    for mutation in [smmuv3::Mutation::GuestsStream, smmuv3::Mutation::NoAtcInv] {
        let verdicts = verdicts(&Options { mutation: Some(mutation), ..Options::default() });
        let caught = verdicts.iter().filter(|verdict| *verdict != "ok" && *verdict != "driver");
        let caught = caught.count();
        assert!(caught >= 19, "{mutation:?} is caught on {caught} seeds only: {verdicts:?}");
    }
}

const KEEPS: usize = 0;
const OTHER: usize = 1;
/// Of the device of [`KEEPS`], as the host knows it.
const STREAM: u32 = STREAMS[KEEPS].0;

/// ATC_INV of everything, for a stream by the guest's number, and CMD_SYNC.
fn forget(guest: u32) -> [Command; 2] {
    [Command([u64::from(guest) << 32 | 0x40, 52]), Command([0x46, 0])]
}

/// The first device uses the guest's space 0, with a page, and keeps where that leads.
fn host() -> Host {
    ready(Host::with_ats(1))
}

fn ready(mut host: Host) -> Host {
    host.guest.map(0, 0, DATA);
    host.guest.map(0, 1, DATA + 1);
    host.nest(KEEPS, Guest::entry(0).with_eats(1), Use::Space(0));
    assert!(is_on(&host));
    assert_eq!(host.reached(KEEPS, VA), Some(host.guest.frames[DATA]));
    assert_ne!(kept(&host), 0);
    host
}

/// The device has ATS on.
fn is_on(host: &Host) -> bool {
    host.world.machine().model(0).unwrap().endpoint_mut(STREAM).unwrap().ats
}

/// How much it keeps.
fn kept(host: &Host) -> usize {
    host.world.machine().model(0).unwrap().endpoint_mut(STREAM).unwrap().atc().iter().count()
}

fn eats(host: &Host) -> u64 {
    let streams = host.smmu.inside().streams();
    let entry = streams.entry(host.iommu.platform(), StreamId(STREAM)).unwrap();
    Ste(entry.load(host.iommu.platform())).eats()
}

#[test]
fn a_guest_turns_ats_on_and_off() {
    let mut host = host();
    assert!(host.nest.guest().shown().idr0.ats());
    let entry = |space| Guest::entry(space).with_eats(1);
    for (step, on) in [true, false, true, false, true, true, false].into_iter().enumerate() {
        match step {
            0 => host.nest(KEEPS, entry(1), Use::Space(1)),
            1 => host.nest(KEEPS, Guest::entry(0), Use::Space(0)),
            2 => host.nest(KEEPS, entry(0), Use::Space(0)),
            // Without translation there is none (§12).
            3 => host.nest(KEEPS, Guest::bypass().with_eats(1), Use::Bypass),
            4 => host.plain(KEEPS),
            5 => host.nest(KEEPS, entry(0), Use::Space(0)),
            _ => host.nest(KEEPS, Ste::default(), Use::Invalid),
        }
        assert_eq!((is_on(&host), eats(&host)), (on, on.into()), "step {step}");
        assert_eq!(kept(&host), 0, "step {step}: what it was granted before is gone");
        assert_eq!(host.verdict(), Ok(()), "step {step}");
    }
    // A device that has none is not given it.
    host.nest(OTHER, entry(0), Use::Space(0));
    assert_eq!(host.verdict(), Ok(()));
    host.detach(KEEPS);
    assert!(!is_on(&host));
    // Split-stage ATS would hand out intermediate addresses, which the guest knows as physical ones: stage 1 alone has none.
    let ste = Guest::entry(0).with_eats(2);
    let result = host.nest.attach(&host.masters[KEEPS], &[StreamId(STREAMS[KEEPS].1)], &ste);
    let Err(AttachError::Illegal(illegal)) = result else { panic!("{result:?}") };
    assert_eq!((illegal.rule.field, illegal.value), ("EATS", 2));
}

#[test]
fn what_a_device_keeps_goes_when_the_guest_says_so() {
    let mut host = host();
    let commands = host.guest.unmap(0, 0, true);
    host.commands(&commands);
    assert_ne!(kept(&host), 0);
    assert!(host.reached(KEEPS, VA).is_some(), "the SMMU has forgotten it, and the device has not");
    // By another's number: not the guest's, or of a device that keeps nothing.
    host.world.take_commands();
    for stream in [STREAM, 0x77, STREAMS[OTHER].1] {
        host.commands(&forget(stream));
        assert_ne!(kept(&host), 0);
    }
    assert_eq!(host.world.take_commands(), [], "nothing to be said to devices without ATS");
    host.commands(&forget(STREAMS[KEEPS].1));
    assert_eq!(host.verdict(), Ok(()));
}

/// Its ATS was off, and it has forgotten everything, before its entry said so: it may be about to be somebody else's.
#[test]
fn a_device_whose_entry_allows_no_ats_is_told_nothing() {
    let mut host = host();
    let told = |host: &Host| {
        let given = host.world.take_commands();
        given.iter().any(|(_, command)| command.opcode() == Some(Opcode::AtcInv))
    };
    host.world.take_commands();
    host.commands(&forget(STREAMS[KEEPS].1));
    assert!(told(&host));
    host.nest(KEEPS, Guest::entry(0), Use::Space(0));
    assert!(told(&host), "by the driver");
    host.commands(&forget(STREAMS[KEEPS].1));
    assert!(!told(&host));
    host.nest(KEEPS, Guest::entry(0).with_eats(1), Use::Space(0));
    assert_eq!(host.reached(KEEPS, VA), Some(host.guest.frames[DATA]));
    assert_ne!(kept(&host), 0);
    host.commands(&forget(STREAMS[KEEPS].1));
    assert!(told(&host) && kept(&host) == 0);
    assert_eq!(host.verdict(), Ok(()));
}

/// It knows them by addresses of the guest's stage 1, which the host does not look at.
#[test]
fn what_a_device_keeps_goes_when_the_host_takes_memory_away() {
    let mut host = host();
    host.take(DATA);
    assert_eq!(kept(&host), 0);
    assert_eq!(host.verdict(), Ok(()));
    host.give(DATA);
    assert_eq!(host.verdict(), Ok(()));
    host.migrate(DATA + 1);
    assert_eq!(host.verdict(), Ok(()));
}

/// The streams that the host is told were cut off.
fn cut_off(host: &Host) -> Vec<StreamId> {
    let mut streams = Vec::new();
    let mut sink = |report| {
        if let Report::Quarantined { stream } = report {
            streams.push(stream);
        }
    };
    let _ = host.iommu.handle_interrupt(&host.smmu, Interrupt::Any, 8, &mut sink);
    streams
}

/// It reaches nothing any more; the guest's other commands are carried out, and it costs the host one time-out.
#[test]
fn a_device_that_does_not_answer_its_guest_is_put_in_quarantine() {
    let mut host = host();
    host.nest(OTHER, Guest::entry(0), Use::Space(0));
    assert_eq!(host.verdict(), Ok(()));
    let set = |host: &Host, answers| {
        let mut model = host.world.machine().model(0).unwrap();
        model.endpoint_mut(STREAM).unwrap().answers = answers;
    };
    set(&host, Answers::Never);
    let [forget, sync] = forget(STREAMS[KEEPS].1);
    let mut commands = host.guest.unmap(0, 0, true);
    commands.extend([forget, forget, sync]);
    host.commands(&commands);
    assert!(host.masters[KEEPS].is_quarantined());
    assert_eq!(cut_off(&host), [StreamId(STREAM)]);
    assert_eq!(cut_off(&host), []);
    assert_eq!(host.reached(OTHER, VA), None);
    assert_eq!(host.reached(OTHER, VA + PAGE), Some(host.guest.frames[DATA + 1]));
    for page in 0..2 {
        assert_eq!(host.reached(KEEPS, VA + page * PAGE), None, "{page}");
    }
    host.world.take_commands();
    host.commands(&[forget; 100]);
    // It is asked no more; each piece makes sure once that hardware has noticed.
    let given = host.world.take_commands();
    let opcode = |(_, command): &(usize, Command)| command.opcode();
    assert!(given.len() <= 2 * 100usize.div_ceil(32), "{given:?}");
    assert!(given.iter().map(opcode).all(|it| matches!(it, Some(Opcode::CfgiSte | Opcode::Sync))));
    set(&host, Answers::InTime);
    host.iommu.readmit(&host.masters[KEEPS]).unwrap();
    assert_eq!(host.verdict(), Ok(()));
}

/// An SMMU that has to be told twice of what it is to forget is told twice of that entry, too.
#[test]
fn where_invalidations_are_repeated_so_is_that_of_the_entry_of_a_silent_device() {
    let mut config = InstanceConfig::named("smmu");
    config.firmware.repeated_invalidation = true;
    let mut host = ready(Host::with_ats_on(1, config));
    let mut model = host.world.machine().model(0).unwrap();
    model.endpoint_mut(STREAM).unwrap().answers = Answers::Never;
    drop(model);
    host.world.take_commands();
    host.commands(&forget(STREAMS[KEEPS].1));
    assert!(host.masters[KEEPS].is_quarantined());
    let told = host.world.take_commands();
    let told = told.iter().filter(|(_, command)| command.opcode() == Some(Opcode::CfgiSte));
    assert_eq!(told.count(), 2);
    assert_eq!(cut_off(&host), [StreamId(STREAM)]);
}
