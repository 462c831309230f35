// SPDX-License-Identifier: MIT OR Apache-2.0
//! An SMMU whose registers, queue and caches are the model's, for many threads.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use smmuv3::Mmio;
use smmuv3_formats::register::{CmdqBase, CmdqCons, CmdqProd, Gerror, Gerrorn};
use smmuv3_formats::{COMMAND_BYTES, Command, Opcode};
use smmuv3_model::{Adversary, Memory, Model, Observation, Profile};

use super::cpus::Line;
use crate::bytes::Bytes;

/// What time it is, in nanoseconds.
pub type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

/// Bits of CMDQ_PROD. Above them is room for some hours.
const INDEX_BITS: u32 = 20;
const INDEX: u64 = (1 << INDEX_BITS) - 1;

/// How often the one who lets it go on looks for more: it has other things to do, too.
const ROUNDS: usize = 64;

/// At one of so many looks those let it go on, too, who did not tell it anything.
const LOOKS: u32 = 16;

thread_local! {
    /// This thread's looks at CMDQ_CONS since it wrote CMDQ_PROD.
    static LOOKED: Cell<u32> = const { Cell::new(0) };
}

/// Observations that there is room for: what the model says of one command, and of what is done to its registers at most.
const ROOM: usize = 64;

/// The model, which reads the commands from memory, judges them, and carries them out in its caches. It stands before each
/// CMD_SYNC for `latency` nanoseconds from when it comes to it, and only then completes it, and goes on behind it: commands
/// behind a CMD_SYNC do not start before that is complete (§4.2), so times of several add up.
///
/// It has no processor of its own. CMDQ_PROD takes what is written; whoever wrote it lets the model go on at its next look at
/// CMDQ_CONS, until nothing is left, unless somebody else is at it, and reads what it shows by then. So its time is theirs who
/// tell it something, as in an emulator, and the model stays where it was; others let it go on where it has stood before a
/// CMD_SYNC for long enough, and else only now and then. Nobody has to look for time to pass: it comes to a CMD_SYNC when the one
/// before is complete, or PROD is written, whatever is later.
#[derive(Clone)]
pub struct Modelled(Arc<Shared>);

struct Shared {
    /// CMDQ_PROD, of which the model hears when it goes on, and above it when it was written.
    told: Line<AtomicU64>,
    shown: Line<Shown>,
    /// Somebody lets it go on. Apart from what that one changes: no look at a register of hardware slows it down.
    busy: Line<AtomicBool>,
    smmu: Line<Mutex<Smmu>>,
    latency: u64,
    clock: Clock,
}

/// What those need who wait: registers that are read without a lock, as those of hardware.
struct Shown {
    cons: AtomicU32,
    gerror: AtomicU32,
    gerrorn: AtomicU32,
    /// When the model goes on; 0 if nothing holds it up.
    due: AtomicU64,
}

/// Of the one who lets it go on.
struct Smmu {
    model: Model<Arc<Bytes>>,
    /// What it has heard of: CMDQ_PROD, and when that was written.
    prod: u32,
    told: u64,
    /// When the CMD_SYNC is complete that it stands before, and when the last one was.
    due: Option<u64>,
    free: u64,
    account: Account,
    observations: Vec<Observation>,
    /// GERROR or GERRORN may be others than are shown.
    is_error_new: bool,
}

/// What the model did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// CMD_SYNCs that are complete.
    pub syncs: u64,
    /// Invalidations that were carried out in its caches.
    pub invalidations: u64,
    /// Commands between CMDQ_CONS and CMDQ_PROD.
    pub waiting: u32,
    /// Errors and mistakes that it found.
    pub wrong: Vec<Observation>,
}

impl Modelled {
    /// One after reset that works on `memory`.
    pub fn new(memory: Arc<Bytes>, latency: u64, clock: Clock) -> Self {
        let mut profile = Profile::default().adversary(Adversary::NONE);
        profile.unknown_reset = false;
        let mut model = Model::new(profile, memory, 1);
        let prod = model.read32(CmdqProd::OFFSET);
        let [cons, gerror, gerrorn] = [CmdqCons::OFFSET, Gerror::OFFSET, Gerrorn::OFFSET]
            .map(|offset| AtomicU32::new(model.read32(offset)));
        let smmu = Smmu {
            model,
            prod,
            told: 0,
            due: None,
            free: 0,
            account: Account::default(),
            observations: Vec::with_capacity(ROOM),
            is_error_new: false,
        };
        Self(Arc::new(Shared {
            told: Line(AtomicU64::new(prod.into())),
            shown: Line(Shown { cons, gerror, gerrorn, due: AtomicU64::new(0) }),
            busy: Line(AtomicBool::new(false)),
            smmu: Line(Mutex::new(smmu)),
            latency,
            clock,
        }))
    }

    /// What the model did since it was asked last.
    pub fn account(&self) -> Account {
        self.with(|smmu| {
            let waiting = smmu.model.waiting_commands();
            Account { waiting, ..std::mem::take(&mut smmu.account) }
        })
    }

    fn prod(&self) -> u32 {
        (self.0.told.0.load(Ordering::Acquire) & INDEX) as u32
    }

    /// All but CMDQ_PROD and CMDQ_CONS.
    fn with<R>(&self, access: impl FnOnce(&mut Smmu) -> R) -> R {
        let mut smmu = self.0.smmu.0.lock().expect(STOPPED);
        smmu.hear(&self.0);
        let result = access(&mut smmu);
        smmu.note();
        smmu.is_error_new = true;
        smmu.show(&self.0);
        result
    }

