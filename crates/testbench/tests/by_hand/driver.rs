// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a driver does, in pieces small enough to be put together wrongly: two SMMUs, one with 8-bit and one
//! with 16-bit ASIDs, a master behind each, and domains that both may use.
//!
//! Events stay in their queue, since no rule about them is judged here.

mod devices;
mod el2;
mod guest;
mod hand_over;
mod mark;
mod memory;
mod observation;
mod power;
mod queue;
mod size;
mod stage_2;
mod stall;

use std::ops::Range;
use std::sync::{Arc, MutexGuard};

use smmuv3::{Mmio, Overrides, Platform};
use smmuv3_formats::command::{CfgiCd, CfgiSte, CfgiSteRange, TlbiNhAsid, TlbiNhVa, TlbiNsnhAll};
use smmuv3_formats::descriptor::{Stage1Page, Stage1Table, TABLE_OR_PAGE};
use smmuv3_formats::register::{
    CmdqBase, CmdqCons, CmdqProd, Cr0, Cr0Ack, Cr1, Cr2, EventqBase, EventqCons, EventqProd,
    StrtabBase, StrtabBaseCfg,
};
use smmuv3_formats::ste::config;
use smmuv3_formats::{Cd, Command, Ste};
use smmuv3_testbench::oracle::{AccessKind, PAGE, Shape, Use, Violation};
use smmuv3_testbench::platform::{Observer, Point, TestMmio, TestPlatform, World};
use smmuv3_testbench::stream_table::StreamTable;
use smmuv3_testbench::watch::Watch;

use crate::judge::{Eyes, Judge};

/// The instance with 8-bit ASIDs, and the master behind it.
pub const NARROW: usize = 0;
/// The instance with 16-bit ASIDs, and the master behind it.
pub const WIDE: usize = 1;
/// Both.
pub const INSTANCES: [usize; 2] = [NARROW, WIDE];
/// The stream of each master.
pub const STREAMS: [u32; 2] = [5, 9];

/// What a table of the last level spans.
pub const SPAN: u64 = 2 << 20;
/// A stream that is blocked (§5.2).
pub const ABORT: u64 = 0b0001;
/// Word 1 of an STE that translates: walks are cacheable and shareable.
const STAGE_1_WORD_1: u64 = 0xd4;

/// log2 of the entries of stream tables, command and event queues.
const STREAMS_LOG2: u64 = 6;
const COMMANDS_LOG2: u64 = 8;
const EVENTS_LOG2: u64 = 7;
/// A linear stream table.
const SHAPE: StrtabBaseCfg = StrtabBaseCfg(STREAMS_LOG2 as u32);
/// Level of the tables that hold pages (§15.1).
const LAST: u32 = 3;
/// Pages of memory to map.
const PAGES: u64 = 256;

struct Smmu {
    mmio: TestMmio,
    /// Where commands go.
    queue: Queue,
    /// An enhanced queue that takes its place for a while, or whose place it takes.
    second: Option<Queue>,
    table: u64,
    /// Where events go.
    events: u64,
}

struct Space {
    root: u64,
    /// Its ASID on each instance; its VMID where its tables are those of stage 2.
    asids: [u16; 2],
}

/// What the tables of domains are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Tables of stage 1.
    Stage1,
    /// Tables of stage 2, alone.
    Stage2,
    /// Tables of stage 2, below a stage 1 of a guest that changes nothing.
    Nested,
    /// As the first, and devices that keep translations.
    Devices,
    /// As the first, in EL2 with E2H.
    El2,
    /// As the first, with leaves in which hardware marks what is written.
    Dirty,
    /// As the first, behind SMMUs that do not snoop.
    Incoherent,
    /// As `Nested`, and the guest changes its tables: its space is [`GUEST`], over the first domain.
    Guest,
    /// As `Guest`, with devices that are given intermediate addresses; and there are [`OTHER`] and [`FAR`].
    Split,
}

impl Layout {
    /// Devices keep translations.
    const fn keeps(self) -> bool {
        matches!(self, Self::Devices | Self::Split)
    }

    /// There are guests with tables of their own.
    const fn guests(self) -> bool {
        matches!(self, Self::Guest | Self::Split)
    }
}

pub use guest::{FAR, GUEST, OTHER};
use queue::Queue;
pub use size::{GROUP, HINT};

