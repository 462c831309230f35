// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guests: the testbench is their software. It owns a context and tables in memory that a domain of stage 2 gives it, and
//! commands for the SMMUs that it is shown, one for each instance.

use std::collections::BTreeMap;
use std::iter;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smmuv3::atc::{Kept, Spans};
use smmuv3::invalidate::{self, Scope, Tag, commands};
use smmuv3::nest::{Forwarder, Nest, NestConfig, NestError, Stop};
use smmuv3::{
    AttachError, Attributes, Frames, InstanceId, Iova, Master, PhysAddr, Prot, Smmu, StreamId,
};
use smmuv3_formats::command::Sync;
use smmuv3_formats::{Cd, Command, Ste};
use smmuv3_pagetable::{Gather, MAIR, Stage1Table4K};

use super::{Bench, BenchError, Handle, contexts};
use crate::oracle::{PAGE, Rule};
use crate::platform::{Point, TestPlatform, World};

/// Bytes of its memory for tables.
pub(super) const BYTES: u64 = 2 << 20;
/// Where that is, as the first guest knows it; the others' follows, and then that of guests of later kernels: by where
/// its tables begin the oracle knows a guest's cached translations, and those of before a hand-over may go on beside
/// them. Beyond what is mapped elsewhere, and no address of the machine's memory.
const MEMORY: u64 = 0x20_0000_0000;
/// Where those of all guests are.
pub(crate) const ALL: Range<u64> = MEMORY..MEMORY + (1 << 30);
/// Where in it tables of contexts begin, for devices with PASIDs.
const TABLES: u64 = BYTES / 2;
/// Bits of its devices' addresses.
const INPUT_BITS: u32 = 48;
/// Commands that it gives at once.
const MOST: usize = 64;

/// What a guest has for one address space.
pub(super) struct Guest {
    /// Number of the space.
    number: usize,
    memory: Memory,
    table: Stage1Table4K,
    ste: Ste,
    /// That of a stream that stalls: by another context of the same tables.
    stalling: Ste,
    /// The context of those that do not.
    cd: Cd,
    asid: u16,
    /// The first guest over a domain has the SMMUs for all of them.
    under: usize,
    nests: Mutex<Nests>,
}

/// The SMMUs that a guest is shown.
pub(super) type Nests = BTreeMap<InstanceId, Arc<Nest<TestPlatform>>>;

/// Its memory for tables.
struct Memory {
    world: Arc<World>,
    pa: u64,
    ipa: u64,
    /// Pages that were never used, and those that are free again.
    free: Mutex<(u64, Vec<u64>)>,
    /// Free tables of contexts.
    tables: Mutex<Vec<u64>>,
}

impl Guest {
    pub(super) fn new(bench: &Bench, number: usize, under: usize) -> Result<Self, BenchError> {
        let failed = |error: String| BenchError::Driver {
            doing: format!("give {} memory", bench.scenario.space(number)),
            error,
        };
        // Its pages are zeroed by themselves as they are handed out.
        let pa = bench.world.frames().allocate_for_devices(BYTES, BYTES);
        let pa = pa.ok_or_else(|| BenchError::NoMemory("a guest".to_owned()))?;
        let before = bench.left.kernels() * bench.scenario.domains.len();
        let ipa = MEMORY + (before + number) as u64 * BYTES;
        let tables = (ipa + TABLES..ipa + BYTES).step_by(contexts::TABLE as usize);
        let tables = Mutex::new(tables.collect());
        let world = bench.world.clone();
        let memory = Memory { world, pa, ipa, free: Mutex::default(), tables };
        let domain = bench.domains.get(under).ok_or_else(|| failed("no domain".to_owned()))?;
        let attributes = Attributes::normal(Prot::READ | Prot::WRITE);
        // SAFETY: the memory is the guest's as long as the domain lives.
        unsafe { domain.map(Iova(ipa), PhysAddr(pa), BYTES, attributes) }
            .map_err(|error| failed(error.to_string()))?;
        let output = bench.scenario.instances.iter().map(|instance| instance.oas).min();
        let output = output.unwrap_or(INPUT_BITS).min(INPUT_BITS);
        let table = Stage1Table4K::new(&memory, INPUT_BITS, output)
            .map_err(|error| failed(error.to_string()))?;
        // Spaces over one domain have ASIDs of one guest; there are fewer than 255.
        let asid = (number % 254) as u16 + 1;
        let context = memory.allocate(PAGE as usize, PAGE as usize);
        let context = context.ok_or_else(|| BenchError::NoMemory("a context".to_owned()))?;
        let cd = Cd::default().with_v(true).with_t0sz(u64::from(64 - INPUT_BITS));
        let cd = cd.with_ir0(1).with_or0(1).with_sh0(3).with_epd1(true).with_ips(5);
        let cd = cd.with_aa64(true).with_r(true).with_a(true).with_aset(true);
        let cd = cd.with_asid(asid.into()).with_mair(MAIR).with_ttb0(table.root().0);
        let both = cd.0.into_iter().chain(cd.with_s(true).0);
        for (word, at) in both.zip((memory.real(context.0)..).step_by(8)) {
            let _ = bench.world.machine().ram().write64(at, word);
        }
        memory.publish(context, 2 * size_of::<Cd>());
        let ste = Ste::default().with_v(true).with_config(0b101).with_s1_context_ptr(context.0);
        let ste = ste.with_s1_cir(1).with_s1_cor(1).with_s1_csh(3);
        let stalling = ste.with_s1_context_ptr(context.0 + size_of::<Cd>() as u64);
        let nests = Mutex::default();
        let guest = Self { number, memory, table, ste, stalling, cd, asid, under, nests };
        if !bench.guests.iter().flatten().any(|other| other.under == under) {
            for smmu in bench.smmus.iter().filter_map(Handle::get) {
                guest.show(bench, &smmu);
            }
        }
        Ok(guest)
    }

