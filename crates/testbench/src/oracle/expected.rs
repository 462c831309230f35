// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an access may come to, as things are meant to be (§5.2, §5.3).

use smmuv3_formats::EventId;

use super::user::MasterState;
use super::{AccessKind, Life, Oracle, PAGE, Page, Power, Rule, Use, User};

/// What an access may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Physical addresses that it may reach.
    pub reach: Vec<u64>,
    /// It may be refused; with this event, or silently. `None`: it must not be refused.
    pub refused: Option<Refused>,
}

/// How an access is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Without an event.
    Silently,
    /// With this event.
    With(EventId),
    /// With one of these.
    WithEither(EventId, EventId),
    /// However it comes: configuration is changing.
    Somehow,
}

/// What an access is, with the privilege that it has.
#[derive(Clone, Copy)]
struct Kind {
    kind: AccessKind,
    privileged: bool,
}

impl Kind {
    /// Of `state`, whose stream may make something else of what the device says.
    fn of(state: &MasterState, kind: AccessKind) -> Self {
        let privileged = state.privileged;
        Self { kind: kind.taken_as(state.overrides.access), privileged }
    }

    /// Whether a page of stage 1, or of stage 2, permits it (§16.1, §16.2).
    fn fits(self, page: &Page, stage_2: bool) -> bool {
        self.kind.is_permitted(page, stage_2, self.privileged)
    }
}

impl Oracle {
    /// What an access of `user` at `iova` may do now.
    pub fn expected(
        &self,
        user: impl Into<User>,
        iova: u64,
        kind: impl Into<AccessKind>,
    ) -> Expected {
        let kind = kind.into();
        let User { master, substream } = user.into();
        let Some(state) = self.masters.get(master) else {
            return Expected { reach: Vec::new(), refused: None };
        };
        let power = self.power(state.instance);
        if power == Power::Off {
            return Expected { reach: Vec::new(), refused: Some(Refused::Silently) };
        }
        let mut expected = self.answer(state, substream, false, iova, kind);
        if power == Power::Changing {
            expected.refused = Some(Refused::Somehow);
            if self.passing.contains_key(&state.instance) {
                expected.reach.push(iova);
            }
        }
        if state.mute {
            expected.refused = Some(Refused::Somehow);
        }
        if state.is_changing() {
            let after = self.answer(state, substream, true, iova, kind);
            let never = expected.refused.is_none() && after.refused.is_none();
            let hitless = never && self.is_hitless(state, substream, iova);
            let changes = state.useful(substream).next.is_some();
            if !hitless && (changes || after.refused != expected.refused) {
                // On its way from one configuration to another an access may be blocked for a moment. That of
                // other substreams changes nothing for what can be reached, but perhaps for how the rest is
                // refused.
                expected.refused = Some(Refused::Somehow);
            }
            expected.reach.extend(after.reach);
            if substream == Some(0) && state.useful(None).next.is_some() {
                // Its context and what is done without a substream (S1DSS) are different words of different
                // structures: for a moment the context of the one is that of the other.
                let kind = Kind::of(state, kind);
                for after in [false, true] {
                    let plain = self.space(state.uses(None, after));
                    let plain = plain.map(|space| self.translated(space, iova, kind).reach);
                    expected.reach.extend(plain.unwrap_or_default());
                }
                expected.refused = Some(Refused::Somehow);
            }
            expected.reach.dedup();
        }
        expected
    }

