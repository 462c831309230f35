// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rule R1 for what a kernel left that is no more: once its master is detached it is over.

use smmuv3_formats::Ste;

use super::Watch;
use crate::oracle::Rule;

impl Watch {
    /// Those whose devices did not answer, and whose entries abort since, use nothing any more.
    pub(crate) fn lose_silent(&mut self) {
        for master in 0..self.oracle.masters() {
            let (instance, streams) = self.oracle.streams(master);
            let entry = |stream: &u32| self.structures.entry(instance, *stream).map(Ste);
            let aborts =
                |stream: &u32| entry(stream).is_some_and(|entry| entry.config() & 0b100 == 0);
            if self.oracle.is_mute(master) && streams.iter().all(aborts) {
                self.oracle.lose(master);
            }
        }
    }

    /// `master` went on as it was left, and was detached: its entries let nothing through.
    pub(crate) fn after_kept(&mut self, master: usize) {
        if self.oracle.is_in_use(master) {
            return;
        }
        let (instance, streams) = self.oracle.streams(master);
        let goes_on = |stream: &u32| {
            let entry = self.structures.entry(instance, *stream).map(Ste);
            entry.is_some_and(|entry| entry.v() && entry.config() & 0b100 != 0)
        };
        if let Some(stream) = streams.iter().copied().find(goes_on) {
            let text = format!(
                "detach has returned, but the entry of stream {stream:#x} of instance {instance} is still as \
                 another kernel left it"
            );
            self.oracle.accuse(Rule::R1, text);
        }
    }
}
