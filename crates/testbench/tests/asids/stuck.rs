// SPDX-License-Identifier: MIT OR Apache-2.0
//! Changes of tags that meet what an earlier call left unconfirmed.

use smmuv3::{AsidPolicy, AttachError, Failure};
use smmuv3_formats::Opcode;
use smmuv3_testbench::machine::Machine;

use crate::allocator::driver;
use crate::moves::{Cause, Scene};
use crate::setup::{CPU, NARROW, PAGE, PAGES, Setup, WIDE, failure, no_room};

/// A master is stuck between two domains, its context half written, when the number of one of them is to be changed.
#[test]
fn a_number_that_a_stuck_master_may_use_is_not_changed_before_the_reset() {
    // Its entries lead to another context, or to other contexts altogether.
    for (bits, nth) in [(0, 0), (3, 0)] {
        for (moved, left) in [(0, 1), (1, 0)] {
            let why = format!("{bits} bits, batch {nth}, domain {moved} is moved");
            let mut setup = Setup::new(AsidPolicy::SharedMinMove, &[NARROW, WIDE]);
            let domains = [setup.domain(), setup.domain()];
            let stuck = setup.device_with(1, &[1, 2], bits);
            let others = [3, 4].map(|stream| setup.device(1, &[stream]));
            let narrow = setup.device(0, &[1]);
            for (device, domain) in others.into_iter().zip(domains) {
                setup.attach(device, 0, domain).unwrap();
            }
            setup.attach(stuck, 0, domains[0]).unwrap();
            for page in 0..PAGES {
                for device in [stuck, others[0], others[1]] {
                    assert!(setup.dma(device, 0, page).is_some());
                }
            }
            setup.refuse(1, nth);
            let (instance, what) = failure(setup.attach(stuck, 0, domains[1]));
            assert!(instance == 1 && matches!(what, Failure::Refused { .. }), "{why}: {what}");
            setup.machine.behave();
            // The instance works, and this changes the number there.
            let joined = setup.attach(narrow, 0, domains[moved]);
            for _ in 0..200 {
                setup.machine.act();
            }
            for page in 0..PAGES {
                for (device, domain) in others.into_iter().zip(domains) {
                    let expected = Some(setup.memory(domain, page));
                    assert_eq!(setup.dma(device, 0, page), expected, "{why}: page {page}");
                }
                // Either domain's, or nothing.
                for stream in [1, 2] {
                    let access =
                        smmuv3_model::Access::write(stream, crate::setup::IOVA + page * PAGE);
                    let reached = setup.machine.model(1).unwrap().translate(access);
                    let reached = reached.ok().map(|translation| translation.pa);
                    let may = [
                        None,
                        Some(setup.memory(domains[0], page)),
                        Some(setup.memory(domains[1], page)),
                    ];
                    assert!(may.contains(&reached), "{why}: {reached:x?}");
                }
            }
            setup.check(&why);
            assert_eq!(no_room(joined), (1, Failure::Failed), "{why}");
            assert_eq!(setup.asid(domains[moved], 1), 0xffff - moved as u16, "{why}");
            setup.reset(1);
            assert_eq!(setup.quarantined(), [], "{why}");
            setup.attach(narrow, 0, domains[moved]).unwrap();
            assert_eq!(setup.asid(domains[moved], 1), 1, "{why}");
            setup.attach(stuck, 0, domains[left]).unwrap();
            assert_eq!(setup.dma(stuck, 0, 0), Some(setup.memory(domains[left], 0)), "{why}");
            setup.check(&why);
            setup.tear_down(&why);
        }
    }
}

/// The same, when the number is wanted for a process: that gets one of the instance.
#[test]
fn a_process_does_not_get_a_number_that_a_stuck_master_may_use() {
    // Its entry leads to another context, or to other contexts altogether.
    for (bits, moved) in [(0, 0), (0, 1), (4, 0), (4, 1)] {
        let why = format!("{bits} bits, domain {moved}");
        let mut setup = Setup::new(AsidPolicy::PerInstance, &[CPU]);
        let domains = [setup.domain(), setup.domain()];
        let stuck = setup.device_with(0, &[1], bits);
        let others = [3, 4].map(|stream| setup.device(0, &[stream]));
        for (device, domain) in others.into_iter().zip(domains) {
            setup.attach(device, 0, domain).unwrap();
        }
        setup.attach(stuck, 0, domains[0]).unwrap();
        assert!(setup.dma(stuck, 0, 0).is_some());
        setup.refuse(0, 0);
        assert_eq!(failure(setup.attach(stuck, 0, domains[1])).0, 0, "{why}");
        setup.machine.behave();
        let asid = setup.asid(domains[moved], 0);
        let process = setup.process(asid);
        let binder = setup.device_with(0, &[9], 4);
        let bond = driver(|| setup.processes[process].0.bind(&setup.devices[binder].master));
        let bond = bond.unwrap_or_else(|error| panic!("{why}: {error}"));
        assert_eq!(setup.pins.count(0), 0, "{why}: it is not the CPU's");
        let targets = setup.processes[process].0.targets().unwrap();
        assert!(!targets[0].shared && targets[0].tag.asid != asid, "{why}: {targets:?}");
        assert_eq!(setup.asid(domains[moved], 0), asid, "{why}");
        setup.check(&why);
        setup.reset(0);
        assert!(driver(|| bond.unbind().is_ok()), "{why}");
        let bond = driver(|| setup.processes[process].0.bind(&setup.devices[binder].master));
        assert!(setup.processes[process].0.targets().unwrap()[0].shared, "{why}");
        assert_eq!(setup.pins.count(0), 1, "{why}");
        assert!(driver(|| bond.unwrap().unbind().is_ok()), "{why}");
        setup.check(&why);
        setup.tear_down(&why);
    }
}

