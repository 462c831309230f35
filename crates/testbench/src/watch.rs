// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a run sees of the hardware while the driver works: every store, every free, every observation of the
//! model; and what interrupts the driver.

mod after;
mod devices;
mod faults;
mod hand_over;
mod interrupt;
mod limit;
mod pages;
mod silent;
mod stalls;
mod structures;
mod tags;
mod tally;

use std::collections::{BTreeSet, VecDeque};
use std::fmt;

use smmuv3::{Lost, Report};
use smmuv3_formats::command::{ALL_STREAMS, CfgiSte, CfgiSteRange};
use smmuv3_formats::{Command, Opcode, Ste};
use smmuv3_model::{Access, Misuse, Observation, Reference};

use crate::bench::Busy;
use crate::oracle::{AccessKind, Oracle, Power, Rule, User};
use crate::platform::{Point, TestPlatform, World};
use crate::scenario::CommandError;
use crate::stream_table::StreamTable;
use faults::Faults;
pub(crate) use interrupt::Script;
pub(crate) use limit::Limit;
use silent::Silent;
use structures::{Mixture, Structure, Structures};
pub use tags::{OwnedTag, Widths};
pub(crate) use tally::Tally;

/// The eyes of a run.
pub struct Watch {
    /// The judge.
    pub oracle: Oracle,
    /// Whether the driver is interrupted.
    pub interfering: bool,
    /// Just before the driver was asked for a change, the device of the master was known not to answer: then it is refused.
    pub(crate) silent_before: bool,
    /// What the operation under way has to itself.
    pub(crate) busy: Busy,
    /// The operation under way asks an instance what an address translates to.
    pub(crate) asks: bool,
    /// How deep interruptions are nested.
    depth: u32,
    rng: fastrand::Rng,
    /// An operation that is to interrupt the next one.
    pub(crate) script: Option<Script>,
    structures: Structures,
    faults: Faults,
    silent: Silent,
    /// What an unmap missed while another call was under way: address space and instance.
    missed: Option<(usize, usize)>,
    /// Operations that interrupted another one.
    pub interruptions: u64,
    /// What hardware did during the operation under way: instance and observation.
    log: VecDeque<(usize, Observation)>,
    /// For each instance, empty: memory for what is being taken from hardware.
    seen: Vec<Vec<Observation>>,
    /// TLBIs that no CMD_SYNC has completed: instance, command queue, and the call of the driver.
    unfinished: BTreeSet<(usize, usize, Option<u64>)>,
    /// The machine has models, which observe.
    models: bool,
    /// What the hardware of each instance did, and what was reported of it, in numbers.
    pub(crate) tallies: Vec<Tally>,
    /// What each instance bears of commands.
    pub(crate) limits: Vec<Limit>,
    /// Instances whose event queue is still that of a kernel that is no more.
    pub(crate) orphans: BTreeSet<usize>,
    /// Tags of what kernels left that are no more.
    pub(crate) kept_tags: Vec<OwnedTag>,
    /// Calls that the driver refused although nothing was wrong with them.
    pub refusal: Option<String>,
}

/// Observations kept of one operation.
const LOG_LENGTH: usize = 48;

impl Watch {
    /// For so many instances; `seed` is that of interruptions.
    pub fn new(instances: usize, seed: u64) -> Self {
        Self {
            oracle: Oracle::new(instances),
            interfering: false,
            silent_before: false,
            busy: None,
            asks: false,
            depth: 0,
            rng: fastrand::Rng::with_seed(seed),
            script: None,
            structures: Structures::default(),
            faults: Faults::default(),
            silent: Silent::default(),
            missed: None,
            interruptions: 0,
            log: VecDeque::new(),
            seen: Vec::new(),
            unfinished: BTreeSet::new(),
            models: false,
            tallies: vec![Tally::default(); instances],
            limits: Vec::new(),
            orphans: BTreeSet::new(),
            kept_tags: Vec::new(),
            refusal: None,
        }
    }

    /// The driver is at `point`: notes it, lets hardware act, and takes what hardware did.
    pub fn at(&mut self, world: &World, point: Point) {
        match point {
            Point::Published { pa, bytes: 8 } => {
                self.structures.stored(world.machine().ram(), pa);
                self.settle_idle(world);
            }
            Point::Freeing { pa, bytes } => self.freeing(world, pa, bytes),
            Point::Published { .. } | Point::Idle => {}
        }
        self.see(world, true);
    }