/// See the module.
pub struct Hand {
    world: Arc<World>,
    platform: TestPlatform,
    eyes: Arc<Eyes>,
    judge: Judge,
    layout: Layout,
    /// Contexts let faults stall.
    pub stalls: bool,
    /// What is stored is published.
    pub publishes: bool,
    /// What an SMMU is told to forget counts only once it was told so again.
    pub repeats: bool,
    /// Devices that are to be given intermediate addresses are given physical ones where the mistake is made.
    pub physical: bool,
    /// Entries of guests do not let events be merged (MEV) where the mistake is made.
    pub unmerged: bool,
    /// What is mapped from now on may be executed by who is not privileged, whatever was asked for.
    pub executes: bool,
    /// Commands of each instance since its last CMD_SYNC.
    unfinished: [Vec<Command>; 2],
    /// Where the mistake is to be made.
    mistake: Option<usize>,
    smmus: Vec<Smmu>,
    spaces: Vec<Space>,
    /// Memory that was not mapped yet.
    memory: u64,
}

impl Hand {
    /// Both instances enabled, both masters blocked, and two domains without mappings.
    pub fn new(
        world: Arc<World>,
        eyes: Arc<Eyes>,
        judge: Judge,
        layout: Layout,
        mistake: Option<usize>,
    ) -> Self {
        let platform = TestPlatform(world.clone());
        let mut hand = Self {
            world,
            platform,
            eyes,
            judge,
            layout,
            stalls: false,
            publishes: true,
            repeats: false,
            physical: false,
            unmerged: false,
            executes: false,
            unfinished: [const { Vec::new() }; 2],
            mistake,
            smmus: Vec::new(),
            spaces: Vec::new(),
            memory: 0,
        };
        hand.memory = hand.allocate(PAGES * PAGE);
        for instance in INSTANCES {
            hand.enable(instance);
        }
        for asids in [[0x05, 0x105], [0x06, 0x106]] {
            let root = hand.allocate_table();
            let shape = Shape { dirty: layout == Layout::Dirty, ..Shape::default() };
            hand.watch().oracle.add_domain_with(root, shape);
            hand.spaces.push(Space { root, asids });
        }
        if layout.guests() {
            hand.add_guest(GUEST);
        }
        if layout == Layout::Split {
            hand.add_guest(OTHER);
            hand.add_guest(FAR);
        }
        hand
    }

    /// Whether the steps for `instance` are to be done wrongly.
    pub fn errs(&self, instance: usize) -> bool {
        self.mistake == Some(instance)
    }

    /// The first rule that was broken.
    pub fn verdict(&self) -> Option<Violation> {
        self.watch().oracle.violation().cloned()
    }

    /// The ASID of `domain` on `instance`.
    pub fn asid(&self, instance: usize, domain: usize) -> u16 {
        self.spaces[domain].asids[instance]
    }

    /// Gives `domain` another ASID on `instance`, from its next attach on.
    pub fn give_asid(&mut self, instance: usize, domain: usize, asid: u16) {
        self.spaces[domain].asids[instance] = asid;
    }

    /// Maps new memory at `iova`.
    pub fn map(&mut self, domain: usize, iova: u64, pages: u64) {
        let range = iova..iova + pages * PAGE;
        let pa = self.memory;
        self.memory += pages * PAGE;
        self.watch().oracle.map_begins(domain, range.clone(), pa, true);
        for (iova, pa) in range.clone().step_by(PAGE as usize).zip((pa..).step_by(PAGE as usize)) {
            let slot = self.descriptor(domain, iova, LAST);
            self.store(slot, self.leaf(domain, pa));
        }
        let mut watch = self.watch();
        watch.collect(&self.world);
        watch.oracle.map_ends(domain, range, true);
    }

    /// Changes these bits of the descriptor for `iova`, in place.
    pub fn change(&mut self, domain: usize, iova: u64, bits: u64) {
        let slot = self.descriptor(domain, iova, LAST);
        self.store(slot, self.load(slot) ^ bits);
    }

    fn leaf(&self, domain: usize, pa: u64) -> u64 {
        if self.is_stage_2(domain) {
            return stage_2::leaf(pa, self.executes);
        }
        let leaf = Stage1Page::default().with_kind(TABLE_OR_PAGE).with_oa(pa);
        let leaf = leaf.with_af(true).with_ng(true).with_sh(3).with_ap(0b01);
        let leaf = if self.layout == Layout::Dirty { mark::clean(leaf) } else { leaf };
        leaf.with_uxn(!self.executes).with_pxn(true).0[0]
    }

