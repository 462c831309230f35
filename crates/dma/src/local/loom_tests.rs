// SPDX-License-Identifier: MIT OR Apache-2.0
//! That input addresses which go from a CPU's own to the window, while that CPU takes and gives some, are neither given
//! out twice nor lost. A hand-over that leaves the lock too early must fail.

use std::vec::Vec;

use loom::sync::Arc;
use loom::thread;

use super::{Local, Stack};
use crate::iova::{Block, Place, Window};
use crate::retired::Item;
use crate::spin::SpinLock;

const PAGES: u64 = 2;

struct Space {
    local: SpinLock<Local>,
    window: SpinLock<Window>,
}

// SAFETY: both are locks.
unsafe impl Send for Space {}

type Spill = Stack<Item, 4>;

fn spill() -> Spill {
    Stack::new()
}

/// Takes everything from the CPU, and gives it to the window.
fn hand_over(space: &Space, empty: fn(&SpinLock<Local>) -> Spill) {
    let spill = empty(&space.local);
    space.window.alone(|window| {
        for item in spill.as_slice() {
            if let Item::Block(block) = item {
                window.give(*block);
            }
        }
    });
}

fn take(space: &Space) -> Option<u32> {
    let block = space.local.alone(|local| local.take_block(0));
    block.map(|block| block.page).or_else(|| space.window.alone(|window| window.take(0)))
}

fn explore(empty: fn(&SpinLock<Local>) -> Spill) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let place = Place { start: 0, order: 1 };
        let mut window = Window::new(place).unwrap();
        let mut local = Local::new(0).unwrap();
        for _ in 0..PAGES {
            let page = window.take(0).unwrap();
            assert!(local.give_block(Block { page, order: 0 }));
        }
        let space = Arc::new(Space { local: SpinLock::new(local), window: SpinLock::new(window) });
        let other = {
            let space = space.clone();
            thread::spawn(move || {
                hand_over(&space, empty);
                take(&space)
            })
        };
        let mine = take(&space);
        let theirs = other.join().unwrap();
        // There are two, so that both may miss one that is on its way, but no more.
        let had: Vec<u32> = mine.into_iter().chain(theirs).collect();
        assert!(mine.is_none() || mine != theirs, "given out twice");
        for page in had {
            assert!(space.local.alone(|local| local.give_block(Block { page, order: 0 })));
        }
        hand_over(&space, right);
        assert_eq!(space.window.alone(|window| window.taken_pages()), 0, "lost");
        assert_eq!(space.window.alone(|window| window.take(1)), Some(0), "not joined");
    });
}

fn right(local: &SpinLock<Local>) -> Spill {
    let mut all = spill();
    local.alone(|local| local.empty(&mut all));
    all
}

#[test]
fn loom_addresses_are_handed_over_once() {
    explore(right);
}

#[test]
#[should_panic(expected = "given")]
fn loom_a_hand_over_that_leaves_the_lock_too_early_is_caught() {
    explore(|local| {
        // Looks at what there is, and takes it away in a second section.
        let mut seen = spill();
        local.alone(|local| {
            let mut again = spill();
            local.empty(&mut again);
            for item in again.as_slice() {
                assert!(seen.push(*item));
                if let Item::Block(block) = item {
                    assert!(local.give_block(*block));
                }
            }
        });
        local.alone(|local| local.empty(&mut spill()));
        seen
    });
}
