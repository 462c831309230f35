// SPDX-License-Identifier: MIT OR Apache-2.0
//! An event that an SMMU has reported: its record, and where among all of them it comes.

use core::fmt;
use core::ops::Deref;

use smmuv3_formats::EventRecord;

use crate::error::InstanceId;

/// An event, of which an SMMU wrote a record (§10). It is that record, with where and when that was: by then a stream may be
/// somebody else's than when the event is read ([`Nest::owner`](crate::nest::Nest::owner)).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Event {
    record: EventRecord,
    instance: InstanceId,
    number: u64,
}

impl Event {
    pub(crate) const fn new(record: EventRecord, instance: InstanceId, number: u64) -> Self {
        Self { record, instance, number }
    }

    /// What the SMMU wrote.
    pub const fn record(&self) -> EventRecord {
        self.record
    }

    /// The SMMU.
    pub const fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Its number among the events of the instance: later events have greater ones, also after a reset. Numbers may be
    /// skipped.
    pub const fn number(&self) -> u64 {
        self.number
    }
}

impl Deref for Event {
    type Target = EventRecord;

    fn deref(&self) -> &EventRecord {
        &self.record
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record.fmt(f)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record.fmt(f)
    }
}
