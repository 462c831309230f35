// SPDX-License-Identifier: MIT OR Apache-2.0
//! Taking over an SMMU that is running, as a kernel does that was started by a crash: streams that work go on, without a
//! moment at which they do not.
//!
//! The stream table cannot be replaced while SMMUEN is 1, and while it is 0 nothing is translated. So the one that
//! is there is used from then on, in its place, once it was looked through ([`survey`]): what works there goes on
//! until a master is made of it and attached to something else, by changes of single entries. Queues, which can be
//! replaced, are this driver's own from the start. Tags that its contexts have are not given out.

use alloc::vec::Vec;

use smmuv3_formats::StreamId;
use smmuv3_formats::register::{Cr0, Cr1, Cr2, PriqBase, StrtabBase, StrtabBaseCfg};

use crate::configuration::Configuration;
use crate::entry::Stream;
use crate::error::{Failure, InstanceId};
use crate::instance::{EnableError, Instance};
use crate::invalidate::{Regime, Tag};
use crate::iommu::{Iommu, Probe, Smmu};
use crate::master::MasterState;
use crate::platform::{Mmio, Platform};
use crate::shared::NoMemory;
use crate::update::{SteKind, update};

mod requests;
mod survey;

pub(crate) use requests::OldRequests;
pub use survey::{AdoptError, Remains, Structure};
pub(crate) use survey::{Found, Running, survey};

/// What goes on of an instance that was adopted.
pub(crate) struct Adopted {
    pub(crate) instance: InstanceId,
    /// Streams that no master has yet, in order.
    pub(crate) streams: Vec<StreamId>,
    /// Numbers that were taken for their contexts.
    tags: Vec<Tag>,
}

impl<P: Platform> Probe<P> {
    /// Takes the SMMU over as it runs, when it is enabled: streams that work go on working, and are `keeps`'s choice; those
    /// that are not kept abort, as all others do. Nothing is written before [`Probe::enable`].
    ///
    /// Each stream goes on until [`Iommu::add_master`] was called for it and its master is attached or detached, or until
    /// [`Iommu::end_adoption`]. Other masters, and other streams, are as ever.
    ///
    /// The stream table stays where it is, and its memory, and whatever it leads to, are never freed; leaves that the driver
    /// adds to it are its own, and go with the rest of the instance's memory.
    ///
    /// Page requests that nobody has read fail, so that devices ask for none until they are set up anew, if `remains` lets
    /// their queue be read. What came of those that were read is not known.
    ///
    /// Returns how many streams go on.
    ///
    /// # Errors
    /// See [`AdoptError`]: whatever in memory is not as it has to be. Then [`Probe::enable`] makes everything abort.
    ///
    /// # Safety
    /// For as long as the [`Iommu`] exists: what `remains` lets be read is memory that [`Frames::pointer`](crate::Frames::pointer) leads to and
    /// [`Frames::publish`](crate::Frames::publish) is for, and nobody else writes to the stream table in it. Devices behind kept streams only access
    /// what those tables lead to as somebody relies on.
    pub unsafe fn adopt(&mut self, remains: &dyn Remains) -> Result<usize, AdoptError> {
        if !self.kept.is_empty() {
            return Err(AdoptError::Kept);
        }
        if self.adopted.is_some() {
            return Err(AdoptError::Twice);
        }
        let mmio = self.probed.mmio();
        let cr0 = Cr0(mmio.read32(Cr0::OFFSET));
        if !cr0.smmuen() {
            return Err(AdoptError::Off);
        }
        let features = self.probed.features();
        let cr1 = Cr1(mmio.read32(Cr1::OFFSET));
        let expected = crate::instance::cr1(features);
        let tables = |cr1: Cr1| (cr1.table_ic(), cr1.table_oc(), cr1.table_sh());
        if tables(cr1) != tables(expected) {
            return Err(AdoptError::Attributes { cr1: cr1.0, expected: expected.0 });
        }
        let half = |offset| u64::from(mmio.read32(offset));
        let word = |offset| half(offset) | half(offset + 4) << 32;
        let running = Running {
            cr2: Cr2(mmio.read32(Cr2::OFFSET)),
            base: StrtabBase(word(StrtabBase::OFFSET)),
            shape: StrtabBaseCfg(mmio.read32(StrtabBaseCfg::OFFSET)),
            requests: (features.registers.idr0.pri() && cr0.priqen())
                .then(|| PriqBase(word(PriqBase::OFFSET))),
        };
        let found = survey(&running, features, remains)?;
        let count = found.kept.len();
        self.probed.adopted(running.cr2);
        self.adopted = Some(found);
        Ok(count)
    }
}

