// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which streams of the host are which of a guest's.

use smmuv3_formats::StreamId;

/// A stream that a guest has been given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Assignment {
    /// What the guest calls it.
    pub guest: StreamId,
    /// What the SMMU calls it.
    pub host: StreamId,
    /// Its device has ATS, and answers when it is told to forget what it keeps, whether that is on or not. Others need not.
    pub ats: bool,
}

/// The streams behind one instance that one guest has been given. Neither number occurs twice.
///
/// A slice of [`Assignment`]s in order of the guest's numbers is one.
pub trait Streams {
    /// The first that the guest calls `guest` or more, in order of its numbers.
    fn next(&self, guest: StreamId) -> Option<Assignment>;

    /// What the guest calls the SMMU's stream `host`.
    fn guest(&self, host: StreamId) -> Option<StreamId>;

    /// What the SMMU calls the guest's stream `guest`.
    fn host(&self, guest: StreamId) -> Option<StreamId> {
        self.next(guest).filter(|found| found.guest == guest).map(|found| found.host)
    }
}

impl Streams for [Assignment] {
    fn next(&self, guest: StreamId) -> Option<Assignment> {
        self.get(self.partition_point(|other| other.guest < guest)).copied()
    }

    fn guest(&self, host: StreamId) -> Option<StreamId> {
        self.iter().find(|other| other.host == host).map(|other| other.guest)
    }
}

impl<const N: usize> Streams for [Assignment; N] {
    fn next(&self, guest: StreamId) -> Option<Assignment> {
        self.as_slice().next(guest)
    }

    fn guest(&self, host: StreamId) -> Option<StreamId> {
        self.as_slice().guest(host)
    }
}
