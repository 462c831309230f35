// SPDX-License-Identifier: MIT OR Apache-2.0
//! A performance monitor counter group (§18): counters of what transactions cause, by stream.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use smmuv3_formats::register::{
    PMCG_CEID0, PMCG_CNTENCLR, PMCG_CNTENSET, PMCG_EVCNTR, PMCG_INTENCLR, PMCG_INTENSET,
    PMCG_OVSCLR, PMCG_OVSSET, PMCG_STRIDE, PmcgCfgr, PmcgCr, PmcgEvtyper, PmcgIrqCfg0, PmcgIrqCtrl,
    PmcgIrqCtrlAck, PmcgSmr,
};

use crate::memory::Memory;
use crate::model::Model;
use crate::observation::Statistics;

/// Events 0 to 5: cycles, transactions, TLB misses, misses of configuration, accesses of walks and to configuration.
/// Those of ATS (6 and 7) are not counted.
const EVENTS: usize = 6;

/// A group of counters. A cycle is a transaction or a descriptor that is read.
#[derive(Clone, Debug)]
pub struct Monitor {
    cfgr: PmcgCfgr,
    cr: PmcgCr,
    irq: PmcgIrqCtrl,
    message: PmcgIrqCfg0,
    counting: u64,
    interrupting: u64,
    overflown: u64,
    counters: Vec<Counter>,
    /// An overflow interrupt was raised since the last look.
    interrupt: bool,
    /// Transactions of each stream while anything counted, whatever was to be counted.
    transactions: BTreeMap<u32, u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    value: u64,
    kind: PmcgEvtyper,
    filter: PmcgSmr,
}

impl Monitor {
    /// A group that is as `cfgr` says.
    pub fn new(cfgr: PmcgCfgr) -> Self {
        Self {
            cfgr,
            cr: PmcgCr::default(),
            irq: PmcgIrqCtrl::default(),
            message: PmcgIrqCfg0::default(),
            counting: 0,
            interrupting: 0,
            overflown: 0,
            counters: vec![Counter::default(); cfgr.nctr() as usize + 1],
            interrupt: false,
            transactions: BTreeMap::new(),
        }
    }

    /// Transactions of the streams of `range` that there were while the group was on and a counter counted: for whoever compares
    /// counters with them.
    pub fn transactions(&self, range: RangeInclusive<u32>) -> u64 {
        self.transactions.range(range).map(|(_, count)| count).sum()
    }

    /// Whether an overflow interrupted since the last call.
    pub fn interrupt(&mut self) -> bool {
        std::mem::take(&mut self.interrupt)
    }

    fn mask(&self) -> u64 {
        u64::MAX >> (63 - self.cfgr.size())
    }

    /// Bytes from one counter to the next.
    fn stride(&self) -> u32 {
        if self.cfgr.size() <= 31 { 4 } else { 8 }
    }

    /// The counter that has the word at `offset` from the first counter, and whether it is its upper half.
    fn counter(&self, offset: u32) -> Option<(usize, bool)> {
        let (index, rest) = (offset / self.stride(), offset % self.stride());
        let index = index as usize;
        (index < self.counters.len()).then_some((index, rest >= 4))
    }

    /// Whether a register is in page 1.
    fn is_relocated(&self, offset: u32) -> bool {
        const CAPR: u32 = 0xd88;
        self.cfgr.reloc_ctrs()
            && (offset < PmcgEvtyper::OFFSET
                || matches!(offset & !7, PMCG_OVSCLR | PMCG_OVSSET)
                || offset == CAPR)
    }

    /// Reads the 32-bit register, or half of one, at `offset` in `page` 0 or 1. Reads of nothing give zero.
    pub fn read32(&self, page: u32, offset: u32) -> u32 {
        if (page != 0) != self.is_relocated(offset) {
            return 0;
        }
        let half = |value: u64| (value >> (8 * (offset & 4))) as u32;
        let at = |first: u32| {
            let index = offset.checked_sub(first)? / PMCG_STRIDE;
            self.counters.get(index as usize)
        };
        match offset {
            PmcgCfgr::OFFSET => self.cfgr.0,
            PmcgCr::OFFSET => self.cr.0,
            PmcgIrqCtrl::OFFSET | PmcgIrqCtrlAck::OFFSET => self.irq.0,
            _ if offset & !7 == PmcgIrqCfg0::OFFSET => half(self.message.0),
            _ if offset & !7 == PMCG_CEID0 => half((1 << EVENTS) - 1),
            _ if matches!(offset & !7, PMCG_CNTENSET | PMCG_CNTENCLR) => half(self.counting),
            _ if matches!(offset & !7, PMCG_INTENSET | PMCG_INTENCLR) => half(self.interrupting),
            _ if matches!(offset & !7, PMCG_OVSSET | PMCG_OVSCLR) => half(self.overflown),
            ..PmcgEvtyper::OFFSET => {
                let counter = self.counter(offset - PMCG_EVCNTR);
                counter.map_or(0, |(index, upper)| {
                    (self.counters[index].value >> if upper { 32 } else { 0 }) as u32
                })
            }
            PmcgEvtyper::OFFSET..0x600 => at(PmcgEvtyper::OFFSET).map_or(0, |it| it.kind.0),
            PmcgSmr::OFFSET..0xc00 => at(PmcgSmr::OFFSET).map_or(0, |it| it.filter.0),
            _ => 0,
        }
    }