    /// Shows it its part of `smmu`. One that cannot walk the domain refuses that.
    fn show(&self, bench: &Bench, smmu: &Smmu<TestPlatform>) {
        let Some(domain) = bench.domains.get(self.under) else { return };
        if let Ok(nest) = bench.iommu.nest(smmu, domain, self.config(bench)) {
            self.lock().insert(smmu.id(), Arc::new(nest));
        }
    }

    /// How its SMMUs are.
    fn config(&self, bench: &Bench) -> NestConfig {
        let under = bench.scenario.domains.get(self.under);
        let (stalls, pages) =
            under.map_or((0, 0), |it| (it.tables.guest_stalls, it.tables.guest_pages));
        NestConfig::new().with_snooped().with_stalls(stalls).with_page_requests(pages)
    }

    fn lock(&self) -> MutexGuard<'_, Nests> {
        self.nests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An entry of its own and the context that this leads to, both legal for `nest`.
    pub(super) fn words(&self, nest: &Nest<TestPlatform>) -> (Ste, Cd) {
        let always_stalls = nest.guest().shown().idr0.stall_model() == 2;
        (self.ste, self.cd.with_s(always_stalls))
    }

    /// Root of its tables, as it knows it.
    pub(super) fn root(&self) -> u64 {
        self.table.root().0
    }

    /// Where its memory for tables is.
    pub(super) fn memory(&self) -> u64 {
        self.memory.pa
    }

    /// Its SMMU on an instance, if it is the first over its domain.
    pub(super) fn own_nest(&self, instance: InstanceId) -> Option<Arc<Nest<TestPlatform>>> {
        self.lock().get(&instance).cloned()
    }

    /// The SMMUs of the guest. Nothing is locked while the driver works: an unmap of the guest's may interrupt it.
    pub(super) fn nests(&self, bench: &Bench) -> Nests {
        let first = bench.guests.iter().flatten().find(|other| other.under == self.under);
        first.unwrap_or(self).lock().clone()
    }

