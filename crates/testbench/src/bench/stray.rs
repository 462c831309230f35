// SPDX-License-Identifier: MIT OR Apache-2.0
//! DMA of devices that the driver does not know of yet.

use crate::inside::Inside as _;
use smmuv3::AtsMode;
use smmuv3_formats::EventId;
use smmuv3_model::Access;

use super::{Bench, BenchError, Done, FaultKey, Handle};
use crate::machine::{Dma, Outcome};
use crate::oracle::{PAGE, Rule};
use crate::scenario::{Device, Master};
use crate::trace;

impl Bench {
    /// Every device writes to memory before its master is added, with each of its streams where the machine has a
    /// model of the SMMU: it must be refused, and be reported where its stream has no entry. What the SMMU read
    /// on the way to that it may keep, which is what adding the master has to put right.
    pub(super) fn stray(&self) -> Result<(), BenchError> {
        let missing = || BenchError::NoMemory("stray accesses".to_owned());
        let page = self.world.frames().allocate(PAGE, PAGE).ok_or_else(missing)?;
        let masters = self.scenario.masters.iter().enumerate();
        // What firmware left working is known from the beginning.
        for (index, master) in masters.filter(|(_, master)| master.keep.is_none()) {
            let data = Device::TEST_PATTERN.to_le_bytes();
            let mut streams = master.streams.iter().copied();
            // Untranslated it would reach the page. A device that sends nothing untranslated, which a machine with a model has
            // alone, is no reason why nothing comes from its streams.
            let sends = master.ats != AtsMode::Always;
            let operands = || trace::range(("master", &*master.name), page, data.len() as u64);
            if sends {
                let parts = self.traced("dma", "DMA write", operands, || {
                    let parts = self.world.machine().dma(index, None, page, Dma::Write(&data));
                    self.look(|watch| watch.collect(&self.world));
                    parts
                })?;
                let reached = parts.iter().any(|part| matches!(part.outcome, Outcome::Reached(_)))
                    || self.world.machine().ram().read64(page) != Some(0);
                self.strayed(master, streams.next(), reached);
            }
            // DMA of a machine is that of the first stream.
            for stream in streams {
                let Some(mut model) = self.world.machine().model(master.instance) else { break };
                let reached = model.translate(Access::write(stream, page)).is_ok();
                drop(model);
                self.look(|watch| watch.collect(&self.world));
                self.strayed(master, Some(stream), reached);
            }
        }
        self.world.frames().free(page, PAGE);
        Ok(())
    }

    /// Judges an access of `stream`, and takes what was reported of it: a queue may have room for two events only.
    fn strayed(&self, master: &Master, stream: Option<u32>, reached: bool) {
        if reached {
            let text = format!("{} reached memory before it was added", master.name);
            self.look(|watch| watch.oracle.accuse(Rule::R1, text));
        }
        let instance = master.instance;
        let smmu = self.smmus.get(instance).and_then(Handle::get);
        if let (Some(smmu), Some(stream)) = (smmu, stream)
            && let Some(split) = smmu.inside().streams().split()
            && !self.has_leaf_of_kept(instance, stream, split.bits())
        {
            // The event says nothing but the stream.
            let event = EventId::CBadStreamId;
            let fault = FaultKey { instance, stream, substream: None, event, page: 0, write: true };
            self.look(|watch| watch.expect(fault));
        }
        self.take_events(&mut Done::default());
    }
}
