// SPDX-License-Identifier: MIT OR Apache-2.0
//! A driver takes over an SMMU that another was using when it ended.

use smmuv3::formats::register::StrtabBase;
use smmuv3::formats::{Cd, STE_BYTES, Ste};
use smmuv3::{Remains, StreamId};
use smmuv3_model::{Access, Adversary, Memory as _, Profile, Reason};

use crate::platform::{Machine, Ram};
use crate::world::{PAGES, Use, World, config, iova};
use crate::{kinds, tell};

const GOES_ON: u32 = 3;
const ENDS: u32 = 4;
const WRITABLE: std::ops::Range<usize> = 8..16;

/// What is left of somebody: memory, and streams that go on.
struct Left(Machine, fn(StreamId) -> bool);

impl Remains for Left {
    fn read(&self, pa: u64) -> Option<u64> {
        self.0.ram().read64(pa).ok()
    }

    fn keeps(&self, stream: StreamId) -> bool {
        (self.1)(stream)
    }
}

/// Two devices of one SMMU use a space each; then nobody drives it any more.
fn abandoned(smmu: &Profile, seed: u64) -> (Machine, [u64; 2]) {
    let mut world = World::new(std::slice::from_ref(smmu), seed);
    let pages = [GOES_ON, ENDS].map(|stream| {
        let (space, device) = (world.add_space(), world.add_device(0, &[stream]));
        let pa = world.memory(WRITABLE.len(), false);
        world.try_map(space, &WRITABLE, pa, true).unwrap();
        world.attach(device, Use::Space(space));
        pa
    });
    let machine = world.machine.clone();
    std::mem::forget(world);
    (machine, pages)
}

/// Another driver of it, and how many streams go on.
fn successor(
    machine: &Machine,
    smmu: &Profile,
    seed: u64,
    keeps: fn(StreamId) -> bool,
) -> (World, usize) {
    let mut world = World::without_smmus(machine.clone(), seed);
    let mut probe = world.iommu.probe(machine.registers(0), config(smmu)).unwrap();
    // SAFETY: memory stays as long as the machine, and nobody else uses the SMMU any more.
    let count = unsafe { probe.adopt(&Left(machine.clone(), keeps)) }.unwrap();
    world.smmus.push(probe.enable().unwrap());
    (world, count)
}

fn reach(machine: &Machine, stream: u32) -> Result<u64, Reason> {
    let result = machine.smmu(0).translate(Access::read(stream, iova(WRITABLE.start)));
    result.map(|found| found.pa).map_err(|refused| refused.reason)
}

#[test]
fn streams_go_on_until_they_are_given_something_else() {
    for (kind, smmu) in kinds() {
        tell(kind, 0..4, |seed| {
            let (machine, pages) = abandoned(&smmu, seed);
            let keeps = |stream| stream != StreamId(ENDS);
            let (mut world, count) = successor(&machine, &smmu, seed, keeps);
            assert_eq!(count, 1);
            assert_eq!(reach(&machine, GOES_ON), Ok(pages[0]));
            assert_eq!(reach(&machine, ENDS), Err(Reason::Config));

            // One who is claimed goes on until it is attached.
            let device = world.add_device(0, &[GOES_ON]);
            assert_eq!(reach(&machine, GOES_ON), Ok(pages[0]));
            let space = world.add_space();
            world.map(space, WRITABLE);
            world.attach(device, Use::Space(space));
            assert_eq!(world.iommu.end_adoption(&world.smmus[0]), Ok(0));
            let other = world.add_device(0, &[ENDS]);
            world.look(0..PAGES);
            world.attach(other, Use::Space(space));
            for _ in 0..20 {
                world.step();
            }
            world.close();
        });
    }
}

#[test]
fn what_nobody_claims_ends_with_the_adoption() {
    for (kind, smmu) in kinds() {
        tell(kind, 0..4, |seed| {
            let (machine, pages) = abandoned(&smmu, seed);
            let (mut world, count) = successor(&machine, &smmu, seed, |_| true);
            assert_eq!(count, 2);
            let reached = [GOES_ON, ENDS].map(|stream| reach(&machine, stream));
            assert_eq!(reached, pages.map(Ok));
            assert_eq!(world.iommu.end_adoption(&world.smmus[0]), Ok(2));
            for stream in [GOES_ON, ENDS] {
                assert_eq!(reach(&machine, stream), Err(Reason::Config));
            }
            let (space, device) = (world.add_space(), world.add_device(0, &[GOES_ON]));
            world.attach(device, Use::Space(space));
            for _ in 0..20 {
                world.step();
            }
            world.close();
        });
    }
}

/// Also by a driver whose own devices never stall: nobody would answer, and hardware tries again when it likes.
#[test]
fn what_a_predecessors_device_had_stalled_ends_with_its_stream() {
    let smmu = Profile::default().sidsize(8).two_level_stream_table(false).stalls(0, 8);
    let smmu = smmu.adversary(Adversary::NONE);
    let (machine, _) = abandoned(&smmu, 1);
    // Faults of that device stall. Its entry and context were not read yet.
    let ram = machine.ram();
    let table = StrtabBase(machine.smmu(0).read64(StrtabBase::OFFSET)).addr();
    let entry = table + u64::from(ENDS) * STE_BYTES as u64;
    let ste = Ste(words(ram, entry));
    let context = ste.s1_context_ptr();
    write(ram, context, Cd(words(ram, context)).with_s(true).0);
    write(ram, entry, ste.with_s1_stalld(false).0);
    for page in [0, 1] {
        machine.smmu(0).translate(Access::read(ENDS, iova(page))).unwrap_err();
    }
    assert_eq!(machine.smmu(0).stalled().count(), 2);

    let (mut world, _) = successor(&machine, &smmu, 1, |stream| stream != StreamId(ENDS));
    assert_eq!(machine.smmu(0).stalled().count(), 0);
    world.close();
}

fn words(ram: &Ram, pa: u64) -> [u64; 8] {
    std::array::from_fn(|index| ram.read64(pa + 8 * index as u64).unwrap())
}

fn write(ram: &Ram, pa: u64, words: [u64; 8]) {
    for (word, pa) in words.into_iter().zip((pa..).step_by(8)) {
        ram.write64(pa, word).unwrap();
    }
}
