// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults that were read from an event queue, by whose they are to be counted: the streams and substreams that they came
//! from. Whoever reads events does not know which domain that is, since it takes no mutex; whoever has the mutex asks,
//! before a master changes and when counts are read.

use smmuv3_formats::{EventRecord, StreamId};

use crate::configuration::Configuration;
use crate::error::InstanceId;
use crate::iommu::Core;
use crate::place::WITHOUT;
use crate::platform::Platform;
use crate::statistics::Counted;

/// How many streams and substreams are told apart between two looks. Events are read in interrupt context, where no
/// memory can be taken; and no number would be enough, since a guest's accesses come with whatever substreams it likes.
/// Faults that do not fit are counted by the instance.
const MOST: usize = 32;

/// Where faults came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Origin {
    stream: u32,
    /// As in a [`User`](crate::place::User).
    substream: u32,
    /// Whether they are faults of stage 2.
    stage_2: bool,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    /// The record is not of a translation fault.
    NoFault,
    /// The fault is counted with its origin.
    Counted,
    /// There is too little room: so many faults are not counted with their origin, this one or earlier ones.
    NoRoom(u64),
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

    /// Counts `record`, if it is a fault of translation. Where there are too many origins, the stream with most of them loses one
    /// to a stream with fewer.
    pub(crate) fn note(&mut self, record: &EventRecord) -> Noted {
        if !record.event().is_some_and(|event| event.is_translation_fault()) {
            return Noted::NoFault;
        }
        // The fields have 32 and 20 bits.
        let (stream, substream) = (record.sid() as u32, record.ssid() as u32);
        // Stage 2 is the same for all substreams.
        let substream = if record.ssv() && !record.s2() { substream } else { WITHOUT };
        let origin = Origin { stream, substream, stage_2: record.s2() };
        let place = self.counts.iter_mut().find(|place| place.is_none_or(|(of, _)| of == origin));
        let Some(place) = place else { return self.make_room(origin) };
        let before = place.map_or(0, |(_, count)| count);
        *place = Some((origin, before.wrapping_add(1)));
        Noted::Counted
    }

    /// Counts a fault from `origin`, for which there is no place, instead of those from another stream that has many.
    #[cold]
    fn make_room(&mut self, origin: Origin) -> Noted {
        let mut most = (0, None);
        for (at, place) in self.counts.iter().enumerate() {
            let Some((of, _)) = place else { continue };
            let places = self.places_of(of.stream);
            // The last of them: a stream that goes wild loses what it came with last.
            if places >= most.0 {
                most = (places, Some(at));
            }
        }
        let (places, at) = most;
        let fewer = self.places_of(origin.stream) + 1 < places;
        let place = at.filter(|_| fewer).and_then(|at| self.counts.get_mut(at));
        let Some(place) = place else { return Noted::NoRoom(1) };
        let lost = place.map_or(0, |(_, count)| count);
        *place = Some((origin, 1));
        Noted::NoRoom(lost)
    }

    fn places_of(&self, stream: u32) -> usize {
        self.counts.iter().flatten().filter(|(of, _)| of.stream == stream).count()
    }
}

impl<P: Platform> Configuration<P> {
    /// Counts the faults that were read from the event queue of `instance` for the domains that their masters use now.
    /// Faults of a guest's own stage 1 are counted for no domain.
    pub(crate) fn settle_faults(&self, core: &Core<P>, instance: InstanceId) {
        if !cfg!(feature = "counts") {
            return;
        }
        let Some(smmu) = core.instances.get(instance) else { return };
        let Some(tally) = smmu.events().take_tally(&core.platform) else { return };
        for (origin, count) in tally.counts.into_iter().flatten() {
            let master = self.owners.of(instance, StreamId(origin.stream));
            let Some(state) = master.and_then(|at| self.masters.get(at)) else { continue };
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
        assert_eq!(tally.note(&EventRecord([EventId::CBadSte as u64, 0, 0, 0])), Noted::NoFault);
        for stream in 0..40 {
            let noted = if stream < 31 { Noted::Counted } else { Noted::NoRoom(1) };
            assert_eq!(tally.note(&fault(stream, None)), noted);
            assert_eq!(tally.note(&fault(1, Some(7))), Noted::Counted);
        }
        let counts: u64 = tally.counts.iter().flatten().map(|(_, count)| count).sum();
        // Each of the streams that there was room for once, and the one with a PASID each time.
        assert_eq!(counts, 31 + 40);
        let origin = Origin { stream: 1, substream: 7, stage_2: false };
        assert_eq!(tally.counts[1], Some((Origin { stream: 1, ..origin }, 40)));
    }

    #[test]
    fn a_stream_with_many_substreams_leaves_room_for_others() {
        let fault = |stream: u64, substream: u64| {
            let record = EventRecord::default().with_sid(stream).with_ssv(true);
            let [word, ..] = record.with_ssid(substream).0;
            EventRecord([word | EventId::FTranslation as u64, 0, 0, 0])
        };
        let mut tally = Tally::new();
        let mut lost = 0;
        let mut note =
            |tally: &mut Tally, stream, substream| match tally.note(&fault(stream, substream)) {
                Noted::NoRoom(count) => lost += count,
                Noted::Counted => {}
                Noted::NoFault => unreachable!("they are faults"),
            };
        let of = |tally: &Tally, stream| -> u64 {
            let counts = tally.counts.iter().flatten();
            counts.filter(|(of, _)| of.stream == stream).map(|(_, count)| count).sum()
        };
        // One that goes wild, before and while others fault.
        for substream in 0..1000 {
            note(&mut tally, 0, substream);
        }
        for stream in 1..32 {
            for round in 0..5 {
                note(&mut tally, stream, 7);
                for substream in 0..100 {
                    note(&mut tally, 0, 1000 * round + substream);
                }
            }
        }
        for stream in 1..32 {
            assert_eq!(of(&tally, stream), 5, "{stream}");
        }
        let all: u64 = (0..32).map(|stream| of(&tally, stream)).sum();
        assert_eq!(all + lost, 1000 + 31 * 5 * 101);
        // All of it is taken: nobody has more than another could do with.
        assert_eq!(tally.note(&fault(40, 0)), Noted::NoRoom(1));
    }

    #[test]
    fn faults_of_stage_2_are_told_apart_by_the_stream_alone() {
        let mut tally = Tally::new();
        for substream in 0..100 {
            let record = EventRecord([EventId::FTranslation as u64, 0, 0, 0]);
            let record = record.with_sid(3).with_s2(true).with_ssv(true).with_ssid(substream);
            assert_eq!(tally.note(&record), Noted::Counted);
        }
        let origin = Origin { stream: 3, substream: WITHOUT, stage_2: true };
        assert_eq!(tally.counts[..2], [Some((origin, 100)), None]);
    }
}