/// The entry of a master that was to change its bank was not confirmed: hardware may tag all that it does with the old
/// VMID, also what it would be attached to afterwards.
#[test]
fn a_master_whose_bank_was_not_confirmed_is_not_changed_before_the_reset() {
    let why = "both entries";
    let scene = Scene::new(Cause::Bank, 1);
    let setup = &scene.setup;
    scene.check_seats(false, &[], &why);
    // The entries of its two streams come first, together.
    setup.refuse(0, 0);
    let Failure::Refused { command, .. } = no_room(scene.run()).1 else { panic!("{why}") };
    assert_eq!(command.opcode(), Some(Opcode::CfgiSte), "{why}");
    setup.machine.behave();
    let (many, pasid, _) = scene.seats[1];
    let (_, spare) = scene.spares[0];
    // Again, by another PASID, or back: nothing of it is changed, so that nothing gets a wrong tag.
    let before = scene.targets();
    assert_eq!(failure(scene.run()), (0, Failure::Failed), "{why}");
    assert_eq!(failure(setup.attach(many, 9, spare)), (0, Failure::Failed), "{why}");
    assert_eq!(failure(setup.attach(many, pasid, spare)), (0, Failure::Failed), "{why}");
    assert_eq!(failure(setup.detach(many, pasid)), (0, Failure::Failed), "{why}");
    assert_eq!(scene.targets(), before, "{why}");
    assert_eq!(setup.domains[spare].targets().unwrap(), [], "{why}");
    // What it uses already it goes on using.
    scene.check_seats(false, &[], &why);
    setup.check(&why);
    setup.reset(0);
    scene.check_seats(false, &[], &why);
    setup.attach(many, 9, spare).unwrap();
    assert_eq!(setup.dma(many, 9, 0), Some(setup.memory(spare, 0)), "{why}");
    scene.run().unwrap();
    scene.check_seats(true, &[], &why);
    setup.check(&why);
    scene.tear_down(&why);
}

/// Others leave the domain meanwhile: its tags in the old bank stay taken, since the master may use them.
#[test]
fn the_tags_of_an_unconfirmed_bank_outlive_everybody_else_there() {
    let scene = Scene::new(Cause::Bank, 2);
    let setup = &scene.setup;
    scene.check_seats(false, &[], &"before");
    setup.refuse(0, 0);
    failure(scene.run());
    setup.machine.behave();
    let (plain, _, moved) = scene.seats[0];
    let tag = setup.tags(moved, 0)[0];
    assert_eq!(tag.vmid, 0);
    setup.detach(plain, 0).unwrap();
    assert_eq!(setup.tags(moved, 0)[0], tag);
    // Whoever comes next gets something else.
    let (device, domain) = scene.spares[0];
    setup.attach(device, 0, domain).unwrap();
    assert_ne!(setup.tags(domain, 0)[0], tag);
    assert_eq!(setup.dma(device, 0, 0), Some(setup.memory(domain, 0)));
    let (many, pasid, _) = scene.seats[1];
    assert_eq!(setup.dma(many, pasid, 0), Some(setup.memory(moved, 0)));
    // In both banks.
    assert_eq!(setup.unmap(moved, 0), Ok(PAGE));
    setup.check_unmapped(moved, 0, None, &"the old bank");
    assert_eq!(setup.dma(many, pasid, 0), None);
    setup.check(&"meanwhile");
    setup.reset(0);
    assert!(setup.tags(moved, 0).iter().all(|now| *now != tag));
    setup.detach(device, 0).unwrap();
    setup.attach(plain, 0, moved).unwrap();
    scene.check_seats(false, &[(moved, 0)], &"after");
    scene.tear_down(&"after");
}

/// Whoever was refused because there was no number left may come back when there is one.
#[test]
fn nothing_is_left_of_a_join_that_found_no_number() {
    let mut setup = Setup::new(AsidPolicy::SharedMinMove, &[NARROW, WIDE]);
    let domain = setup.domain();
    let (narrow, wide) = (setup.device(0, &[900]), setup.device(1, &[1]));
    setup.attach(wide, 0, domain).unwrap();
    assert!(setup.dma(wide, 0, 0).is_some());
    let fill: Vec<usize> = (0..255)
        .map(|stream| {
            let (device, own) = (setup.device(0, &[stream]), setup.domain_of(1));
            setup.attach(device, 0, own).unwrap();
            device
        })
        .collect();
    let before = (setup.world.frames().live_bytes(), setup.free(1));
    setup.world.take_commands();
    let none = AttachError::NoAsid { instance: setup.smmus[0].id(), bits: 8 };
    for _ in 0..3 {
        assert_eq!(setup.attach(narrow, 0, domain), Err(none));
    }
    assert_eq!(setup.world.take_commands(), []);
    assert_eq!((setup.world.frames().live_bytes(), setup.free(1)), before);
    assert_eq!(setup.asid(domain, 1), 0xffff);
    setup.detach(fill[99], 0).unwrap();
    setup.attach(narrow, 0, domain).unwrap();
    assert_eq!((setup.asid(domain, 0), setup.asid(domain, 1)), (100, 100));
    setup.check(&"no number");
    setup.tear_down(&"no number");
}
