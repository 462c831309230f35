// SPDX-License-Identifier: MIT OR Apache-2.0
//! No memory: each allocation in turn.

use smmuv3::{
    AddMasterError, AttachError, CreateError, DomainConfig, EnableError, MapErrorKind,
    MasterConfig, Refused, StreamId, TableError,
};
use smmuv3_model::Profile;

use crate::platform::Machine;
use crate::world::{PAGES, TABLE, Use, World, config};
use crate::{kinds, tell};

/// More allocations than any call here makes.
const MANY: u64 = 64;

/// What is left behind by a call for which there was no memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    /// What a later call uses: tables, and room for records.
    ForLater,
}

/// Whether allocations fail, and how many did.
struct Shortage {
    fails: bool,
    failed: u64,
}

impl Shortage {
    /// Makes `call` with its first allocation failing, then with the second, and so on until none does. It says `None` where it
    /// found no memory; it has changed nothing then.
    fn during<T>(
        &mut self,
        world: &mut World,
        left: Left,
        mut call: impl FnMut(&World) -> Option<T>,
    ) -> T {
        for nth in 0..MANY {
            let machine = world.machine.clone();
            let before = machine.live();
            machine.fail_allocation(self.fails.then_some(nth));
            let result = call(world);
            let happened = machine.fail_allocation(None);
            assert_eq!(happened, result.is_none(), "allocation {nth}");
            if let Some(result) = result {
                return result;
            }
            self.failed += 1;
            assert!(left == Left::ForLater || machine.live() == before, "allocation {nth}");
            if !world.spaces.is_empty() {
                world.look(0..PAGES);
            }
        }
        panic!("it takes ever more memory");
    }
}

/// Enables, adds, creates, attaches and maps, and ends all of it. What is out at the end, with the SMMU still in use; and the
/// world, and how many allocations failed.
fn live(kind: &Profile, seed: u64, fails: bool) -> (usize, World, u64) {
    let machine = Machine::new(std::slice::from_ref(kind), seed);
    let mut world = World::without_smmus(machine, seed);
    let mut shortage = Shortage { fails, failed: 0 };
    let mut probe = world.iommu.probe(world.machine.registers(0), config(kind)).ok();
    let smmu = shortage.during(&mut world, Left::Nothing, |_| match probe.take()?.enable() {
        Ok(smmu) => Some(smmu),
        Err(Refused { value, error }) => {
            assert_eq!(error, EnableError::NoMemory);
            probe = Some(value);
            None
        }
    });
    world.smmus.push(smmu);
    for streams in [[1, 9], [33, 50]] {
        let ids = streams.map(StreamId);
        let master = shortage.during(&mut world, Left::ForLater, |world| {
            match world.iommu.add_master(&world.smmus[0], &ids, MasterConfig::default()) {
                Ok(master) => Some(master),
                Err(AddMasterError::NoMemory) => None,
                Err(other) => panic!("{other:?}"),
            }
        });
        world.take_in_device(master, 0, &streams);
    }
    for _ in 0..2 {
        let domain = shortage.during(&mut world, Left::ForLater, |world| {
            match world.iommu.create_domain(DomainConfig::default()) {
                Ok(domain) => Some(domain),
                Err(CreateError::NoMemory | CreateError::Table(TableError::NoFrames { .. })) => {
                    None
                }
                Err(other) => panic!("{other:?}"),
            }
        });
        world.take_in(domain);
    }
    // From nothing, moves, and back to one that was used.
    for (device, space) in [(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)] {
        shortage.during(&mut world, Left::Nothing, |world| {
            match world.try_attach(device, Use::Space(space)) {
                Ok(()) => Some(()),
                Err(AttachError::NoMemory) => None,
                Err(other) => panic!("{other:?}"),
            }
        });
        world.devices[device].uses = Use::Space(space);
        world.look(0..PAGES);
    }
    // Tables for each, and for the second one where the first has some already.
    for (space, range) in [(0, TABLE - 7..3 * TABLE + 1), (1, 5..6), (1, 6..2 * TABLE + 9)] {
        let pa = world.memory(range.len(), false);
        shortage.during(&mut world, Left::ForLater, |world| {
            match world.try_map(space, &range, pa, true) {
                Ok(()) => Some(()),
                Err(error) => {
                    assert!(matches!(error.kind, MapErrorKind::NoFrames { .. }), "{error:?}");
                    assert_eq!(error.unconfirmed, None);
                    None
                }
            }
        });
        world.mapped(space, range.clone(), pa, true, false);
        world.look(range);
    }
    for _ in 0..10 {
        world.step();
    }
    world.close();
    (world.machine.live(), world, shortage.failed)
}

#[test]
fn a_call_without_memory_changes_nothing_and_works_once_there_is_some() {
    for (kind, smmu) in kinds() {
        tell(kind, 0..1, |seed| {
            let (expected, _, failed) = live(&smmu, seed, false);
            assert_eq!(failed, 0);
            let (is, world, failed) = live(&smmu, seed, true);
            assert!(failed >= 12, "{failed}");
            assert_eq!(is, expected, "nothing was lost");
            let machine = world.machine.clone();
            #[cfg(feature = "removal")]
            world.iommu.remove(world.smmus[0].clone()).unwrap();
            drop(world);
            // What an SMMU may go on reading stays.
            assert_eq!(machine.live() == 0, cfg!(feature = "removal"));
        });
    }
}
