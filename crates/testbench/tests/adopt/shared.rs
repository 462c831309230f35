// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers that several SMMUs share: what one goes on with keeps no other from going on with the same, and is given out
//! only when nobody does any more.

use smmuv3::{Config, Master, Vmids};

use super::*;

const TWO: &str = r#"
name = "two"
instance = [{ name = "narrow", asid-bits = 8 }, { name = "wide" }]
master = [{ name = "nic", instance = "narrow", streams = [1] }]
domain = [{ name = "domain" }]
"#;

fn kernel(world: &Arc<World>, policy: AsidPolicy) -> Iommu<TestPlatform> {
    let mut config = Config::default();
    config.asid_policy = policy;
    config.banks = Vmids { first: 1, last: 3 };
    Iommu::new(TestPlatform(world.clone()), config).unwrap()
}

fn take_over(
    world: &Arc<World>,
    machine: &ModelMachine,
    iommu: &Iommu<TestPlatform>,
    instance: usize,
) -> Result<(usize, Smmu<TestPlatform>), EnableError> {
    let mmio = TestMmio { world: world.clone(), instance };
    let mut probe = iommu.probe(mmio, config()).unwrap();
    let remains = Everything { ram: machine.ram().clone(), keeps: |_| true };
    // SAFETY: RAM stays as long as the world, and nobody else is left.
    let count = unsafe { probe.adopt(&remains) }.unwrap();
    probe.enable().map(|smmu| (count, smmu)).map_err(|refused| refused.error)
}

/// A domain of stage 1 with its number on the instance of `master`.
fn attached(
    iommu: &Iommu<TestPlatform>,
    master: &Master<TestPlatform>,
) -> (Domain<TestPlatform>, (u16, u16)) {
    let domain = iommu.create_domain(DomainConfig::default()).unwrap();
    iommu.attach(master, &domain).unwrap();
    let tag = domain.targets().unwrap()[0].tag;
    (domain, (tag.vmid, tag.asid))
}

#[test]
fn a_number_is_common_to_what_goes_on_on_several_instances_until_the_last_ends() {
    let common = AsidPolicy::ALL.into_iter().filter(|it| it.name().starts_with("shared"));
    for (policy, removes) in common.flat_map(|policy| [(policy, false), (policy, true)]) {
        let machine = Arc::new(ModelMachine::new(&parse(TWO), 51).unwrap());
        let world = World::new(machine.clone(), 1);
        let iommu = kernel(&world, policy);
        let smmus = [0, 1].map(|instance| common::enable(&iommu, &world, instance, config()));
        let domain = iommu.create_domain(DomainConfig::default()).unwrap();
        let plain = MasterConfig::default();
        let masters =
            smmus.each_ref().map(|smmu| iommu.add_master(smmu, &[StreamId(NET)], plain).unwrap());
        for master in &masters {
            iommu.attach(master, &domain).unwrap();
        }
        let former = domain.targets().unwrap()[0].tag.asid;
        std::mem::forget((iommu, smmus, masters, domain));

        let iommu = kernel(&world, policy);
        let [narrow, wide] = [0, 1].map(|instance| {
            let (count, smmu) = take_over(&world, &machine, &iommu, instance).unwrap();
            assert_eq!(count, 1, "{policy}");
            smmu
        });
        let free = || iommu.free_asids(&narrow);
        assert_eq!(free(), 254, "{policy}");
        let idle = iommu.add_master(&narrow, &[StreamId(IDLE)], plain).unwrap();
        let (first, (_, number)) = attached(&iommu, &idle);
        assert_ne!(number, former);
        if removes {
            // Off for good, it carries nothing.
            assert!(iommu.remove(wide).is_ok());
            assert_eq!(free(), 253, "{policy}");
            assert_eq!(iommu.end_adoption(&narrow), Ok(1));
        } else {
            assert_eq!(iommu.end_adoption(&narrow), Ok(1));
            assert_eq!(free(), 253, "{policy}: the other goes on with it");
            assert_eq!(iommu.end_adoption(&wide), Ok(1));
        }
        assert_eq!(free(), 254, "{policy}");
        let again = iommu.add_master(&narrow, &[StreamId(NEW)], plain).unwrap();
        let (second, (_, number)) = attached(&iommu, &again);
        assert_eq!(number, former, "{policy}");
        drop((first, second));
    }
}

