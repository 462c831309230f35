// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processes at work: on instances that share the CPU's ASID and on others at once, beside domains.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use smmuv3::{AttachError, Iova, Process, Refused, StillAttached};
use smmuv3_formats::Opcode;
use smmuv3_formats::command::{TlbiNhAsid, TlbiNhVa};
use smmuv3_formats::register::Cr2;
use smmuv3_model::{Broadcast, Pages, Profile, Tlbi, World};

use crate::eyes::Step;
use crate::os::Os;
use crate::setup::{IOVA, PAGE, Setup, Tables, hardware, sharing, unbind};

/// A process on three instances, of which the second takes broadcasts: private, shared, private and narrow.
fn three() -> (Setup, Process<Os>, Tables) {
    let narrow = Profile::small_asid().ssidsize(8).two_level_contexts(true).ril(false);
    let masters: &[(usize, &[u32], u32)] = &[(0, &[1, 2], 8), (1, &[1], 8), (2, &[1], 8)];
    let setup = Setup::new(&[hardware(8, false), sharing(), narrow], masters);
    let (process, tables) = setup.process(7, Some(0x4321), 0);
    (setup, process, tables)
}

fn broadcast(setup: &Setup, tlbi: Tlbi) -> [Option<usize>; 3] {
    let broadcast = Broadcast { world: World::El1, vmid: 0, tlbi };
    [0, 1, 2].map(|instance| setup.model(instance).broadcast(broadcast))
}

#[test]
fn a_process_is_shared_and_private_at_once() {
    let (setup, process, tables) = three();
    // PTM [2], RECINVSID [1], E2H [0].
    for (instance, cr2) in [(0, 0b110), (1, 0b010), (2, 0b110)] {
        use smmuv3_testbench::machine::Machine;
        assert_eq!(setup.machine.read32(instance, Cr2::OFFSET), cr2, "instance {instance}");
    }
    let pasid = process.pasid();
    let bonds: Vec<_> = setup.masters.iter().map(|master| process.bind(master).unwrap()).collect();
    let targets = process.targets().unwrap();
    let kinds: Vec<_> =
        targets.iter().map(|target| (target.instance.index(), target.shared)).collect();
    assert_eq!(kinds, [(0, false), (1, true), (2, false)]);
    assert_eq!(targets[1].tag.asid, 0x4321);
    assert!(targets[2].tag.asid < 256, "{:x?}", targets[2]);
    for target in &targets {
        let master = target.instance.index();
        let word = setup.cd(master, pasid.0)[0];
        assert_eq!(word >> 48, u64::from(target.tag.asid));
        assert_eq!(word >> 47 & 1, u64::from(!target.shared), "ASET");
        assert_eq!(setup.cd(master, pasid.0)[1..4], [tables.root(), 0, Tables::MAIR]);
        assert_eq!(setup.dma(master, Some(pasid)), Some(setup.page(0)));
    }
    // What is changed is told to the private ones by the driver, and to the others by CPUs.
    let reach = |page: u64| {
        [0, 1, 2].map(|master| setup.dma_at(master, Some(pasid), IOVA + page * PAGE).is_ok())
    };
    assert_eq!(reach(1), [true; 3]);
    tables.unmap(IOVA + PAGE);
    assert_eq!(reach(1), [true; 3], "all of them remember");
    let tlbi = Tlbi::Va { asid: 0x4321, pages: Pages::one(IOVA + PAGE) };
    let [None, Some(removed), None] = broadcast(&setup, tlbi) else { panic!("who takes them?") };
    assert_ne!(removed, 0);
    assert_eq!(reach(1), [true, false, true]);
    process.invalidate(Iova(IOVA + PAGE), PAGE).unwrap();
    assert_eq!(reach(1), [false; 3]);
    assert_eq!(reach(0), [true; 3]);
    bonds.into_iter().for_each(unbind);
    setup.tear_down(vec![], vec![(process, tables)]);
}

