// SPDX-License-Identifier: MIT OR Apache-2.0
//! Banks: one ASID space for each of several VMIDs (§8.4).

use smmuv3::{AsidPolicy, AttachError, Cpu, Vmids};
use smmuv3_formats::{Opcode, Ste, StreamId};
use smmuv3_testbench::inside::Inside as _;

use crate::setup::{BANKS, Kind, PAGE, Setup, TINY, WIDE, config};

/// STE.S2VMID of a device, read from memory as hardware does.
fn vmid_of(setup: &Setup, device: usize) -> u16 {
    let device = &setup.devices[device];
    let streams = setup.smmus[device.instance].inside().streams();
    let platform = setup.iommu.platform();
    let vmids: Vec<u64> = device
        .streams
        .iter()
        .map(|stream| Ste(streams.entry(platform, StreamId(*stream)).unwrap().load(platform)))
        .map(|ste| ste.s2_vmid())
        .collect();
    assert!(vmids.iter().all(|vmid| *vmid == vmids[0]), "{vmids:?}");
    vmids[0] as u16
}

/// Attaches a device of its own to each of so many new domains; the devices and domains, with their tags.
fn fill(setup: &mut Setup, count: usize) -> Vec<(usize, usize, (u16, u16))> {
    (0..count)
        .map(|_| {
            let (domain, device) = (setup.domain_of(1), setup.devices.len());
            setup.device(0, &[device as u32]);
            setup.attach(device, 0, domain).unwrap();
            let tag = setup.tags(domain, 0)[0];
            assert_eq!(vmid_of(setup, device), tag.vmid);
            (device, domain, (tag.vmid, tag.asid))
        })
        .collect()
}

fn banked(first: u16, last: u16) -> smmuv3::Config {
    let mut config = config(AsidPolicy::Banked);
    config.banks = Vmids { first, last };
    config
}

#[test]
fn eight_bits_of_each_are_enough_for_more_than_255_domains() {
    let eight = Kind { bits: 8, ..BANKS };
    let mut setup = Setup::new(AsidPolicy::Banked, &[eight]);
    assert_eq!(setup.free(0), 256 * 255);
    let filled = fill(&mut setup, 600);
    for (at, (device, domain, tag)) in filled.iter().enumerate() {
        assert_eq!(*tag, ((at / 255) as u16, (at % 255 + 1) as u16));
        assert_eq!(setup.dma(*device, 0, 0), Some(setup.memory(*domain, 0)));
    }
    assert_eq!(setup.free(0), 256 * 255 - 600);
    setup.check(&"600 domains");
    setup.tear_down(&"600 domains");
}

#[test]
fn a_new_master_joins_the_bank_of_its_domain_and_the_first_with_room_otherwise() {
    let mut setup = Setup::new(AsidPolicy::Banked, &[BANKS]);
    let filled = fill(&mut setup, 100);
    let (_, in_second, tag) = filled[80];
    assert_eq!(tag, (1, 18));
    let joining = setup.device_with(0, &[500, 501], 4);
    setup.attach(joining, 0, in_second).unwrap();
    assert_eq!((setup.asid(in_second, 0), vmid_of(&setup, joining)), (18, 1));
    // What it uses besides is in its bank, too, even if it is in another already.
    let (_, in_first, tag) = filled[10];
    assert_eq!(tag, (0, 11));
    let pasid = setup.pasid();
    setup.attach(joining, pasid, in_first).unwrap();
    let tags: Vec<_> = setup.tags(in_first, 0).iter().map(|tag| (tag.vmid, tag.asid)).collect();
    assert_eq!(tags, [(0, 11), (1, 38)]);
    assert_eq!(setup.dma(joining, pasid, 0), Some(setup.memory(in_first, 0)));
    assert_eq!(setup.dma(joining, 0, 0), Some(setup.memory(in_second, 0)));
    // The first bank is used again as soon as there is room.
    setup.detach(filled[5].0, 0).unwrap();
    let next = fill(&mut setup, 2);
    assert_eq!([next[0].2, next[1].2], [(0, 6), (1, 39)]);
    // A master that uses nothing any more is bound to no bank.
    setup.detach(joining, 0).unwrap();
    setup.detach(joining, pasid).unwrap();
    setup.attach(joining, 0, in_first).unwrap();
    assert_eq!((setup.asid(in_first, 0), vmid_of(&setup, joining)), (11, 0));
    setup.check(&"joining");
    setup.tear_down(&"joining");
}

