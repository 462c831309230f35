// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is a device tree, and what is none.

use smmuv3_discovery::device_tree::{BlobError, total_size};
use smmuv3_discovery::{ReadError, Topology};

use super::common::tree::Tree;
use super::{read, tree};

fn why(blob: &[u8]) -> BlobError {
    match Topology::from_device_tree(blob) {
        Err(ReadError::DeviceTree(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// A tree of one node with these words as its structure, and a strings block with `a`.
fn structure(words: &[u32]) -> Vec<u8> {
    let mut blob = Vec::new();
    let size = 4 * words.len() as u32;
    let header = [0xd00d_feed, 58 + size, 56, 56 + size, 40, 17, 16, 0, 2, size];
    header.iter().for_each(|word| blob.extend(word.to_be_bytes()));
    blob.extend([0; 16]);
    words.iter().for_each(|word| blob.extend(word.to_be_bytes()));
    blob.extend(b"a\0");
    blob
}

#[test]
fn the_size_of_a_tree_is_in_its_first_bytes() {
    let blob = tree(|_| ());
    assert_eq!(total_size(&blob[..8]), Ok(blob.len()));
    assert_eq!(total_size(&blob[..7]), Err(BlobError::Short { len: 7, needed: 8 }));
    assert_eq!(total_size(&[0; 8]), Err(BlobError::Magic { found: 0 }));
}

#[test]
fn what_follows_a_tree_does_not_matter() {
    let mut blob = tree(|_| ());
    blob.extend([0xff; 100]);
    assert_eq!(read(&blob).instances().len(), 2);
}

#[test]
fn headers_that_are_wrong() {
    let blob = tree(|_| ());
    let total = blob.len();
    let with = |at: usize, word: u32| {
        let mut blob = blob.clone();
        blob[at..at + 4].copy_from_slice(&word.to_be_bytes());
        why(&blob)
    };
    assert_eq!(why(&blob[..20]), BlobError::Short { len: 20, needed: 40 });
    assert_eq!(with(4, total as u32 + 1), BlobError::Short { len: total, needed: total + 1 });
    assert_eq!(with(4, 39), BlobError::Short { len: 39, needed: 40 });
    assert_eq!(with(20, 16), BlobError::Version { version: 16, compatible: 16 });
    assert_eq!(with(24, 18), BlobError::Version { version: 17, compatible: 18 });
    let block = |block, offset| match (with(8, offset), with(12, offset)) {
        (BlobError::Block { block: one, .. }, _) if one == block => {}
        other => panic!("{other:?}"),
    };
    block("structure", u32::MAX);
    block("structure", 57);
    let strings = with(12, total as u32);
    assert!(matches!(strings, BlobError::Block { block: "strings", .. }), "{strings:?}");
    let strings = with(32, u32::MAX);
    assert!(matches!(strings, BlobError::Block { block: "strings", .. }), "{strings:?}");
}

#[test]
fn the_smallest_tree() {
    assert!(read(&structure(&[1, 0, 2, 9])).instances().is_empty());
    // With padding wherever it may be.
    assert!(read(&structure(&[1, 0, 4, 3, 0, 0, 4, 2, 4, 9])).check().is_empty());
}

#[test]
fn structures_that_are_wrong() {
    let token = |offset, token| BlobError::Token { offset, token };
    // Nothing, no root, no end of it, no end of all, something behind the root.
    assert_eq!(why(&structure(&[])), token(56, 0));
    assert_eq!(why(&structure(&[9])), token(56, 9));
    assert_eq!(why(&structure(&[2])), token(56, 2));
    assert_eq!(why(&structure(&[4, 1, 0, 2, 9])), token(56, 4));
    assert_eq!(why(&structure(&[1, 0])), token(64, 0));
    assert_eq!(why(&structure(&[1, 0, 9])), token(64, 9));
    assert_eq!(why(&structure(&[1, 0, 2])), token(68, 0));
    assert_eq!(why(&structure(&[1, 0, 2, 1, 0, 2, 9])), token(68, 1));
    // A property after a child, or outside the root.
    let child = [1, 0, 1, 0x6100_0000, 2, 3, 0, 0, 2, 9];
    assert_eq!(why(&structure(&child)), token(76, 3));
    assert_eq!(why(&structure(&[3, 0, 0])), token(56, 3));
    // Properties that are too long, with a length near the end of numbers; cut off; without a name.
    assert_eq!(why(&structure(&[1, 0, 3, 9, 0, 2, 9])), BlobError::Property { offset: 64, len: 9 });
    let long = BlobError::Property { offset: 64, len: 0xffff_ffff };
    assert_eq!(why(&structure(&[1, 0, 3, u32::MAX, 0, 2, 9])), long);
    assert_eq!(why(&structure(&[1, 0, 3, 0])), token(64, 3));
    assert_eq!(why(&structure(&[1, 0, 3, 0, 1, 2, 9])), BlobError::Name { offset: 72 });
    assert_eq!(why(&structure(&[1, 0, 3, 0, u32::MAX, 2, 9])), BlobError::Name { offset: 72 });
    // Names of nodes: a root with one, a child without, not UTF-8, a slash, none that ends.
    assert_eq!(why(&structure(&[1, 0x6100_0000, 2, 9])), BlobError::Name { offset: 60 });
    assert_eq!(why(&structure(&[1, 0, 1, 0, 2, 2, 9])), BlobError::Name { offset: 68 });
    let named = |name| why(&structure(&[1, 0, 1, name, 2, 2, 9]));
    assert_eq!(named(0xff00_0000), BlobError::Name { offset: 68 });
    assert_eq!(named(0x612f_0000), BlobError::Name { offset: 68 });
    assert_eq!(why(&structure(&[1, 0, 1, 0x6161_6161])), BlobError::Name { offset: 68 });
}

#[test]
fn nodes_in_nodes() {
    let deep = |levels: usize| {
        let mut tree = Tree::new();
        tree.open("");
        (1..levels).for_each(|_| {
            tree.open("a");
        });
        (0..levels).for_each(|_| {
            tree.close();
        });
        tree.blob()
    };
    assert!(Topology::from_device_tree(&deep(32)).is_ok());
    let error = why(&deep(33));
    assert!(matches!(error, BlobError::Depth { limit: 32, .. }), "{error:?}");
}

#[test]
fn paths_without_end() {
    let deep = |levels: usize, last: usize| {
        tree(|tree| {
            for level in 0..levels {
                tree.open(&"a".repeat(if level == levels - 1 { last } else { 101 }));
            }
            (0..levels).for_each(|_| {
                tree.close();
            });
        })
    };
    // 5 slashes, 4 names of 101 bytes, and the last.
    assert!(Topology::from_device_tree(&deep(5, 103)).is_ok());
    let error = why(&deep(5, 104));
    assert!(matches!(error, BlobError::Path { limit: 512, .. }), "{error:?}");
}

#[test]
fn names_that_real_trees_have_and_dtoolkit_refuses() {
    let blob = tree(|tree| {
        tree.open("a-node-with-a-name-of-forty-characters-ok@1");
        tree.bytes("snps,dis-tx-ipgap-linecheck-quirk", &[]).close();
    });
    assert_eq!(read(&blob).instances().len(), 2);
    assert!(dtoolkit::fdt::Fdt::new(&blob).is_err(), "its own check would do by now");
}
