// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tags that must not change, or not be shared, beside masters whose bank or context was not confirmed, and processes
//! that have a number of their own and the CPU's.

use smmuv3::{AsidPolicy, AttachError, Failure};
use smmuv3_formats::{Cd, Opcode, Ste, StreamId};
use smmuv3_model::Access;
use smmuv3_testbench::inside::Inside as _;
use smmuv3_testbench::machine::Machine;

use crate::allocator::driver;
use crate::setup::{BANKS, CPU, IOVA, Kind, PAGE, PAGES, Setup, config, no_room};

/// Banks of 63 ASIDs, the first of which is shared with CPUs.
const BOTH: Kind = Kind { bits: 6, ..CPU };

fn banked() -> Setup {
    let mut config = config(AsidPolicy::Banked);
    // As many as the instance.
    config.cpu.asid_bits = BOTH.bits;
    Setup::with(config, &[BOTH], 1)
}

/// Gives so many new devices a domain each.
fn fill(setup: &mut Setup, count: usize) -> Vec<(usize, usize)> {
    (0..count)
        .map(|_| {
            let (domain, stream) = (setup.domain_of(1), setup.devices.len() as u32);
            let device = setup.device(0, &[100 + stream]);
            setup.attach(device, 0, domain).unwrap();
            (device, domain)
        })
        .collect()
}

/// Lets the tables of a process lead from every address of the first GiB to the same: a block of it. Returns the table
/// that was added.
fn map_gigabyte(setup: &Setup, process: usize) -> u64 {
    let table = setup.world.frames().allocate(PAGE, PAGE).unwrap();
    let ram = setup.machine.ram();
    // nG, AF, inner shareable, for all.
    ram.write64(table, 1 << 11 | 1 << 10 | 3 << 8 | 1 << 6 | 1).unwrap();
    ram.write64(setup.processes[process].1, table | 3).unwrap();
    table
}

/// ASID and ASET of a device's context, read from memory as hardware does.
fn context(setup: &Setup, device: usize, pasid: u32) -> (u16, bool) {
    let device = &setup.devices[device];
    let instance = setup.smmus[device.instance].inside();
    let platform = setup.iommu.platform();
    let entry = instance.streams().entry(platform, StreamId(device.streams[0])).unwrap();
    let ste = Ste(entry.load(platform));
    assert_eq!(ste.s1_fmt(), 0);
    let at = ste.s1_context_ptr() + 64 * u64::from(pasid);
    let ram = setup.machine.ram();
    let cd = Cd(std::array::from_fn(|word| ram.read64(at + 8 * word as u64).unwrap()));
    assert!(cd.v());
    (cd.asid() as u16, cd.aset())
}

/// Hardware may go on with the old VMID: with a new number it would have somebody else's tag.
#[test]
fn a_number_of_a_master_whose_bank_was_not_confirmed_is_not_changed_for_a_process() {
    let why = &"a bank that was not confirmed";
    let mut setup = banked();
    let (domain, extra) = (setup.domain(), setup.domain());
    let added = setup.pasid();
    let home = fill(&mut setup, 63);
    let adrift = setup.device_with(0, &[1], 4);
    setup.attach(adrift, 0, domain).unwrap();
    let second = fill(&mut setup, 62);
    let old = setup.tags(domain, 0)[0];
    let first = setup.tags(home[0].1, 0)[0];
    assert_eq!((old.asid, old.vmid != first.vmid), (first.asid, true));
    // Room for all that it uses and more in the first bank.
    for (device, _) in &home[..8] {
        setup.detach(*device, 0).unwrap();
    }
    let own = [(adrift, domain)];
    let all = || second.iter().chain(&own).copied();
    for (device, domain) in all() {
        assert_eq!(setup.dma(device, 0, 0), Some(setup.memory(domain, 0)));
    }
    setup.refuse(0, 0);
    let (_, what) = no_room(setup.attach(adrift, added, extra));
    let Failure::Refused { command, .. } = what else { panic!("{what}") };
    assert_eq!(command.opcode(), Some(Opcode::CfgiSte));
    setup.machine.behave();
    let before = setup.tags(domain, 0);
    assert!(before.contains(&first) && before.contains(&old), "{before:?}");

    let process = setup.process(first.asid);
    let table = map_gigabyte(&setup, process);
    let binder = setup.device_with(0, &[2], 4);
    let bond = driver(|| setup.processes[process].0.bind(&setup.devices[binder].master)).unwrap();
    assert_eq!(setup.pins.count(0), 0);
    assert!(setup.processes[process].0.targets().unwrap().iter().all(|target| !target.shared));
    assert_eq!(setup.tags(domain, 0), before);
    let pasid = setup.processes[process].0.pasid().0;
    for _ in 0..200 {
        setup.machine.act();
    }
    for page in 0..PAGES {
        assert_eq!(setup.dma(adrift, 0, page), Some(setup.memory(domain, page)), "page {page}");
        assert_eq!(setup.dma(binder, pasid, page), Some(IOVA + page * PAGE), "page {page}");
    }
    for (device, domain) in all() {
        assert_eq!(setup.dma(device, 0, 0), Some(setup.memory(domain, 0)));
    }
    setup.check(why);
    assert_eq!(setup.unmap(domain, 1), Ok(PAGE));
    setup.check_unmapped(domain, 1, None, why);
    assert_eq!(setup.dma(adrift, 0, 1), None);

    setup.reset(0);
    assert_eq!(setup.quarantined(), []);
    setup.attach(adrift, added, extra).unwrap();
    assert_eq!(setup.dma(adrift, added, 0), Some(setup.memory(extra, 0)));
    assert!(driver(|| bond.unbind().is_ok()));
    let bond = driver(|| setup.processes[process].0.bind(&setup.devices[binder].master)).unwrap();
    assert!(setup.processes[process].0.targets().unwrap()[0].shared);
    assert_eq!(setup.pins.count(0), 1);
    for page in [0, 2] {
        assert_eq!(setup.dma(adrift, 0, page), Some(setup.memory(domain, page)));
        assert_eq!(setup.dma(binder, pasid, page), Some(IOVA + page * PAGE));
    }
    setup.check(why);
    assert!(driver(|| bond.unbind().is_ok()));
    setup.world.frames().free(table, PAGE);
    setup.tear_down(why);
}

