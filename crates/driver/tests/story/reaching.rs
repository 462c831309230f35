// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices reach what is mapped.

use crate::world::{PAGES, Use, World};
use crate::{kinds, tell};

#[test]
fn a_device_reaches_what_is_mapped_and_nothing_else() {
    for (kind, smmu) in kinds() {
        tell(kind, 0..4, |seed| {
            let mut world = World::new(std::slice::from_ref(&smmu), seed);
            let spaces = [world.add_space(), world.add_space()];
            // Alone; and neighbours, that one command can name, with one that is none.
            let devices = [world.add_device(0, &[3]), world.add_device(0, &[4, 5, 6, 7, 40])];
            world.look(0..PAGES);
            for (device, space) in devices.into_iter().zip(spaces) {
                world.attach(device, Use::Space(space));
            }
            for _ in 0..60 {
                world.step();
            }
            world.close();
        });
    }
}
