// SPDX-License-Identifier: MIT OR Apache-2.0
//! A kernel crashes, and another one takes over what runs (kdump, kexec): all its SMMUs, at once.
//!
//! It is the machine as a whole, not one instance: a kernel that lost its driver of one SMMU has lost its domains and
//! tags of all others, too, since they share both. So the new one is another [`Bench`] in the same surroundings. What the
//! old one had is never dropped, since nobody is left to do that: its memory stays as it is, and at the end of the run all of
//! it must still be there.

use crate::inside::Inside as _;
use std::sync::{Arc, Mutex};

use smmuv3::{AdoptError, AtsMode, EnableError, Iommu, Remains, Smmu, StreamId};
use smmuv3_formats::register::{EventqCons, EventqProd};
use smmuv3_model::{Access, Endpoint};

use super::counters::Counters;
use super::guest::Guest;
use super::{Bench, BenchError, Done, Handle};
use crate::lock::Lock;
use crate::oracle::{Life, Power, Rule, Use, User};
use crate::platform::{Observer, TestPlatform, World};
use crate::ram::Ram;
use crate::scenario::{Instance, Scenario};
use crate::stream_table::StreamTable;
use crate::trace::{Args, Trace};
use crate::watch::{OwnedTag, Tally, Watch};

mod devices;

pub(super) use devices::{Devices, Probe};

/// Kernels that a run has at most: the memory of each stays.
const MOST_KERNELS: usize = 6;
/// Larger stream tables are not left behind again and again.
const MOST_BITS: u32 = 18;
/// Turns in which an SMMU has done all that it was told.
const TURNS: u32 = 1000;
/// Pages of each user that are accessed at every moment of the adoption.
const PROBED_PAGES: usize = 3;

/// What kernels left that are no more.
#[derive(Default)]
pub(super) struct Left {
    /// Kernels before this one.
    kernels: usize,
    /// Their memory, and what firmware left: starts and bytes.
    pub(super) frames: Vec<(u64, u64)>,
    /// Their stream tables that were taken over.
    tables: Vec<StreamTable>,
}

impl Left {
    /// A kernel was here before.
    pub(super) const fn is_any(&self) -> bool {
        self.kernels != 0
    }

    /// How many kernels were here before.
    pub(super) const fn kernels(&self) -> usize {
        self.kernels
    }

    /// Gives all of it back, with the leaves that were put into tables since.
    ///
    /// # Errors
    /// What is not there any more.
    pub(super) fn free(&self, world: &World) -> Result<(), String> {
        let mut frames = world.frames();
        let known = |pa: u64| self.frames.iter().any(|(start, _)| *start == pa);
        let ram = world.machine().ram();
        let leaves: Vec<u64> = self.tables.iter().flat_map(|table| table.leaves(ram)).collect();
        for leaf in leaves.into_iter().filter(|leaf| !known(*leaf)) {
            let live = frames.live().find(|(start, _)| *start == leaf);
            if let Some((start, bytes)) = live {
                frames.free_at_the_end(start, bytes);
            }
        }
        for (start, bytes) in &self.frames {
            if !frames.live().any(|live| live == (*start, *bytes)) {
                return Err(format!(
                    "{bytes} bytes at {start:#x} were freed, which a kernel before had left"
                ));
            }
            frames.free_at_the_end(*start, *bytes);
        }
        Ok(())
    }
}

/// All of memory, as the new kernel sees it.
struct Everything {
    ram: Ram,
    lost: Vec<u32>,
}

impl Remains for Everything {
    fn read(&self, pa: u64) -> Option<u64> {
        self.ram.read64(pa)
    }

    fn keeps(&self, stream: StreamId) -> bool {
        !self.lost.contains(&stream.0)
    }
}

/// What came of an instance.
enum Outcome {
    Adopted(usize),
    Refused(String),
}

impl Bench {
    /// Whether a kernel can be left as it is.
    fn may_crash(&self) -> bool {
        let large = |it: &Instance| it.sid_bits > MOST_BITS;
        self.left.kernels < MOST_KERNELS && !self.scenario.instances.iter().any(large)
    }

    /// A kernel was here before, and left what it had.
    pub(crate) const fn is_successor(&self) -> bool {
        self.left.is_any()
    }

