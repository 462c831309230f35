// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rule R9 for devices that do not answer when they are to forget translations: of each that was cut off the driver tells,
//! once, and of no other.

use std::collections::BTreeSet;

use super::Watch;
use crate::oracle::Rule;

/// Instance and stream.
type Stream = (usize, u32);

/// Devices that left the SMMU without an answer.
#[derive(Debug, Default)]
pub(super) struct Silent {
    /// Those that were not readmitted since.
    cut_off: BTreeSet<Stream>,
    /// Those of whom nobody was told yet.
    untold: BTreeSet<Stream>,
    /// Those of them that were readmitted meanwhile, and were cut off once more: they may be told of twice.
    again: BTreeSet<Stream>,
}

impl Watch {
    /// The device behind `stream` did not answer. From then on it is cut off, whichever call finds out.
    pub(super) fn unanswered(&mut self, instance: usize, stream: u32) {
        let of = (instance, stream);
        if self.silent.cut_off.insert(of) && !self.silent.untold.insert(of) {
            self.silent.again.insert(of);
        }
    }

    /// The driver said that `stream` was cut off.
    pub(super) fn reported_quarantine(&mut self, instance: usize, stream: u32) {
        let of = (instance, stream);
        if !self.silent.untold.remove(&of) && !self.silent.again.remove(&of) {
            let text = format!(
                "instance {instance}: stream {stream:#x} was reported as cut off, but its device answered, or \
                 that was told before"
            );
            self.oracle.accuse(Rule::R9, text);
        }
    }

    /// Those of whom nobody was told yet.
    pub(crate) fn untold(&self, instance: usize) -> Vec<u32> {
        let of_it = self.silent.untold.iter().filter(|(of, _)| *of == instance);
        of_it.map(|(_, stream)| *stream).collect()
    }

    /// Everything but the completion of commands was looked at, after the call was over that found out that the devices
    /// behind `streams` do not answer.
    pub(crate) fn told_of_all(&mut self, instance: usize, streams: &[u32]) {
        self.silent.again.retain(|(of, stream)| *of != instance || !streams.contains(stream));
        let left = streams.iter().find(|stream| self.silent.untold.contains(&(instance, **stream)));
        if let Some(stream) = left {
            let text = format!(
                "instance {instance}: the device behind stream {stream:#x} did not answer, and nobody was told \
                 that it was cut off"
            );
            self.oracle.accuse(Rule::R9, text);
        }
    }

    /// A master was readmitted: its devices answer. Who was not told yet that one did not still is to be.
    pub(crate) fn readmitted(&mut self, master: usize) {
        let (instance, streams) = self.oracle.streams(master);
        for stream in streams {
            self.silent.cut_off.remove(&(instance, *stream));
        }
    }

    /// Streams of `instance` that are cut off.
    pub(crate) fn cut_off(&self, instance: usize) -> Vec<u32> {
        let of_it = self.silent.cut_off.iter().filter(|(of, _)| *of == instance);
        of_it.map(|(_, stream)| *stream).collect()
    }

    /// `streams` are still cut off as another kernel left them, and whoever has `instance` now is to be told.
    pub(crate) fn cut_off_before(&mut self, instance: usize, streams: &[u32]) {
        streams.iter().for_each(|stream| self.unanswered(instance, *stream));
    }

    /// Whoever knew of `instance` is no more.
    pub(crate) fn forget_silent(&mut self, instance: usize) {
        self.silent.cut_off.retain(|(of, _)| *of != instance);
        self.silent.untold.retain(|(of, _)| *of != instance);
        self.silent.again.retain(|(of, _)| *of != instance);
    }
}
