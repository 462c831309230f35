// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest that does what its SMMU does not accept, and names what is others'. It must be told by which field; nothing may come
//! of that, and all of what it rightly said before; and everybody else goes on as before.

use std::collections::BTreeSet;

use fastrand::Rng;
use smmuv3::nest::{Forwarder, Limits, Nest, Request, Stop, context};
use smmuv3::{AtsMode, AttachError, StreamId};
use smmuv3_formats::command::{
    AtcInv, CfgiCd, CfgiCdAll, CfgiSte, CfgiSteRange, Resume, Sync, TlbiNhAll, TlbiNhAsid, TlbiNhVa,
};
use smmuv3_formats::{Command, Opcode};

use super::guest::Guest;
use super::{Bench, Done, wrong};
use crate::oracle::{Power, Rule};
use crate::platform::TestPlatform;
use crate::trace;

/// Legal commands before an illegal one, at most.
const BEFORE: usize = 6;
/// Users that are looked at afterwards.
const LOOKED_AT: usize = 24;

/// A stream that the guest has: by its own number, and by the host's.
type Own = (u64, u64);

/// A rule that is broken, and how.
type Wrong = (Rule, String);

fn misuse<T>(text: impl std::fmt::Display) -> Result<T, Wrong> {
    Err((Rule::Misuse, text.to_string()))
}

/// What a legal command of a guest comes to.
struct Legal {
    command: Command,
    /// What the host's SMMU must be told for it.
    made: Vec<Command>,
    /// The caller is told of it.
    stops: bool,
}

impl Bench {
    /// The guest that has the space `domain` misbehaves, as `seed` says.
    pub(super) fn misbehave(&self, domain: usize, seed: u32) -> Done {
        let nothing = Done { outcome: "nothing to do".to_owned(), ..Done::default() };
        let Some(guest) = self.guest(domain) else { return nothing };
        let mut rng = Rng::with_seed(seed.into());
        let nests = guest.nests(self);
        let Some(nest) = rng.choice(nests.into_values()) else { return nothing };
        // What is given meanwhile is the guest's.
        let (interfering, script) = self.look(|watch| watch.quiet());
        let operands = || trace::args([("domain", self.scenario.space(domain).into())]);
        let outcome = self.traced("call", "misbehave", operands, || {
            self.wrong_words(guest, &nest, &mut rng)?;
            self.wrong_commands(guest, &nest, &mut rng)
        });
        self.look(|watch| {
            watch.collect(&self.world);
            if let Err((rule, wrong)) = &outcome {
                watch.oracle.accuse(*rule, wrong);
            }
        });
        self.look_at_all();
        self.look(|watch| (watch.interfering, watch.script) = (interfering, script));
        let acted = outcome.is_ok();
        Done { outcome: outcome.unwrap_or_else(|(_, wrong)| wrong), acted, ..Done::default() }
    }

    /// An entry for any of the devices there, and a context, each wrong in one field.
    fn wrong_words(
        &self,
        guest: &Guest,
        nest: &Nest<TestPlatform>,
        rng: &mut Rng,
    ) -> Result<(), Wrong> {
        let instance = self.index_of(nest.instance());
        let (entry, cd) = guest.words(nest);
        let masters = self.scenario.masters.iter().zip(&self.masters);
        let here = masters.filter(|(it, _)| it.instance == instance);
        let here = here.filter_map(|(it, handle)| Some((it, handle.get()?)));
        if let Some((described, master)) = rng.choice(here.collect::<Vec<_>>()) {
            let (words, field) = wrong::entry(rng, entry, nest.guest());
            let streams: Vec<StreamId> =
                described.streams.iter().map(|stream| StreamId(stream ^ 1)).collect();
            self.world.take_commands();
            match nest.attach(&master, &streams, &words) {
                Err(AttachError::Illegal(illegal)) if illegal.rule.field == field => {}
                other => {
                    let words = words.0;
                    return misuse(format_args!(
                        "an entry with a wrong {field} came to {other:?}: {words:x?}"
                    ));
                }
            }
            if let Some((_, command)) = self.world.take_commands().first() {
                let text = format!("an entry with a wrong {field} was refused after {command}");
                return Err((Rule::R8, text));
            }
        }
        let (words, field) = wrong::context(rng, cd, nest.guest());
        let Ok(Request::Stage1(contexts)) = Request::decode(&entry, nest.guest()) else {
            return misuse("the guest's own entry is not of stage 1");
        };
        let limits = Limits { ats: AtsMode::Off, stalls: true };
        match context::check(&words, &contexts, nest.guest(), limits) {
            Err(illegal) if illegal.rule.field == field => Ok(()),
            other => {
                let words = words.0;
                misuse(format_args!("a context with a wrong {field} came to {other:?}: {words:x?}"))
            }
        }
    }

