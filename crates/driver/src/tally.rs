// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults that were read from an event queue, by whose they are to be counted: the streams and substreams that they came
//! from. Whoever reads events does not know which domain that is, since it takes no mutex; whoever has the mutex asks,
//! before a master changes and when counts are read.

use smmuv3_formats::EventRecord;

use crate::configuration::Configuration;
use crate::error::InstanceId;
use crate::iommu::Core;
use crate::place::WITHOUT;
use crate::platform::Platform;
use crate::statistics::Counted;

/// So many streams and substreams are told apart between two looks.
const MOST: usize = 32;

/// Where faults came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Origin {
    stream: u32,
    /// As in a [`User`](crate::place::User).
    substream: u32,
    /// They are stage 2's.
    stage_2: bool,
}

/// How many faults came from where.
#[derive(Clone, Copy)]
pub(crate) struct Tally {
    counts: [Option<(Origin, u64)>; MOST],
}

impl Tally {
    pub(crate) const fn new() -> Self {
        Self { counts: [None; MOST] }
    }

    /// Counts `record`, if it is a fault of translation, and there are not too many origins already; whether it did.
    pub(crate) fn note(&mut self, record: &EventRecord) -> bool {
        if !record.event().is_some_and(|event| event.is_translation_fault()) {
            return false;
        }
        // The fields have 32 and 20 bits.
        let (stream, substream) = (record.sid() as u32, record.ssid() as u32);
        let substream = if record.ssv() { substream } else { WITHOUT };
        let origin = Origin { stream, substream, stage_2: record.s2() };
        let place = self.counts.iter_mut().find(|place| place.is_none_or(|(of, _)| of == origin));
        let Some(place) = place else { return false };
        let before = place.map_or(0, |(_, count)| count);
        *place = Some((origin, before.wrapping_add(1)));
        true
    }
}

impl<P: Platform> Configuration<P> {
    /// Lays the faults that were read from the event queue of `instance` to the account of the domains that their masters use
    /// now. Those that a guest has caused in its own stage 1 are nobody's.
    pub(crate) fn settle_faults(&self, core: &Core<P>, instance: InstanceId) {
        let Some(smmu) = core.instances.get(instance) else { return };
        let Some(tally) = smmu.events().take_tally(&core.platform) else { return };
        for (origin, count) in tally.counts.into_iter().flatten() {
            let master = self.masters.iter().map(|(_, state)| state).find(|state| {
                state.instance == instance
                    && state.streams.iter().any(|stream| stream.0 == origin.stream)
            });
            let Some(state) = master else { continue };
            let bound = state.slot(origin.substream).bound();
            let place = bound.and_then(|bound| self.places.get(bound.place));
            let guests = state.nested.is_some() && !origin.stage_2;
            if let Some(place) = place.filter(|_| !guests) {
                place.space.count(Counted::Faults, count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use smmuv3_formats::EventId;

    use super::*;

    #[test]
    fn faults_are_told_apart_by_where_they_came_from_as_long_as_there_is_room() {
        let fault = |stream: u64, substream: Option<u64>| {
            let record = EventRecord::default().with_sid(stream).with_ssv(substream.is_some());
            let [word, ..] = record.with_ssid(substream.unwrap_or(0)).0;
            EventRecord([word | EventId::FPermission as u64, 0, 0, 0])
        };
        let mut tally = Tally::new();
        assert!(!tally.note(&EventRecord([EventId::CBadSte as u64, 0, 0, 0])));
        for stream in 0..40 {
            assert_eq!(tally.note(&fault(stream, None)), stream < 31);
            assert!(tally.note(&fault(1, Some(7))));
        }
        let counts: u64 = tally.counts.iter().flatten().map(|(_, count)| count).sum();
        // Each of the streams that there was room for once, and the one with a PASID each time.
        assert_eq!(counts, 31 + 40);
        let origin = Origin { stream: 1, substream: 7, stage_2: false };
        assert_eq!(tally.counts[1], Some((Origin { stream: 1, ..origin }, 40)));
    }
}