/// The context may still be read as it was: the old number would be used in the new bank.
#[test]
fn a_bank_is_not_changed_after_a_number_that_was_not_confirmed() {
    let why = &"a number that was not confirmed";
    let mut setup = banked();
    let (domain, extra) = (setup.domain(), setup.domain());
    let (second, third) = (setup.pasid(), setup.pasid());
    let device = setup.device_with(0, &[1], 4);
    setup.attach(device, 0, domain).unwrap();
    let old = setup.tags(domain, 0)[0];
    let filled = fill(&mut setup, 61);
    assert_eq!(setup.dma(device, 0, 0), Some(setup.memory(domain, 0)));
    let process = setup.process(old.asid);
    // Its table of contexts is there.
    let binder = setup.device_with(0, &[2], 4);
    setup.attach(binder, 0, filled[0].1).unwrap();
    setup.refuse(0, 0);
    let bond = driver(|| setup.processes[process].0.bind(&setup.devices[binder].master));
    let (_, what) = no_room(bond.map(|_| ()));
    let Failure::Refused { command, .. } = what else { panic!("{what}") };
    assert_eq!(command.opcode(), Some(Opcode::CfgiCd));
    setup.machine.behave();
    let before = setup.tags(domain, 0);
    assert_eq!((before.len(), before.contains(&old)), (2, true), "{before:?}");
    let everybody = |setup: &Setup| {
        for page in 0..PAGES {
            assert_eq!(setup.dma(device, 0, page), Some(setup.memory(domain, page)));
        }
        for (device, domain) in &filled {
            assert_eq!(setup.dma(*device, 0, 0), Some(setup.memory(*domain, 0)));
        }
        setup.check(why);
    };
    // The bank is full.
    for _ in 0..2 {
        assert_eq!(no_room(setup.attach(device, second, extra)), (0, Failure::Failed));
        assert_eq!(setup.tags(domain, 0), before);
        assert_eq!(setup.tags(extra, 0), []);
        everybody(&setup);
    }
    setup.reset(0);
    assert_eq!(setup.quarantined(), []);
    setup.attach(device, second, extra).unwrap();
    assert_eq!(setup.dma(device, second, 0), Some(setup.memory(extra, 0)));
    everybody(&setup);
    // And the next one takes it to another bank.
    let last = setup.domain();
    setup.attach(device, third, last).unwrap();
    assert_eq!(setup.dma(device, third, 0), Some(setup.memory(last, 0)));
    assert!(setup.tags(domain, 0).iter().all(|tag| tag.vmid != old.vmid));
    everybody(&setup);
    setup.tear_down(why);
}

