// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whom the driver says that events are to be told, when they are reported and for a while afterwards: a host may keep
//! what it has read until it gets to it.

use std::collections::VecDeque;
use std::sync::PoisonError;

use smmuv3::nest::{Cause, Owner};
use smmuv3::{Event, InstanceId};

use super::Bench;
use crate::oracle::Caused;

/// Events that the host has read, oldest first, and under what each was recorded.
pub(super) type Kept = VecDeque<(Event, Caused)>;

/// How many of them it keeps.
const MOST: usize = 16;

impl Bench {
    /// The driver reported `event`.
    pub(super) fn tell(&self, event: Event, caused: Caused) {
        if self.guests.iter().flatten().next().is_none() {
            return;
        }
        self.judge_owner(&event, &caused);
        let mut kept = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == MOST {
            kept.pop_front();
        }
        kept.push_back((event, caused));
    }

    /// The host looks again at what it has kept.
    pub(super) fn tell_again(&self) {
        let kept = self.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        kept.iter().for_each(|(event, caused)| self.judge_owner(event, caused));
    }

    /// An instance is about to be removed: nobody is told of its events any more.
    pub(super) fn forget_told(&self, instance: InstanceId) {
        let mut kept = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(event, _)| event.instance() != instance);
    }

    /// Asks the SMMUs of all guests whose it is.
    fn judge_owner(&self, event: &Event, caused: &Caused) {
        for guest in self.guests.iter().flatten() {
            // That of the first guest over a domain.
            let Some(nest) = guest.own_nest(event.instance()) else { continue };
            let (owner, over) = (nest.owner(event), guest.under());
            self.look(|watch| match owner {
                Owner::Guest(_) => watch.oracle.told(over, event, caused),
                Owner::Host(Cause::Before | Cause::Stream) => {
                    watch.oracle.kept_from(over, event, caused);
                }
                Owner::Host(_) => {}
            });
        }
    }
}