    /// Clears the descriptors of `range`, then does `steps`: unmap has returned.
    pub fn unmapping(
        &mut self,
        domain: usize,
        range: &Range<u64>,
        steps: impl FnOnce(&mut Self, &Range<u64>),
    ) {
        self.gone(domain, range, |hand| {
            for iova in range.clone().step_by(PAGE as usize) {
                let slot = hand.descriptor(domain, iova, LAST);
                hand.store(slot, 0);
            }
            steps(hand, range);
        });
    }

    /// Unlinks the last table of `range`, then does `steps` with it: unmap has returned.
    pub fn unlinking(
        &mut self,
        domain: usize,
        range: &Range<u64>,
        steps: impl FnOnce(&mut Self, u64),
    ) {
        self.gone(domain, range, |hand| {
            let slot = hand.descriptor(domain, range.start, LAST - 1);
            let table = Stage1Table([hand.load(slot)]).next();
            hand.store(slot, 0);
            steps(hand, table);
        });
    }

    fn gone(&mut self, domain: usize, range: &Range<u64>, steps: impl FnOnce(&mut Self)) {
        self.watch().oracle.unmap_begins(domain, range.clone());
        steps(self);
        let mut watch = self.watch();
        watch.collect(&self.world);
        watch.oracle.unmap_ends(domain, range.clone(), true);
        if self.judge == Judge::Inspection {
            watch.after_unmap(&self.world, domain, range);
        }
    }

    /// The master behind `instance` goes from one thing to another without a moment in between.
    pub fn needs_no_gap(&mut self, instance: usize) {
        self.watch().oracle.changes_without_a_hit(instance, &Overrides::NONE);
    }

    /// Does the `steps` that change what the master behind `instance` uses: the call has returned.
    pub fn changing(&mut self, instance: usize, to: Use, steps: impl FnOnce(&mut Self)) {
        let before = self.watch().oracle.using(instance);
        self.watch().oracle.attach_begins(instance, to);
        let stalls = self.watch().before_change(&self.world, instance.into());
        steps(self);
        let mut watch = self.watch();
        watch.collect(&self.world);
        watch.oracle.attach_ends(instance, true);
        if self.judge == Judge::Inspection {
            watch.after_attach(&self.world, instance, before);
            watch.after_change(&self.world, instance.into(), &stalls, to == Use::Blocked);
        }
    }

    /// Attaches the master behind `instance`, which is blocked, to `domain`: all as it must be (§8.2).
    pub fn attach(&mut self, instance: usize, domain: usize) {
        self.changing(instance, Use::Domain(domain), |hand| {
            let entry = hand.prepare(instance, domain);
            hand.store_entry(instance, 0, entry.0[0]);
            hand.cfgi_ste(instance);
            hand.sync(instance);
            if hand.layout == Layout::Devices || hand.layout == Layout::Split && domain >= GUEST {
                hand.switch(instance, true);
            }
        });
    }

    /// Blocks the master behind `instance`, which uses `domain`: all as it must be (§8.2).
    pub fn detach(&mut self, instance: usize, domain: usize) {
        self.changing(instance, Use::Blocked, |hand| {
            if hand.layout.keeps() {
                hand.leave_device(instance);
            }
            hand.store_entry(instance, 0, ABORT);
            hand.cfgi_ste(instance);
            hand.sync(instance);
            hand.forget(instance, domain);
            hand.sync(instance);
        });
    }

    /// Tells `instance` to forget all translations of `domain`.
    pub fn forget(&mut self, instance: usize, domain: usize) {
        let tag = self.asid(instance, domain);
        match self.layout {
            Layout::Stage1 | Layout::Devices | Layout::Dirty | Layout::Incoherent => {
                self.tlbi_asid(instance, tag);
            }
            Layout::Stage2 | Layout::Nested => self.tlbi_vmid(instance, tag),
            Layout::El2 => self.tlbi_el2_asid(instance, tag),
            Layout::Guest | Layout::Split => {
                self.tlbi_vmid(instance, self.asid(instance, guest::under(domain)));
            }
        }
    }

    /// Builds a context for `domain`, and writes what a blocked entry does not look at. The entry that is
    /// still to be switched to is the result.
    pub fn prepare(&mut self, instance: usize, domain: usize) -> Ste {
        if self.layout.guests() {
            return self.prepare_guest(instance, domain);
        }
        if self.is_stage_2(domain) {
            return self.prepare_stage_2(instance, domain);
        }
        let context = self.allocate(64);
        for (index, word) in self.context(instance, domain).0.into_iter().enumerate().rev() {
            self.store(context + 8 * index as u64, word);
        }
        let entry = Ste([0, STAGE_1_WORD_1, 0, 0, 0, 0, 0, 0]);
        let entry = entry.with_eats(u64::from(self.layout == Layout::Devices));
        let entry = entry.with_v(true).with_config(config::STAGE_1).with_s1_context_ptr(context);
        let entry = entry.with_strw(if self.layout == Layout::El2 { el2::STRW } else { 0 });
        self.store_entry(instance, 1, entry.0[1]);
        self.cfgi_ste(instance);
        self.sync(instance);
        entry
    }