    /// Another operation begins: starts the randomness of interruptions anew, so that one operation does not
    /// depend on those before.
    pub fn begin(&mut self, seed: u64) {
        self.log.clear();
        self.rng = fastrand::Rng::with_seed(seed);
    }

    /// Nothing interrupts from here on; what did.
    pub(crate) fn quiet(&mut self) -> (bool, Option<Script>) {
        (std::mem::take(&mut self.interfering), self.script.take())
    }

    /// Another instance, with its stream table.
    pub fn add_instance(&mut self, table: StreamTable) {
        self.structures.add_instance(table);
    }

    /// An instance was removed: its structures are other memory from here on, until it is in use again.
    pub fn remove_instance(&mut self, instance: usize) {
        self.unfinished.retain(|(of, ..)| *of != instance);
        self.structures.remove_instance(instance);
    }

    /// An instance was removed, and is in use again with this table: nothing is known of what its caches hold.
    pub fn replace_instance(&mut self, instance: usize, table: StreamTable) {
        self.unfinished.retain(|(of, ..)| *of != instance);
        self.structures.replace_instance(instance, table);
    }

    /// Follows the entry of `stream` from its present content on.
    pub fn watch_stream(&mut self, world: &World, instance: usize, stream: u32) {
        self.structures.watch_stream(world.machine().ram(), instance, stream);
    }

    /// Notes a call that failed although it should not have.
    pub(crate) fn refuse(&mut self, text: impl fmt::Display) {
        self.refusal.get_or_insert_with(|| text.to_string());
    }

    /// The driver reported something of `instance`.
    /// Whether it was a transaction that has stalled, or had.
    pub(crate) fn report(&mut self, instance: usize, report: &Report<TestPlatform>) -> bool {
        let mut unknown = Tally::default();
        let tally = self.tallies.get_mut(instance).unwrap_or(&mut unknown);
        let record = match report {
            Report::Event(event) | Report::Aborted(event) => event.record(),
            Report::Stalled(fault) => fault.record(),
            Report::EventsLost(lost) => {
                tally.gaps += 1;
                if let Lost::Reset { unread, .. } = *lost {
                    tally.recorded = tally.recorded.saturating_sub(unread as u64);
                    tally.lost += unread as u64;
                }
                // Of what is no model it is not known what it lost.
                if self.models {
                    self.oracle.reported_loss(instance, *lost);
                }
                return false;
            }
            Report::Pages(group) => {
                tally.pages.groups += 1;
                self.report_group(instance, group);
                return false;
            }
            Report::PageDenied { page, .. } => {
                tally.pages.denied += 1;
                self.report_denial(instance, page);
                return false;
            }
            Report::PasidStopped { stream, pasid } => {
                tally.pages.stops += 1;
                self.oracle.reported_stop(instance, stream.0, pasid.0);
                return false;
            }
            Report::PagesLost(lost) => {
                tally.pages.gaps += 1;
                self.report_forgetting(instance, *lost);
                return false;
            }
            // A device did not answer (CERROR_ATC_INV_SYNC, §3.2): such are there.
            Report::CommandError { code: 3, .. } if self.oracle.is_any_mute(instance) => {
                return false;
            }
            // It was made to stop.
            Report::CommandError { code: 1 | 2, .. } if tally.errors > 0 => {
                tally.errors -= 1;
                return false;
            }
            // And so it was cut off.
            Report::Quarantined { stream } => {
                self.reported_quarantine(instance, stream.0);
                return false;
            }
            other => {
                self.refuse(format_args!("instance {instance} reported {other:?}"));
                return false;
            }
        };
        tally.reported += 1;
        self.models && self.oracle.reported(instance, record)
    }

    /// A queue of `instance` is about to stop, which is to be reported.
    pub(crate) fn expect_error(&mut self, instance: usize, error: CommandError) {
        let Some(tally) = self.tallies.get_mut(instance) else { return };
        tally.errors += 1;
        match error {
            CommandError::Illegal => tally.illegal += 1,
            CommandError::Abort => tally.retried += 1,
        }
    }

    /// Errors of `instance` that are still to be reported.
    pub(crate) fn errors_expected(&self, instance: usize) -> u64 {
        self.tallies.get(instance).map_or(0, |tally| tally.errors)
    }