impl<P: Platform> Configuration<P> {
    /// Takes the numbers that contexts of `found` have, and remembers its streams. Before anything of the instance, which
    /// is to be number `id`, was changed; undone by [`Configuration::disown`].
    pub(crate) fn reserve_adopted(
        &mut self,
        id: InstanceId,
        found: Found,
    ) -> Result<Vec<StreamId>, EnableError> {
        let no_memory = |_| EnableError::NoMemory;
        let mut tags = Vec::new();
        tags.try_reserve_exact(2 * found.tags.len() + found.vmids.len()).map_err(no_memory)?;
        self.adopted.try_reserve(1).map_err(no_memory)?;
        let hypervisors = |vmid: &&u16| self.asids.is_hypervisors(**vmid);
        if let Some(vmid) = found.vmids.iter().find(hypervisors).copied() {
            return Err(EnableError::Tag { vmid, asid: None });
        }
        let mut wrong = None;
        for vmid in found.vmids.iter().copied().chain(found.tags.iter().map(|(vmid, _)| *vmid)) {
            match self.asids.keep_vmid(id, vmid) {
                // There is room.
                Ok(true) => tags.push(Tag { regime: Regime::Stage2, vmid, asid: 0 }),
                Ok(false) => {}
                Err(NoMemory) => wrong = Some(EnableError::NoMemory),
            }
        }
        for (vmid, asid) in found.tags {
            let home = vmid == self.asids.home(id);
            let taken = match asid {
                // Numbers of other VMIDs are nobody's, as long as they are no banks.
                _ if !home => !self.asids.may_be_bank(id, vmid) && !self.asids.is_hypervisors(vmid),
                None => false,
                Some(asid) => {
                    let tag = self.asids.tag(id, vmid, asid);
                    let free = asid == 0 || self.asids.take(id, tag);
                    if free && asid != 0 {
                        tags.push(tag);
                    }
                    free
                }
            };
            if !taken {
                wrong = Some(EnableError::Tag { vmid, asid });
                break;
            }
        }
        if let Some(error) = wrong {
            for tag in tags {
                self.asids.release(id, tag);
            }
            return Err(error);
        }
        self.adopted.push(Adopted { instance: id, streams: found.kept, tags });
        Ok(found.others)
    }

    /// The instance was not adopted after all.
    pub(crate) fn disown(&mut self, id: InstanceId) {
        if let Some(at) = self.adopted.iter().position(|adopted| adopted.instance == id) {
            for tag in self.adopted.swap_remove(at).tags {
                self.asids.release(id, tag);
            }
        }
    }

    /// Whether `tag` is kept for contexts that were there before: on the instance, or, where all have the same numbers, on any.
    pub(crate) fn is_adopted(&self, id: InstanceId, tag: Tag) -> bool {
        let common = self.asids.policy().is_common();
        let kept = |adopted: &Adopted| match common {
            true => adopted.tags.iter().any(|kept| kept.asid == tag.asid),
            false => adopted.instance == id && adopted.tags.contains(&tag),
        };
        self.adopted.iter().any(kept)
    }

    /// A master is made of `streams`: whether any of them works as it was adopted.
    pub(crate) fn claim_adopted(&mut self, id: InstanceId, streams: &[StreamId]) -> bool {
        let adopted = self.adopted.iter_mut().find(|adopted| adopted.instance == id);
        adopted.is_some_and(|adopted| {
            let before = adopted.streams.len();
            adopted.streams.retain(|stream| !streams.contains(stream));
            adopted.streams.len() != before
        })
    }
}

/// Makes `streams` abort, each by one word, and empties all caches: whatever they used is used by nobody then.
pub(crate) fn block<P: Platform>(
    platform: &P,
    instance: &Instance<P>,
    streams: &[StreamId],
) -> Result<(), Failure> {
    let target = Stream::Blocked.encode(instance.features()).0;
    for stream in streams {
        let Some(entry) = instance.streams().entry(platform, *stream) else { continue };
        update::<P, SteKind, _>(platform, entry, &target, || {
            instance.forget_streams(platform, &[*stream])
        })?;
    }
    Ok(())
}

impl<P: Platform> Iommu<P> {
    /// Ends what is left of an adoption ([`Probe::adopt`]): streams of `smmu` that work as they did, and that no master
    /// has, abort when this has returned; tags that were kept for contexts from before can be used. How many streams it was.
    ///
    /// # Errors
    /// [`EnableError::Commands`] when it does not confirm: to be called again, after a reset if it failed. Then nothing
    /// was given back.
    pub fn end_adoption(&self, smmu: &Smmu<P>) -> Result<usize, EnableError> {
        let core = &smmu.core;
        core.configuration.with(|configuration| {
            if configuration.asids.removed() & smmu.id.bit() != 0 {
                return Ok(0);
            }
            let of_it = |adopted: &&Adopted| adopted.instance == smmu.id;
            let Some(adopted) = configuration.adopted.iter().find(of_it) else { return Ok(0) };
            let claimed =
                |(_, state): (usize, &MasterState)| state.instance == smmu.id && state.adopted;
            if configuration.masters.iter().any(claimed) {
                // What its contexts are tagged with is in use.
                return Err(EnableError::Claimed);
            }
            let (instance, count) = (smmu.instance(), adopted.streams.len());
            block(&core.platform, instance, &adopted.streams).map_err(EnableError::Commands)?;
            #[cfg(feature = "mutation")]
            let flushes = !core.leaves_out(crate::Mutation::NoAdoptedFlush);
            #[cfg(not(feature = "mutation"))]
            let flushes = true;
            if flushes {
                instance.forget_all(&core.platform)?;
            }
            configuration.disown(smmu.id);
            Ok(count)
        })
    }
}
