// SPDX-License-Identifier: MIT OR Apache-2.0
//! What reading a table takes of the heap is in proportion to the table.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use common::tree::Tree;
use smmuv3_discovery::iort::Iort;
use smmuv3_discovery::{Topology, Watched};

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        MOST.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

/// An SMMU, and `nodes` named components of up to 64 KiB each: `name` bytes of it the name, the rest mappings of the same
/// streams.
fn table(nodes: u32, name: usize) -> Vec<u8> {
    let le = |w: u32| w.to_le_bytes();
    let mut table = b"IORT".to_vec();
    table.extend([0; 44]);
    table[8] = 6;
    table[36..40].copy_from_slice(&le(1 + nodes));
    table[40..44].copy_from_slice(&le(48));
    let mut smmu = vec![0u8; 68];
    smmu[0] = 4;
    smmu[1] = 68;
    smmu[3] = 5;
    smmu[4] = 1;
    smmu[18] = 5;
    table.extend(smmu);
    let mappings = (65_400 - name as u32) / 20;
    for n in 0..nodes {
        let first = (29 + name + 1).next_multiple_of(4);
        let len = first + 20 * mappings as usize;
        let mut node = vec![0u8; len];
        node[0] = 1;
        node[1..3].copy_from_slice(&(len as u16).to_le_bytes());
        node[3] = 4;
        node[4..8].copy_from_slice(&le(n + 2));
        node[8..12].copy_from_slice(&le(mappings));
        node[12..16].copy_from_slice(&le(first as u32));
        node[29..29 + name].fill(b'A');
        for m in 0..mappings {
            let at = first + 20 * m as usize;
            // All IDs are one stream.
            for (i, w) in [m, 0, m, 48, 0].into_iter().enumerate() {
                node[at + 4 * i..][..4].copy_from_slice(&le(w));
            }
        }
        table.extend(node);
    }
    let len = table.len() as u32;
    table[4..8].copy_from_slice(&le(len));
    table
}

/// `groups` groups of performance monitors, all of which watch one component with a name of `name` bytes.
fn monitors(groups: u32, name: usize) -> Vec<u8> {
    let mut table = table(1, name);
    table[36..40].copy_from_slice(&(2 + groups).to_le_bytes());
    let mut group = [0u8; 32];
    group[..4].copy_from_slice(&[5, 32, 0, 0]);
    group[18] = 7;
    // The component is behind the header and the SMMU.
    group[28..32].copy_from_slice(&(48u32 + 68).to_le_bytes());
    for n in 0..groups {
        group[4..8].copy_from_slice(&(n + 3).to_le_bytes());
        table.extend(group);
    }
    let len = table.len() as u32;
    table[4..8].copy_from_slice(&len.to_le_bytes());
    table
}

/// What `read` takes at most.
fn most<T>(read: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.load(Relaxed);
    MOST.store(before, Relaxed);
    let result = read();
    (result, MOST.load(Relaxed) - before)
}

/// One test: others would be counted, too.
#[test]
fn a_topology_takes_no_more_than_a_few_times_what_it_is_read_from() {
    // The longest name that there can be, a usual one, and one that nobody can have.
    for (name, usable) in [(255, 8), (12, 8), (32_000, 0)] {
        let table = table(8, name);
        let iort = Iort::unsummed(&table).unwrap();
        let (topology, most) = most(|| Topology::from_iort(&iort).unwrap());
        assert_eq!((topology.devices().len(), topology.check().is_empty()), (usable, false));
        assert!(most < 10 * table.len(), "{most} bytes for a table of {}", table.len());
    }
    // The lengths of names have no part in what the groups take that watch them.
    let [short, long] = [1, 255].map(|name| {
        let table = monitors(20_000, name);
        let iort = Iort::unsummed(&table).unwrap();
        let (topology, most) = most(|| Topology::from_iort(&iort).unwrap());
        assert_eq!((topology.monitors().len(), topology.devices().len()), (20_000, 1));
        let watched = Watched::Device(0);
        assert!(topology.monitors().iter().all(|group| group.watches == watched));
        assert!(most < 16 * table.len(), "{most} bytes for a table of {}", table.len());
        most
    });
    assert!(long.abs_diff(short) < 0x1_0000, "{short} and {long} bytes");
    // Devices whose paths are as long as they can be, behind one IOMMU that is not driven.
    let mut tree = Tree::new();
    tree.open("").cells("phandle", &[1]).cells("#iommu-cells", &[0]);
    (0..5).for_each(|_| {
        tree.open(&"a".repeat(100));
    });
    for _ in 0..10_000 {
        tree.open("a").cells("iommus", &[1]).close();
    }
    (0..6).for_each(|_| {
        tree.close();
    });
    let blob = tree.blob();
    let (topology, most) = most(|| Topology::from_device_tree(&blob).unwrap());
    assert_eq!(topology.devices().len(), 10_000);
    assert!(most < 48 * blob.len(), "{most} bytes for a tree of {}", blob.len());
}
