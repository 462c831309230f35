// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands behind one pointer, so that whoever takes them is compiled once.

use smmuv3_formats::Command;

/// Commands, one after the other: what is needed of an iterator, and nothing else, so that no iterator of commands is
/// compiled with more than that.
pub(crate) trait Give {
    /// The next.
    fn give(&mut self) -> Option<Command>;

    /// How many are left.
    fn left(&self) -> usize;
}

impl<I: ExactSizeIterator<Item = Command>> Give for I {
    fn give(&mut self) -> Option<Command> {
        self.next()
    }

    fn left(&self) -> usize {
        self.len()
    }
}

/// The same as an iterator.
pub(crate) struct Given<'a>(pub(crate) &'a mut dyn Give);

impl Iterator for Given<'_> {
    type Item = Command;

    fn next(&mut self) -> Option<Command> {
        self.0.give()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.left(), Some(self.0.left()))
    }
}

impl ExactSizeIterator for Given<'_> {
    fn len(&self) -> usize {
        self.0.left()
    }
}