    pub(super) fn attach(
        &self,
        bench: &Bench,
        master: &Master<TestPlatform>,
    ) -> Result<(), AttachError> {
        let Some(nest) = self.nests(bench).remove(&master.instance()) else {
            // For the same reason.
            return Err(self.refusal(bench, master.instance()));
        };
        let same = |other: Arc<Master<TestPlatform>>| std::ptr::eq(&raw const *other, master);
        let at = bench.masters.iter().position(|other| other.get().is_some_and(same));
        let described = at.and_then(|at| bench.scenario.masters.get(at));
        // It knows them by other numbers.
        let streams = described.map(|it| it.streams.iter().map(|stream| StreamId(stream ^ 1)));
        let streams: Vec<StreamId> = streams.into_iter().flatten().collect();
        // Its SMMU has no stage 2, and would refuse all by an entry that asks for that: nothing comes of it.
        let illegal = nest.attach(master, &streams, &self.ste.with_config(0b111));
        if !matches!(illegal, Err(AttachError::Illegal(_))) {
            bench.look(|watch| {
                let text = format_args!("an illegal entry of a guest came to {illegal:?}");
                watch.oracle.accuse(Rule::Misuse, text);
            });
        }
        let model = nest.guest().shown().idr0.stall_model();
        let ste = match at.is_some_and(|at| bench.scenario.stalls(at)) && model != 1 {
            true => self.stalling,
            // Where it may be said.
            false => self.ste.with_s1_stalld(model == 0),
        };
        // Full ATS, whatever its host makes of it.
        let ste = ste.with_eats(described.map_or(0, |it| it.ats.is_some().into()));
        let stalls = at.is_some_and(|at| bench.scenario.stalls(at)) && model != 1;
        let Some((at, ste, table)) = at.and_then(|at| {
            let (ste, table) = bench.new_table(at, self.number, stalls, ste)?;
            Some((at, ste, table))
        }) else {
            return nest.attach(master, &streams, &ste);
        };
        // It may have been found out while the table was made.
        let known = bench.is_quarantined(at);
        bench.look(|watch| watch.silent_before |= known);
        let attached = nest.attach(master, &streams, &ste);
        match &attached {
            Ok(()) => bench.exchange_table(at, Some(table)),
            // It is found out only now that its device does not answer: its entry is another all the same.
            Err(AttachError::Quarantined { .. }) if !known => bench.exchange_table(at, Some(table)),
            Err(_) => bench.drop_table(&table),
        }
        attached
    }

    /// The context of its space, which stalls or does not.
    pub(super) fn context(&self, stalls: bool) -> Cd {
        self.cd.with_s(stalls)
    }

    /// Memory for a table of contexts, zeroed, as it knows it.
    pub(super) fn take_table(&self) -> Option<u64> {
        let at = self.memory.tables.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        let zeroes = [0; PAGE as usize / 8];
        for page in (at..at + contexts::TABLE).step_by(PAGE as usize) {
            self.write(PhysAddr(page), &zeroes);
        }
        Some(at)
    }

    /// Takes that back.
    pub(super) fn give_table(&self, at: u64) {
        self.memory.tables.lock().unwrap_or_else(PoisonError::into_inner).push(at);
    }

    /// Writes words of its memory, and publishes them.
    pub(super) fn write(&self, at: PhysAddr, words: &[u64]) {
        let ram = self.memory.world.machine().ram();
        for (word, pa) in words.iter().zip((self.real(at.0)..).step_by(8)) {
            let _ = ram.write64(pa, *word);
        }
        self.memory.publish(at, 8 * words.len());
    }

    /// Where what it knows as `ipa` is.
    pub(super) const fn real(&self, ipa: u64) -> u64 {
        self.memory.real(ipa)
    }

    /// Why it has no SMMU on an instance.
    fn refusal(&self, bench: &Bench, instance: InstanceId) -> AttachError {
        let mut smmus = bench.smmus.iter().filter_map(Handle::get);
        let smmu = smmus.find(|smmu| smmu.id() == instance);
        let Some((smmu, domain)) = smmu.zip(bench.domains.get(self.under)) else {
            return AttachError::Foreign;
        };
        match bench.iommu.nest(&smmu, domain, self.config(bench)).err() {
            Some(NestError::Mismatch(what)) => AttachError::Mismatch { instance, what },
            Some(NestError::Illegal(illegal)) => AttachError::Illegal(illegal),
            _ => AttachError::Foreign,
        }
    }

    /// The space whose stage 2 it is over.
    pub(super) const fn under(&self) -> usize {
        self.under
    }

    pub(super) fn map(
        &self,
        bench: &Bench,
        iova: u64,
        bytes: u64,
        attributes: Attributes,
    ) -> Result<(), String> {
        // SAFETY: nobody else uses the range: interruptions avoid the busy one. The frames are those that the
        // table was made with.
        let map =
            unsafe { self.table.map(&self.memory, Iova(iova), PhysAddr(iova), bytes, attributes) };
        map.or_else(|error| {
            if error.mapped > 0 {
                self.unmap(bench, iova, error.mapped)?;
            }
            Err(format!("{:?}", error.kind))
        })
    }

