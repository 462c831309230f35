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
use crate::iommu::{Core, Iommu, Probe, Smmu};
use crate::legal;
use crate::master::MasterState;
use crate::mutation::Mutation;
use crate::platform::{Mmio, Platform};
use crate::room::Room;
use crate::shared::NoMemory;
use crate::stall;

mod requests;
mod survey;

pub(crate) use requests::OldRequests;
pub use survey::{AdoptError, Remains, Structure};
pub(crate) use survey::{Found, Running, survey};

/// All that goes on of adopted instances.
pub(crate) type Adoptions = Vec<Adopted>;

/// What still works of an adopted instance as its predecessor left it.
pub(crate) struct Adopted {
    pub(crate) instance: InstanceId,
    /// Streams that no master has yet, in order.
    pub(crate) streams: Vec<StreamId>,
    taken: Taken,
}

/// Numbers that were taken for contexts that go on.
#[derive(Default)]
struct Taken {
    /// VMID and ASID, in order. Where ASIDs are common to all instances, others' contexts may have the same.
    asids: Vec<Tag>,
    /// VMIDs of which nothing is known but that they are in use.
    vmids: Vec<Tag>,
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
    /// ASIDs and VMIDs of what goes on are not given out before that is over, and have to be free: with a predecessor
    /// that had the same [`Config`](crate::Config) they are, if every SMMU is adopted before anything is attached. Several
    /// may go on with one ASID where that is common to all. A VMID of a hypervisor's
    /// ([`Config::hypervisor_vmids`](crate::Config::hypervisor_vmids)) is not adopted: which tables it means is the
    /// hypervisor's to say, on its CPUs as well. Its streams can be given up.
    ///
    /// Of a stream that is not kept nothing is followed, and nothing is an error: what its entry leads to, ATS, faults that
    /// stall. Transactions that have stalled end with it, and whatever was cached of it is gone when
    /// [`Probe::enable`] has returned. What its device keeps (ATS) is not believed any more; before a master
    /// [with ATS](crate::MasterConfig::with_ats) is made of it, ATS has to be off in it, as after a reset.
    ///
    /// The first attach of a master whose adopted entry has contexts of PASIDs goes through an invalid entry, unless
    /// one word makes the difference: its accesses are refused for a moment.
    ///
    /// Either this is called or [`Probe::keep`], which makes entries that nothing reads before the SMMU is on, not
    /// both. Nothing is lost by that: a stream that firmware needs (RMR) and that works goes on as any other, by the
    /// entry that it has; a domain that maps its regions takes that place when its master is attached, without a gap as
    /// long as one word of the entry is enough for it (as it is from bypass, or from a predecessor with this driver).
    /// One that the predecessor had blocked has nothing to go on with, and is attached as any other.
    ///
    /// One that the predecessor had put in quarantine, if it was this driver, stays in it, since its device did not answer
    /// and may use what it keeps: the first look of [`Iommu::handle_interrupt`] says so again
    /// ([`Report::Quarantined`](crate::Report::Quarantined)), a master that is made of it is
    /// [in quarantine](crate::Master::is_quarantined) and is not attached before [`Iommu::readmit`], after its device was
    /// reset.
    ///
    /// Whether an access of a stream without an entry is reported (C_BAD_STREAMID) can be changed only while nothing is
    /// translated (CR2): that stays as the predecessor chose it until [`Iommu::reset`]. It is aborted either way.
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
            requests: (features.has_page_requests() && cr0.priqen())
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
        let mut taken = Taken::default();
        taken.asids.room_exact(found.tags.len()).map_err(no_memory)?;
        taken.vmids.room_exact(found.tags.len() + found.vmids.len()).map_err(no_memory)?;
        self.adopted.room(1).map_err(no_memory)?;
        match self.take_adopted(id, &found, &mut taken) {
            Ok(()) => {
                self.adopted.put(Adopted { instance: id, streams: found.kept, taken });
                Ok(found.others)
            }
            Err(error) => {
                self.give_back(id, taken);
                Err(error)
            }
        }
    }

    /// Takes the numbers, and notes each in `taken`, which has room; also those taken before an error.
    fn take_adopted(
        &mut self,
        id: InstanceId,
        found: &Found,
        taken: &mut Taken,
    ) -> Result<(), EnableError> {
        let no_memory = |NoMemory| EnableError::NoMemory;
        let hypervisors = |vmid: &&u16| self.asids.is_hypervisors(**vmid);
        if let Some(vmid) = found.vmids.iter().find(hypervisors).copied() {
            return Err(EnableError::Tag { vmid, asid: None });
        }
        for vmid in found.vmids.iter().copied().chain(found.tags.iter().map(|(vmid, _)| *vmid)) {
            if self.asids.keep_vmid(id, vmid).map_err(no_memory)? {
                taken.vmids.put(Tag { regime: Regime::Stage2, vmid, asid: 0 });
            }
        }
        for (vmid, asid) in found.tags.iter().copied() {
            let may = match asid {
                // ASIDs of a VMID that can be no bank are given to nobody, whatever they are.
                _ if !self.asids.may_be_bank(id, vmid) => !self.asids.is_hypervisors(vmid),
                // `None` stands for all ASIDs of the VMID: refused, since the VMID may be a bank.
                None => false,
                // ASID 0 is never given out, so it collides with none of this driver's.
                Some(0) => true,
                Some(asid) => {
                    let tag = self.asids.tag(id, vmid, asid);
                    let free = self.asids.open_bank_of(id, vmid).map_err(no_memory)?
                        && (self.asids.take(id, tag) || self.is_adopted(id, tag));
                    if free {
                        taken.asids.put(tag);
                    }
                    free
                }
            };
            if !may {
                return Err(EnableError::Tag { vmid, asid });
            }
        }
        Ok(())
    }

    /// Whether the number of `tag`, which fits `id`, is common to all instances, and taken for contexts of another that go
    /// on: nothing else of this driver has it then, anywhere.
    fn is_adopted(&self, id: InstanceId, tag: Tag) -> bool {
        let has = |adopted: &Adopted| {
            // Sorted by ASID, since with a common policy all of them have one VMID.
            adopted.taken.asids.binary_search_by_key(&tag.asid, |other| other.asid).is_ok()
        };
        let fits = u64::from(tag.asid) >> self.asids.bits(id) == 0;
        fits && self.asids.policy().is_common() && self.adopted.iter().any(has)
    }

    /// Whether `tag` is kept for contexts that were there before: on the instance, or, where all have the same numbers, on
    /// any.
    pub(crate) fn is_kept(&self, id: InstanceId, tag: Tag) -> bool {
        let here = |adopted: &Adopted| adopted.instance == id && adopted.taken.asids.contains(&tag);
        self.is_adopted(id, tag) || self.adopted.iter().any(here)
    }

    /// Gives numbers back that were taken for `id`, which is not among what was adopted; but for those that others
    /// hold as well.
    fn give_back(&mut self, id: InstanceId, taken: Taken) {
        for tag in taken.vmids {
            self.asids.release(id, tag);
        }
        for tag in taken.asids {
            if !self.is_adopted(id, tag) {
                self.asids.release(id, tag);
            }
        }
    }

    /// Forgets the adoption of an instance, and gives its numbers back: it was not enabled after all, or the adoption
    /// has ended.
    pub(crate) fn disown(&mut self, id: InstanceId) {
        if let Some(at) = self.adopted.iter().position(|adopted| adopted.instance == id) {
            let Adopted { taken, .. } = self.adopted.swap_remove(at);
            self.give_back(id, taken);
        }
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

/// Makes `streams` abort, each by one word, ends what they had stalled, and empties all caches: whatever they used is used
/// by nobody then.
pub(crate) fn block<P: Platform>(
    core: &Core<P>,
    instance: &Instance<P>,
    streams: &[StreamId],
) -> Result<(), EnableError> {
    if !streams.is_empty() {
        abort(core, instance, streams).map_err(EnableError::Commands)?;
    }
    if core.leaves_out(Mutation::NoAdoptedFlush) {
        return Ok(());
    }
    // Entries as well: a cached one may answer for its neighbours (STE.CONT).
    instance.forget_all(&core.platform)
}

fn abort<P: Platform>(
    core: &Core<P>,
    instance: &Instance<P>,
    streams: &[StreamId],
) -> Result<(), Failure> {
    let (platform, features) = (&core.platform, instance.features());
    let target = Stream::Blocked.encode(features).0;
    legal::ste(&target, features);
    let entries = || streams.iter().filter_map(|it| instance.streams().entry(platform, *it));
    // Word 0 first: with Config = abort hardware ignores the other words. They are changed only after CFGI + SYNC,
    // since nobody knows what a mixture with the old word 0 would mean.
    entries().for_each(|entry| entry.write(platform, 0, target[0]));
    instance.forget_streams(platform, streams)?;
    for entry in entries() {
        let words = (1..).zip(target.iter().skip(1));
        words.for_each(|(word, value)| entry.write(platform, word, *value));
    }
    // The event of whatever stalled before is in the queue by now, or was lost: nothing stalls any more.
    stall::end_inherited(core, instance, streams)
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
                |(_, state): (usize, &MasterState)| state.instance == smmu.id && state.is_adopted();
            if configuration.masters.iter().any(claimed) {
                // Contexts of a claimed but unattached master still use tags that this would give back.
                return Err(EnableError::Claimed);
            }
            let (instance, count) = (smmu.hardware(), adopted.streams.len());
            block(core, instance, &adopted.streams)?;
            configuration.disown(smmu.id);
            Ok(count)
        })
    }
}