/// What a domain of the successor has is not taken over.
#[test]
fn a_number_of_a_domain_is_not_taken_over() {
    let machine = Arc::new(ModelMachine::new(&parse(TWO), 52).unwrap());
    let world = World::new(machine.clone(), 1);
    let policy = AsidPolicy::Shared8;
    let iommu = kernel(&world, policy);
    let smmu = common::enable(&iommu, &world, 1, config());
    let master = iommu.add_master(&smmu, &[StreamId(NET)], MasterConfig::default()).unwrap();
    let (domain, (vmid, asid)) = attached(&iommu, &master);
    std::mem::forget((iommu, smmu, master, domain));
    let iommu = kernel(&world, policy);
    let smmu = common::enable(&iommu, &world, 0, config());
    let master = iommu.add_master(&smmu, &[StreamId(NET)], MasterConfig::default()).unwrap();
    let (_domain, number) = attached(&iommu, &master);
    assert_eq!(number, (vmid, asid));
    let refused = take_over(&world, &machine, &iommu, 1).map(drop);
    assert_eq!(refused, Err(EnableError::Tag { vmid, asid: Some(asid) }));
}

/// 255 ASIDs of each of several VMIDs, some of which the predecessor had opened; the CPUs' is the first, wherever it is.
#[test]
fn numbers_in_banks_are_taken_over_and_given_back() {
    for (home, banks) in [(0, &[0, 1, 2, 3][..]), (2, &[2, 1, 3][..])] {
        let machine = Arc::new(ModelMachine::new(&parse(TWO), 53).unwrap());
        let world = World::new(machine.clone(), 1);
        let kernel = || {
            let mut config = Config::default();
            (config.asid_policy, config.cpu.vmid) = (AsidPolicy::Banked, home);
            config.banks = Vmids { first: 1, last: 3 };
            Iommu::new(TestPlatform(world.clone()), config).unwrap()
        };
        let iommu = kernel();
        let smmu = common::enable(&iommu, &world, 0, config());
        let all = iommu.free_asids(&smmu);
        assert_eq!(all, banks.len() * 255);
        let add = |iommu: &Iommu<TestPlatform>, smmu: &Smmu<TestPlatform>, stream: u32| {
            let plain = MasterConfig::default();
            let master = iommu.add_master(smmu, &[StreamId(stream)], plain).unwrap();
            let (domain, tag) = attached(iommu, &master);
            (master, domain, tag)
        };
        let live: Vec<_> = (0..512).map(|stream| add(&iommu, &smmu, stream)).collect();
        // All go again but some of the second bank and the two of the third.
        let (second, third) = (banks[1], banks[2]);
        let stays = |(vmid, asid): (u16, u16)| vmid == second && asid > 250 || vmid == third;
        let (kept, gone): (Vec<_>, Vec<_>) = live.into_iter().partition(|(_, _, tag)| stays(*tag));
        for (master, domain, _) in gone {
            iommu.detach(&master).unwrap();
            assert!(master.close().is_ok() && domain.close().is_ok());
        }
        let tags: Vec<(u16, u16)> = kept.iter().map(|(_, _, tag)| *tag).collect();
        assert_eq!(tags.len(), 7, "{tags:?}");
        std::mem::forget((iommu, smmu, kept));

        let iommu = kernel();
        let (count, smmu) = take_over(&world, &machine, &iommu, 0).unwrap();
        assert_eq!(count, 7);
        assert_eq!(iommu.free_asids(&smmu), all - 7);
        // None of them is given out, from whichever bank.
        let live: Vec<_> = (512..1024).map(|stream| add(&iommu, &smmu, stream)).collect();
        assert!(live.iter().all(|(_, _, tag)| !tags.contains(tag)));
        let of = |vmid: u16| live.iter().filter(|(_, _, tag)| tag.0 == vmid).count();
        assert_eq!([home, second, third].map(of), [255, 250, 7]);
        assert_eq!(iommu.end_adoption(&smmu), Ok(7));
        assert_eq!(iommu.free_asids(&smmu), all - 512);
    }
}
