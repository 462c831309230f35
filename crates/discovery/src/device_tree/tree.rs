// SPDX-License-Identifier: MIT OR Apache-2.0
//! All nodes in order, with their parents and phandles.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Display};
use core::ops::Range;

use dtoolkit::fdt::{Fdt, FdtNode, FdtProperty};
use dtoolkit::{Node as _, Property as _};
use smmuv3::NoMemory;

use crate::What;
use crate::memory::{format, push};

/// The deepest level of nodes: the root is 1.
pub(super) const DEEPEST: usize = 32;

/// Most bytes of the name of a node or property.
pub(super) const LONGEST_NAME: usize = 127;

/// Most bytes of a path: topologies have copies of it.
pub(super) const LONGEST_PATH: usize = 512;

/// Bytes of `compatible` that are looked at: it is looked at again and again.
const LONGEST_COMPATIBLE: usize = 1024;

pub(super) struct Tree<'a> {
    entries: Vec<Entry<'a>>,
    /// Properties of all nodes: those of each are in order of their names, so that none is looked for one by one. Of
    /// several that have one name, the first is taken.
    properties: Vec<FdtProperty<'a>>,
    /// Phandles with their nodes, in order of both.
    phandles: Vec<(u32, usize)>,
}

struct Entry<'a> {
    name: &'a str,
    /// Comes before it; the root is its own.
    parent: usize,
    /// Where its properties are.
    properties: Range<usize>,
    enabled: bool,
}

/// A node of a tree.
#[derive(Clone, Copy)]
pub(super) struct At<'t, 'a> {
    tree: &'t Tree<'a>,
    index: usize,
}

impl<'a> Tree<'a> {
    pub(super) fn new(fdt: Fdt<'a>) -> Result<Self, NoMemory> {
        let mut tree = Self { entries: Vec::new(), properties: Vec::new(), phandles: Vec::new() };
        tree.add(&fdt.root(), 0)?;
        // Children that are still to come, for each node on the way to the present one.
        let mut ways = Vec::new();
        push(&mut ways, (0, fdt.root().children()))?;
        while let Some((parent, children)) = ways.last_mut() {
            let Some(node) = children.next() else {
                ways.pop();
                continue;
            };
            let index = tree.add(&node, *parent)?;
            push(&mut ways, (index, node.children()))?;
        }
        let mut phandles = Vec::new();
        for node in tree.nodes() {
            let value = node.property("phandle").or_else(|| node.property("linux,phandle"));
            if let Some(phandle) = value.and_then(|value| value.try_into().ok()) {
                push(&mut phandles, (u32::from_be_bytes(phandle), node.index))?;
            }
        }
        phandles.sort_unstable();
        tree.phandles = phandles;
        Ok(tree)
    }

    /// Adds a node, whose index it returns. The root is enabled.
    fn add(&mut self, node: &FdtNode<'a>, parent: usize) -> Result<usize, NoMemory> {
        let (index, first) = (self.entries.len(), self.properties.len());
        for property in node.properties() {
            push(&mut self.properties, property)?;
        }
        let own = self.properties.get_mut(first..).unwrap_or_default();
        // Values are in the order in which they are written.
        own.sort_unstable_by(|one, other| {
            let place = |property: &FdtProperty<'_>| property.value().as_ptr().addr();
            one.name().cmp(other.name()).then_with(|| place(one).cmp(&place(other)))
        });
        let properties = first..self.properties.len();
        push(&mut self.entries, Entry { name: node.name(), parent, properties, enabled: true })?;
        let enabled = index == 0
            || self.entries.get(parent).is_some_and(|above| above.enabled)
                && self.at(index).is_some_and(|node| is_okay(&node));
        if let Some(entry) = self.entries.last_mut() {
            entry.enabled = enabled;
        }
        Ok(index)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = At<'_, 'a>> {
        (0..self.entries.len()).map(|index| At { tree: self, index })
    }

    pub(super) fn at(&self, index: usize) -> Option<At<'_, 'a>> {
        (index < self.entries.len()).then_some(At { tree: self, index })
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
        self.tree.entries.get(self.index).map_or("", |entry| entry.name)
    }

    pub(super) fn property(&self, name: &str) -> Option<&'a [u8]> {
        let entry = self.tree.entries.get(self.index)?;
        let properties = self.tree.properties.get(entry.properties.clone())?;
        let at = properties.partition_point(|other| other.name() < name);
        let found = properties.get(at).filter(|found| found.name() == name)?;
        found.value_as().ok()
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
        let value = self.property("compatible").unwrap_or_default();
        let value = value.get(..LONGEST_COMPATIBLE).unwrap_or(value);
        value.split(|byte| *byte == 0).any(|one| one == with.as_bytes())
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

    /// A list of references, each with as many cells as the node that it leads to says in its `cells`; those that do not
    /// say have `otherwise`, or are no such node.
    pub(super) fn references(
        &self,
        property: &'static str,
        cells: &'static str,
        otherwise: Option<usize>,
    ) -> References<'t, 'a> {
        let list = self.property(property).unwrap_or_default();
        References { tree: self.tree, property, cells, otherwise, list }
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

fn is_okay(node: &At<'_, '_>) -> bool {
    node.property("status").is_none_or(|value| matches!(value, b"okay\0" | b"ok\0"))
}

/// See [`At::references`]. After an error there is no other.
pub(super) struct References<'t, 'a> {
    tree: &'t Tree<'a>,
    property: &'static str,
    cells: &'static str,
    otherwise: Option<usize>,
    list: &'a [u8],
}

/// An entry of such a list.
pub(super) struct Reference<'t, 'a> {
    /// Where it leads to.
    pub(super) to: At<'t, 'a>,
    /// The cells behind the phandle.
    pub(super) cells: &'a [u8],
}

impl<'t, 'a> Iterator for References<'t, 'a> {
    type Item = Result<Reference<'t, 'a>, What>;

    fn next(&mut self) -> Option<Self::Item> {
        let list = core::mem::take(&mut self.list);
        let (property, len) = (self.property, list.len());
        if list.is_empty() {
            return None;
        }
        let Some((phandle, rest)) = list.split_at_checked(4) else {
            return Some(Err(What::Length { property, len, unit: 4 }));
        };
        let [reference] = cells(phandle);
        let Some(to) = self.tree.by_phandle(reference) else {
            return Some(Err(What::Nowhere { reference }));
        };
        let count = to.cell(self.cells).map(|cells| cells as usize).or(self.otherwise);
        let Some(count) = count else {
            return Some(Err(What::NotAnSmmu { reference }));
        };
        let Some((cells, rest)) = rest.split_at_checked(count.saturating_mul(4)) else {
            let unit = count.saturating_add(1).saturating_mul(4);
            return Some(Err(What::Length { property, len, unit }));
        };
        self.list = rest;
        Some(Ok(Reference { to, cells }))
    }
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