    /// Some legal commands, and then one that is not.
    fn wrong_commands(
        &self,
        guest: &Guest,
        nest: &Nest<TestPlatform>,
        rng: &mut Rng,
    ) -> Result<String, Wrong> {
        let instance = self.index_of(nest.instance());
        let (own, silent) = self.own_streams(guest.under(), instance);
        let vmid = self.vmid(guest.under(), instance, own.first().filter(|_| !silent));
        let before: Vec<Legal> =
            (0..rng.usize(0..=BEFORE)).map(|_| self.legal(nest, (&own, vmid), rng)).collect();
        let stream = rng.choice(&own).map_or_else(|| rng.u64(0..1 << 16), |(stream, _)| *stream);
        let (last, field) = wrong::command(rng, stream, nest.guest().shown());
        let mut commands: Vec<Command> = before.iter().map(|legal| legal.command).collect();
        commands.push(last);
        // Nothing is looked at behind it.
        commands.extend((0..rng.usize(0..3)).map(|_| self.legal(nest, (&own, vmid), rng).command));

        // What was given before is nothing that comes of this.
        let settle = || {
            if let Some(mut model) = self.world.machine().model(instance) {
                model.run(usize::MAX);
            }
            self.look(|watch| watch.collect(&self.world));
        };
        settle();
        let (waiting, asking) =
            self.oracle(|oracle| (oracle.all_waiting(instance), oracle.all_asking(instance)));
        self.world.take_commands();
        let (mut forwarder, mut at, mut stops) = (Forwarder::new(), 0, 0);
        let illegal = loop {
            let rest = commands.get(at..).unwrap_or_default();
            let done = nest.forward(&mut forwarder, rest);
            let done = done.or_else(|error| misuse(format_args!("a guest's commands: {error}")))?;
            at += done.consumed;
            match done.stop {
                Stop::Refused { illegal, index } if index == done.consumed => break Some(illegal),
                Stop::Empty => break None,
                Stop::Full if done.consumed + done.produced == 0 => break None,
                Stop::Sync(_) | Stop::Entries { .. } | Stop::Answer(_) => stops += 1,
                _ => {}
            }
        };
        settle();
        let given = self.world.take_commands();
        if at != before.len() || illegal.is_none_or(|illegal| illegal.rule.field != field) {
            let legal = before.len();
            return misuse(format_args!(
                "{last} with a wrong {field} behind {legal} legal commands came to {illegal:?} behind {at}"
            ));
        }
        let expected = before.iter().filter(|legal| legal.stops).count();
        if stops != expected {
            return misuse(format_args!(
                "{expected} of a guest's commands are to be told of, not {stops}"
            ));
        }
        // One that sleeps is told nothing, nor is a guest heard that has nothing there.
        let heard = !own.is_empty() && self.oracle(|oracle| oracle.power(instance)) == Power::On;
        let made = before.iter().flat_map(|legal| &legal.made).filter(|_| heard);
        let made: BTreeSet<[u64; 2]> = made.map(|command| command.0).collect();
        let given = given.into_iter().filter(|(of, _)| *of == instance).map(|(_, command)| command);
        let given = given.filter(|command| command.opcode() != Some(Opcode::Sync));
        let given: BTreeSet<[u64; 2]> = given.map(|command| command.0).collect();
        let missing = made.difference(&given).filter(|_| !silent);
        if let Some(words) = given.difference(&made).chain(missing).next() {
            let what = if made.contains(words) { "was not given" } else { "was given" };
            return misuse(format_args!("of a guest's commands {} {what}", Command(*words)));
        }
        let left = self.oracle(|oracle| oracle.all_asking(instance));
        if let Some(gone) = asking.iter().find(|it| !left.contains(it)) {
            let text = format!("a guest answered what it was never shown: {gone:x?}");
            return Err((Rule::R9, text));
        }
        let left = self.oracle(|oracle| oracle.all_waiting(instance));
        if let Some(gone) = waiting.iter().find(|it| !left.contains(it)) {
            let text = format!("a guest answered what it was never shown: {gone:?}");
            return Err((Rule::R9, text));
        }
        Ok(format!("{field} was refused behind {} commands", before.len()))
    }

