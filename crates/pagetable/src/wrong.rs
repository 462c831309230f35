// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tables that are changed wrongly, so that a test can see that this is noticed (feature `mutation`).

use crate::Table;

/// What is done wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A group of contiguous leaves keeps its hint when a part of it is unmapped.
    HintKept,
    /// What is invalidated when a part of a group is unmapped is that part.
    PartOnly,
    /// A block gives way to a table without having been marked (nT).
    Unmarked,
    /// What was unmapped is not published.
    Unpublished,
    /// All that is mapped may be executed, whatever was asked for.
    Executable,
}

impl<const SHIFT: u32, const STAGE: u8, const WIDE: bool> Table<SHIFT, STAGE, WIDE> {
    /// Does that wrongly from now on.
    pub fn spoil(&mut self, wrong: Wrong) {
        self.wrong = Some(wrong);
        self.marks_blocks &= wrong != Wrong::Unmarked;
        if wrong == Wrong::Executable {
            self.encoding = self.encoding.executable();
        }
    }
}