    /// The context descriptor of `domain` on `instance` (§6).
    pub fn context(&self, instance: usize, domain: usize) -> Cd {
        let space = &self.spaces[domain];
        let cd = Cd::default().with_t0sz(16).with_ir0(1).with_or0(1).with_sh0(3).with_epd1(true);
        let cd = cd.with_ips(4).with_aa64(true).with_r(true).with_a(true).with_aset(true);
        let cd = cd.with_v(true).with_asid(space.asids[instance].into());
        let marks = self.layout == Layout::Dirty;
        let cd = cd.with_ha(marks).with_hd(marks);
        cd.with_ttb0(space.root).with_mair(0xff).with_s(self.stalls)
    }

    /// The master's STE as it is now.
    pub fn entry(&self, instance: usize) -> Ste {
        let entry = self.entry_address(instance);
        Ste(std::array::from_fn(|index| self.load(entry + 8 * index as u64)))
    }

    /// Stores a word of the master's STE.
    pub fn store_entry(&mut self, instance: usize, index: u64, word: u64) {
        self.store(self.entry_address(instance) + 8 * index, word);
    }

    /// Stores a word of the CD that the master's STE leads to.
    pub fn store_context(&mut self, instance: usize, index: u64, word: u64) {
        self.store(self.entry(instance).s1_context_ptr() + 8 * index, word);
    }

    /// Tells `instance` to forget the STE of its master.
    pub fn cfgi_ste(&mut self, instance: usize) {
        let sid = STREAMS[instance].into();
        self.send(instance, CfgiSte::new().with_sid(sid).with_leaf(true));
    }

    /// Tells `instance` to forget the STEs of its first 2^`log2` streams; at least two.
    pub fn cfgi_first(&mut self, instance: usize, log2: u32) {
        self.send(instance, CfgiSteRange::new().with_range((log2 - 1).into()));
    }

    /// Tells `instance` to forget the CD of its master.
    pub fn cfgi_cd(&mut self, instance: usize) {
        let sid = STREAMS[instance].into();
        self.send(instance, CfgiCd::new().with_sid(sid).with_leaf(true));
    }

    /// Tells `instance` to forget everything of EL1 and of stage 2.
    pub fn tlbi_all(&mut self, instance: usize) {
        self.send(instance, TlbiNsnhAll::new());
    }

    /// Tells `instance` to forget all translations of `asid`.
    pub fn tlbi_asid(&mut self, instance: usize, asid: u16) {
        self.send(instance, TlbiNhAsid::new().with_asid(asid.into()));
    }

    /// Tells `instance` to forget the translations of `range` (a power of two of pages), and with `leaf` no
    /// table descriptors.
    pub fn tlbi(&mut self, instance: usize, asid: u16, range: &Range<u64>, leaf: bool) {
        let pages = (range.end - range.start) / PAGE;
        let command = TlbiNhVa::new().with_asid(asid.into()).with_addr(range.start);
        let command = command.with_leaf(leaf);
        self.send(
            instance,
            match pages {
                1 => command,
                _ => command.with_tg(1).with_scale(pages.trailing_zeros().into()),
            },
        );
    }

    /// Frees a page that was a table.
    pub fn free_table(&mut self, table: u64) {
        self.eyes.at(Point::Freeing { pa: table, bytes: PAGE }, false);
        self.world.frames().free(table, PAGE);
    }

    /// Devices finish what they began and access every page that was ever mapped.
    pub fn devices(&mut self) {
        let mut addresses = Vec::new();
        for domain in 0..self.spaces.len() {
            let watch = self.watch();
            addresses.extend(watch.oracle.pages(domain, 0..u64::MAX).map(|(iova, _)| iova));
            addresses.extend(watch.oracle.gone(domain, 0..u64::MAX).map(|(iova, _)| iova));
        }
        for instance in INSTANCES {
            let mut model = self.world.machine().model(instance).expect("it is a model");
            let held: Vec<u64> = model.held().map(|held| held.id).collect();
            for id in held {
                model.perform(id);
            }
            drop(model);
            self.watch().collect(&self.world);
            for iova in &addresses {
                for kind in [AccessKind::Read, AccessKind::Fetch, AccessKind::Write] {
                    self.access(instance, *iova, kind);
                }
            }
        }
        self.watch().collect(&self.world);
    }

