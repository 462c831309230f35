// SPDX-License-Identifier: MIT OR Apache-2.0
//! The window against a list of pages that are free or not.

use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const START: u64 = 0x4000_0000;

#[derive(Clone, Debug)]
enum Step {
    Take { order: u8 },
    Give { which: usize },
    Reserve { first: u32, pages: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..5).prop_map(|order| Step::Take { order }),
        1 => (0u8..11).prop_map(|order| Step::Take { order }),
        4 => any::<usize>().prop_map(|which| Step::Give { which }),
        1 => (0u32..1100, 1u32..40).prop_map(|(first, pages)| Step::Reserve { first, pages }),
    ]
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Page {
    Free,
    Taken,
    Reserved,
}

/// Whether there is a free block of that size.
fn exists(pages: &[Page], order: u8) -> bool {
    pages.chunks_exact(1 << order).any(|block| block.iter().all(|page| *page == Page::Free))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn blocks_are_aligned_disjoint_and_found_whenever_there_is_one(
        order in 2u8..10,
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let place = Place { start: START, order };
        let mut window = Window::new(place).unwrap();
        let mut pages = std::vec![Page::Free; 1 << order];
        let mut taken: Vec<Block> = Vec::new();
        for step in steps {
            match step {
                Step::Take { order: size } => {
                    let page = window.take(size);
                    prop_assert_eq!(page.is_some(), exists(&pages, size), "{} of {:?}", size, &pages);
                    let Some(page) = page else { continue };
                    let block = Block { page, order: size };
                    prop_assert_eq!(page % (1 << size), 0);
                    let iova = place.iova(block);
                    prop_assert_eq!(iova.0 % (0x1000 << size), 0);
                    prop_assert_eq!(place.block(iova, size), Some(block));
                    for page in &mut pages[page as usize..][..1 << size] {
                        prop_assert_eq!(*page, Page::Free);
                        *page = Page::Taken;
                    }
                    taken.push(block);
                }
                Step::Give { which } if !taken.is_empty() => {
                    let block = taken.swap_remove(which % taken.len());
                    window.give(block);
                    pages[block.page as usize..][..1 << block.order].fill(Page::Free);
                }
                Step::Give { .. } => {}
                Step::Reserve { first, pages: count } => {
                    let address = |page: u32| START + (u64::from(page) << 12);
                    let range = address(first)..address(first + count);
                    let end = (first + count).min(1 << order);
                    let inside = &mut pages[(first.min(end)) as usize..end as usize];
                    let in_use = inside.contains(&Page::Taken);
                    match window.reserve(&[range]) {
                        Ok(()) => {
                            prop_assert!(!in_use);
                            inside.fill(Page::Reserved);
                        }
                        Err(ReserveError::InUse { .. }) => prop_assert!(in_use),
                        Err(ReserveError::TooMany { .. }) => {}
                        Err(error) => prop_assert!(false, "{}", error),
                    }
                }
            }
            let count = |kind| pages.iter().filter(|page| **page == kind).count() as u64;
            prop_assert_eq!(window.taken_pages(), count(Page::Taken));
            prop_assert_eq!(window.free_pages, count(Page::Free));
        }
        // Everything comes back: every free block of every size is found again.
        for block in taken {
            window.give(block);
            pages[block.page as usize..][..1 << block.order].fill(Page::Free);
        }
        prop_assert_eq!(window.taken_pages(), 0);
        for size in (0..=order).rev() {
            while exists(&pages, size) {
                let page = window.take(size).unwrap() as usize;
                pages[page..][..1 << size].fill(Page::Taken);
            }
            prop_assert_eq!(window.take(size), None);
        }
    }
}

#[test]
fn the_least_of_a_large_set_is_found() {
    let mut bits = Bits::new(1 << 20).unwrap();
    assert_eq!(bits.first(), None);
    for index in [0xf_ffff, 0x8_0000, 0x4_0040, 4097, 4096, 64, 63] {
        bits.set(index);
        assert_eq!(bits.first(), Some(index));
        assert!(bits.get(index) && !bits.get(index - 1));
    }
    for index in [63, 64, 4096, 4097, 0x4_0040, 0x8_0000, 0xf_ffff] {
        assert_eq!(bits.first(), Some(index));
        bits.clear(index);
    }
    assert_eq!(bits.first(), None);
    // Bits of the maps above are no members.
    assert!(!bits.get(1 << 20) && !bits.get((1 << 20) + 64));
}

#[test]
fn only_what_can_be_a_block_of_the_window_is_one() {
    let place = Place { start: START, order: 8 };
    assert_eq!(place.block(Iova(START + 0x2000), 1), Some(Block { page: 2, order: 1 }));
    assert_eq!(place.block(Iova(START + 0xf_f000), 0), Some(Block { page: 255, order: 0 }));
    for (iova, order) in [
        (START - 0x1000, 0),
        (START + 0x10_0000, 0),
        (START + 0x1000, 1),
        (START + 1, 0),
        (START, 9),
        (START, 63),
        (START, 64),
    ] {
        assert_eq!(place.block(Iova(iova), order), None, "{iova:#x} {order}");
    }
}
