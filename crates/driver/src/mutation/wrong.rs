// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a driver that is wrong on purpose does instead.

use smmuv3_formats::Ste;

use super::{LeftOut, Mutation};
use crate::ats::AtsMode;
use crate::features::Features;
use crate::instance::InstanceConfig;
use crate::invalidate::{Range, Regime, Scope, Tag};
use crate::iommu::Core;
use crate::platform::Platform;
use crate::space::Installed;
use crate::update::Words;

impl<P: Platform> Core<P> {
    /// Which step is left out, if any.
    #[inline(always)]
    pub(crate) const fn left_out(&self) -> LeftOut {
        LeftOut(
            #[cfg(feature = "mutation")]
            self.config.mutation,
        )
    }

    /// Whether it is `step`.
    #[inline(always)]
    pub(crate) const fn leaves_out(&self, step: Mutation) -> bool {
        self.left_out().is(step)
    }

    /// What an SMMU can do, if an erratum is not heeded.
    pub(crate) fn wrong_features(&self, features: &mut Features, config: &InstanceConfig) {
        let idr0 = features.registers.idr0;
        if self.leaves_out(Mutation::BroadcastsTaken) {
            features.broadcast = idr0.btm() && config.broadcast;
        } else if self.leaves_out(Mutation::WholeBatches) {
            features.largest_batch = u32::MAX;
        } else if self.leaves_out(Mutation::EventsAsked) {
            features.events = idr0.sev();
        }
    }

    /// A guest's entry.
    pub(crate) fn guests_entry(&self, nested: Option<Ste>) -> Option<Ste> {
        let wrong = self.leaves_out(Mutation::NoMerging);
        let nested = nested.map(|ste| ste.with_mev(ste.mev() && !wrong));
        let first = self.leaves_out(Mutation::GuestsFirst);
        nested.map(|ste| if first && ste.s1_cd_max() != 0 { ste.with_s1_dss(2) } else { ste })
    }

    /// The tag that is named instead of `tag`.
    #[inline(always)]
    pub(crate) fn wrong(&self, tag: Tag) -> Option<Tag> {
        let is_stage_2 = tag.regime == Regime::Stage2;
        if self.leaves_out(Mutation::WrongAsid) && !is_stage_2 {
            Some(Tag { asid: tag.asid ^ 0x40, ..tag })
        } else if self.leaves_out(Mutation::El2AsEl1) && tag.regime == Regime::El2 {
            Some(Tag::el1(0, tag.asid))
        } else if self.leaves_out(Mutation::WrongVmid) && is_stage_2 {
            Some(Tag { vmid: tag.vmid ^ 0x40, ..tag })
        } else if self.leaves_out(Mutation::Stage2ByAsid) && is_stage_2 {
            Some(Tag::el1(tag.vmid, 0))
        } else {
            None
        }
    }

    /// What is invalidated.
    pub(crate) fn wrong_scope(&self, scope: Scope) -> Scope {
        match scope {
            Scope::Range(range) if self.leaves_out(Mutation::LeafOnly) => {
                Scope::Range(Range { leaf_only: true, ..range })
            }
            scope => scope,
        }
    }

    /// How devices keep translations.
    #[inline(always)]
    pub(crate) const fn wrong_ats(&self, ats: AtsMode) -> AtsMode {
        match ats {
            AtsMode::Always if self.leaves_out(Mutation::AtsUnderTables) => AtsMode::Full,
            ats => ats,
        }
    }

    /// What the entry of a stream says.
    pub(crate) fn entry_of(&self, words: Words) -> Words {
        if self.leaves_out(Mutation::NoForcedTypes) {
            return Ste(words).with_s2_fwb(false).0;
        }
        #[cfg(feature = "ats")]
        if self.leaves_out(Mutation::SplitAsFull) && Ste(words).eats() == crate::ats::SPLIT {
            return Ste(words).with_eats(1).0;
        }
        words
    }

    /// What becomes of a guest's command.
    #[cfg(feature = "nested")]
    pub(crate) fn forwarded(&self, command: smmuv3_formats::Command) -> smmuv3_formats::Command {
        let named = |field, mutation| self.leaves_out(mutation) && command.field(field).is_some();
        let [first, second] = command.0;
        let first = if named("VMID", Mutation::GuestsVmid) {
            // Guests name none.
            first & !(0xffff << 32)
        } else if named("SID", Mutation::GuestsStream) {
            first ^ 1 << 32
        } else if named("SSID", Mutation::GuestsPasid) {
            first ^ 1 << 12
        } else {
            first
        };
        let leaf = named("Leaf", Mutation::GuestsLeaf) && command.field("SSID").is_some();
        let second = if leaf { second | 1 } else { second };
        smmuv3_formats::Command([first, second])
    }

    /// Whether `tag` is given back without an invalidation.
    pub(crate) fn leaves_out_flush(&self, tag: Tag) -> bool {
        let of_stage_2 = tag.regime == Regime::Stage2;
        self.leaves_out(Mutation::NoTagFlush) && !of_stage_2
            || self.leaves_out(Mutation::NoVmidFlush) && of_stage_2
    }

    /// Whether `target` is told of an invalidation.
    #[inline(always)]
    pub(crate) fn reaches(&self, targets: &[Installed], target: &Installed) -> bool {
        if self.leaves_out(Mutation::OneInstanceOnly) {
            return targets.first().is_some_and(|first| first.instance == target.instance);
        }
        !self.leaves_out(Mutation::NoTlbi)
    }
}
