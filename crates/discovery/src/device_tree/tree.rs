// SPDX-License-Identifier: MIT OR Apache-2.0
//! All nodes in order, with their parents and phandles.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Display};

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node as _, Property as _};
use smmuv3::NoMemory;

use crate::memory::{format, push};

/// The deepest level of nodes: the root is 1.
pub(super) const DEEPEST: usize = 32;

/// Most bytes of the name of a node or property.
pub(super) const LONGEST_NAME: usize = 127;

pub(super) struct Tree<'a> {
    entries: Vec<Entry<'a>>,
    /// Phandles with their nodes, in order of both.
    phandles: Vec<(u32, usize)>,
}

struct Entry<'a> {
    node: FdtNode<'a>,
    /// Comes before it; the root is its own.
    parent: usize,
    enabled: bool,
}

/// A node of a tree.
#[derive(Clone, Copy)]
pub(super) struct At<'t, 'a> {
    tree: &'t Tree<'a>,
    index: usize,
    node: FdtNode<'a>,
}

impl<'a> Tree<'a> {
    pub(super) fn new(fdt: Fdt<'a>) -> Result<Self, NoMemory> {
        let mut entries = Vec::new();
        push(&mut entries, Entry { node: fdt.root(), parent: 0, enabled: true })?;
        // Children that are still to come, for each node on the way to the present one.
        let mut ways = Vec::new();
        push(&mut ways, (0, fdt.root().children()))?;
        while let Some((parent, children)) = ways.last_mut() {
            let Some(node) = children.next() else {
                ways.pop();
                continue;
            };
            let index = entries.len();
            let above = entries.get(*parent).is_some_and(|entry: &Entry<'_>| entry.enabled);
            let entry = Entry { node, parent: *parent, enabled: above && is_okay(&node) };
            push(&mut entries, entry)?;
            push(&mut ways, (index, node.children()))?;
        }
        let mut phandles = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let value = value(&entry.node, "phandle");
            let value = value.or_else(|| self::value(&entry.node, "linux,phandle"));
            if let Some(phandle) = value.and_then(|value| value.try_into().ok()) {
                push(&mut phandles, (u32::from_be_bytes(phandle), index))?;
            }
        }
        phandles.sort_unstable();
        Ok(Self { entries, phandles })
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = At<'_, 'a>> {
        let at = |(index, entry): (usize, &Entry<'a>)| At { tree: self, index, node: entry.node };
        self.entries.iter().enumerate().map(at)
    }

    pub(super) fn at(&self, index: usize) -> Option<At<'_, 'a>> {
        Some(At { tree: self, index, node: self.entries.get(index)?.node })
    }

    /// The node that has `phandle`; the first, if several have.
    pub(super) fn by_phandle(&self, phandle: u32) -> Option<At<'_, 'a>> {
        let at = self.phandles.partition_point(|(other, _)| *other < phandle);
        let (found, index) = self.phandles.get(at)?;
        if *found == phandle { self.at(*index) } else { None }
    }

    /// Phandles that an earlier node has, too, with the later node.
    pub(super) fn repeated_phandles(&self) -> impl Iterator<Item = (u32, At<'_, 'a>)> {
        let pairs = self.phandles.iter().zip(self.phandles.iter().skip(1));
        let repeated = pairs.filter(|(one, other)| one.0 == other.0);
        repeated.filter_map(|(_, other)| Some((other.0, self.at(other.1)?)))
    }
}

impl<'t, 'a> At<'t, 'a> {
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// It and all above it are in use.
    pub(super) fn enabled(&self) -> bool {
        self.tree.entries.get(self.index).is_some_and(|entry| entry.enabled)
    }

    /// The node above; none above the root.
    pub(super) fn parent(&self) -> Option<Self> {
        let entry = self.tree.entries.get(self.index)?;
        if self.index == 0 { None } else { self.tree.at(entry.parent) }
    }

    pub(super) fn name(&self) -> &'a str {
        self.node.name()
    }

    pub(super) fn property(&self, name: &str) -> Option<&'a [u8]> {
        value(&self.node, name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.property(name).is_some()
    }

    /// The number in a property of one cell.
    pub(super) fn cell(&self, name: &str) -> Option<u32> {
        let value = self.property(name)?;
        value.try_into().ok().map(u32::from_be_bytes)
    }

    pub(super) fn is_compatible(&self, with: &str) -> bool {
        self.strings("compatible").any(|one| one == with)
    }

    /// The strings of a property.
    pub(super) fn strings(&self, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let value = self.property(name).unwrap_or_default();
        let value = value.strip_suffix(b"\0").unwrap_or(value);
        // A list without a string has one that is empty.
        value.split(|byte| *byte == 0).map(|one| core::str::from_utf8(one).unwrap_or_default())
    }

    /// `#address-cells` and `#size-cells` for its children.
    pub(super) fn cells(&self) -> (usize, usize) {
        let cells = |name, otherwise| self.cell(name).unwrap_or(otherwise) as usize;
        (cells("#address-cells", 2), cells("#size-cells", 1))
    }

    /// Those for itself.
    pub(super) fn own_cells(&self) -> (usize, usize) {
        self.parent().map_or((2, 1), |parent| parent.cells())
    }

    /// Its property, or that of the nearest node above that has it.
    pub(super) fn inherited(&self, name: &str) -> Option<&'a [u8]> {
        let mut at = Some(*self);
        while let Some(node) = at {
            if let Some(value) = node.property(name) {
                return Some(value);
            }
            at = node.parent();
        }
        None
    }

    pub(super) fn path(&self) -> Result<String, NoMemory> {
        format(format_args!("{self}"))
    }
}

/// Its path.
impl Display for At<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = [""; DEEPEST];
        let mut at = *self;
        let mut depth = 0;
        while let Some(parent) = at.parent()
            && let Some(name) = names.get_mut(depth)
        {
            *name = at.name();
            (at, depth) = (parent, depth + 1);
        }
        if depth == 0 {
            return f.write_str("/");
        }
        names.iter().take(depth).rev().try_for_each(|name| write!(f, "/{name}"))
    }
}

fn value<'a>(node: &FdtNode<'a>, name: &str) -> Option<&'a [u8]> {
    node.property(name)?.value_as::<&'a [u8]>().ok()
}

fn is_okay(node: &FdtNode<'_>) -> bool {
    value(node, "status").is_none_or(|value| matches!(value, b"okay\0" | b"ok\0"))
}

/// The number that big-endian cells make: none are 0, more than two are too many.
pub(super) fn number(cells: &[u8]) -> Option<u64> {
    if cells.len() > 8 || !cells.len().is_multiple_of(4) {
        return None;
    }
    Some(cells.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// The cells of a list element, as numbers; those that are not there are 0.
pub(super) fn cells<const N: usize>(element: &[u8]) -> [u32; N] {
    let mut cells = [0; N];
    for (cell, bytes) in cells.iter_mut().zip(element.chunks_exact(4)) {
        *cell = number(bytes).unwrap_or(0) as u32;
    }
    cells
}