/// Private domains and processes carry ASET = 1, so that a broadcast for the same number leaves them alone.
#[test]
fn a_broadcast_for_a_private_number_hits_nothing() {
    let masters: &[(usize, &[u32], u32)] = &[(0, &[1], 8), (0, &[2], 8)];
    let setup = Setup::new(&[sharing()], masters);
    let domain = setup.domain(0);
    let (process, tables) = setup.process(7, None, 16);
    setup.iommu.attach(&setup.masters[0], &domain).unwrap();
    let bond = process.bind(&setup.masters[1]).unwrap();
    assert_eq!(setup.dma(0, None), Some(setup.page(0)));
    assert_eq!(setup.dma(1, Some(process.pasid())), Some(setup.page(16)));
    for targets in [domain.targets().unwrap(), process.targets().unwrap()] {
        let tlbi = Tlbi::Asid { asid: targets[0].tag.asid };
        let broadcast = Broadcast { world: World::El1, vmid: 0, tlbi };
        assert_eq!(setup.model(0).broadcast(broadcast), Some(0));
    }
    unbind(bond);
    setup.iommu.detach(&setup.masters[0]).unwrap();
    setup.tear_down(vec![domain], vec![(process, tables)]);
}

/// Nothing is beyond the last address of a process, and the last page is not left out.
#[test]
fn an_invalidation_may_reach_the_end_of_all_addresses() {
    let (setup, process, tables) = three();
    let bonds: Vec<_> = setup.masters.iter().map(|master| process.bind(master).unwrap()).collect();
    let given = |start: u64, len: u64| {
        let (result, steps) = setup.steps(|| process.invalidate(Iova(start), len));
        assert_eq!(result, Ok(()), "{start:#x}, {len:#x}");
        steps
    };
    // 39 bits of input.
    let (end, top) = (1u64 << 39, 0xffff_ffff_ffff_e000);
    for (start, len) in [
        (top, PAGE),
        (top, 2 * PAGE),
        (top, u64::MAX),
        (u64::MAX, 0),
        (u64::MAX, 1),
        (u64::MAX, u64::MAX),
        (end, PAGE),
        (end, u64::MAX),
        (end + PAGE, 1),
        (1 << 52, PAGE),
    ] {
        assert_eq!(given(start, len), [], "{start:#x}, {len:#x}");
    }
    let last = given(end - PAGE, PAGE);
    assert!(!last.is_empty());
    for len in [1, PAGE + 1, 1 << 39, u64::MAX - end, u64::MAX] {
        assert_eq!(given(end - PAGE, len), last, "{len:#x}");
    }
    // All of it, up to its end or beyond.
    let all = given(0, end);
    assert_eq!(given(0, u64::MAX), all);
    assert_eq!(given(IOVA, u64::MAX), all);
    // Nobody waits for a reader that is gone.
    for (bond, master) in bonds.into_iter().zip(&setup.masters) {
        unbind(bond);
        unbind(process.bind(master).unwrap());
    }
    setup.tear_down(vec![], vec![(process, tables)]);
}

#[test]
fn an_invalidation_names_private_tags_only_and_tables_too() {
    let (setup, process, tables) = three();
    let bonds: Vec<_> = setup.masters.iter().map(|master| process.bind(master).unwrap()).collect();
    let targets = process.targets().unwrap();
    let asid = |instance: usize| u64::from(targets[instance].tag.asid);
    let given = |start: u64, len: u64| {
        let (result, steps) = setup.steps(|| process.invalidate(Iova(start), len));
        assert_eq!(result, Ok(()));
        let command = |step: Step| match step {
            Step::Command(instance, command) => (instance, command),
            other => panic!("{other:x?}"),
        };
        let commands = steps.into_iter().map(command);
        commands.filter(|(_, command)| command.opcode() != Some(Opcode::Sync)).collect::<Vec<_>>()
    };
    // Without range invalidation one command a page: VMID 0, not only leaves.
    let pages = given(IOVA + 5, 3 * PAGE);
    let narrow: Vec<_> = pages.iter().filter(|(instance, _)| *instance == 2).collect();
    let expected: Vec<[u64; 2]> =
        (0..4).map(|page| [asid(2) << 48 | 0x12, IOVA + page * PAGE]).collect();
    assert_eq!(narrow.iter().map(|(_, command)| command.0).collect::<Vec<_>>(), expected);
    // With it one for all four: NUM = 0, SCALE = 2, TG = 1 (4 KiB), TTL = 0.
    let wide: Vec<_> = pages.iter().filter(|(instance, _)| *instance == 0).collect();
    let [(_, range)] = wide[..] else { panic!("{wide:?}") };
    let range = TlbiNhVa(range.0);
    assert_eq!(
        (
            range.asid(),
            range.num(),
            range.scale(),
            range.tg(),
            range.ttl(),
            range.leaf(),
            range.addr()
        ),
        (asid(0), 0, 2, 1, 0, false, IOVA)
    );
    assert!(!pages.iter().any(|(instance, _)| *instance == 1), "{pages:?}");
    // All of it.
    for (start, len) in [(0, 1 << 39), (0, u64::MAX), (PAGE, u64::MAX), (IOVA, 1 << 40)] {
        let all = given(start, len);
        let flushes: Vec<_> = all
            .iter()
            .map(|(instance, command)| {
                assert_eq!(command.opcode(), Some(Opcode::TlbiNhAsid), "{start:#x} {len:#x}");
                (*instance, TlbiNhAsid(command.0).asid())
            })
            .collect();
        assert_eq!(flushes, [(0, asid(0)), (2, asid(2))], "{start:#x} {len:#x}");
    }
    // Nothing, and the last page that there can be.
    assert_eq!(given(IOVA, 0), []);
    let last = given((1 << 39) - 5, 4);
    assert!(last.iter().all(|(_, command)| TlbiNhVa(command.0).addr() == (1 << 39) - PAGE));
    assert_eq!(last.len(), 2);
    bonds.into_iter().for_each(unbind);
    // Nobody is bound: nobody is told.
    assert_eq!(given(IOVA, PAGE), []);
    setup.tear_down(vec![], vec![(process, tables)]);
}