    /// What an access does before all that is under way, or after it.
    fn answer(
        &self,
        master: &MasterState,
        substream: Option<u32>,
        after: bool,
        iova: u64,
        kind: AccessKind,
    ) -> Expected {
        let refused = |refused| Expected { reach: Vec::new(), refused: Some(refused) };
        let event = |event| refused(Refused::With(event));
        let own = master.uses(substream, after);
        let plain = master.uses(None, after);
        let bits = master.context_bits();
        if own == Use::Identity && !master.puts_out(iova) {
            return event(EventId::FAddrSize);
        }
        if own == Use::Identity {
            return Expected { reach: vec![iova], refused: None };
        }
        let kind = Kind::of(master, kind);
        let by_guest =
            self.space(plain).and_then(|plain| self.by_contexts(master, plain, substream, own));
        match by_guest {
            Some(Ok(space)) => return self.translated(space, iova, kind),
            Some(Err(refused)) => return refused,
            None => {}
        }
        // By stage 2 alone, without a word about substreams (§5.2).
        let by_stage_2 = self.space(plain).is_some_and(|space| self.shape(space).stage_2);
        if by_stage_2 && substream.is_some() {
            return event(EventId::CBadSubstreamId);
        }
        if !master.has_contexts(after) {
            return match plain {
                Use::Identity => event(EventId::CBadSubstreamId),
                _ => refused(Refused::Silently),
            };
        }
        match substream {
            // The entry translates because of its PASIDs (S1DSS = 0).
            None if own == Use::Blocked => event(EventId::FStreamDisabled),
            Some(substream) if bits == 0 || u64::from(substream) >> bits != 0 => {
                event(EventId::CBadSubstreamId)
            }
            // The context belongs to accesses without substream (S1DSS = 2).
            Some(0) if plain != Use::Blocked && plain != Use::Identity => {
                event(EventId::FStreamDisabled)
            }
            Some(substream) if own == Use::Blocked => refused(missing(master, substream)),
            _ => match self.space(own) {
                Some(space) => {
                    let mut expected = self.translated(space, iova, kind);
                    if master.stalls_always && expected.refused == Some(Refused::Silently) {
                        expected.refused = Some(Refused::With(EventId::FTranslation));
                    }
                    expected
                }
                None => refused(Refused::Silently),
            },
        }
    }

    /// Whether an address of `space` leads to `pa`, or is being changed.
    pub(crate) fn leads(&self, space: usize, iova: u64, pa: u64) -> bool {
        // What only privileged accesses may reach is cached as well.
        let expected =
            self.translated(space, iova, Kind { kind: AccessKind::Read, privileged: true });
        let changing = expected.refused == Some(Refused::Somehow) && !expected.reach.is_empty();
        changing || expected.reach.contains(&pa)
    }

    /// Whether the device of `user` may keep that `iova` leads to `output`: where its accesses may go, or with split-stage ATS
    /// what a guest's stage 1 makes of it, an intermediate address. What is under that is looked at whenever it is used.
    pub(crate) fn may_keep(&self, user: User, iova: u64, output: u64) -> bool {
        let Some(state) = self.masters.get(user.master).filter(|it| it.split) else {
            // What is taken for instructions may be granted to be written alone.
            let kinds = [AccessKind::Read, AccessKind::Write];
            let reaches = |kind| self.expected(user, iova, kind).reach.contains(&output);
            return kinds.into_iter().any(reaches);
        };
        [false, true].into_iter().any(|after| {
            let own = state.uses(user.substream, after);
            let plain = self.space(state.uses(None, after));
            let through =
                plain.and_then(|plain| self.by_contexts(state, plain, user.substream, own));
            // Granted as it is, where stage 1 is skipped (S1DSS, §12.1).
            let bypasses = matches!(through, Some(Ok(space)) if Some(space) != self.space(own));
            bypasses && output == iova
                || self.space(own).is_some_and(|space| self.leads_first(space, iova, output))
        })
    }

    /// Whether a guest's stage 1, the space `space`, leads from `iova` to the intermediate address `output`, or is being
    /// changed there. No other space leads to such.
    pub(crate) fn leads_first(&self, space: usize, iova: u64, output: u64) -> bool {
        let kind = Kind { kind: AccessKind::Read, privileged: true };
        self.over(space).is_some() && self.by_itself(space, iova, kind).reach.contains(&output)
    }

