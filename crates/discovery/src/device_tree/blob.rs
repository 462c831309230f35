// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a blob is a device tree, as far as reading it depends on that.

use core::fmt;

use dtoolkit::fdt::Fdt;

use super::tree::{DEEPEST, LONGEST_NAME, LONGEST_PATH};

const MAGIC: u32 = 0xd00d_feed;
/// The version that is read.
const VERSION: u32 = 17;
/// Bytes of the header.
const HEADER: usize = 40;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// Why a blob is no device tree. Offsets are from its beginning, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlobError {
    /// It is shorter than a header, or than the header says.
    Short {
        /// Its length.
        len: usize,
        /// What it should be at least.
        needed: usize,
    },
    /// It does not begin as a device tree does.
    Magic {
        /// How it begins.
        found: u32,
    },
    /// It is of another version than 17.
    Version {
        /// Its version.
        version: u32,
        /// The oldest version that it can be read as.
        compatible: u32,
    },
    /// A block of it does not fit, or is not aligned to 4.
    Block {
        /// Which.
        block: &'static str,
        /// Where it begins.
        offset: usize,
        /// Its size.
        size: usize,
        /// The size of the tree.
        total: usize,
    },
    /// A token that does not belong here, or none where there must be one.
    Token {
        /// Where.
        offset: usize,
        /// The token; 0 at the end of the block.
        token: u32,
    },
    /// A name of a node or property that has no end, is not UTF-8, is empty, is too long, or has a `/`.
    Name {
        /// Where.
        offset: usize,
    },
    /// A property that is longer than what is left.
    Property {
        /// Where.
        offset: usize,
        /// Its length.
        len: usize,
    },
    /// Nodes in nodes, more than can be sensible.
    Depth {
        /// Where.
        offset: usize,
        /// The deepest level that is read.
        limit: usize,
    },
    /// The names of a node and those above it, more than can be sensible.
    Path {
        /// Where the node is.
        offset: usize,
        /// Bytes of the longest path that is read.
        limit: usize,
    },
}

impl fmt::Display for BlobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a device tree: ")?;
        match self {
            Self::Short { len, needed } => write!(f, "{len} bytes, and {needed} are needed"),
            Self::Magic { found } => write!(f, "it begins with {found:#010x}, not {MAGIC:#x}"),
            Self::Version { version, compatible } => {
                write!(f, "version {version}, compatible with {compatible}, not with {VERSION}")
            }
            Self::Block { block, offset, size, total } => {
                write!(f, "{size:#x} bytes of {block} at {offset:#x} do not fit in {total:#x}")
            }
            Self::Token { offset, token } => write!(f, "token {token:#x} at {offset:#x}"),
            Self::Name { offset } => write!(f, "the name at {offset:#x} is none"),
            Self::Property { offset, len } => {
                write!(f, "the property at {offset:#x} has {len:#x} bytes, which is too long")
            }
            Self::Depth { offset, limit } => {
                write!(f, "the node at {offset:#x} is more than {limit} deep")
            }
            Self::Path { offset, limit } => {
                write!(f, "the path of the node at {offset:#x} is longer than {limit}")
            }
        }
    }
}

impl core::error::Error for BlobError {}

/// The size of the device tree whose first bytes these are: 8 are enough. For those who have its address only.
///
/// # Errors
/// [`BlobError`], when it is none.
pub fn total_size(beginning: &[u8]) -> Result<usize, BlobError> {
    let short = BlobError::Short { len: beginning.len(), needed: 8 };
    let magic = word(beginning, 0).ok_or(short)?;
    if magic != MAGIC {
        return Err(BlobError::Magic { found: magic });
    }
    Ok(word(beginning, 4).ok_or(short)? as usize)
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset.checked_add(4)?)?;
    bytes.try_into().ok().map(u32::from_be_bytes)
}