#[test]
fn all_instances_are_told_before_the_first_is_waited_for() {
    let (setup, process, tables) = three();
    let bonds: Vec<_> = setup.masters.iter().map(|master| process.bind(master).unwrap()).collect();
    for len in [PAGE, 64 * PAGE, u64::MAX] {
        let given = |machine: &smmuv3_testbench::machine_model::ModelMachine| {
            use smmuv3_testbench::machine::Machine;
            [0, 1, 2].map(|instance| {
                let model = machine.model(instance).unwrap();
                model.statistics().commands + u64::from(model.waiting_commands())
            })
        };
        let before = given(&setup.machine.inner);
        let waits = Arc::new(AtomicU64::new(0));
        let count = waits.clone();
        setup.machine.on_wait(move |machine| {
            let now = given(machine);
            assert!(now[0] > before[0] && now[2] > before[2], "{before:?} {now:?}");
            assert_eq!(now[1], before[1]);
            count.fetch_add(1, Ordering::Relaxed);
        });
        // Nothing is done meanwhile but by waiting.
        for instance in [0, 2] {
            setup.wedge(instance, Some(0));
        }
        let (wake, waited) = (setup.machine.clone(), waits.clone());
        setup.during(
            || process.invalidate(Iova(IOVA), len).unwrap(),
            move |_| {
                use smmuv3_testbench::machine::Machine;
                // Somebody waits, which is when all have been told.
                if waited.load(Ordering::Relaxed) != 0 {
                    (0..3).for_each(|instance| wake.model(instance).unwrap().wedge_after(None));
                }
            },
        );
        assert_ne!(waits.load(Ordering::Relaxed), 0, "nobody waited");
        setup.machine.behave();
    }
    bonds.into_iter().for_each(unbind);
    setup.tear_down(vec![], vec![(process, tables)]);
}

#[test]
fn a_master_may_be_bound_twice_and_has_to_be_unbound_twice() {
    let (setup, process, tables) = three();
    let pasid = process.pasid();
    let bind = |master: usize| process.bind(&setup.masters[master]).unwrap();
    let (first, other) = (bind(0), bind(1));
    let (second, steps) = setup.steps(|| bind(0));
    assert_eq!(steps, [], "it is bound already");
    let third = bind(1);
    assert_eq!(process.targets().unwrap().iter().map(|target| target.masters).sum::<usize>(), 2);
    let (_, steps) = setup.steps(|| unbind(first));
    assert_eq!(steps, []);
    assert_eq!(setup.dma(0, Some(pasid)), Some(setup.page(0)));
    unbind(third);
    assert_eq!(setup.dma(1, Some(pasid)), Some(setup.page(0)));
    let Err(Refused { value: process, error: StillAttached { masters: 2, .. } }) = process.close()
    else {
        panic!("two masters are bound")
    };
    unbind(second);
    assert_eq!(setup.dma(0, Some(pasid)), None);
    assert_eq!(setup.dma(1, Some(pasid)), Some(setup.page(0)));
    // Again after the last.
    let again = process.bind(&setup.masters[0]).unwrap();
    assert_eq!(setup.dma(0, Some(pasid)), Some(setup.page(0)));
    unbind(again);
    unbind(other);
    setup.tear_down(vec![], vec![(process, tables)]);
}