    fn access(&self, instance: usize, iova: u64, kind: AccessKind) {
        let access = kind.access(STREAMS[instance], iova);
        let mut model = self.world.machine().model(instance).expect("it is a model");
        let outcome = model.access(access);
        drop(model);
        let mut watch = self.watch();
        match outcome {
            Ok(to) => watch.oracle.reached(instance, iova, kind, to.pa, "a"),
            Err(_) => watch.oracle.refused(instance, iova, kind, "a"),
        }
    }

    fn entry_address(&self, instance: usize) -> u64 {
        self.smmus[instance].table + 64 * u64::from(STREAMS[instance])
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.eyes.watch()
    }

    /// Brings an instance up (§17.1), every stream blocked.
    fn enable(&mut self, instance: usize) {
        let mmio = TestMmio { world: self.world.clone(), instance };
        let queue = Queue::main(self.allocate(16 << COMMANDS_LOG2));
        let events = self.allocate(32 << EVENTS_LOG2);
        let table = self.allocate(64 << STREAMS_LOG2);
        for stream in 0..1 << STREAMS_LOG2 {
            self.store(table + 64 * stream, ABORT);
        }
        self.smmus.push(Smmu { mmio, queue, second: None, table, events });
        self.start(instance, true);

        let mut watch = self.watch();
        let base = StrtabBase::default().with_addr(table);
        watch.add_instance(StreamTable { base, shape: SHAPE });
        watch.oracle.add_master(instance, vec![STREAMS[instance]]);
        if self.layout == Layout::Split {
            watch.oracle.keeps_intermediate(instance);
        }
        watch.watch_stream(&self.world, instance, STREAMS[instance]);
    }

    /// Starts an instance whose registers are as after a reset, and makes it forget all that its caches hold, if so.
    fn start(&mut self, instance: usize, empties: bool) {
        let Smmu { mmio, queue, table, events, .. } = &mut self.smmus[instance];
        queue.restart();
        let cacheable = Cr1::default().with_queue_ic(1).with_queue_oc(1).with_queue_sh(3);
        let cacheable = cacheable.with_table_ic(1).with_table_oc(1).with_table_sh(3);
        mmio.write32(Cr1::OFFSET, cacheable.0);
        let e2h = self.layout == Layout::El2;
        mmio.write32(Cr2::OFFSET, Cr2::default().with_ptm(true).with_e2h(e2h).0);
        mmio.write64(StrtabBase::OFFSET, StrtabBase::default().with_addr(*table).0);
        mmio.write32(StrtabBaseCfg::OFFSET, SHAPE.0);
        let base = CmdqBase::default().with_addr(queue.memory()).with_log2size(COMMANDS_LOG2);
        mmio.write64(CmdqBase::OFFSET, base.0);
        mmio.write32(CmdqProd::OFFSET, 0);
        mmio.write32(CmdqCons::OFFSET, 0);
        let base = EventqBase::default().with_addr(*events).with_log2size(EVENTS_LOG2);
        mmio.write64(EventqBase::OFFSET, base.0);
        mmio.write32(EventqProd::OFFSET, 0);
        mmio.write32(EventqCons::OFFSET, 0);

        let enabled = Cr0::default().with_cmdqen(true);
        self.control(instance, enabled);
        if empties {
            self.send(instance, Command::cfgi_all());
            self.sync(instance);
            self.send(instance, TlbiNsnhAll::new());
            self.sync(instance);
            if e2h {
                self.tlbi_el2_all(instance);
                self.sync(instance);
            }
        }
        let enabled = enabled.with_eventqen(true);
        self.control(instance, enabled);
        let checked = self.layout.keeps();
        let enabled = enabled.with_atschk(checked).with_priqen(checked);
        if checked {
            self.enable_requests(instance);
            self.control(instance, enabled);
        }
        self.control(instance, enabled.with_smmuen(true));
    }

    fn control(&self, instance: usize, value: Cr0) {
        let mmio = &self.smmus[instance].mmio;
        mmio.write32(Cr0::OFFSET, value.0);
        while mmio.read32(Cr0Ack::OFFSET) != value.0 {
            self.platform.relax();
        }
    }
}
