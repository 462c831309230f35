// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices that do not answer the SMMU when they are to forget translations, and what becomes of them.

use smmuv3_model::Answers;

use super::{Bench, Done, Handle};
use crate::trace;

impl Bench {
    /// A device does not answer in time from now on.
    pub(super) fn mute(&self, master: usize, late: bool) -> Done {
        let answers = if late { Answers::TooLate } else { Answers::Never };
        let (instance, streams) = self.streams_of(master);
        let Some(mut model) = self.world.machine().model(instance) else { return Done::default() };
        let mut acted = false;
        for stream in streams {
            if let Some(endpoint) = model.endpoint_mut(stream) {
                endpoint.answers = answers;
                acted = true;
            }
        }
        drop(model);
        self.look(|watch| watch.oracle.set_mute(master, acted));
        let outcome = if acted { "from now on" } else { "it keeps nothing" };
        Done { outcome: outcome.to_owned(), acted, ..Done::default() }
    }

    /// A device that does not answer is reset, and used again.
    pub(super) fn readmit(&self, master: usize) -> Done {
        let handle = self.masters.get(master).and_then(Handle::get);
        let Some(handle) = handle.filter(|_| self.oracle(|oracle| oracle.is_mute(master))) else {
            return Done { outcome: "it answers".to_owned(), ..Done::default() };
        };
        let (instance, streams) = self.streams_of(master);
        let known = handle.is_quarantined();
        // What was answered before was heard.
        self.look(|watch| watch.collect(&self.world));
        if known {
            self.look(|watch| watch.oracle.device_was_reset(master));
        }
        if let Some(mut model) = self.world.machine().model(instance) {
            for stream in streams {
                // Who was never found out goes on with ATS.
                if known {
                    model.reset_device(stream);
                } else if let Some(endpoint) = model.endpoint_mut(stream) {
                    endpoint.answers = Answers::InTime;
                }
            }
        }
        let name = self.scenario.masters.get(master).map_or("?", |it| &*it.name);
        let operands = || trace::args([("master", name.into())]);
        let result = self.traced("call", "readmit", operands, || self.iommu.readmit(&handle));
        let still = handle.is_quarantined();
        self.look(|watch| {
            watch.collect(&self.world);
            match &result {
                Ok(()) if still => watch.refuse("readmit left a device in quarantine"),
                Ok(()) => {
                    watch.oracle.readmitted(master);
                    watch.readmitted(master);
                }
                Err(error) => watch.refuse(format_args!("readmit was refused: {error}")),
            }
        });
        let outcome = match (result, known) {
            (Ok(()), true) => "it works again".to_owned(),
            (Ok(()), false) => "nobody had noticed".to_owned(),
            (Err(error), _) => error.to_string(),
        };
        Done { outcome, acted: known && !still, ..Done::default() }
    }

    /// Whether the driver has found out that a device of a master does not answer.
    pub(super) fn is_quarantined(&self, master: usize) -> bool {
        let handle = self.masters.get(master).and_then(Handle::get);
        handle.is_some_and(|handle| handle.is_quarantined())
    }

    fn streams_of(&self, master: usize) -> (usize, Vec<u32>) {
        self.oracle(|oracle| {
            let (instance, streams) = oracle.streams(master);
            (instance, streams.to_vec())
        })
    }
}