    /// Lets the model go on, if it has something to do and nobody else is at it.
    fn go_on(&self) {
        let Shared { shown: Line(shown), busy: Line(busy), smmu: Line(smmu), clock, .. } = &*self.0;
        let looked = LOOKED.replace(LOOKED.get().wrapping_add(1));
        if busy.load(Ordering::Relaxed) || shown.cons.load(Ordering::Acquire) == self.prod() {
            return;
        }
        let due = shown.due.load(Ordering::Acquire);
        let early = if due == 0 { !looked.is_multiple_of(LOOKS) } else { clock() < due };
        if early || busy.swap(true, Ordering::Acquire) {
            return;
        }
        // Also if the model panics: else whoever waits would do so for ever.
        let _turn = Turn(busy);
        smmu.lock().expect(STOPPED).go_on(&self.0);
    }
}

/// Somebody lets the model go on, for as long as this lives.
struct Turn<'a>(&'a AtomicBool);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

const STOPPED: &str = "the model stopped on another thread";

impl Smmu {
    /// Whether there is anything new.
    fn hear(&mut self, shared: &Shared) -> bool {
        let told = shared.told.0.load(Ordering::Acquire);
        let prod = (told & INDEX) as u32;
        self.told = told >> INDEX_BITS;
        let more = prod != self.prod;
        if more {
            self.prod = prod;
            self.model.write32(CmdqProd::OFFSET, prod);
        }
        more
    }

    fn show(&mut self, shared: &Shared) {
        let Line(Shown { cons, gerror, gerrorn, due }) = &shared.shown;
        due.store(self.due.unwrap_or(0), Ordering::Release);
        if std::mem::take(&mut self.is_error_new) {
            gerror.store(self.model.read32(Gerror::OFFSET), Ordering::Release);
            gerrorn.store(self.model.read32(Gerrorn::OFFSET), Ordering::Release);
        }
        cons.store(self.model.read32(CmdqCons::OFFSET), Ordering::Release);
    }

    /// Until there is nothing left, or what is left has to wait.
    fn go_on(&mut self, shared: &Shared) {
        // First what it has heard of: by itself, it would not have waited for the rest.
        for _ in 0..ROUNDS {
            self.carry_out(shared);
            if !self.hear(shared) || self.due.is_some() {
                break;
            }
        }
        self.show(shared);
    }

    fn carry_out(&mut self, shared: &Shared) {
        while self.model.waiting_commands() != 0 && self.may_go_on(shared) {
            let (syncs, consumed) = (self.account.syncs, self.model.run(1));
            self.note();
            assert_ne!(consumed, 0, "the model refused a command: {:?}", self.account.wrong);
            if self.account.syncs != syncs {
                self.show(shared);
            }
        }
    }

    /// Whether it comes to anything but a CMD_SYNC that it has to stand before.
    fn may_go_on(&mut self, shared: &Shared) -> bool {
        if shared.latency == 0 || !self.is_before_sync() {
            return true;
        }
        let due = *self.due.get_or_insert(self.free.max(self.told) + shared.latency);
        let over = due <= (shared.clock)();
        if over {
            self.free = due;
            self.due = None;
        }
        over
    }

    fn is_before_sync(&mut self) -> bool {
        let base = CmdqBase(self.model.read64(CmdqBase::OFFSET));
        let cons = CmdqCons(self.model.read32(CmdqCons::OFFSET));
        let slot = cons.rd() & ((1 << base.log2size()) - 1);
        let word = self.model.memory().read64(base.addr() + slot * COMMAND_BYTES as u64);
        word.is_ok_and(|word| Command([word, 0]).is(Opcode::Sync))
    }

    /// Keeps of what the model says what is asked for later.
    fn note(&mut self) {
        self.model.swap_observations(&mut self.observations);
        for observation in self.observations.drain(..) {
            match observation {
                Observation::SyncCompleted { .. } => self.account.syncs += 1,
                Observation::Applied { .. } => self.account.invalidations += 1,
                Observation::Gerror(_) | Observation::Misuse(_) | Observation::Unsupported(_) => {
                    self.is_error_new = true;
                    self.account.wrong.push(observation);
                }
                _ => {}
            }
        }
    }
}

impl Mmio for Modelled {
    #[inline]
    fn read32(&self, offset: u32) -> u32 {
        match offset {
            CmdqProd::OFFSET => self.prod(),
            CmdqCons::OFFSET => {
                self.go_on();
                self.0.shown.0.cons.load(Ordering::Acquire)
            }
            Gerror::OFFSET => self.0.shown.0.gerror.load(Ordering::Acquire),
            Gerrorn::OFFSET => self.0.shown.0.gerrorn.load(Ordering::Acquire),
            _ => self.with(|smmu| smmu.model.read32(offset)),
        }
    }

    #[inline]
    fn write32(&self, offset: u32, value: u32) {
        match offset {
            CmdqProd::OFFSET => {
                let now = if self.0.latency == 0 { 0 } else { (self.0.clock)() };
                let told = now << INDEX_BITS | u64::from(value) & INDEX;
                self.0.told.0.store(told, Ordering::Release);
                LOOKED.set(0);
            }
            _ => self.with(|smmu| smmu.model.write32(offset, value)),
        }
    }

    fn write64(&self, offset: u32, value: u64) {
        self.with(|smmu| smmu.model.write64(offset, value));
    }
}
