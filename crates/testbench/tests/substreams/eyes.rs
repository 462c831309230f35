// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looks on at every store, command and free, and judges by the rules that need no knowledge of who may reach what.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smmuv3_formats::command::{CfgiCd, CfgiSte, CfgiSteRange};
use smmuv3_formats::{Command, EventId, L1Cd, Opcode, Ste};
use smmuv3_model::Observation;
use smmuv3_testbench::mixture::{History, Kind, Words};
use smmuv3_testbench::platform::{Observer, Point, World};

/// What the driver did, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It stored a 64-bit word.
    Store(u64, u64),
    /// It published more than a word.
    Published(u64, u64),
    /// It gave a command.
    Command(usize, Command),
}

/// Called at every point of a call; `true` when the driver may be called.
type Hook = Arc<dyn Fn(bool) + Send + Sync>;

/// Whether a command concerns the entry of a history, reached through a stream.
type Wanted = Box<dyn Fn(u32, &History, &State) -> bool>;

/// See the module.
pub struct Eyes {
    world: Arc<World>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Instances, streams, and where their entries are.
    entries: Vec<(usize, u32, u64)>,
    /// What words held that were stored one by one.
    shadow: BTreeMap<u64, u64>,
    /// The last first word of a stream's entry that led to contexts.
    led: BTreeMap<(usize, u32), u64>,
    /// By instance, stream and address.
    histories: BTreeMap<(usize, u32, u64), History>,
    steps: Vec<Step>,
    events: Vec<(usize, EventId)>,
    wrong: Vec<String>,
    hook: Option<Hook>,
    /// What each has held as a whole.
    held: BTreeMap<(usize, u32, u64), Vec<Words>>,
    /// A change may be abandoned on the way: hardware may then have more than two configurations.
    lenient: bool,
}

