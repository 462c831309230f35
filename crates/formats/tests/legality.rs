// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the architecture rejects (§7.1, §7.2, the last column of §4.1), one flip at a time: a legal entry
//! on a capable implementation, one thing changed, and the rule that must answer; and what records, first-level
//! descriptors and ID registers break.

mod legality {
    pub mod bench;
    mod cd;
    mod command;
    mod descriptor;
    mod first_level;
    mod record;
    mod registers;
    mod stage_2;
    mod ste;
    mod table_sizes;
}