#[test]
fn handles_of_another_iommu_are_not_brought_together_and_keep_their_own() {
    let (setup, process, tables) = three();
    let other = Setup::one(8, true);
    assert_eq!(process.bind(&other.masters[0]).err(), Some(AttachError::Foreign));
    let (domain, pasid) = (other.domain(0), other.pasid());
    let result = setup.iommu.attach_pasid(&setup.masters[0], pasid, &domain);
    assert_eq!(result, Err(AttachError::Foreign));
    // Given one handle alone, whichever is asked does what its own would.
    let bond = process.bind(&setup.masters[0]).unwrap();
    other.iommu.attach(&other.masters[0], &domain).unwrap();
    setup.iommu.detach(&other.masters[0]).unwrap();
    assert_eq!(domain.targets().unwrap(), []);
    assert_eq!(setup.dma(0, Some(process.pasid())), Some(setup.page(0)));
    unbind(bond);
    other.tear_down(vec![domain], vec![]);
    setup.tear_down(vec![], vec![(process, tables)]);
}

/// Sixteen masters behind four instances, each with two processes, a domain for a PASID, and a domain or identity
/// without.
#[test]
fn processes_and_domains_share_many_masters() {
    let narrow = Profile::small_asid().ssidsize(8).two_level_contexts(true);
    let profiles = [sharing(), hardware(8, false), narrow, sharing()];
    let streams: Vec<[u32; 1]> = (1..=4).map(|stream| [stream]).collect();
    let masters: Vec<(usize, &[u32], u32)> =
        (0..16).map(|at| (at / 4, &streams[at % 4][..], 8)).collect();
    let setup = Setup::new(&profiles, &masters);
    let domains = [setup.domain(0), setup.domain(16)];
    let pasid = setup.pasid();
    let processes = [setup.process(7, Some(0xfff0), 32), setup.process(8, None, 48)];
    let mut bonds = Vec::new();
    for (at, master) in setup.masters.iter().enumerate() {
        if at % 2 == 0 {
            setup.iommu.attach(master, &domains[0]).unwrap();
        } else {
            // SAFETY: devices of a test only touch what the test tells them to.
            unsafe { setup.iommu.attach_identity(master).unwrap() };
        }
        setup.iommu.attach_pasid(master, pasid, &domains[1]).unwrap();
        bonds.push(processes.each_ref().map(|(process, _)| process.bind(master).unwrap()));
    }
    let check = |first: bool, second: bool| {
        for at in 0..16 {
            let own = if at % 2 == 0 { setup.page(0) } else { IOVA };
            let second_at = setup.page(48);
            for (pasid, place) in [
                (None, Some(own)),
                (Some(pasid), Some(setup.page(16))),
                (Some(processes[0].0.pasid()), first.then_some(setup.page(32))),
                (Some(processes[1].0.pasid()), second.then_some(second_at)),
            ] {
                assert_eq!(setup.dma(at, pasid), place, "master {at}, {pasid:?}");
            }
        }
    };
    check(true, true);
    let count = |process: &Process<Os>| {
        let targets = process.targets().unwrap();
        targets.iter().map(|target| (target.masters, target.shared)).collect::<Vec<_>>()
    };
    assert_eq!(count(&processes[0].0), [(4, true), (4, false), (4, false), (4, true)]);
    assert_eq!(count(&processes[1].0), [(4, false); 4]);
    // No two of them have one tag on one instance.
    for instance in 0..4 {
        let all = [
            domains[0].targets().unwrap(),
            domains[1].targets().unwrap(),
            processes[0].0.targets().unwrap(),
            processes[1].0.targets().unwrap(),
        ];
        let mut tags: Vec<u16> = all.iter().map(|targets| Setup::asid(targets, instance)).collect();
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), 4, "{tags:x?}");
    }
    processes[0].0.release().unwrap();
    check(false, true);
    setup.eyes.check("released");
    for [first, second] in bonds {
        unbind(second);
        unbind(first);
    }
    check(false, false);
    for master in &setup.masters {
        setup.iommu.detach_pasid(master, pasid).unwrap();
        setup.iommu.detach(master).unwrap();
    }
    setup.tear_down(Vec::from(domains), Vec::from(processes));
}

