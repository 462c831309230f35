// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which master a stream belongs to, on all instances.

use alloc::vec::Vec;

use smmuv3_formats::StreamId;

use crate::error::InstanceId;
use crate::room::Room;
use crate::shared::NoMemory;

/// Streams that belong to a master, in order, with the index of it.
pub(crate) struct Owners {
    streams: Vec<(Key, usize)>,
}

/// A stream of an instance, as one number.
type Key = u64;

const fn key(instance: InstanceId, stream: StreamId) -> Key {
    (instance.raw() as u64) << 32 | stream.0 as u64
}

impl Owners {
    pub(crate) const fn new() -> Self {
        Self { streams: Vec::new() }
    }

    /// Room for `more` streams.
    pub(crate) fn reserve(&mut self, more: usize) -> Result<(), NoMemory> {
        self.streams.room(more)
    }

    /// `streams` of `instance`, which are nobody's, belong to `master` from here on. There is room ([`Owners::reserve`]).
    pub(crate) fn add(&mut self, instance: InstanceId, streams: &[StreamId], master: usize) {
        for stream in streams {
            if let Err(at) = self.search(instance, *stream) {
                self.streams.put_at(at, (key(instance, *stream), master));
            }
        }
    }

    /// `streams` of `instance` are nobody's any more.
    pub(crate) fn remove(&mut self, instance: InstanceId, streams: &[StreamId]) {
        for stream in streams {
            if let Ok(at) = self.search(instance, *stream) {
                self.streams.remove(at);
            }
        }
    }

    /// The master that `stream` of `instance` belongs to. It looks at few of the streams that there are.
    pub(crate) fn of(&self, instance: InstanceId, stream: StreamId) -> Option<usize> {
        let at = self.search(instance, stream).ok()?;
        self.streams.get(at).map(|(_, master)| *master)
    }

    /// Where a stream is, or is to be.
    #[inline(never)]
    fn search(&self, instance: InstanceId, stream: StreamId) -> Result<usize, usize> {
        self.search_counting(instance, stream, || ())
    }

    /// As [`Owners::search`]; `looks` is called for each that it is compared with.
    fn search_counting(
        &self,
        instance: InstanceId,
        stream: StreamId,
        mut looks: impl FnMut(),
    ) -> Result<usize, usize> {
        let wanted = key(instance, stream);
        self.streams.binary_search_by(|(key, _)| {
            looks();
            key.cmp(&wanted)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_found_by_a_few_looks_among_however_many() {
        let mut owners = Owners::new();
        let ids = [InstanceId::first(0), InstanceId::first(1), InstanceId::first(2)];
        owners.reserve(3 * 4096).unwrap();
        for (id, step) in ids.into_iter().zip([1, 2, 3]) {
            for master in 0..2048 {
                let streams = [2 * master, 2 * master + 1].map(|at: u32| StreamId(at * step));
                owners.add(id, &streams, master as usize);
            }
        }
        for (stream, master) in [(0, 0), (7, 3), (4095, 2047)] {
            for (id, step) in ids.into_iter().zip([1, 2, 3]) {
                let (stream, mut looks) = (StreamId(stream * step), 0);
                assert_eq!(owners.of(id, stream), Some(master));
                owners.search_counting(id, stream, || looks += 1).unwrap();
                assert!(looks <= 15, "{looks} of {}", owners.streams.len());
            }
        }
        assert_eq!(owners.of(ids[2], StreamId(1)), None);
        owners.remove(ids[1], &[StreamId(0), StreamId(4)]);
        let left = [0, 2, 4, 6].map(|stream| owners.of(ids[1], StreamId(stream)));
        assert_eq!(left, [None, Some(0), None, Some(1)]);
        assert_eq!(owners.of(ids[0], StreamId(4)), Some(2));
    }
}