    /// The entry of a stream.
    pub(crate) fn entry(&self, instance: usize, stream: u32) -> Ste {
        Ste(self.structures.entry(instance, stream).unwrap_or_default())
    }

    /// The machine has models, which tell what they do.
    pub(crate) fn models(&self) -> bool {
        self.models
    }

    /// Takes what the models observed.
    pub fn collect(&mut self, world: &World) {
        self.see(world, false);
    }

    /// The same, once hardware had a moment to act, if it is to.
    fn see(&mut self, world: &World, act: bool) {
        let mut seen = std::mem::take(&mut self.seen);
        if seen.len() != self.structures.instances() {
            seen.resize_with(self.structures.instances(), Vec::new);
        }
        self.models |= world.see(act, &mut seen);
        for (instance, observations) in seen.iter_mut().enumerate() {
            // At most moments an instance does nothing that is told.
            if observations.is_empty() {
                continue;
            }
            for observation in observations.drain(..) {
                self.observe(world, instance, observation);
            }
        }
        self.seen = seen;
    }

    /// What hardware did last, in words.
    pub(crate) fn log(&self) -> Vec<String> {
        let line = |(instance, observation): &(usize, Observation)| {
            format!("instance {instance}: {observation:x?}")
        };
        self.log.iter().map(line).collect()
    }

    fn observe(&mut self, world: &World, instance: usize, observation: Observation) {
        // What breaks a rule is the last that is kept.
        let kept = self.oracle.violation().is_none();
        self.judge(world, instance, &observation);
        if kept {
            if self.log.len() == LOG_LENGTH {
                self.log.pop_front();
            }
            self.log.push_back((instance, observation));
        }
    }

    fn judge(&mut self, world: &World, instance: usize, observation: &Observation) {
        self.observe_device(instance, observation);
        self.observe_pages(instance, observation);
        if let Some(tally) = self.tallies.get_mut(instance) {
            tally.observe(observation);
        }
        match *observation {
            Observation::Command { command, queue, index, .. } => {
                let giver = world.giver((instance, queue), index);
                self.order((instance, queue, giver), command);
                self.bears((instance, queue), command);
                self.structures.told((instance, queue), command);
            }
            Observation::SyncCompleted { queue, .. } => {
                self.unfinished.retain(|(of, within, _)| (*of, *within) != (instance, queue));
                self.synchronised((instance, queue));
            }
            Observation::Unanswered { stream } => self.unanswered(instance, stream),
            Observation::EventQueueOff if self.orphans.remove(&instance) => {
                self.oracle.forget_events(instance);
                if let Some(tally) = self.tallies.get_mut(instance) {
                    (tally.recorded, tally.lost) = (0, 0);
                }
            }
            Observation::EventRecorded(event) => self.oracle.recorded(instance, event),
            Observation::EventRepeated(event) => self.repeated(instance, event),
            Observation::EventsLost { aborted } => self.oracle.lost(instance, aborted),
            Observation::Performed { access, pa, aborted, .. } => {
                if let Some(master) = self.oracle.master_of(instance, access.stream) {
                    let Access { stream, substream, address, write, .. } = access;
                    let (user, kind) = (User { master, substream }, AccessKind::of(&access));
                    if aborted {
                        // What could not be marked any more was not written, which is reported.
                        self.oracle.goes_to(user, address, kind, pa, "a delayed");
                        self.caused(stream, user, address, write);
                    } else {
                        self.oracle.reached(user, address, kind, pa, "a delayed");
                    }
                }
            }
            Observation::Stalled { .. }
            | Observation::StallAnswered { .. }
            | Observation::StallEnded { .. } => self.observe_stall(instance, observation),
            Observation::TagConflict { tag, ttb_old, ttb_new, stream } => {
                let text = format!(
                    "{tag} was given to the tables at {ttb_new:#x} (stream {stream:#x}) while caches \
                     still hold it for those at {ttb_old:#x}"
                );
                self.oracle.accuse(Rule::R2, text);
            }
            Observation::VmidConflict { vmid, ttb_old, ttb_new, stream } => {
                let text = format!(
                    "VMID {vmid:#x} was given to the stage-2 tables at {ttb_new:#x} (stream \
                     {stream:#x}) while caches still hold it for those at {ttb_old:#x}"
                );
                self.oracle.accuse(Rule::R2, text);
            }
            Observation::Misuse(ref misuse) => {
                let rule = match misuse {
                    Misuse::AsidTooWide { .. }
                    | Misuse::VmidTooWide { .. }
                    | Misuse::TagDisagreement { .. }
                    | Misuse::VmidDisagreement { .. }
                    | Misuse::VmidOfBoth { .. } => Rule::R2,
                    Misuse::UnknownStall { .. } => Rule::R9,
                    _ => Rule::Misuse,
                };
                self.oracle.accuse(rule, misuse);
            }
            Observation::Unsupported(what) => {
                self.oracle.accuse(Rule::Misuse, format_args!("the model does not have {what}"));
            }
            _ => {}
        }
    }