/// The kernel changes the process's tables at each moment of a bind or an unbind (R5): no master reaches the page
/// afterwards.
#[test]
fn tables_may_change_at_any_moment_of_a_bind_and_an_unbind() {
    for bind in [true, false] {
        for moment in 0.. {
            let (setup, process, tables) = three();
            let (process, tables) = (Arc::new(process), Arc::new(tables));
            let pasid = process.pasid();
            let first = process.bind(&setup.masters[2]).unwrap();
            let second = (!bind).then(|| process.bind(&setup.masters[0]).unwrap());
            let page = IOVA + 3 * PAGE;
            assert!(setup.dma_at(2, Some(pasid), page).is_ok());
            assert_eq!(setup.dma_at(0, Some(pasid), page).is_ok(), !bind);
            let (count, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
            let (counter, flag) = (count.clone(), done.clone());
            let (kernel, memory, machine) =
                (process.clone(), tables.clone(), setup.machine.clone());
            setup.eyes.hook(Some(Arc::new(move |interruptible| {
                // Devices try all the time.
                let there = [(2, 1), (0, 1), (0, 2)].map(|(instance, stream)| {
                    crate::setup::device(&machine, instance, &[stream], Some(pasid), page)
                });
                match flag.load(Ordering::Relaxed) {
                    0 if interruptible && counter.fetch_add(1, Ordering::Relaxed) == moment => {
                        flag.store(1, Ordering::Relaxed);
                        memory.unmap(page);
                        kernel.invalidate(Iova(page), PAGE).unwrap();
                        flag.store(2, Ordering::Relaxed);
                    }
                    2 => assert!(there.iter().all(Result::is_err), "{moment}: {there:x?}"),
                    _ => {}
                }
            })));
            let bond = match second {
                None => Some(process.bind(&setup.masters[0]).unwrap()),
                Some(bond) => {
                    unbind(bond);
                    None
                }
            };
            setup.eyes.hook(None);
            let last = done.load(Ordering::Relaxed) != 2;
            let there = if bind { Some(setup.page(0)) } else { None };
            assert_eq!(setup.dma(0, Some(pasid)), there);
            assert_eq!(setup.dma(2, Some(pasid)), Some(setup.page(0)));
            assert_eq!(setup.dma_at(2, Some(pasid), page).is_ok(), last);
            assert_eq!(setup.dma_at(0, Some(pasid), page).is_ok(), last && bind);
            bond.into_iter().chain([first]).for_each(unbind);
            let process = Arc::into_inner(process).unwrap();
            setup.tear_down(vec![], vec![(process, Arc::into_inner(tables).unwrap())]);
            if last {
                assert!(moment > 10, "{moment}");
                break;
            }
        }
    }
}

#[test]
fn an_instance_that_stands_still_does_not_confirm_an_invalidation() {
    let (setup, process, tables) = three();
    let bonds: Vec<_> = setup.masters.iter().map(|master| process.bind(master).unwrap()).collect();
    let pasid = Some(process.pasid());
    for master in 0..3 {
        assert_eq!(setup.dma(master, pasid), Some(setup.page(0)));
    }
    tables.unmap(IOVA);
    setup.wedge(0, Some(0));
    for (first, page) in [(true, IOVA), (false, IOVA + PAGE)] {
        let unconfirmed = process.invalidate(Iova(page), PAGE).unwrap_err();
        assert_eq!(unconfirmed.instance.index(), 0);
        assert_eq!(matches!(unconfirmed.what, smmuv3::Failure::Timeout { .. }), first);
    }
    // The other one was told.
    assert_eq!(setup.dma(2, pasid), None);
    let (domain, iova, waiting) = (process.id(), Iova(IOVA), setup.smmus[0].id().into());
    let range = smmuv3::Quarantined::Range { domain, iova, bytes: 2 * PAGE, waiting };
    assert_eq!(setup.quarantined(), [range]);
    setup.wedge(0, None);
    setup.iommu.reset(&setup.smmus[0]).unwrap();
    assert_eq!((setup.quarantined(), setup.dma(0, pasid)), (vec![], None));
    setup.eyes.be_lenient();
    bonds.into_iter().for_each(unbind);
    setup.tear_down(vec![], vec![(process, tables)]);
}