impl Eyes {
    pub fn new(world: &Arc<World>) -> Arc<Self> {
        Arc::new(Self { world: world.clone(), state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Judges the entry of `stream`, which is at `pa`.
    pub fn add_entry(&self, instance: usize, stream: u32, pa: u64) {
        let words = std::array::from_fn(|word| self.read(pa + 8 * word as u64));
        let mut state = self.state();
        state.entries.push((instance, stream, pa));
        for (word, value) in words.into_iter().enumerate() {
            state.shadow.insert(pa + 8 * word as u64, value);
        }
        state.histories.insert((instance, stream, pa), History::new(Kind::Ste, pa, words));
    }

    /// Steps since the last call.
    pub fn take_steps(&self) -> Vec<Step> {
        self.collect();
        std::mem::take(&mut self.state().steps)
    }

    /// Events since the last call.
    pub fn take_events(&self) -> Vec<(usize, EventId)> {
        self.collect();
        std::mem::take(&mut self.state().events)
    }

    /// Changes may be abandoned from here on.
    pub fn be_lenient(&self) {
        self.state().lenient = true;
    }

    /// Calls `hook` at every point from now on.
    pub fn hook(&self, hook: Option<Hook>) {
        self.state().hook = hook;
    }

    #[track_caller]
    pub fn check(&self, context: &str) {
        self.collect();
        assert_eq!(self.state().wrong, [""; 0], "{context}");
    }

    fn read(&self, pa: u64) -> u64 {
        self.world.machine().ram().read64(pa).unwrap_or(0)
    }

    /// What models did, and which commands they got.
    fn collect(&self) {
        let given = self.world.take_commands();
        let mut state = self.state();
        state.steps.extend(given.into_iter().map(|(at, command)| Step::Command(at, command)));
        for instance in 0.. {
            let Some(news) = self.world.observations(instance) else { break };
            for observation in news {
                state.saw(instance, observation);
            }
        }
    }
}

impl State {
    fn saw(&mut self, instance: usize, observation: Observation) {
        match observation {
            Observation::Command { command, .. } => self.told(instance, command),
            Observation::SyncCompleted { .. } => {
                let lenient = self.lenient;
                for (key, history) in self.histories.iter_mut().filter(|(key, _)| key.0 == instance)
                {
                    let before = history.clone();
                    let held = self.held.entry(*key).or_default();
                    if let Err(mut words) = history.synchronised(false) {
                        match before.check(held) {
                            Ok(()) if lenient => continue,
                            Err(other) if lenient => words = other,
                            _ => {}
                        }
                        self.wrong.push(format!("R4: {key:x?} may be read as {words:x?}"));
                    }
                    if history.is_settled() {
                        *held = vec![history.latest()];
                    }
                }
            }
            Observation::EventRecorded(record) => {
                let id = record.event().expect("the model's own events");
                self.events.push((instance, id));
            }
            Observation::TagConflict { .. } => {
                self.wrong.push(format!("R2: {instance}: {observation:x?}"));
            }
            Observation::Misuse(_) | Observation::Unsupported(_) => {
                self.wrong.push(format!("{instance}: {observation:x?}"));
            }
            _ => {}
        }
    }

    /// Which entries the command concerns.
    fn told(&mut self, instance: usize, command: Command) {
        let wanted: Wanted = match command.opcode() {
            Some(Opcode::CfgiSte) => {
                let sid = CfgiSte(command.0).sid() as u32;
                Box::new(move |stream, _, _| stream == sid)
            }
            Some(Opcode::CfgiCd) => {
                let (sid, ssid) = (CfgiCd(command.0).sid() as u32, CfgiCd(command.0).ssid() as u32);
                Box::new(move |stream, history, state| {
                    stream == sid && state.context_at(instance, sid, history.pa) == Some(ssid)
                })
            }
            Some(Opcode::CfgiSteRange) => {
                let command = CfgiSteRange(command.0);
                // Range is 31 for all.
                let (sid, log2) = (command.sid() as u32, command.range() as u32 + 1);
                Box::new(move |stream, _, _| (stream ^ sid).checked_shr(log2).unwrap_or(0) == 0)
            }
            _ => return,
        };
        let mut histories = std::mem::take(&mut self.histories);
        for ((at, stream, _), history) in &mut histories {
            if *at == instance && wanted(*stream, history, self) {
                history.told();
            }
        }
        self.histories = histories;
    }

    fn word(&self, pa: u64) -> u64 {
        self.shadow.get(&pa).copied().unwrap_or(0)
    }

    /// Which substream's context is at `pa`, as the stream's entry leads there, or did when hardware may have read it.
    fn context_at(&self, instance: usize, stream: u32, pa: u64) -> Option<u32> {
        let entry = self.entries.iter().find(|entry| (entry.0, entry.1) == (instance, stream))?;
        // Taken out while another one is looked for.
        let history = self.histories.get(&(instance, stream, entry.2));
        if history.is_some_and(|history| history.tables().is_empty()) {
            return None;
        }
        let ste = Ste([*self.led.get(&(instance, stream))?, 0, 0, 0, 0, 0, 0, 0]);
        let (base, bits) = (ste.s1_context_ptr(), ste.s1_cd_max() as u32);
        let index = |base: u64, bits: u32| {
            let at = pa.checked_sub(base)? / 64;
            (at >> bits == 0).then_some(at as u32)
        };
        let split = match ste.s1_fmt() {
            _ if bits == 0 => return index(base, 0),
            1 => 6,
            2 => 10,
            _ => return index(base, bits),
        };
        (0u32..1 << bits.saturating_sub(split)).find_map(|number| {
            let descriptor = L1Cd([self.word(base + 8 * u64::from(number))]);
            let low = descriptor.v().then(|| index(descriptor.l2_ptr(), split))??;
            Some(number << split | low)
        })
    }

    /// A word was stored.
    fn stored(&mut self, pa: u64, value: u64) {
        let (entry, word) = (pa & !63, (pa & 63) as usize / 8);
        let before: Words = std::array::from_fn(|word| self.word(entry + 8 * word as u64));
        for (instance, stream, at) in self.entries.clone() {
            let key = (instance, stream, entry);
            if at != entry && self.context_at(instance, stream, entry).is_none() {
                // Hardware cannot read it; when it can, it has not before.
                self.histories.remove(&key);
                self.held.remove(&key);
                continue;
            }
            let kind = if at == entry { Kind::Ste } else { Kind::Cd };
            let history = self.histories.entry(key);
            history.or_insert_with(|| History::new(kind, entry, before)).stored(word, value);
            let mut after = before;
            after[word] = value;
            let held = self.held.entry(key).or_default();
            held.extend([before, after]);
            held.dedup();
        }
        self.shadow.insert(pa, value);
        self.steps.push(Step::Store(pa, value));
        let of = self.entries.iter().find(|(_, _, at)| *at == pa);
        // V, and Config 101.
        if let Some((instance, stream, _)) = of
            && value & 0b1011 == 0b1011
        {
            self.led.insert((*instance, *stream), value);
        }
    }
}

impl Observer for Eyes {
    fn at(&self, point: Point, interruptible: bool) {
        self.collect();
        match point {
            Point::Published { pa, bytes: 8 } => {
                let value = self.read(pa);
                self.state().stored(pa, value);
            }
            Point::Published { pa, bytes } => self.state().steps.push(Step::Published(pa, bytes)),
            Point::Freeing { pa, bytes } => {
                for instance in 0.. {
                    let Some(model) = self.world.machine().model(instance) else { break };
                    if let Some(reference) = model.references(pa, bytes) {
                        let text = format!("R3: {pa:#x}, instance {instance}: {reference}");
                        self.state().wrong.push(text);
                    }
                }
                let mut state = self.state();
                state.shadow.retain(|at, _| !(pa..pa + bytes).contains(at));
                state.histories.retain(|key, _| !(pa..pa + bytes).contains(&key.2));
                state.held.retain(|key, _| !(pa..pa + bytes).contains(&key.2));
            }
            Point::Idle => {}
        }
        self.world.machine().act();
        self.collect();
        let hook = self.state().hook.clone();
        if let Some(hook) = hook {
            hook(interruptible);
        }
    }
}