    /// Rule R7: translations are gone before device caches are, and nothing is said about a stream any more
    /// that was detached.
    fn order(&mut self, (instance, queue, giver): (usize, usize, Option<u64>), command: Command) {
        if command.name().starts_with("CMD_TLBI") {
            self.unfinished.insert((instance, queue, giver));
        }
        // Those of another call, which this one interrupts or is interrupted by, have ATC_INVs of their own to come.
        // Whichever queue they are in.
        let early = |&(of, _, by): &(usize, usize, Option<u64>)| (of, by) == (instance, giver);
        if command.opcode() == Some(Opcode::AtcInv) && self.unfinished.iter().any(early) {
            let text = format!("instance {instance} got {command} before the TLBI was complete");
            self.oracle.accuse(Rule::R7, text);
        }
        let one_stream = matches!(
            command.opcode(),
            Some(Opcode::CfgiSte | Opcode::CfgiCd | Opcode::CfgiCdAll | Opcode::AtcInv)
        );
        // A range is of streams of one master, unless it is of all.
        let some = command.opcode() == Some(Opcode::CfgiSteRange)
            && CfgiSteRange(command.0).range() != ALL_STREAMS;
        let stream = CfgiSte(command.0).sid() as u32;
        if (one_stream || some)
            && let Some(master) = self.oracle.master_of(instance, stream)
            && !self.oracle.is_in_use(master)
            && !self.oracle.is_changing(master)
            // It may be being readmitted.
            && !self.oracle.is_mute(master)
            // Masters may be being added.
            && self.oracle.power(instance) != Power::Changing
        {
            let text = format!("instance {instance} got {command}, but the stream was detached");
            self.oracle.accuse(Rule::R7, text);
        }
    }

    fn synchronised(&mut self, (instance, queue): (usize, usize)) {
        let oracle = &self.oracle;
        let silent = |stream: u32| {
            oracle.master_of(instance, stream).is_some_and(|master| oracle.is_mute(master))
        };
        let mixtures = self.structures.synchronised((instance, queue), silent);
        for Mixture { stream, structure, words } in mixtures {
            let what = match structure {
                Structure::Ste => "Ste".to_owned(),
                Structure::Cd(0) => "Cd".to_owned(),
                Structure::Cd(substream) => format!("Cd of substream {substream:#x}"),
            };
            let text = format!(
                "hardware could read the {what} of stream {stream:#x} as {words:#x?}, which is \
                 neither its old nor its new content"
            );
            self.oracle.accuse(Rule::R4, text);
        }
    }

    /// Memory is about to be freed.
    fn freeing(&mut self, world: &World, pa: u64, bytes: u64) {
        for instance in 0..self.structures.instances() {
            let Some(model) = world.machine().model(instance) else { return };
            // What caches hold of what was read before it was turned off is gone before it is on again. A message comes
            // whatever is turned off (§2.4).
            let counts = |reference: &Reference| {
                let always = matches!(
                    reference,
                    Reference::CommandQueue | Reference::EventQueue | Reference::Message
                );
                model.may_translate() || always
            };
            let reference = model.references(pa, bytes).filter(counts);
            if let Some(reference) = reference {
                drop(model);
                let text = format!(
                    "{bytes} bytes at {pa:#x} are freed while instance {instance} can still read \
                     them: {reference}"
                );
                self.oracle.accuse(Rule::R3, text);
            }
        }
    }

    /// Nothing reads what belongs to an instance that does not translate: what its structures held meanwhile is
    /// nothing that hardware has seen, and what it saw before is forgotten before it reads again.
    fn settle_idle(&mut self, world: &World) {
        for instance in 0..self.structures.instances() {
            let Some(model) = world.machine().model(instance) else { return };
            let idle = !model.may_translate();
            drop(model);
            if idle {
                self.structures.settle(world.machine().ram(), instance);
            }
        }
    }
}
