// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asking an SMMU what an address of a device translates to. The answer is judged as an access would be. Whoever asks may be
//! interrupted by others who do, of whom the same SMMU answers none meanwhile.

use smmuv3::atos::{AtosError, Question, Stages};
use smmuv3::{Iova, StreamId, SubstreamId};
use smmuv3_formats::EventId;

use super::{Bench, Done, Handle};
use crate::bytes::Bytes;
use crate::oracle::{AccessKind, Expected, Oracle, Power, Use, User};
use crate::scenario::Substream;
use crate::trace;

impl Bench {
    /// Asks where an access of a device would go.
    pub(super) fn translate(
        &self,
        master: usize,
        substream: Substream,
        iova: u64,
        write: bool,
    ) -> Done {
        let Some(number) = self.oracle(|oracle| oracle.substream(substream)) else {
            return Done::default();
        };
        let user = User { master, substream: number };
        let (instance, stream, stages) = self.oracle(|oracle| {
            let (instance, streams) = oracle.streams(master);
            (instance, streams.first().copied(), self.stages(oracle, user))
        });
        let smmu = self.smmus.get(instance).and_then(Handle::get);
        let Some((smmu, stream)) = smmu.zip(stream) else {
            return Done::default();
        };
        let taken_as = self.oracle(|oracle| oracle.taken_as(master, write.into()));
        let substream_id = number.map(SubstreamId);
        let question = Question {
            substream: substream_id,
            stages,
            write,
            privileged: self.scenario.is_privileged(master),
            // Who asks says what the stream would make of it.
            instruction: taken_as == AccessKind::Fetch,
            ..Question::read(StreamId(stream), Iova(iova))
        };
        // Whatever interrupts the driver may unmap what is asked for: either answer is right then.
        let expected = || self.oracle(|oracle| oracle.expected(user, iova, write));
        let before = expected();
        let others = self.look(|watch| std::mem::replace(&mut watch.asks, true));
        let name = self.user_name(master, substream);
        let result = self.traced(
            "call",
            "ask",
            || trace::range(("master", &name), iova, 1),
            || smmu.ask(&question),
        );
        self.look(|watch| {
            watch.collect(&self.world);
            watch.asks = others;
        });
        let either = [before, expected()];
        let output_bits = smmu.features().output_bits;
        let how = "an answer for a";
        let refused = |either: &[Expected]| either.iter().any(|it| it.refused.is_some());
        self.look(|watch| match &result {
            Ok(answer) if either.iter().any(|it| it.reach.contains(&answer.pa.0)) => {}
            Ok(answer) => {
                watch.oracle.goes_to(user, iova, write, answer.pa.0, how);
            }
            // What passes untranslated has no stage either; or, by the side of substreams, no limit but the output's.
            Err(AtosError::InvalidStage) if watch.oracle.using(user) == Use::Identity => {}
            Err(AtosError::Refused { event: EventId::FAddrSize, .. })
                if watch.oracle.using(user) == Use::Identity && iova >> output_bits != 0 => {}
            Err(AtosError::Refused { .. } | AtosError::InvalidStage) => {
                if !refused(&either) {
                    watch.oracle.refused(user, iova, write, how);
                }
            }
            // It is suspended.
            Err(AtosError::Off) if watch.oracle.power(instance) == Power::Off => {}
            // Another question of whom this one interrupts.
            Err(AtosError::Busy) if others => {}
            // An intermediate address has no substream.
            Err(AtosError::InvalidRequest) if stages == Stages::Second && number.is_some() => {}
            Err(error) => watch.refuse(format_args!("a question was not answered: {error}")),
        });
        let asked = match &result {
            Err(AtosError::Refused { event, .. }) => Some(*event),
            _ => None,
        };
        let acted = matches!(&result, Ok(_) | Err(AtosError::Refused { .. }));
        let outcome = match &result {
            Ok(answer) => format!("{:#x}, of {}", answer.pa.0, Bytes(answer.size)),
            Err(error) => error.to_string(),
        };
        Done { outcome, acted, asked, ..Done::default() }
    }

    /// Asks about anything while somebody else asks.
    pub(crate) fn interrupt_to_ask(&self, chosen: usize) {
        let masters = (0..self.scenario.masters.len()).filter(|it| self.scenario.answers(*it));
        let asked = self.oracle(|oracle| {
            let users = masters.flat_map(|master| {
                let others = oracle.substreams(master);
                std::iter::once(None).chain(others).map(move |substream| User { master, substream })
            });
            let users: Vec<User> = users.collect();
            let user = *users.get(chosen % users.len().max(1))?;
            let chosen = chosen / users.len();
            let pages = oracle.space(oracle.using(user)).map(|space| {
                oracle.pages(space, 0..u64::MAX).map(|(iova, _)| iova).collect::<Vec<u64>>()
            });
            let pages = pages.unwrap_or_default();
            let iova = pages.get(chosen % pages.len().max(1)).copied().unwrap_or(Self::WINDOW);
            Some((user.master, oracle.substream_name(user.substream)?, iova))
        });
        if let Some((master, substream, iova)) = asked {
            self.translate(master, substream, iova, chosen.is_multiple_of(2));
        }
    }

    /// What accesses of a master are put through.
    fn stages(&self, oracle: &Oracle, user: User) -> Stages {
        // Also what a kernel left that is no more.
        let tables = |user| {
            let space = oracle.space(oracle.using(user))?;
            Some((oracle.over(space).is_some(), oracle.shape(space).stage_2))
        };
        let instance = self.scenario.masters.get(user.master).map(|it| it.instance);
        let instance = instance.and_then(|it| self.scenario.instances.get(it));
        let has_stage_1 = instance.is_some_and(|it| it.stage_1);
        // Where the stream is one of stage 2, so are its substreams, which it refuses.
        match tables(user).or(tables(User::from(user.master))) {
            Some((true, _)) => Stages::Both,
            Some((false, true)) => Stages::Second,
            None if !has_stage_1 => Stages::Second,
            _ => Stages::First,
        }
    }
}