    /// Clears descriptors, tells its SMMUs, and only then frees the tables that are not linked any more.
    pub(super) fn unmap(&self, bench: &Bench, iova: u64, bytes: u64) -> Result<u64, String> {
        let mut gather: Gather = Gather::new();
        // SAFETY: as in `map`.
        let mut cursor = unsafe { self.table.unmap(&self.memory, Iova(iova), bytes) }
            .map_err(|error| error.to_string())?;
        while cursor.next(&mut gather) {
            let range = gather.range();
            let scope = Scope::Range(invalidate::Range {
                start: range.start,
                bytes: range.end - range.start,
                granule_shift: 12,
                leaf_shift: gather.leaf_size().map(u64::trailing_zeros),
                leaf_only: gather.leaf_only(),
            });
            for nest in self.nests(bench).into_values() {
                // The VMID is its host's to say.
                let tag = iter::once(Tag::el1(0, self.asid));
                let told = commands(nest.guest().host(), tag, scope, MOST);
                let sync = Command::from(Sync::new());
                let told = told.chain(iter::once(sync));
                // Those of its devices that keep translations, whether they use this space or not.
                let devices = bench.scenario.masters.iter().filter(|it| it.ats.is_some());
                let instance = bench.index_of(nest.instance());
                let devices = devices.filter(|it| it.instance == instance);
                let streams = devices.flat_map(|it| &it.streams).map(|stream| StreamId(stream ^ 1));
                let spans = Spans::of(scope, 12);
                let forgotten = streams.flat_map(|stream| {
                    let kept = Kept { stream, substream: None };
                    spans.iter().map(move |span| kept.command(span))
                });
                let told: Vec<Command> = told.chain(forgotten).chain(iter::once(sync)).collect();
                carry_out(&nest, &told)?;
            }
            // SAFETY: the guest's SMMUs have forgotten the range, with what led to the tables.
            unsafe { gather.free_tables(&self.memory) };
            gather.clear();
        }
        Ok(cursor.unmapped())
    }
}

impl Bench {
    /// An instance is about to be removed, which no guest uses: those that were shown their part of it see it no more.
    pub(super) fn hide_from_guests(&self, instance: InstanceId) {
        for guest in self.guests.iter().flatten() {
            guest.lock().remove(&instance);
        }
        self.hide_stalls(instance);
        self.hide_pages(instance);
        self.forget_told(instance);
    }

    /// The same instance is there again, with another number: guests are shown their part of it, as they were of the first.
    pub(super) fn show_to_guests(&self, smmu: &Smmu<TestPlatform>) {
        let guests = || self.guests.iter().flatten();
        for (nth, guest) in guests().enumerate() {
            if !guests().take(nth).any(|other| other.under == guest.under) {
                guest.show(self, smmu);
            }
        }
    }
}

/// Gives the guest's SMMU all of `commands`.
pub(super) fn carry_out(nest: &Nest<TestPlatform>, mut commands: &[Command]) -> Result<(), String> {
    let mut forwarder = Forwarder::new();
    while !commands.is_empty() {
        let done = nest.forward(&mut forwarder, commands).map_err(|error| error.to_string())?;
        if let Stop::Refused { illegal, .. } = done.stop {
            return Err(illegal.to_string());
        }
        commands = commands.get(done.consumed..).unwrap_or_default();
    }
    Ok(())
}

impl Memory {
    /// Where what it knows as `ipa` is.
    const fn real(&self, ipa: u64) -> u64 {
        self.pa + (ipa - self.ipa)
    }
}

// SAFETY: pages are handed out once until they are given back, zeroed, and stay mapped as long as the world lives.
unsafe impl Frames for Memory {
    fn allocate(&self, size: usize, _align: usize) -> Option<PhysAddr> {
        if size as u64 > PAGE {
            return None;
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let ipa = match free.1.pop() {
            Some(ipa) => ipa,
            None if free.0 < TABLES => {
                free.0 += PAGE;
                self.ipa + free.0 - PAGE
            }
            None => return None,
        };
        for offset in (0..PAGE).step_by(8) {
            self.world.machine().ram().write64(self.real(ipa) + offset, 0)?;
        }
        self.publish(PhysAddr(ipa), PAGE as usize);
        Some(PhysAddr(ipa))
    }

    unsafe fn free(&self, frame: PhysAddr, _size: usize, _align: usize) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).1.push(frame.0);
    }

    fn pointer(&self, pa: PhysAddr) -> std::ptr::NonNull<u8> {
        TestPlatform(self.world.clone()).pointer(PhysAddr(self.real(pa.0)))
    }

    fn publish(&self, pa: PhysAddr, bytes: usize) {
        self.world.machine().published(self.real(pa.0), bytes as u64);
        // Hardware may walk at any moment, and interrupts come.
        self.world.at(Point::Idle);
    }
}
