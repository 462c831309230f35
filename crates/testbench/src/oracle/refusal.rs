// SPDX-License-Identifier: MIT OR Apache-2.0
//! How an access was refused, and whether any configuration that hardware may see by then refuses it like that
//! (§5.2, §8.2, §10.2).

use smmuv3_formats::EventId;

use super::user::MasterState;
use super::{AccessKind, Oracle, Power, Refused, Rule, Use, User};

impl Oracle {
    /// Judges how an access of `user` was refused, which is permitted: by an event of this kind, or by none.
    pub(crate) fn refused_by(
        &mut self,
        user: impl Into<User>,
        iova: u64,
        kind: AccessKind,
        event: Option<EventId>,
    ) {
        let user = user.into();
        let Some(state) = self.masters.get(user.master) else { return };
        // What is kept of a kernel that is gone is that kernel's to say, on its way on or off an SMMU may have either, and of
        // others nobody has promised by which steps they change.
        let promised = state.hitless && !state.mute && !state.kept;
        if self.power(state.instance) != Power::On || !promised {
            return;
        }
        let Some(event) = event else { return };
        let Some(refused) = self.expected(user, iova, kind).refused else { return };
        let asked_for = match refused {
            Refused::Silently | Refused::Somehow => false,
            Refused::With(one) => event == one,
            Refused::WithEither(one, other) => [one, other].contains(&event),
        };
        let changing = state.is_changing() || refused == Refused::Somehow;
        let may = asked_for || changing && self.may_be(state, user.substream, event);
        if !may {
            let name = event.name();
            let text = format!(
                "{user}: {kind} at {iova:#x} was refused by {name}, which nothing asks for"
            );
            // An entry that is invalid, or a mixture, is what a change must not lead through; what is blocked and is looked up
            // all the same is still what it was.
            let rule = match refused {
                _ if changing => Rule::R4,
                Refused::Silently => Rule::R1,
                _ => Rule::R9,
            };
            self.accuse(rule, text);
        }
    }

    /// Whether anything that is being changed may refuse an access like that for a moment.
    fn may_be(&self, state: &MasterState, substream: Option<u32>, event: EventId) -> bool {
        match event {
            EventId::CBadSte => self.may_have_invalid_entry(state),
            EventId::CBadCd | EventId::FStreamDisabled => state.contexts.bits != 0,
            EventId::CBadSubstreamId => substream.is_some(),
            other => other.is_translation_fault(),
        }
    }

    /// Whether the entry of a master may be invalid for a moment: only where one word does not decide, which it does where
    /// nothing is permitted before, or after.
    fn may_have_invalid_entry(&self, state: &MasterState) -> bool {
        let used = [false, true].map(|after| state.uses(None, after));
        !used.contains(&Use::Blocked) && self.is_in_steps(state, used)
    }
}
