// SPDX-License-Identifier: MIT OR Apache-2.0
//! With which memory type, and shared with whom, an access that is permitted reaches memory (§16.3, §16.4).

use smmuv3::{Caching, Overrides, Privilege, Sharing};
use smmuv3_model::{Attributes, Cacheability, Hints, MemoryType, Shareability};

use super::{AccessKind, Oracle, Power, Rule, Use, User};
use crate::scenario::MemoryKind;

const fn normal(both: Cacheability) -> MemoryType {
    MemoryType::Normal { outer: both, inner: both }
}

/// What accesses have on which nothing translates.
pub(super) fn untranslated(overrides: &Overrides) -> Attributes {
    let memory = match overrides.memory {
        None | Some(Caching::WriteBack) => MemoryType::WRITE_BACK,
        Some(Caching::DeviceNgnrne) => MemoryType::Device(0),
        Some(Caching::DeviceNgnre) => MemoryType::Device(1),
        Some(Caching::NonCacheable) => normal(Cacheability::None),
        Some(Caching::WriteThrough) => normal(Cacheability::Through),
    };
    let shareability = match overrides.sharing {
        None | Some(Sharing::None) => Shareability::Non,
        Some(Sharing::Outer) => Shareability::Outer,
        Some(Sharing::Inner) => Shareability::Inner,
    };
    outer_where_uncached(Attributes { memory, shareability })
}

/// What else they say, of a device that gives no hints and claims no privilege.
pub(super) fn hints(overrides: &Overrides, kind: AccessKind) -> Hints {
    Hints {
        allocation: overrides.allocation.unwrap_or((true, true, false)),
        privileged: overrides.privilege == Some(Privilege::Privileged),
        instruction: kind.taken_as(overrides.access) == AccessKind::Fetch,
    }
}

/// What is mapped so, alone.
fn mapped(kind: MemoryKind) -> Attributes {
    let memory = match kind {
        // As the device says, where there is no stage 1.
        MemoryKind::AsStage1 => return Attributes::default(),
        MemoryKind::Normal => MemoryType::WRITE_BACK,
        MemoryKind::Uncached => normal(Cacheability::None),
        MemoryKind::Device => MemoryType::Device(1),
        MemoryKind::WriteThrough => normal(Cacheability::Through),
        MemoryKind::StrictDevice => MemoryType::Device(0),
    };
    outer_where_uncached(Attributes { memory, shareability: Shareability::Inner })
}

fn outer_where_uncached(attributes: Attributes) -> Attributes {
    let device = matches!(attributes.memory, MemoryType::Device(_));
    match device || attributes.memory == normal(Cacheability::None) {
        true => Attributes { shareability: Shareability::Outer, ..attributes },
        false => attributes,
    }
}

impl Oracle {
    /// Judges the attributes with which an access of `user` at `iova` was `found` to reach memory; the device itself gave
    /// none (write-back, not shared).
    /// Where nothing translates it, the SMMU tells what else it says.
    pub fn arrived_as(
        &mut self,
        user: User,
        iova: u64,
        kind: AccessKind,
        (found, said): (Attributes, Option<Hints>),
    ) {
        let Some(wanted) = self.attributes(user, iova) else { return };
        let state = self.masters.get(user.master);
        let wanted_hints = state.map(|it| hints(&it.overrides, kind));
        if let Some((said, wanted)) = said.zip(wanted_hints).filter(|(said, wanted)| said != wanted)
        {
            let text = format_args!(
                "{user}: a {kind} at {iova:#x} that nothing translates leaves as {said:?}; it should as {wanted:?}"
            );
            self.accuse(Rule::R0, text);
        }
        if found != wanted {
            let text = format_args!(
                "{user}: an access at {iova:#x} reached memory as {found:?}; it is mapped as {wanted:?}"
            );
            self.accuse(Rule::R0, text);
        }
    }

    /// What an access of `user` at `iova` is to have; `None` where that changes, or is for a guest to say.
    fn attributes(&self, user: User, iova: u64) -> Option<Attributes> {
        let state = self.masters.get(user.master)?;
        if state.is_changing() || self.power(state.instance) != Power::On {
            return None;
        }
        let own = state.uses(user.substream, false);
        if own == Use::Identity {
            return Some(state.untranslated);
        }
        let space = self.space(own)?;
        let page = self.page(space, iova).filter(|page| !page.changing)?;
        let under_guest = self.over(space).is_some() || matches!(own, Use::Kept(_));
        (!under_guest).then(|| mapped(page.kind))
    }
}
