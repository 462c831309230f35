// SPDX-License-Identifier: MIT OR Apache-2.0
//! What devices reach of a buffer while it is mapped, and what comes back.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use std::ptr::NonNull;

use common::{PAGE, Rig, pattern};
use smmuv3::{Iova, pagetable::MapErrorKind};
use smmuv3_dma::{BufferError, Direction, DmaConfig, MapError, UnmapError};
use smmuv3_formats::EventId;
use smmuv3_model::Reason;

const CONFIGS: [fn() -> DmaConfig; 2] = [DmaConfig::strict, DmaConfig::lazy];
const ALL: [Direction; 3] = [Direction::ToDevice, Direction::FromDevice, Direction::Both];
const TRANSLATION: Reason = Reason::Event(EventId::FTranslation);
const PERMISSION: Reason = Reason::Event(EventId::FPermission);

/// Lengths and offsets of all kinds.
fn shapes() -> impl Iterator<Item = (usize, usize)> {
    let lens =
        [1, 2, 7, 63, 64, 512, 1501, 4095, 4096, 4097, 8191, 8192, 12289, 16384, 40000, 70001];
    [0, 1, 8, 511, 2048, 4095].into_iter().flat_map(move |offset| lens.map(|len| (offset, len)))
}

#[test]
fn data_comes_through_at_every_offset_and_length() {
    for config in CONFIGS {
        let mut rig = Rig::new(config());
        for (offset, len) in shapes() {
            for direction in ALL {
                // Fresh memory for each would not fit.
                if rig.world.area_pages() > 3800 {
                    rig.close();
                    rig = Rig::new(config());
                }
                let area = rig.world.area(offset, len);
                let (before, written) = (pattern(3, len), pattern(7, len));
                area.fill(&before);
                let iova = rig.map(&area, direction);
                assert_eq!(iova.0 % PAGE as u64, offset as u64);
                assert_eq!(rig.world.read(iova, len), Ok(before.clone()), "{offset} {len}");
                if direction == Direction::ToDevice {
                    assert_eq!(rig.world.write(iova, &written), Err(PERMISSION));
                } else {
                    rig.world.write(iova, &written).unwrap();
                }
                rig.unmap(iova, &area, direction);
                let after = if direction == Direction::ToDevice { before } else { written };
                assert!(area.bytes() == after, "{offset} {len} {direction:?}");
            }
        }
        rig.close();
    }
}