/// A number that was the process's own becomes the CPU's: where it is used as its own already it gets another.
#[test]
fn a_process_has_no_tag_of_both_kinds() {
    for policy in AsidPolicy::ALL {
        let why = &format!("{policy}");
        let mut setup = Setup::new(policy, &[CPU, CPU]);
        let devices = [(0, 1), (0, 2), (1, 1), (1, 2), (0, 3)]
            .map(|(instance, stream)| setup.device_with(instance, &[stream], 4));
        // It cannot be pinned yet.
        let process = setup.process(0);
        let table = map_gigabyte(&setup, process);
        let pasid = setup.processes[process].0.pasid().0;
        let mut bonds = Vec::new();
        let mut bind = |setup: &Setup, device: usize| {
            let (process, _) = &setup.processes[process];
            let bond = driver(|| process.bind(&setup.devices[device].master));
            bonds.push(bond.unwrap_or_else(|error| panic!("{why}: {error}")));
        };
        bind(&setup, devices[0]);
        bind(&setup, devices[2]);
        let own = setup.processes[process].0.targets().unwrap();
        assert!(own.iter().all(|target| !target.shared), "{why}: {own:?}");
        let pinned = own[0].tag.asid;
        setup.pins.add(0, pinned);
        for device in [devices[0], devices[2]] {
            assert_eq!(setup.dma(device, pasid, 0), Some(IOVA), "{why}");
        }
        for device in [devices[1], devices[3]] {
            bind(&setup, device);
            // No tag has two owners, nor one twice.
            setup.check(why);
        }
        for _ in 0..200 {
            setup.machine.act();
        }
        for device in &devices[..4] {
            for page in 0..PAGES {
                let there = Some(IOVA + page * PAGE);
                assert_eq!(setup.dma(*device, pasid, page), there, "{why}: device {device}");
            }
        }
        let targets = setup.processes[process].0.targets().unwrap();
        assert_eq!(targets.len(), 4, "{why}: {targets:?}");
        for (device, instance, shared) in [(0, 0, false), (1, 0, true), (2, 1, false), (3, 1, true)]
        {
            let (asid, aset) = context(&setup, devices[device], pasid);
            assert_eq!(aset, !shared, "{why}: device {device}");
            assert_eq!(asid == pinned, shared, "{why}: device {device}: {asid}");
            let named = targets.iter().any(|target| {
                target.instance.index() == instance
                    && (target.tag.asid, target.shared) == (asid, shared)
            });
            assert!(named, "{why}: {asid} is not in {targets:?}");
        }
        let twin = setup.process(pinned);
        let bond = driver(|| setup.processes[twin].0.bind(&setup.devices[devices[4]].master));
        let twice = AttachError::PinnedTwice { instance: setup.smmus[0].id(), asid: pinned };
        assert_eq!(bond.err(), Some(twice), "{why}");
        assert_eq!(setup.pins.count(1), 0, "{why}");
        setup.check(why);
        for bond in bonds {
            assert!(driver(|| bond.unbind().is_ok()), "{why}");
        }
        assert_eq!(setup.pins.count(0), 0, "{why}");
        assert_eq!(setup.processes[process].0.targets().unwrap(), [], "{why}");
        setup.world.frames().free(table, PAGE);
        setup.tear_down(why);
    }
}

/// A master that a refused change of its bank left behind walks by its old entry: the context of the tag that it was to have, into
/// the tag that it had. So no tag of a process is flushed before all its contexts are quiet.
#[test]
fn a_release_leaves_nothing_that_a_master_left_behind_could_fill_again() {
    let why = &"a release beside a bank that was not confirmed";
    let mut setup = Setup::new(AsidPolicy::Banked, &[BANKS]);
    let (domain, extra) = (setup.domain(), setup.domain());
    let added = setup.pasid();
    let adrift = setup.device_with(0, &[1], 4);
    let binder = setup.device_with(0, &[2], 4);
    setup.attach(adrift, 0, domain).unwrap();
    let old = setup.tags(domain, 0)[0];
    let process = setup.process(1);
    let table = map_gigabyte(&setup, process);
    let pasid = setup.processes[process].0.pasid().0;
    let bonds = [adrift, binder].map(|device| {
        driver(|| setup.processes[process].0.bind(&setup.devices[device].master)).unwrap()
    });
    let of_process = |setup: &Setup| setup.processes[process].0.targets().unwrap();
    let tags: Vec<_> = of_process(&setup).iter().map(|target| target.tag).collect();
    assert!(tags.len() == 1 && tags[0].vmid == old.vmid, "{tags:?}");
    // The first bank is full.
    fill(&mut setup, 61);
    // The SMMU has its entry cached.
    assert_eq!(setup.dma(adrift, pasid, 0), Some(IOVA));
    setup.refuse(0, 0);
    no_room(setup.attach(adrift, added, extra));
    setup.machine.behave();
    let tags: Vec<_> = of_process(&setup).iter().map(|target| target.tag).collect();
    assert!(tags.len() == 2 && tags[0].vmid == old.vmid, "{tags:?}");

    // The device works all the time.
    let machine = setup.machine.clone();
    setup.hook(move |_, _| {
        let access = Access { substream: Some(pasid), ..Access::write(1, IOVA) };
        let _ = machine.model(0).unwrap().translate(access);
    });
    driver(|| setup.processes[process].0.release()).unwrap();
    setup.unhook();
    for device in [adrift, binder] {
        assert_eq!(setup.dma(device, pasid, 0), None, "device {device}");
    }
    setup.reset(0);
    for bond in bonds {
        assert!(driver(|| bond.unbind().is_ok()));
    }
    setup.world.frames().free(table, PAGE);
    setup.tear_down(why);
}
