// SPDX-License-Identifier: MIT OR Apache-2.0
//! SMMUs that refuse a command, or stand still.

use std::ops::Range;

use smmuv3::{AttachError, Failure, Quarantined, Unconfirmed, UnmapError};
use smmuv3_model::{Adversary, Profile};

use crate::tell;
use crate::world::{DEADLINE, PAGES, TABLE, Use, World};

/// More commands than any call here gives.
const MANY: u64 = 64;

/// What one call is to change.
#[derive(Clone, Debug)]
enum Change {
    Unmap(Range<usize>),
    Attach(Use),
}

/// A page, a run in two tables, a block or table; an attach from nothing, a move, and detaches.
fn changes(first: usize, second: usize) -> [(Use, Change); 8] {
    let (one, other) = (Use::Space(first), Use::Space(second));
    [
        (one, Change::Unmap(PAGES - 9..PAGES - 8)),
        (one, Change::Unmap(TABLE - 3..TABLE + 5)),
        (one, Change::Unmap(2 * TABLE..3 * TABLE)),
        (Use::Nothing, Change::Attach(one)),
        (one, Change::Attach(other)),
        (one, Change::Attach(Use::Nothing)),
        (one, Change::Attach(Use::Everything)),
        (Use::Everything, Change::Attach(one)),
    ]
}