#[test]
fn only_the_vmids_that_were_set_aside_are_used() {
    let cpu = |vmid| Cpu { asid_bits: 16, el2_host: false, vmid };
    let wide_vmids = (254, 300);
    for (home, (first, last), vmids) in [
        (0, (3, 4), vec![0, 3, 4]),
        // The CPU's own is not opened twice, wherever it is.
        (0, (0, 1), vec![0, 1]),
        (7, (6, 8), vec![7, 6, 8]),
        (8, (6, 8), vec![8, 6, 7]),
        // VMIDs have 8 bits here.
        (0, wide_vmids, vec![0, 254, 255]),
        (0, (300, 400), vec![0]),
        (0, (5, 4), vec![0]),
        // One that the instance does not have.
        (0x1ff, (1, 2), vec![0, 1, 2]),
    ] {
        let mut config = banked(first, last);
        config.cpu = cpu(home);
        let mut setup = Setup::with(config, &[BANKS], 1);
        let why = format!("{home} and {first}..={last}");
        let most = 63 * vmids.len();
        assert_eq!(setup.free(0), most, "{why}");
        let filled = fill(&mut setup, most);
        for (at, (.., tag)) in filled.iter().enumerate() {
            assert_eq!(*tag, (vmids[at / 63], (at % 63 + 1) as u16), "{why}");
        }
        assert_eq!(setup.free(0), 0, "{why}");
        let (device, domain) = (setup.device(0, &[1000]), setup.domain_of(1));
        let live = setup.world.frames().live_bytes();
        setup.world.take_commands();
        let none = AttachError::NoAsid { instance: setup.smmus[0].id(), bits: 6 };
        assert_eq!(setup.attach(device, 0, domain), Err(none), "{why}");
        assert_eq!(setup.world.take_commands(), [], "{why}");
        assert_eq!((setup.world.frames().live_bytes(), setup.free(0)), (live, 0), "{why}");
        assert_eq!(setup.domains[domain].targets().unwrap(), [], "{why}");
        // Any bank will do.
        let (device, _, tag) = filled[most - 30];
        setup.detach(device, 0).unwrap();
        setup.attach(device, 0, domain).unwrap();
        let now = setup.tags(domain, 0)[0];
        assert_eq!((now.vmid, now.asid), tag, "{why}");
        setup.check(&why);
        setup.tear_down(&why);
    }
}

#[test]
fn without_stage_2_there_are_no_banks() {
    let mut setup = Setup::with(banked(1, 255), &[TINY, WIDE], 1);
    assert_eq!((setup.free(0), setup.free(1)), (63, 65535));
    let filled = fill(&mut setup, 63);
    assert!(filled.iter().zip(1..).all(|((.., tag), asid)| *tag == (0, asid)));
    let (device, domain) = (setup.device(0, &[1000]), setup.domain_of(1));
    let none = AttachError::NoAsid { instance: setup.smmus[0].id(), bits: 6 };
    assert_eq!(setup.attach(device, 0, domain), Err(none));
    setup.check(&"no banks");
    setup.tear_down(&"no banks");
}