    /// What `space`, and what it is over, make of an access.
    fn translated(&self, space: usize, iova: u64, kind: Kind) -> Expected {
        let first = self.by_itself(space, iova, kind);
        let Some(under) = self.over(space) else { return first };
        let mut both = Expected { reach: Vec::new(), refused: first.refused };
        for address in first.reach {
            let second = self.by_itself(under, address, kind);
            both.reach.extend(second.reach);
            both.refused = both.refused.and(Some(Refused::Somehow)).or(second.refused);
        }
        both
    }

    /// What `space` alone makes of an access.
    fn by_itself(&self, space: usize, iova: u64, kind: Kind) -> Expected {
        let life = self.life(space);
        if life == Life::Released {
            return Expected { reach: Vec::new(), refused: Some(Refused::Silently) };
        }
        let mut expected = match self.page(space, iova) {
            None => {
                let refused = Some(Refused::With(EventId::FTranslation));
                Expected { reach: Vec::new(), refused }
            }
            Some(page) => {
                let permitted = kind.fits(&page, self.is_stage_2(space));
                let refused = if page.changing {
                    Some(Refused::Somehow)
                } else {
                    (!permitted).then_some(Refused::With(EventId::FPermission))
                };
                let reach = if permitted { vec![page.pa + iova % PAGE] } else { Vec::new() };
                Expected { reach, refused }
            }
        };
        if life == Life::Releasing {
            expected.refused = Some(Refused::Somehow);
        }
        expected
    }

    /// Judges an access of `user` that reached `pa`, and is over.
    pub fn reached(
        &mut self,
        user: impl Into<User>,
        iova: u64,
        kind: impl Into<AccessKind>,
        pa: u64,
        how: &str,
    ) {
        let (user, kind) = (user.into(), kind.into());
        if self.goes_to(user, iova, kind, pa, how) {
            self.touched(user, iova);
            if kind == AccessKind::Write {
                self.wrote(user, iova);
            }
        }
    }

    /// Judges an access of `user` that is on its way to `pa`, and need never arrive; whether it may go there.
    pub fn goes_to(
        &mut self,
        user: impl Into<User>,
        iova: u64,
        kind: impl Into<AccessKind>,
        pa: u64,
        how: &str,
    ) -> bool {
        let (user, access) = (user.into(), kind.into());
        let expected = self.expected(user, iova, access);
        if expected.reach.contains(&pa) {
            return true;
        }
        let should = match expected.reach.first() {
            Some(right) => format!("it is mapped to {right:#x}"),
            None => "it must be refused".to_owned(),
        };
        self.accuse(
            Rule::R1,
            format_args!("{user}: {how} {access} at {iova:#x} reached {pa:#x}; {should}"),
        );
        false
    }

    /// Judges an access of `user` that was refused.
    pub fn refused(
        &mut self,
        user: impl Into<User>,
        iova: u64,
        kind: impl Into<AccessKind>,
        how: &str,
    ) {
        let (user, access) = (user.into(), kind.into());
        if self.expected(user, iova, access).refused.is_none() {
            self.accuse(
                Rule::R0,
                format_args!("{user}: {how} {access} at {iova:#x} was refused, but it is mapped"),
            );
        }
    }
}

/// How an access is refused whose substream has no context: where there is a leaf for it, the context in there
/// is invalid, and else there is no leaf (§5.3).
fn missing(master: &MasterState, substream: u32) -> Refused {
    let Some(split) = master.contexts.split else { return Refused::With(EventId::CBadCd) };
    let leaf = substream >> split;
    if master.leaves.contains(&leaf) {
        Refused::With(EventId::CBadCd)
    } else if master.perhaps.contains(&leaf) {
        Refused::WithEither(EventId::CBadCd, EventId::CBadSubstreamId)
    } else {
        Refused::With(EventId::CBadSubstreamId)
    }
}
