// SPDX-License-Identifier: MIT OR Apache-2.0
//! SMMUs that differ share a domain.

use smmuv3::{AttachError, DomainConfig, MasterConfig, StreamId};
use smmuv3_model::{Adversary, Profile};

use crate::tell;
use crate::world::{Use, World};

#[test]
fn an_unmap_tells_all_smmus_of_a_domain_whatever_their_asids_are() {
    for habits in [Adversary::NONE, Adversary::ALL] {
        tell(if habits == Adversary::ALL { "all habits" } else { "none" }, 0..3, |seed| {
            let usual = Profile::default().sidsize(8).adversary(habits);
            let smmus = [
                usual.clone(),
                usual.clone().asid16(false),
                usual.clone().ril(false),
                usual.two_level_stream_table(false).asid16(false).ril(false),
            ];
            let mut world = World::new(&smmus, seed);
            let spaces = [world.add_space(), world.add_space()];
            for smmu in 0..smmus.len() {
                // The domains come to the SMMUs in another order, so that their ASIDs differ.
                let devices = [world.add_device(smmu, &[2]), world.add_device(smmu, &[3, 60])];
                for turn in 0..2 {
                    let which = (turn + smmu) % 2;
                    world.attach(devices[which], Use::Space(spaces[which]));
                }
            }
            for _ in 0..40 {
                world.step();
            }
            world.close();
        });
    }
}

#[test]
fn an_smmu_of_8_bit_asids_takes_as_many_domains_as_it_has_and_one_of_16_bits_more() {
    let usual = Profile::default().sidsize(10);
    let mut world = World::new(&[usual.clone(), usual.asid16(false)], 1);
    let free = world.iommu.free_asids(&world.smmus[1]);
    assert!((200..256).contains(&free), "{free}");
    let ids = |stream| [StreamId(stream)];
    let mut masters = Vec::new();
    for stream in 0..=free as u32 {
        let domain = world.iommu.create_domain(DomainConfig::default()).unwrap();
        for smmu in 0..2 {
            let smmu = &world.smmus[smmu];
            let master = world.iommu.add_master(smmu, &ids(stream), MasterConfig::default());
            let master = master.unwrap();
            let attached = world.iommu.attach(&master, &domain);
            if master.instance() == world.smmus[1].id() && stream == free as u32 {
                assert!(
                    matches!(attached, Err(AttachError::NoAsid { bits: 8, .. })),
                    "{attached:?}"
                );
            } else {
                attached.unwrap();
            }
            masters.push(master);
        }
    }
    // One goes, and its ASID with it.
    let last = masters.pop().unwrap();
    world.iommu.detach(&masters[1]).unwrap();
    let space = world.add_space();
    world.iommu.attach(&last, &world.spaces[space].domain).unwrap();
    world.take_in_device(last, 1, &[free as u32]);
    world.devices[0].uses = Use::Space(space);
    world.map(space, 0..7);
    (0..7).for_each(|page| world.look(page..page + 1));
    world.unmap(space, 2..5);
    (0..7).for_each(|page| world.look(page..page + 1));
}
