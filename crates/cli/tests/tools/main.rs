// SPDX-License-Identifier: MIT OR Apache-2.0
//! Small commands as a shell sees them.

mod common;
mod everywhere;
mod generated;
mod machine;
mod sid;
mod tlbi;
mod update;

/// Tables of firmware, byte by byte.
#[path = "../../../discovery/tests/common/table.rs"]
mod table;
/// Device trees, likewise.
#[path = "../../../discovery/tests/common/tree.rs"]
mod tree;