    /// The VMID behind an instance of the guest whose memory is the domain `under`: that of the entry of one of its streams, or
    /// what the driver says.
    fn vmid(&self, under: usize, instance: usize, own: Option<&Own>) -> u64 {
        match own {
            // The field has 32 bits.
            Some((_, host)) => self.look(|watch| watch.entry(instance, *host as u32).s2_vmid()),
            None => {
                let tags = self.tags_of(under).into_iter().find(|tag| tag.instance == instance);
                tags.map_or(0, |tag| tag.vmid.into())
            }
        }
    }

    /// Streams behind an instance of the guest whose memory is the domain `under`; and whether one of its devices does not
    /// answer: that may have been cut off, and its guest is not heard then if it has no other.
    fn own_streams(&self, under: usize, instance: usize) -> (Vec<Own>, bool) {
        self.oracle(|oracle| {
            let masters = (0..oracle.masters()).filter(|master| {
                let used = oracle.space(oracle.using(*master));
                let theirs = used.and_then(|space| oracle.over(space)) == Some(under);
                theirs && oracle.streams(*master).0 == instance
            });
            let masters: Vec<usize> = masters.collect();
            let silent = masters.iter().any(|master| oracle.is_mute(*master));
            // It knows them by other numbers.
            let own = |stream: &u32| (u64::from(stream ^ 1), u64::from(*stream));
            let streams = masters.iter().flat_map(|master| oracle.streams(*master).1);
            (streams.map(own).collect(), silent)
        })
    }

