// SPDX-License-Identifier: MIT OR Apache-2.0
//! A heap that fails at each possible moment: a typed error, and never an abort.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use common::table::golden;
use common::tree::Tree;
use smmuv3::NoMemory;
use smmuv3_discovery::iort::Iort;
use smmuv3_discovery::{Device, LookupError, ReadError, Topology};

thread_local! {
    /// Allocations of this thread that succeed from now on; `None`: all of them.
    static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
}

struct Failing;

impl Failing {
    /// Whether the next allocation succeeds.
    fn takes() -> bool {
        let left = LEFT.get();
        LEFT.set(left.map(|left| left.saturating_sub(1)));
        left != Some(0)
    }
}

// SAFETY: the system's allocator, or nothing.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        if Self::takes() { unsafe { System.alloc(layout) } } else { std::ptr::null_mut() }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let takes = Self::takes();
        // SAFETY: the caller's promise.
        if takes { unsafe { System.realloc(pointer, layout, size) } } else { std::ptr::null_mut() }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static HEAP: Failing = Failing;

/// Runs `call` with a heap that fails after none, one, two, … allocations, until it succeeds. Returns how many it needs.
fn each<T, E: core::fmt::Debug + PartialEq>(
    no_memory: &E,
    mut call: impl FnMut() -> Result<T, E>,
) -> usize {
    for allocations in 0.. {
        LEFT.set(Some(allocations));
        let result = call();
        LEFT.set(None);
        match result {
            Ok(_) => return allocations,
            Err(error) => assert_eq!(&error, no_memory, "after {allocations}"),
        }
    }
    unreachable!("numbers end")
}

fn tree() -> Vec<u8> {
    let mut tree = Tree::new();
    tree.open("").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
    tree.open("iommu").text("compatible", "arm,smmu-v3").cells("reg", &[0, 0, 0, 0x1000]);
    tree.cells("phandle", &[2]).cells("#iommu-cells", &[1]).close();
    tree.open("pcie").text("device_type", "pci").cells("iommu-map", &[0, 2, 0, 9, 5, 2, 5, 9]);
    tree.cells("dma-ranges", &[0, 0, 0x1000, 0, 0x1000, 0, 0x1000]).cells("#size-cells", &[2]);
    tree.close().open("dma").cells("iommus", &[2, 7, 2, 77, 88]).cells("phandle", &[8]).close();
    tree.open("reserved-memory").open("frame").cells("#address-cells", &[2]);
    tree.cells("reg", &[0, 0x8000_0000, 0x1000]);
    tree.cells("iommu-addresses", &[8, 0, 0x8000_0000, 0, 0x1000]).close().close();
    tree.close().blob()
}

#[test]
fn reading_a_device_tree() {
    let tree = tree();
    let needs = each(&ReadError::NoMemory, || Topology::from_device_tree(&tree));
    // The tree itself, instances, roots, devices, their names, and findings about most of them.
    assert!(needs > 20, "{needs}");
}

#[test]
fn reading_an_iort_for_which_the_parser_needs_no_memory() {
    let table = golden();
    let iort = Iort::new(&table).unwrap();
    let needs = each(&NoMemory, || {
        let mut steps = 0;
        for node in iort.nodes() {
            let node = node.map_err(|_| NoMemory)?;
            node.body().map_err(|_| NoMemory)?;
            steps += node.mappings().map_err(|_| NoMemory)?.len();
        }
        if steps == 0 { Err(NoMemory) } else { Ok(()) }
    });
    assert_eq!(needs, 0);
    let needs = each(&ReadError::NoMemory, || Topology::from_iort(&iort));
    assert!(needs > 20, "{needs}");
}

#[test]
fn looking_up_a_device() {
    let topology = Topology::from_iort(&Iort::new(&golden()).unwrap()).unwrap();
    let device = Device::Path(r"\_SB.DMA0");
    let needs = each(&LookupError::NoMemory, || topology.streams_of(device).map(drop));
    assert_eq!(needs, 1);
}