/// The tree at the beginning of `blob`. Whatever `dtoolkit` does with its nodes and properties succeeds: each token
/// that it meets was met here, each name and value is where it says, and nothing is deeper than [`DEEPEST`].
pub(super) fn check(blob: &[u8]) -> Result<Fdt<'_>, BlobError> {
    let total = total_size(blob)?;
    if blob.len() < HEADER || total < HEADER {
        return Err(BlobError::Short { len: blob.len().min(total), needed: HEADER });
    }
    let short = BlobError::Short { len: blob.len(), needed: total };
    let blob = blob.get(..total).ok_or(short)?;
    let field = |offset| word(blob, offset).ok_or(short);
    let (version, compatible) = (field(20)?, field(24)?);
    if !(compatible..=version).contains(&VERSION) {
        return Err(BlobError::Version { version, compatible });
    }
    let block = |block, offset: u32, size: u32| {
        let (offset, size) = (offset as usize, size as usize);
        let bytes = offset.checked_add(size).and_then(|end| blob.get(..end)?.get(offset..));
        bytes.ok_or(BlobError::Block { block, offset, size, total })
    };
    let (offset, size) = (field(8)?, field(36)?);
    block("structure", offset, size)?;
    if !offset.is_multiple_of(4) {
        let (offset, size) = (offset as usize, size as usize);
        return Err(BlobError::Block { block: "structure", offset, size, total });
    }
    let strings = block("strings", field(12)?, field(32)?)?;
    // Both fit in the blob.
    let (start, end) = (offset as usize, offset as usize + size as usize);
    let structure = blob.get(..end).ok_or(short)?;
    walk(structure, start, strings)?;
    Ok(Fdt::new_unchecked(blob))
}

/// Meets every token of the structure block, which begins at `offset` of `bytes` and ends with them.
fn walk(bytes: &[u8], mut offset: usize, strings: &[u8]) -> Result<(), BlobError> {
    let mut depth = 0;
    // Bytes of the path of each node on the way.
    let mut paths = [0; DEEPEST + 1];
    // Properties come before children.
    let mut properties = false;
    loop {
        let token = word(bytes, offset).ok_or(BlobError::Token { offset, token: 0 })?;
        let wrong = BlobError::Token { offset, token };
        // Within the bytes, so this and what follows cannot pass the end of numbers.
        let next = offset + 4;
        offset = match token {
            BEGIN_NODE => {
                depth += 1;
                if depth > DEEPEST {
                    return Err(BlobError::Depth { offset, limit: DEEPEST });
                }
                properties = true;
                let name = name(bytes, next).ok_or(BlobError::Name { offset: next })?;
                if name.contains('/') || name.is_empty() != (depth == 1) {
                    return Err(BlobError::Name { offset: next });
                }
                let above = paths.get(depth - 1).copied().unwrap_or(0);
                let path: usize = above + name.len() + usize::from(depth > 1);
                if path > LONGEST_PATH {
                    return Err(BlobError::Path { offset, limit: LONGEST_PATH });
                }
                if let Some(here) = paths.get_mut(depth) {
                    *here = path;
                }
                (next + name.len() + 1).next_multiple_of(4)
            }
            END_NODE => {
                if depth == 0 {
                    return Err(wrong);
                }
                depth -= 1;
                if depth == 0 {
                    return end(bytes, next);
                }
                properties = false;
                next
            }
            PROP if properties => {
                let header = (word(bytes, next), word(bytes, next + 4));
                let (Some(len), Some(at)) = header else { return Err(wrong) };
                let (len, value) = (len as usize, next + 8);
                let fits = bytes.len().checked_sub(value).is_some_and(|left| len <= left);
                if !fits {
                    return Err(BlobError::Property { offset, len });
                }
                let named = name(strings, at as usize);
                if named.is_none_or(str::is_empty) {
                    return Err(BlobError::Name { offset: next + 4 });
                }
                (value + len).next_multiple_of(4)
            }
            NOP if depth > 0 => next,
            _ => return Err(wrong),
        }
    }
}

/// What follows the root.
fn end(bytes: &[u8], mut offset: usize) -> Result<(), BlobError> {
    loop {
        match word(bytes, offset) {
            Some(NOP) => offset += 4,
            Some(END) => return Ok(()),
            token => return Err(BlobError::Token { offset, token: token.unwrap_or(0) }),
        }
    }
}

/// The name at `offset`, which ends with a zero.
fn name(bytes: &[u8], offset: usize) -> Option<&str> {
    let bytes = bytes.get(offset..)?;
    let bytes = bytes.get(..bytes.len().min(LONGEST_NAME + 1))?;
    let len = bytes.iter().position(|byte| *byte == 0)?;
    core::str::from_utf8(bytes.get(..len)?).ok()
}