    /// The kernel stops where it is, and the next one takes over; what it has then, and what came of it. `None` for the
    /// former where nothing was done.
    ///
    /// # Errors
    /// [`BenchError`].
    pub fn hand_over(
        self: &Arc<Self>,
        lost: &[usize],
    ) -> Result<(Option<Arc<Self>>, Done), BenchError> {
        let outcome = |text: String| Done { outcome: text, ..Done::default() };
        if !self.may_crash() {
            return Ok((None, outcome("nothing to do".to_owned())));
        }
        self.drain();
        // Nothing of it is ever dropped.
        std::mem::forget(self.clone());
        self.world.set_observer(None);
        let mut next = self.successor()?;
        next.world.trace(Trace::begin);
        let (text, acted) = next.take_over(lost)?;
        next.world.trace(|trace| trace.end("hand-over", "call", &Args::new()));
        let next = Arc::new(next);
        next.world.set_observer(Some(next.clone() as Arc<dyn Observer>));
        next.look(|watch| watch.collect(&next.world));
        Ok((Some(next), Done { acted, ..outcome(text) }))
    }

    /// Ends the adoption of an instance. It is refused as long as a master goes on as it was left.
    pub(super) fn end_adoption(&self, instance: usize) -> Result<&'static str, String> {
        let Some(smmu) = self.smmus.get(instance).and_then(Handle::get) else {
            return Ok("nothing to do");
        };
        let claimed = self.oracle(|oracle| {
            (0..oracle.masters()).any(|it| oracle.is_kept(it) && oracle.streams(it).0 == instance)
        });
        if !self.left.is_any() || self.oracle(|oracle| oracle.power(instance)) != Power::On {
            return Ok("nothing to do");
        }
        let result = self.traced(
            "call",
            "end-adoption",
            || self.named(instance),
            || self.iommu.end_adoption(&smmu),
        );
        let owned = self.tags();
        self.look(|watch| watch.collect(&self.world));
        match (result, claimed) {
            (Ok(0), false) => {
                self.look(|watch| {
                    watch.kept_tags.retain(|tag| tag.instance != instance);
                    watch.check_tags(&self.world, &owned, &self.widths());
                });
                Ok("done")
            }
            (Err(EnableError::Claimed), true) => Ok("refused, as masters go on"),
            (Ok(count), false) => Err(format!("{count} streams without masters went on")),
            (Ok(_), true) => Err("it was done while masters go on".to_owned()),
            (Err(error), _) => Err(error.to_string()),
        }
    }

    /// What SMMUs were told by then, they do.
    fn drain(&self) {
        for instance in 0..self.smmus.len() {
            // QEMU does it at once, and does not tell.
            if self.world.machine().model(instance).is_none() {
                continue;
            }
            for _ in 0..TURNS {
                self.look(|watch| watch.collect(&self.world));
                let done = self.look(|watch| {
                    watch.tallies.get(instance).map_or(0, |tally| tally.commands + tally.thrown)
                });
                if done >= self.world.given(instance) {
                    break;
                }
                self.world.machine().wait();
            }
        }
    }

    /// A kernel that knows nothing yet, in the same surroundings.
    fn successor(&self) -> Result<Self, BenchError> {
        let iommu = Iommu::new(TestPlatform(self.world.clone()), self.config)
            .map_err(|_| BenchError::NoMemory("the driver".to_owned()))?;
        let shared = |pa: u64| {
            let messages = self.messages.iter().flatten();
            pa == self.pool || self.memories.iter().chain(messages).any(|it| *it == pa)
        };
        let frames = self.world.frames().live().filter(|(start, _)| !shared(*start)).collect();
        let former_tags = self.tags();
        let mut watch = std::mem::replace(&mut *self.watch(), Watch::new(0, 0));
        watch.interfering = false;
        watch.script = None;
        self.world.forget_enabled();
        Ok(Self {
            world: self.world.clone(),
            scenario: self.scenario.clone(),
            habits: self.habits,
            config: self.config,
            iommu,
            smmus: Vec::new(),
            counters: Vec::new(),
            ids: Mutex::default(),
            messages: self.messages.clone(),
            masters: Vec::new(),
            domains: Vec::new(),
            guests: Vec::new(),
            contexts: Mutex::default(),
            processes: Vec::new(),
            memories: self.memories.clone(),
            pool: self.pool,
            watch: Lock::new(watch),
            stalls: Mutex::default(),
            told: Mutex::default(),
            groups: Mutex::default(),
            kept: Mutex::default(),
            left: Left { kernels: self.left.kernels + 1, frames, tables: self.left.tables.clone() },
            former_tags,
        })
    }

    /// What came of each instance, and whether any goes on.
    fn take_over(&mut self, lost: &[usize]) -> Result<(String, bool), BenchError> {
        let scenario = self.scenario.clone();
        let instances = 0..scenario.instances.len();
        let fears: Vec<Fears> = instances.clone().map(|index| self.fears(index, lost)).collect();
        // What was cut off is not taken over, and stays so.
        self.look(|watch| watch.lose_silent());
        let cut_off: Vec<Vec<u32>> =
            self.look(|watch| instances.clone().map(|index| watch.cut_off(index)).collect());
        let kept = self.look(|watch| watch.oracle.crash());
        // Of a space that several used, under several tags, those of who is lost go with that.
        let go_on = self.look(|watch| {
            let kept = |master: usize| watch.oracle.is_kept(master) && !lost.contains(&master);
            watch.tags_of(self.world.machine().ram(), kept)
        });
        let probes = self.probes(lost);
        for index in instances.clone() {
            self.world.forget_given(index);
            self.look(|watch| {
                watch.oracle.set_power(index, Power::Changing);
                watch.forget_silent(index);
                watch.orphans.insert(index);
                if let Some(tally) = watch.tallies.get_mut(index) {
                    *tally = Tally::default();
                }
            });
        }
        self.reset_devices();
        let devices = Devices::new(&self.world, probes);
        self.world.set_observer(Some(devices.clone() as Arc<dyn Observer>));

        let streams_of = |index: usize| {
            let lost = lost.iter().filter_map(|master| scenario.masters.get(*master));
            lost.filter(move |it| it.instance == index).flat_map(|it| it.streams.clone()).collect()
        };
        let mut said = Vec::new();
        let mut adopted = Vec::new();
        for (index, fears) in instances.clone().zip(&fears) {
            let (smmu, outcome) = self.adopt(index, streams_of(index), &devices)?;
            fears.judge(self, index, &outcome);
            let name = &scenario.instances[index].name;
            said.push(match &outcome {
                Outcome::Adopted(count) => format!("{name} goes on with {count} streams"),
                Outcome::Refused(why) => format!("{name} does not ({why})"),
            });
            adopted.push(matches!(outcome, Outcome::Adopted(_)));
            let streams = smmu.inside().streams();
            let table =
                StreamTable { base: streams.base_register(), shape: streams.config_register() };
            if adopted[index] {
                self.left.tables.push(table);
                self.look(|watch| watch.cut_off_before(index, &cut_off[index]));
            }
            self.look(|watch| watch.replace_instance(index, table));
            self.smmus.push(Handle::new(smmu));
            let counters = Counters::start(
                &self.world,
                &scenario,
                index,
                #[cfg(feature = "mutation")]
                self.config.mutation,
            );
            self.counters.extend(counters.map_err(|error| BenchError::Driver {
                doing: format!("start the counters of {}", scenario.instances[index].name),
                error: error.to_string(),
            })?);
        }
        // What was on its way is over by now, for those that are lost too.
        self.look(|watch| {
            watch.collect(&self.world);
            // One that had slept has had none.
            watch.orphans.clear();
        });
        for (index, master) in scenario.masters.iter().enumerate() {
            if lost.contains(&index) || adopted.get(master.instance) != Some(&true) {
                self.look(|watch| watch.oracle.lose(index));
            }
        }
        // Tags of what is lost are nobody's from here on, in caches either.
        let tags = std::mem::take(&mut self.former_tags);
        self.look(|watch| {
            let all = tags.iter().chain(&watch.kept_tags).filter_map(|tag| {
                let space = *kept.get(&tag.space)?;
                let used = adopted.get(tag.instance) == Some(&true)
                    && go_on.contains(&(tag.instance, tag.vmid, tag.asid));
                used.then_some(OwnedTag { space, ..*tag })
            });
            watch.kept_tags = all.collect();
        });
        let widths = self.widths();
        self.look(|watch| watch.check_tags(&self.world, &[], &widths));
        self.new_masters(&scenario)?;
        for number in 0..scenario.domains.len() {
            let (root, shape) = self.new_domain(number)?;
            let guest = self.new_guest(number)?;
            let root = guest.as_ref().map_or(root, Guest::root);
            self.look(|watch| watch.oracle.renew_domain(number, root, shape));
            self.guests.push(guest);
        }
        self.new_pasids(&scenario)?;
        self.new_processes(&scenario)?;
        self.world.set_observer(None);
        for index in instances {
            self.look(|watch| {
                watch.collect(&self.world);
                let model = self.world.machine().model(index);
                let waits = model.map_or(0, |model| model.stalled().count());
                if waits != 0 {
                    let text = format_args!("instance {index}: {waits} stalls of before wait on");
                    watch.oracle.accuse(Rule::R9, text);
                }
                let (unread, full) = self.unread(index);
                watch.oracle.recorded_for_nobody(index, unread, full);
                if let Some(tally) = watch.tallies.get_mut(index) {
                    tally.recorded = unread as u64;
                    tally.lost = if full { tally.lost } else { 0 };
                }
                watch.oracle.no_stall_outlives(index);
                watch.oracle.set_power(index, Power::On);
            });
        }
        for (index, text) in devices.failed().iter().filter(|(index, _)| adopted[*index]) {
            self.look(|watch| {
                watch.oracle.accuse(Rule::R0, format_args!("instance {index}: {text}"))
            });
        }
        Ok((said.join("; "), adopted.contains(&true)))
    }

    fn new_masters(&mut self, scenario: &Scenario) -> Result<(), BenchError> {
        for (index, master) in scenario.masters.iter().enumerate() {
            let smmu = self.smmus.get(master.instance).and_then(Handle::get);
            let smmu = smmu.ok_or_else(|| BenchError::NoMemory("no instance".to_owned()))?;
            let added = self.new_master(index, &smmu)?;
            self.masters.push(Handle::new(added));
            self.look(|watch| {
                watch.collect(&self.world);
                for stream in &master.streams {
                    watch.watch_stream(&self.world, master.instance, *stream);
                }
            });
        }
        Ok(())
    }

    /// How many events there are for the new kernel, which has read none, and whether others did not fit.
    fn unread(&self, index: usize) -> (usize, bool) {
        let one_page = self.scenario.instances.get(index).is_some_and(|it| it.quirks.one_page);
        let of_page = if one_page { 0xffff } else { u32::MAX };
        let read = |offset: u32| self.world.machine().read32(index, offset & of_page);
        let (prod, cons) =
            (EventqProd(read(EventqProd::OFFSET)), EventqCons(read(EventqCons::OFFSET)));
        // It has 20 bits.
        (prod.wr() as usize, prod.ovflg() != cons.ovackflg())
    }

    /// The new kernel gives out the same numbers as the old one.
    fn new_pasids(&self, scenario: &Scenario) -> Result<(), BenchError> {
        let known: Vec<u32> = self.oracle(|oracle| oracle.pasids().collect());
        for (number, known) in (1..=scenario.pasids).zip(known) {
            let doing = || format!("allocate PASID {number}");
            let pasid = self
                .iommu
                .allocate_pasid()
                .map_err(|error| BenchError::Driver { doing: doing(), error: error.to_string() })?;
            if pasid.0 != known {
                let error = format!("it is {} now, and was {known}", pasid.0);
                return Err(BenchError::Driver { doing: doing(), error });
            }
        }
        Ok(())
    }

    /// Devices that keep translations, or wait for pages, are reset with the kernel that let them.
    fn reset_devices(&self) {
        for master in self.scenario.masters.iter().filter(|it| it.ats.is_some()) {
            let Some(mut model) = self.world.machine().model(master.instance) else { continue };
            for stream in &master.streams {
                let Some(old) = model.endpoint(*stream) else { continue };
                let new = Endpoint::default().needs_ats(old.needs_ats);
                let mut new = new.response_pasid(old.response_pasid);
                new.answers = old.answers;
                model.plug(*stream, new);
            }
        }
    }

    /// What must go on at every moment: some pages of each user that is not `lost`.
    fn probes(&self, lost: &[usize]) -> Vec<Probe> {
        self.oracle(|oracle| {
            let mut probes = Vec::new();
            for (user, use_) in oracle.users().filter(|(user, _)| !lost.contains(&user.master)) {
                let User { master, substream } = user;
                let (instance, streams) = oracle.streams(master);
                let pages: Vec<u64> = match (use_, oracle.space(use_)) {
                    (Use::Identity, _) => vec![self.pool],
                    (_, Some(space)) => {
                        let pages = oracle.pages(space, 0..u64::MAX).take(PROBED_PAGES);
                        pages.map(|(iova, _)| iova).collect()
                    }
                    _ => Vec::new(),
                };
                for stream in streams {
                    for iova in &pages {
                        let expected = oracle.expected(user, *iova, false);
                        if let (None, [pa]) = (expected.refused, &expected.reach[..]) {
                            let access = Access { substream, ..Access::read(*stream, *iova) };
                            probes.push(Probe { master, instance, access, pa: *pa });
                        }
                    }
                }
            }
            probes
        })
    }

    /// Takes an instance over, or into use as a new one where that is refused.
    fn adopt(
        &self,
        index: usize,
        lost: Vec<u32>,
        devices: &Devices,
    ) -> Result<(Smmu<TestPlatform>, Outcome), BenchError> {
        let failed = |error: String| BenchError::Driver {
            doing: format!("take over instance {index}"),
            error,
        };
        if let Some(mut model) = self.world.machine().model(index)
            && !model.is_powered()
        {
            model.power_on(true);
        }
        let mut probe = self.probe(index)?;
        let ram = self.world.machine().ram().clone();
        // SAFETY: RAM stays as long as the world, and nobody else is left who would write to it.
        let found = unsafe { probe.adopt(&Everything { ram, lost }) };
        let (probe, why) = match found {
            Ok(count) => match probe.enable() {
                Ok(smmu) => return Ok((self.known(index, smmu), Outcome::Adopted(count))),
                Err(refused) => (refused.value, refused.error.to_string()),
            },
            Err(AdoptError::Twice | AdoptError::Kept) => return Err(failed("twice".to_owned())),
            Err(error) => (probe, error.to_string()),
        };
        devices.stop(index);
        let smmu = probe.enable().map_err(|refused| failed(refused.to_string()))?;
        Ok((self.known(index, smmu), Outcome::Refused(why)))
    }

    /// Why an instance may not be taken over, or must not. Who is `lost` keeps nobody from it.
    fn fears(&self, index: usize, lost: &[usize]) -> Fears {
        self.oracle(|oracle| {
            let stays =
                |user: User| oracle.streams(user.master).0 == index && !lost.contains(&user.master);
            let used: Vec<(User, Use)> = oracle.users().filter(|(user, _)| stays(*user)).collect();
            let waits = |(user, use_): &(User, Use)| {
                // Split-stage ATS is on over guests alone, and all guests here ask for it.
                let over_guest = || oracle.space(*use_).is_some_and(|it| oracle.over(it).is_some());
                let identity = *use_ == Use::Identity;
                let ats = match self.scenario.masters.get(user.master).map(|it| it.ats) {
                    None | Some(AtsMode::Off) => false,
                    Some(AtsMode::Full) => !identity,
                    Some(AtsMode::Always) => true,
                    Some(AtsMode::Split) => over_guest(),
                };
                ats || !identity && self.scenario.stalls(user.master)
            };
            let chosen = |(_, use_): &(User, Use)| {
                let Use::Domain(domain) = use_ else { return false };
                let owner = self.scenario.domains.get(oracle.owner(*domain));
                owner.is_some_and(|it| it.tables.vmid.is_some())
            };
            // One that does not answer was cut off, or will be. Of a process that was released nothing stalls, but where SMMUs
            // leave no choice.
            let surely = |it: &(User, Use)| {
                let quiet = oracle.space(it.1).is_some_and(|it| oracle.life(it) == Life::Released);
                let (master, still) = (it.0.master, quiet && self.scenario.stalls(it.0.master));
                waits(it) && !oracle.is_mute(master) && !still
            };
            Fears {
                surely: oracle.power(index) == Power::Off || used.iter().any(surely),
                perhaps: used.iter().any(chosen) || used.iter().any(waits),
            }
        })
    }
}

/// See [`Bench::fears`].
struct Fears {
    surely: bool,
    perhaps: bool,
}

impl Fears {
    fn judge(&self, bench: &Bench, index: usize, outcome: &Outcome) {
        let text = match (outcome, self.surely, self.perhaps) {
            (Outcome::Adopted(_), true, _) => "devices that wait were taken over".to_owned(),
            (Outcome::Refused(why), false, false) => format!("it was not taken over: {why}"),
            _ => return,
        };
        bench.look(|watch| watch.refuse(format_args!("instance {index}: {text}")));
    }
}