/// One unmap of a domain in several banks of two instances.
#[test]
fn an_unmap_tells_of_every_bank_with_one_sync_for_each_instance() {
    // A batch has a quarter of the queue: of 4, 8 and 64 commands.
    for (queue, banks) in [(2, 3), (3, 3), (3, 2), (6, 3), (6, 12)] {
        let why = format!("{banks} banks, 2^{queue} commands");
        let kind = Kind { queue, ..BANKS };
        let mut setup = Setup::new(AsidPolicy::Banked, &[kind, kind]);
        let (domain, pasid) = (setup.domain(), setup.pasid());
        let mut users = Vec::new();
        // In each bank a master whose own domain keeps it there, and that uses the domain besides.
        for bank in 0..banks {
            let (device, own) = (setup.device_with(0, &[1000 + bank], 4), setup.domain_of(1));
            setup.attach(device, 0, own).unwrap();
            setup.attach(device, pasid, domain).unwrap();
            assert_eq!(setup.tags(own, 0)[0].vmid, bank as u16, "{why}");
            users.push(device);
            fill(&mut setup, 61);
        }
        let other = setup.device_with(1, &[1], 4);
        setup.attach(other, pasid, domain).unwrap();
        users.push(other);
        assert_eq!(setup.tags(domain, 0).len(), banks as usize, "{why}");
        for page in 0..4 {
            for device in &users {
                let reached = setup.dma(*device, pasid, page);
                assert_eq!(reached, Some(setup.memory(domain, page)), "{why}");
                setup.hold(*device, pasid, page);
            }
            setup.world.take_commands();
            assert_eq!(setup.unmap(domain, page), Ok(PAGE), "{why}");
            let given = setup.world.take_commands();
            for instance in [0, 1] {
                let opcodes: Vec<_> = given
                    .iter()
                    .filter(|(at, _)| *at == instance)
                    .map(|(_, command)| command.opcode().unwrap())
                    .collect();
                let (last, tlbis) = opcodes.split_last().unwrap();
                assert_eq!(*last, Opcode::Sync, "{why}: {opcodes:?}");
                let tags = if instance == 0 { banks as usize } else { 1 };
                let most = 1 << (queue - 2);
                let expected = match tags {
                    _ if tags <= most => vec![Opcode::TlbiNhVa; tags],
                    _ => vec![Opcode::TlbiNsnhAll],
                };
                assert_eq!(tlbis, expected, "{why}: instance {instance}");
            }
            setup.check_unmapped(domain, page, None, &why);
            assert!(users.iter().all(|device| setup.dma(*device, pasid, page).is_none()), "{why}");
        }
        setup.check(&why);
        setup.tear_down(&why);
    }
}

/// A master with several PASIDs moves back and forth between full banks; its domains are shared with masters that stay.
#[test]
fn a_master_may_change_its_bank_again_and_again() {
    let mut setup = Setup::with(banked(1, 6), &[BANKS], 5);
    let mover = setup.device_with(0, &[1000, 1001], 6);
    let shared: Vec<usize> = (0..3).map(|_| setup.domain()).collect();
    let pasids: Vec<u32> = (0..12).map(|_| setup.pasid()).collect();
    let stays: Vec<usize> = (0..3).map(|at| setup.device(0, &[900 + at])).collect();
    for (at, domain) in shared.iter().enumerate() {
        setup.attach(mover, pasids[at], *domain).unwrap();
        setup.attach(stays[at], 0, *domain).unwrap();
    }
    let mut banks = vec![vmid_of(&setup, mover)];
    let mut used: Vec<(u32, usize)> = pasids.iter().copied().zip(shared.clone()).collect();
    for (round, pasid) in pasids[3..9].iter().enumerate() {
        // All that is open is filled up.
        while !setup.free(0).is_multiple_of(63) {
            fill(&mut setup, 1);
        }
        let domain = setup.domain();
        let result = setup.attach(mover, *pasid, domain);
        let why = format!("round {round}: {banks:?}");
        assert_eq!(result, Ok(()), "{why}");
        used.push((*pasid, domain));
        banks.push(vmid_of(&setup, mover));
        for (pasid, domain) in &used {
            assert_eq!(setup.dma(mover, *pasid, 0), Some(setup.memory(*domain, 0)), "{why}");
        }
        for (device, domain) in stays.iter().zip(&shared) {
            assert_eq!(setup.dma(*device, 0, 0), Some(setup.memory(*domain, 0)), "{why}");
            // Where the others are, and where the mover is.
            let tags = setup.tags(*domain, 0);
            assert_eq!(tags.len(), 2, "{why}: {tags:?}");
            assert_eq!(tags[1].vmid, *banks.last().unwrap(), "{why}: {tags:?}");
        }
        setup.check(&why);
    }
    assert_eq!(banks, [0, 1, 2, 3, 4, 5, 6]);
    setup.tear_down(&"moved on and on");
}
