// SPDX-License-Identifier: MIT OR Apache-2.0
//! No stalled transactions (feature `stalls`). [`Features`] says that no instance can have them, and an SMMU whose faults
//! always stall is refused ([`Unsupported::Stalls`](crate::Unsupported::Stalls)).

use core::convert::Infallible;
use core::fmt;
use core::marker::PhantomData;

#[cfg(feature = "hand-over")]
use smmuv3_formats::command::StallTerm;
use smmuv3_formats::{Cd, EventRecord, Ste, StreamId};

use crate::error::Failure;
use crate::event::Event;
use crate::features::Features;
use crate::instance::Instance;
use crate::iommu::Core;
use crate::platform::Platform;
use crate::shared::{NoMemory, Shared};

/// A transaction that has stalled: there are none without the feature `stalls`.
pub struct Fault<P: Platform> {
    none: Infallible,
    of: PhantomData<P>,
}

impl<P: Platform> fmt::Debug for Fault<P> {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.none {}
    }
}

impl<P: Platform> fmt::Display for Fault<P> {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.none {}
    }
}

impl<P: Platform> PartialEq for Fault<P> {
    fn eq(&self, _: &Self) -> bool {
        match self.none {}
    }
}

impl<P: Platform> Eq for Fault<P> {}

/// Nothing that waits for an answer.
pub(crate) struct Pending;

impl Pending {
    pub(crate) const fn new(_: usize) -> Result<Self, NoMemory> {
        Ok(Self)
    }

    pub(crate) const fn count(&self) -> usize {
        0
    }

    pub(crate) const fn refused(&self) -> u64 {
        0
    }
}

pub(crate) const fn is_stall(_: &EventRecord, _: &Features) -> bool {
    false
}

/// What becomes of the event of a stalled transaction.
pub(crate) enum Taken<P: Platform> {
    Handed(Fault<P>),
    Ended,
    Later,
}

pub(crate) fn take<P: Platform>(_: &Shared<Core<P>>, _: &Instance<P>, _: Event) -> Taken<P> {
    Taken::Ended
}

pub(crate) fn give_owed<P: Platform>(_: &Core<P>, _: &Instance<P>, _: &mut usize) -> bool {
    true
}

/// Which transactions are to end.
pub(crate) enum Ending {
    Everything,
    Translated,
    Substream(u32),
}

pub(crate) fn end<P: Platform>(
    _: &Core<P>,
    _: &Instance<P>,
    _: &[StreamId],
    _: Ending,
) -> Result<(), Failure> {
    Ok(())
}

/// Ends what a predecessor's devices had stalled: an SMMU that was taken over may hold that, although its faults do not
/// stall any more.
#[cfg(feature = "hand-over")]
pub(crate) fn end_inherited<P: Platform>(
    core: &Core<P>,
    instance: &Instance<P>,
    streams: &[StreamId],
) -> Result<(), Failure> {
    // Where nothing ever stalls STALL_TERM is no command (§4.1).
    if instance.features().implementation().idr0.stall_model() == 1 {
        return Ok(());
    }
    let term = |stream: &StreamId| StallTerm::new().with_sid(u64::from(stream.0)).into();
    let commands = streams.iter().map(term);
    instance.commands().carry_out(&core.platform, instance.mmio(), commands)
}

pub(crate) fn forget<P: Platform>(_: &P, _: &Pending) {}

pub(crate) fn close<P: Platform>(_: &P, _: &Instance<P>) -> Result<(), Failure> {
    Ok(())
}

pub(crate) const fn entry(ste: Ste, _: bool) -> Ste {
    ste
}

pub(crate) const fn context(cd: Cd, _: bool) -> Cd {
    cd
}