    /// Writes the 32-bit register, or half of one, at `offset` in `page` 0 or 1. Writes to nothing do nothing.
    pub fn write32(&mut self, page: u32, offset: u32, value: u32) {
        if (page != 0) != self.is_relocated(offset) {
            return;
        }
        let all = u64::MAX >> (64 - self.counters.len());
        let shift = 8 * (offset & 4);
        let bits = (u64::from(value) << shift) & all;
        let halves = |old: u64| old & !(0xffff_ffff << shift) | u64::from(value) << shift;
        let index = |first: u32| (offset.wrapping_sub(first) / PMCG_STRIDE) as usize;
        match offset {
            PmcgCr::OFFSET => self.cr = PmcgCr(value & 1),
            PmcgIrqCtrl::OFFSET => self.irq = PmcgIrqCtrl(value & 1),
            _ if offset & !7 == PmcgIrqCfg0::OFFSET && self.cfgr.msi() => {
                self.message = PmcgIrqCfg0(halves(self.message.0));
            }
            _ if offset & !7 == PMCG_CNTENSET => self.counting |= bits,
            _ if offset & !7 == PMCG_CNTENCLR => self.counting &= !bits,
            _ if offset & !7 == PMCG_INTENSET => self.interrupting |= bits,
            _ if offset & !7 == PMCG_INTENCLR => self.interrupting &= !bits,
            _ if offset & !7 == PMCG_OVSSET => self.overflown |= bits,
            _ if offset & !7 == PMCG_OVSCLR => self.overflown &= !bits,
            ..PmcgEvtyper::OFFSET => {
                let mask = self.mask();
                if let Some((index, upper)) = self.counter(offset - PMCG_EVCNTR) {
                    let shift = if upper { 32 } else { 0 };
                    let old = self.counters[index].value & !(0xffff_ffff << shift);
                    self.counters[index].value = (old | u64::from(value) << shift) & mask;
                }
            }
            PmcgEvtyper::OFFSET..0x600 => {
                if let Some(counter) = self.counters.get_mut(index(PmcgEvtyper::OFFSET)) {
                    counter.kind = PmcgEvtyper(value & 0x2000_ffff);
                }
            }
            PmcgSmr::OFFSET..0xc00 => {
                if let Some(counter) = self.counters.get_mut(index(PmcgSmr::OFFSET)) {
                    counter.filter = PmcgSmr(value);
                }
            }
            _ => {}
        }
    }

    /// Adds what a transaction of `stream` caused. Whether an interrupt is raised.
    fn add(&mut self, stream: u32, events: [u64; EVENTS]) -> bool {
        let (mask, shared) = (self.mask(), self.cfgr.sid_filter_type());
        let first = self.counters.first().copied().unwrap_or_default();
        let mut raised = false;
        for (index, counter) in self.counters.iter_mut().enumerate() {
            let filter = if shared { first } else { *counter };
            let counted = events.get(counter.kind.event() as usize).copied().unwrap_or(0);
            if self.counting >> index & 1 == 0 || counted == 0 || !filter.matches(stream) {
                continue;
            }
            let sum = u128::from(counter.value) + u128::from(counted);
            counter.value = sum as u64 & mask;
            if sum > u128::from(mask) {
                raised |= self.overflown >> index & 1 == 0 && self.interrupting >> index & 1 != 0;
                self.overflown |= 1 << index;
            }
        }
        raised && self.irq.irqen()
    }
}

impl Counter {
    /// All ones is any stream; with a span, ones above the lowest zero are what has to be equal.
    fn matches(&self, stream: u32) -> bool {
        let filter = self.filter.0;
        if !self.kind.sid_span() {
            return filter == stream;
        }
        let ignored = filter ^ filter.wrapping_add(1);
        (filter ^ stream) & !ignored == 0
    }
}

/// What was counted when a transaction began.
#[derive(Clone, Debug)]
pub(crate) struct Before(Option<Statistics>);

impl<M: Memory> Model<M> {
    /// Gives the SMMU a counter group, in place of one that it has.
    pub fn set_monitor(&mut self, monitor: Monitor) {
        self.monitor = Some(Box::new(monitor));
    }

    /// The counter group.
    pub fn monitor(&mut self) -> Option<&mut Monitor> {
        self.monitor.as_deref_mut()
    }

    pub(crate) fn before(&self) -> Before {
        let counts = self.monitor.as_ref().is_some_and(|it| it.cr.e() && it.counting != 0);
        Before(counts.then_some(self.statistics))
    }

    /// Counts what happened since `before`, because of a transaction of `stream`.
    pub(crate) fn monitored(&mut self, stream: u32, before: &Before) {
        let (Some(then), Some(monitor)) = (&before.0, &mut self.monitor) else { return };
        let now = &self.statistics;
        let transactions = now.transactions - then.transactions;
        let descriptors = now.descriptors - then.descriptors;
        let fetches = now.configuration_fetches - then.configuration_fetches;
        let misses = now.tlb_misses - then.tlb_misses;
        *monitor.transactions.entry(stream).or_default() += transactions;
        let missed = u64::from(fetches != 0);
        let events =
            [transactions + descriptors, transactions, misses, missed, descriptors, fetches];
        if !monitor.add(stream, events) {
            return;
        }
        let (message, data) = (monitor.message.addr(), 0u32);
        monitor.interrupt = true;
        if message != 0 {
            // There is nobody to tell that it was refused.
            let _ = self.memory.write(message & self.output_mask(), &data.to_le_bytes());
        }
    }
}
