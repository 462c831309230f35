// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is kept is bounded, and nothing is lost on the way.

use super::*;

#[test]
fn of_each_size_so_many_are_kept() {
    let mut local = Local::new(0).unwrap();
    for (order, most) in
        [(0, 128), (1, 64), (2, 32), (3, 16), (4, 8), (5, 4), (6, 2), (7, 1), (8, 0), (63, 0)]
    {
        let blocks = (0..200).map(|page| Block { page, order });
        let kept = blocks.filter(|block| local.give_block(*block)).count();
        assert_eq!(kept, most, "order {order}");
    }
    assert_eq!(local.cached_pages(), 8 * 128);
    // Half of the small ones, then what is left, 20 at a time.
    let mut spill = Stack::<Item, 64>::new();
    local.halve(0, &mut spill);
    assert_eq!(spill.len(), 64);
    let mut left = 0;
    loop {
        let mut spill = Stack::<Item, 20>::new();
        local.empty(&mut spill);
        left += spill.len();
        if spill.len() < 20 {
            break;
        }
    }
    assert_eq!(left, 64 + 64 + 32 + 16 + 8 + 4 + 2 + 1);
    assert_eq!((local.cached_pages(), local.take_block(0)), (0, None));
}

#[test]
fn only_what_a_flush_has_released_is_collected_in_order() {
    let flushes = Flushes::new();
    let mut local = Local::new(4).unwrap();
    let block = Item::Block(Block { page: 1, order: 0 });
    let page = Item::Page(PhysAddr(0x1000));
    let memory = Item::Memory { pa: PhysAddr(0x2000), pages: 3 };
    for item in [block, page] {
        local.retired.push(item, flushes.stamp(), 0).unwrap();
    }
    let early = flushes.begin();
    for item in [memory, page] {
        local.retired.push(item, flushes.stamp(), 1).unwrap();
    }
    assert_eq!(local.retired.push(block, flushes.stamp(), 2), Err(block), "it is full");
    let mut spill = Stack::<Item, 8>::new();
    assert!(!local.collect(&flushes, &mut spill, |_| false));
    assert_eq!((local.retired.len(), spill.len()), (4, 0));
    // It began after the first two, and before the others.
    flushes.confirm(early);
    assert!(!local.collect(&flushes, &mut spill, |_| false));
    assert_eq!((local.retired.len(), local.retired.oldest(&flushes), spill.len()), (2, Some(1), 0));
    assert_eq!(
        (local.take_block(0), local.pages.pop()),
        (Some(Block { page: 1, order: 0 }), Some(PhysAddr(0x1000)))
    );
    let late = flushes.begin();
    flushes.confirm(late);
    assert!(!local.collect(&flushes, &mut spill, |_| false));
    // Coherent memory goes to the platform.
    assert_eq!(spill.as_slice(), [memory]);
    assert_eq!((local.retired.len(), local.pages.len()), (0, 1));
}

#[test]
fn what_a_flush_has_released_is_taken_from_the_front_or_makes_room() {
    let flushes = Flushes::new();
    let mut local = Local::new(6).unwrap();
    let block = |page, order| Item::Block(Block { page, order });
    let page = |nth: u64| Item::Page(PhysAddr(nth << 12));
    let memory = Item::Memory { pa: PhysAddr(0x9000), pages: 1 };
    for item in [block(1, 0), page(1), block(8, 3), page(2), memory, block(2, 0)] {
        local.retired.push(item, flushes.stamp(), 7).unwrap();
    }
    // Nothing is released.
    let mut spill = Stack::<Item, 8>::new();
    assert!(!local.make_room(1, &flushes, &mut spill));
    assert_eq!(local.take_block_or_released(0, &flushes), None);
    assert_eq!(local.take_page_or_released(&flushes), None);
    assert_eq!((local.retired.waiting(&flushes), local.retired.oldest(&flushes)), (6, Some(7)));
    let flush = flushes.begin();
    flushes.confirm(flush);
    assert_eq!((local.retired.waiting(&flushes), local.retired.oldest(&flushes)), (0, None));
    assert_eq!(local.retired.len(), 6, "they stay");
    // What is wanted, past what can be kept, but not past what cannot.
    assert_eq!(local.take_block_or_released(0, &flushes), Some(Block { page: 1, order: 0 }));
    assert_eq!(local.take_block_or_released(3, &flushes), Some(Block { page: 8, order: 3 }));
    assert_eq!((local.retired.len(), local.pages.len()), (3, 1));
    assert_eq!(local.take_block_or_released(0, &flushes), None, "memory is before it");
    for page in [2, 1] {
        assert_eq!(local.take_page_or_released(&flushes), Some(PhysAddr(page << 12)));
    }
    assert_eq!(local.take_page_or_released(&flushes), None);
    assert_eq!((local.retired.len(), local.pages.len()), (2, 0));
    assert!(local.retired.has_memory());
    // Newer ones do not make those old.
    for nth in 3..7 {
        local.retired.push(page(nth), flushes.stamp(), 9).unwrap();
    }
    assert_eq!((local.retired.waiting(&flushes), local.retired.oldest(&flushes)), (4, Some(9)));
    // Room for two comes from the two that are released, for a third from none.
    assert!(local.make_room(2, &flushes, &mut spill));
    assert_eq!(spill.as_slice(), [memory]);
    assert_eq!((local.retired.len(), local.blocks(0)), (4, 1));
    assert!(!local.make_room(3, &flushes, &mut spill));
    assert!(!local.retired.has_memory());
    assert_eq!((local.retired.len(), local.retired.waiting(&flushes)), (4, 4));
}