    /// A command that the guest's SMMU accepts, also of what is not the guest's.
    fn legal(&self, nest: &Nest<TestPlatform>, (own, vmid): (&[Own], u64), rng: &mut Rng) -> Legal {
        let shown = nest.guest().shown();
        let instance = self.index_of(nest.instance());
        let one =
            |command: Command, made: Command| Legal { command, made: vec![made], stops: false };
        let no = |command: Command| Legal { command, made: Vec::new(), stops: false };
        // Whose VMID it names is no matter.
        let others = rng.u64(0..=0xff);
        let forget = |host: u64| Command::from(CfgiSte::new().with_sid(host).with_leaf(true));
        let page = TlbiNhVa::new().with_asid(rng.u64(0..=0xff)).with_leaf(rng.bool());
        let page = page.with_addr(0xc000_0000 + (rng.u64(0..64) << 12));
        let foreign = self.foreign(instance, own, rng);
        let mine = rng.choice(own).copied();
        let choices = if mine.is_some() { 0..13 } else { 0..9 };
        match (rng.u8(choices), mine.unwrap_or((foreign, foreign))) {
            (0, _) => {
                let all = TlbiNhAll::new();
                one(all.with_vmid(others).into(), all.with_vmid(vmid).into())
            }
            (1, _) => one(Command([0x30, 0]), TlbiNhAll::new().with_vmid(vmid).into()),
            (2, _) => {
                let asid = TlbiNhAsid::new().with_asid(rng.u64(0..=0xff));
                one(asid.with_vmid(others).into(), asid.with_vmid(vmid).into())
            }
            (3, _) => one(page.with_vmid(others).into(), page.with_vmid(vmid).into()),
            (4, _) => {
                let made = own.iter().map(|(_, host)| forget(*host)).collect();
                let all = CfgiSteRange::new().with_range(31);
                Legal { command: all.into(), made, stops: true }
            }
            (5, _) => Legal { stops: true, ..no(Sync::new().into()) },
            (6, _) => no(CfgiCdAll::new().with_sid(foreign).into()),
            (7, _) if shown.idr0.ats() => no(AtcInv::new().with_sid(foreign).with_size(52).into()),
            (7, _) => no(CfgiCd::new().with_sid(foreign).with_leaf(true).into()),
            (8, _) if shown.idr0.stall_model() != 1 => {
                let stag = self.unshown_stag(instance, rng);
                no(Resume::new().with_sid(foreign).with_stag(stag.into()).into())
            }
            (8, _) if shown.idr0.pri() => {
                no(self.unshown_group(instance, rng).with_sid(foreign).into())
            }
            (8, _) => no(CfgiCdAll::new().with_sid(foreign).into()),
            (9, (stream, _)) if shown.idr0.stall_model() != 1 => {
                let stag = self.unshown_stag(instance, rng);
                let resume = Resume::new().with_sid(stream).with_stag(stag.into());
                Legal { stops: true, ..no(resume.with_ac(rng.bool()).into()) }
            }
            (9, (stream, _)) if shown.idr0.pri() => {
                let response = self.unshown_group(instance, rng).with_sid(stream);
                Legal { stops: true, ..no(response.into()) }
            }
            (10, (stream, host)) => {
                let all = CfgiCdAll::new();
                one(all.with_sid(stream).into(), all.with_sid(host).into())
            }
            (11, (stream, host)) => Legal {
                stops: true,
                ..one(CfgiSte::new().with_sid(stream).with_leaf(rng.bool()).into(), forget(host))
            },
            (_, (stream, host)) => {
                let of = CfgiCd::new().with_leaf(rng.bool());
                one(of.with_sid(stream).into(), of.with_sid(host).into())
            }
        }
    }

    /// A number of a stream that the guest was not given: mostly one that others have, or that the host has for its own.
    fn foreign(&self, instance: usize, own: &[Own], rng: &mut Rng) -> u64 {
        let masters = self.scenario.masters.iter().filter(|it| it.instance == instance);
        let known =
            masters.flat_map(|it| &it.streams).flat_map(|it| [u64::from(*it), u64::from(it ^ 1)]);
        let known = known.chain([rng.u64(0..1 << 32)]);
        let foreign = known.filter(|stream| own.iter().all(|(mine, _)| mine != stream));
        // All of them may be its own, but hardly the last one.
        rng.choice(foreign.collect::<Vec<u64>>()).unwrap_or(u64::from(u32::MAX))
    }

    /// Every user reads something that it may, or may not.
    fn look_at_all(&self) {
        self.look(|watch| {
            let mut looks = Vec::new();
            for (user, used) in watch.oracle.users().take(LOOKED_AT) {
                let Some(space) = watch.oracle.space(used) else { continue };
                looks.extend(watch.oracle.pages(space, 0..u64::MAX).next().map(|it| (user, it.0)));
                looks.extend(watch.oracle.gone(space, 0..u64::MAX).next().map(|it| (user, it.0)));
            }
            for (user, iova) in looks {
                watch.read(&self.world, user, iova);
            }
        });
    }
}