/// SMMUs that come to a command in their turns alone, so that it can be said which.
fn kinds() -> [(&'static str, Profile); 3] {
    let in_turns = Adversary { act_commands: false, ..Adversary::ALL };
    let usual = Profile::default().sidsize(8).adversary(in_turns);
    [
        ("ranges", usual.clone()),
        ("no ranges", usual.clone().ril(false).asid16(false)),
        ("walks that look into no cache", usual.cohacc(false)),
    ]
}

/// A device on each SMMU, which uses one space, and another space; pages and a block are mapped in both.
fn prepare(smmus: &[Profile], seed: u64) -> World {
    let mut world = World::new(smmus, seed);
    let spaces = [world.add_space(), world.add_space()];
    for smmu in 0..smmus.len() {
        world.add_device(smmu, &[3, 17]);
    }
    for space in spaces {
        fill(&mut world, space);
    }
    world
}

/// Maps what `changes` unmap, as far as it is not.
fn fill(world: &mut World, space: usize) {
    for range in [TABLE - 3..TABLE + 5, 2 * TABLE..3 * TABLE, PAGES - 20..PAGES] {
        if world.spaces[space].pages[range.clone()].iter().all(Option::is_none) {
            world.map(space, range);
        } else {
            for page in range {
                if world.spaces[space].pages[page].is_none() {
                    let pa = world.memory(1, false);
                    world.try_map(space, &(page..page + 1), pa, true).unwrap();
                    world.mapped(space, page..page + 1, pa, true, false);
                }
            }
        }
    }
}

/// Makes the change, and notes what has become of it, also if it was not confirmed: what was unmapped is, and who was to use
/// something else does so, or uses nothing, if not even that was confirmed.
fn change(world: &mut World, change: &Change) -> Result<(), Unconfirmed> {
    match change {
        Change::Unmap(range) => {
            let result = match world.try_unmap(0, range) {
                Ok(_) => Ok(()),
                Err(UnmapError::Unconfirmed(unconfirmed)) => Err(unconfirmed),
                Err(other) => panic!("{other:?}"),
            };
            world.unmapped(0, range);
            result
        }
        Change::Attach(uses) => match world.try_attach(0, *uses) {
            Ok(()) => {
                world.devices[0].uses = *uses;
                Ok(())
            }
            Err(AttachError::Unconfirmed(unconfirmed)) => {
                let blocked = |kept: &Quarantined| matches!(kept, Quarantined::Stream { .. });
                let blocked = world.quarantined().iter().filter(|kept| blocked(kept)).count();
                assert!(blocked == 0 || blocked == 2, "one stream of two");
                world.devices[0].uses = if blocked == 0 { *uses } else { Use::Nothing };
                Err(unconfirmed)
            }
            Err(other) => panic!("{other:?}"),
        },
    }
}

/// Resets what failed; nothing is in quarantine then, and all goes on.
fn mend(world: &mut World, failed: usize) {
    world.iommu.reset(&world.smmus[failed]).unwrap();
    assert!(!world.smmus[failed].has_failed());
    assert_eq!(world.quarantined(), []);
    for range in [0..PAGES, TABLE - 3..TABLE + 5, 2 * TABLE..3 * TABLE, PAGES - 9..PAGES - 8] {
        world.look(range);
    }
}

#[test]
fn an_smmu_that_refuses_a_command_is_told_of_and_a_reset_mends_it() {
    for (kind, smmu) in kinds() {
        tell(kind, 0..2, |seed| {
            let mut world = prepare(std::slice::from_ref(&smmu), seed);
            world.refuses = true;
            let mut refused = 0;
            for (before, what) in changes(0, 1) {
                for nth in 0..MANY {
                    world.attach(0, before);
                    fill(&mut world, 0);
                    world.look(0..PAGES);
                    world.machine.refuse_command(Some(nth));
                    let result = change(&mut world, &what);
                    if !world.machine.refuse_command(None) {
                        result.unwrap();
                        assert_ne!(nth, 0, "{what:?} takes a command");
                        break;
                    }
                    refused += 1;
                    let unconfirmed = result.expect_err("nobody confirmed it");
                    assert!(
                        matches!(unconfirmed.what, Failure::Refused { code: 1, .. }),
                        "{what:?}, command {nth}: {unconfirmed:?}"
                    );
                    assert!(unconfirmed.waiting.contains(world.smmus[0].id()));
                    let kept = world.quarantined();
                    assert!(!kept.is_empty(), "{what:?}, command {nth}");
                    if let Change::Unmap(_) = what {
                        assert!(kept.iter().any(|kept| matches!(kept, Quarantined::Range { .. })));
                    }
                    assert_eq!(world.refused(), [1]);
                    mend(&mut world, 0);
                }
            }
            assert!(refused > 16, "{refused}");
            for _ in 0..20 {
                world.step();
            }
            world.close();
        });
    }
}

#[test]
fn an_smmu_that_stands_still_is_given_up_and_a_reset_mends_it() {
    for (kind, smmu) in kinds() {
        tell(kind, 0..2, |seed| {
            let mut world = prepare(std::slice::from_ref(&smmu), seed);
            for (before, what) in changes(0, 1) {
                for after in 0..MANY {
                    world.attach(0, before);
                    fill(&mut world, 0);
                    world.look(0..PAGES);
                    world.machine.smmu(0).wedge_after(Some(after));
                    let result = change(&mut world, &what);
                    let Err(unconfirmed) = result else {
                        world.machine.smmu(0).wedge_after(None);
                        assert_ne!(after, 0, "{what:?} takes a command");
                        break;
                    };
                    let Failure::Timeout { waited } = unconfirmed.what else {
                        panic!("{what:?}, {after} commands: {unconfirmed:?}")
                    };
                    assert!(waited >= DEADLINE && world.smmus[0].has_failed());
                    assert_ne!(world.quarantined(), []);
                    // Nobody waits for it again.
                    fill(&mut world, 1);
                    let next = world.try_attach(0, Use::Space(1));
                    let Err(AttachError::Unconfirmed(next)) = next else { panic!("{next:?}") };
                    assert_eq!(next.what, Failure::Failed);
                    world.machine.smmu(0).wedge_after(None);
                    mend(&mut world, 0);
                }
            }
            for _ in 0..20 {
                world.step();
            }
            world.close();
        });
    }
}

#[test]
fn of_two_smmus_that_share_a_domain_one_stands_still_and_the_other_confirms() {
    for (kind, smmu) in kinds() {
        tell(kind, 0..2, |seed| {
            let other = smmu.clone().asid16(seed == 0);
            let mut world = prepare(&[smmu.clone(), other], seed);
            world.attach(1, Use::Space(0));
            for (before, what) in changes(0, 1) {
                for broken in 0..2 {
                    let Change::Unmap(range) = &what else { continue };
                    world.attach(0, before);
                    fill(&mut world, 0);
                    world.look(0..PAGES);
                    world.machine.smmu(broken).wedge_after(Some(0));
                    let unconfirmed = change(&mut world, &what).expect_err("one stands still");
                    let (failed, works) = (&world.smmus[broken], &world.smmus[1 - broken]);
                    assert_eq!(unconfirmed.instance, failed.id());
                    let waiting = unconfirmed.waiting;
                    assert!(waiting.contains(failed.id()) && !waiting.contains(works.id()));
                    assert!(failed.has_failed() && !works.has_failed());
                    let kept = world.quarantined();
                    assert!(!kept.is_empty());
                    assert!(kept.iter().all(|kept| kept.waiting() == waiting), "{kept:?}");
                    // The other's device reaches nothing of it by now.
                    for page in range.clone() {
                        world.access(1 - broken, crate::world::iova(page), true);
                    }
                    world.machine.smmu(broken).wedge_after(None);
                    mend(&mut world, broken);
                }
            }
            for _ in 0..20 {
                world.step();
            }
            world.close();
        });
    }
}
