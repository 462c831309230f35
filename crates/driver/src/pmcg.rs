// SPDX-License-Identifier: MIT OR Apache-2.0
//! Performance monitors (§18): groups of counters of what an SMMU does, for all streams or for some.
//!
//! A group is apart from its SMMU: firmware says where its registers are (IORT node type 5). Nothing here waits, or
//! needs a platform; a [`Group`] belongs to whoever made it.
//!
//! ```no_run
//! # fn example<M: smmuv3::Mmio>(page_0: M) -> Result<(), smmuv3::pmcg::PmcgError> {
//! use smmuv3::pmcg::{Event, Filter, Group};
//!
//! let mut group = Group::new(page_0, None)?;
//! group.count(0, Event::TLB_MISS, Filter::Any)?;
//! group.start();
//! // ... devices work ...
//! let misses = group.read(0)?;
//! # Ok(())
//! # }
//! ```

use core::fmt;

use smmuv3_formats::StreamId;
use smmuv3_formats::register::{
    GerrorIrqCfg2, PMCG_CEID0, PMCG_CNTENCLR, PMCG_CNTENSET, PMCG_EVCNTR, PMCG_INTENCLR,
    PMCG_INTENSET, PMCG_OVSCLR, PMCG_OVSSET, PMCG_STRIDE, PmcgCfgr, PmcgCr, PmcgEvtyper,
    PmcgIrqCtrl, PmcgIrqCtrlAck, PmcgSmr,
};

use crate::message::Message;
use crate::mutation::{LeftOut, Mutation};
use crate::platform::Mmio;

/// An event that can be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event(pub u16);

impl Event {
    /// Clock cycles.
    pub const CYCLE: Self = Self(0);
    /// Transactions and requests.
    pub const TRANSACTION: Self = Self(1);
    /// Transactions that no TLB answered.
    pub const TLB_MISS: Self = Self(2);
    /// Misses of the caches of stream table entries and contexts.
    pub const CONFIGURATION_MISS: Self = Self(3);
    /// Accesses to translation tables.
    pub const TABLE_ACCESS: Self = Self(4);
    /// Accesses to stream tables and contexts.
    pub const CONFIGURATION_ACCESS: Self = Self(5);
    /// Translation requests by ATS.
    pub const ATS_REQUEST: Self = Self(6);
    /// Transactions that were translated by ATS.
    pub const ATS_TRANSLATED: Self = Self(7);
}

/// Whose events are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Everybody's.
    Any,
    /// Those of a stream.
    Stream(StreamId),
    /// Those of 2^`log2` streams, from `first` on, a multiple of that many.
    Streams {
        /// The first.
        first: StreamId,
        /// log2 of how many, 1 to 32.
        log2: u32,
    },
}

impl Filter {
    /// FILTER_SID_SPAN and what goes into SMR: of a mask, the zero above the lowest ones ends what is ignored.
    fn encode(self) -> Result<(bool, PmcgSmr), PmcgError> {
        match self {
            Self::Any => Ok((true, PmcgSmr(u32::MAX))),
            Self::Stream(stream) => Ok((false, PmcgSmr(stream.0))),
            Self::Streams { first, log2 } => {
                // At most 2^32, in 64 bits.
                let many = 1u64.checked_shl(log2).filter(|_| matches!(log2, 1..=32));
                let ones = many.map(|many| many / 2 - 1);
                match (many, ones) {
                    (Some(many), Some(ones)) if u64::from(first.0) & (many - 1) == 0 => {
                        // Below 2^31.
                        Ok((true, PmcgSmr(first.0 | ones as u32)))
                    }
                    _ => Err(PmcgError::Streams { first, log2 }),
                }
            }
        }
    }
}

/// What went wrong with a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PmcgError {
    /// The counters are in a second page, which was not given.
    NoPage1,
    /// The group has no such counter.
    NoCounter {
        /// The counter.
        counter: usize,
        /// How many there are.
        counters: usize,
    },
    /// The group does not count that.
    NoEvent {
        /// The event.
        event: Event,
    },
    /// No mask stands for these streams.
    Streams {
        /// The first.
        first: StreamId,
        /// log2 of how many.
        log2: u32,
    },
    /// The group has one filter for all its counters, and another counter that counts has another.
    OneFilter {
        /// What that counter's filter is.
        filter: Filter,
    },
    /// The group sends no messages.
    NoMessages,
    /// IRQ_CTRL was not acknowledged.
    Handshake,
}

impl fmt::Display for PmcgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPage1 => f.write_str("the counters are in page 1, which was not given"),
            Self::NoCounter { counter, counters } => {
                write!(f, "no counter {counter}: the group has {counters}")
            }
            Self::NoEvent { event } => write!(f, "the group does not count event {:#x}", event.0),
            Self::Streams { first, log2 } => {
                write!(f, "no filter for 2^{log2} streams from {first} on")
            }
            Self::OneFilter { .. } => {
                f.write_str("the group has one stream filter, and another counter uses it")
            }
            Self::NoMessages => f.write_str("the group sends no interrupt messages"),
            Self::Handshake => f.write_str("PMCG_IRQ_CTRL was not acknowledged"),
        }
    }
}

impl core::error::Error for PmcgError {}

/// The most counters of a group.
const MOST: usize = 64;
/// How often IRQ_CTRLACK is read before it counts as stuck.
const PATIENCE: u32 = 1_000_000;
/// How often a counter is read that has changed in a way that a reader must not meet.
const ATTEMPTS: u32 = 4;
/// Where the message of an overflow goes, what it says, and how it is written.
const IRQ_CFG: [u32; 3] = [0xe58, 0xe60, 0xe64];

/// A group of counters.
#[derive(Debug)]
pub struct Group<M> {
    page_0: M,
    page_1: Option<M>,
    cfgr: PmcgCfgr,
    /// Bits of the counters that count.
    counting: u64,
    filters: [Filter; MOST],
    /// How often each counter has overflown.
    laps: [u64; MOST],
    left_out: LeftOut,
}

impl<M: Mmio> Group<M> {
    /// The group whose first page of registers is `page_0`, and whose second, if firmware says one, `page_1`. It counts
    /// nothing until it is told to.
    ///
    /// # Errors
    /// [`PmcgError::NoPage1`].
    pub fn new(page_0: M, page_1: Option<M>) -> Result<Self, PmcgError> {
        let cfgr = PmcgCfgr(page_0.read32(PmcgCfgr::OFFSET));
        if cfgr.reloc_ctrs() && page_1.is_none() {
            return Err(PmcgError::NoPage1);
        }
        let (filters, laps) = ([Filter::Any; MOST], [0; MOST]);
        let mut group =
            Self { page_0, page_1, cfgr, counting: 0, filters, laps, left_out: LeftOut::default() };
        group.stop();
        group.set_bits(PMCG_CNTENCLR, u64::MAX);
        group.set_bits(PMCG_INTENCLR, u64::MAX);
        group.set_bits(PMCG_OVSCLR, u64::MAX);
        Ok(group)
    }

    /// Leaves a step out, if that is one of these.
    #[cfg(feature = "mutation")]
    pub fn leave_out(&mut self, mutation: Option<crate::Mutation>) {
        self.left_out = LeftOut(mutation);
    }

    /// How many counters there are.
    pub fn counters(&self) -> usize {
        // The field has 6 bits.
        self.cfgr.nctr() as usize + 1
    }

    /// Bits of a counter.
    pub fn bits(&self) -> u32 {
        // The field has 6 bits.
        self.cfgr.size() as u32 + 1
    }

    /// Whether the group can count `event`. Of events from 0x80 on, which are the implementer's, nobody knows.
    pub fn counts(&self, event: Event) -> bool {
        if event.0 >= 128 {
            return true;
        }
        let word = self.page_0.read32(PMCG_CEID0 + u32::from(event.0) / 32 * 4);
        word >> (event.0 % 32) & 1 != 0
    }

    /// Lets `counter` count `event` of the streams of `filter`, from 0 on, whenever the group is started.
    ///
    /// # Errors
    /// [`PmcgError::NoCounter`], [`PmcgError::NoEvent`], [`PmcgError::Streams`], [`PmcgError::OneFilter`]: nothing was
    /// changed.
    pub fn count(&mut self, counter: usize, event: Event, filter: Filter) -> Result<(), PmcgError> {
        let bit = self.bit(counter)?;
        if !self.counts(event) {
            return Err(PmcgError::NoEvent { event });
        }
        let (span, smr) = self.filter(filter)?;
        let shared = self.cfgr.sid_filter_type();
        if shared {
            let others = self
                .filters
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != counter && self.counting >> other & 1 != 0);
            if let Some((_, other)) = others.into_iter().find(|(_, other)| **other != filter) {
                return Err(PmcgError::OneFilter { filter: *other });
            }
        }
        self.set_bits(PMCG_CNTENCLR, bit);
        let at = |first: u32| first + PMCG_STRIDE * counter as u32;
        let kind = PmcgEvtyper::default().with_event(event.0.into());
        if shared && counter != 0 {
            // With one filter for all, it is in the first counter's registers, whatever that counter counts.
            let first = PmcgEvtyper(self.page_0.read32(PmcgEvtyper::OFFSET)).with_sid_span(span);
            self.page_0.write32(PmcgEvtyper::OFFSET, first.0);
            self.page_0.write32(PmcgSmr::OFFSET, smr.0);
            self.page_0.write32(at(PmcgEvtyper::OFFSET), kind.0);
        } else {
            self.page_0.write32(at(PmcgEvtyper::OFFSET), kind.with_sid_span(span).0);
            self.page_0.write32(at(PmcgSmr::OFFSET), smr.0);
        }
        let old = self.left_out.is(Mutation::OldCount);
        let first = if old { self.read_counter(counter) } else { 0 };
        self.write_counter(counter, first);
        self.set_bits(PMCG_OVSCLR, bit);
        if let (Some(own), Some(laps)) = (self.filters.get_mut(counter), self.laps.get_mut(counter))
        {
            (*own, *laps) = (filter, 0);
        }
        self.counting |= bit;
        self.set_bits(PMCG_CNTENSET, bit);
        Ok(())
    }

    /// FILTER_SID_SPAN and what goes into SMR.
    fn filter(&self, filter: Filter) -> Result<(bool, PmcgSmr), PmcgError> {
        let right = filter.encode()?;
        match filter {
            Filter::Streams { first, log2: log2 @ 2.. }
                if self.left_out.is(Mutation::ShortSpan) =>
            {
                Filter::Streams { first, log2: log2 - 1 }.encode()
            }
            _ => Ok(right),
        }
    }

    /// Lets `counter` count nothing any more. It keeps what it has counted.
    ///
    /// # Errors
    /// [`PmcgError::NoCounter`].
    pub fn release(&mut self, counter: usize) -> Result<(), PmcgError> {
        let bit = self.bit(counter)?;
        self.counting &= !bit;
        self.set_bits(PMCG_CNTENCLR, bit);
        Ok(())
    }

    /// All counters that have something to count begin, or go on.
    pub fn start(&mut self) {
        self.page_0.write32(PmcgCr::OFFSET, PmcgCr::default().with_e(true).0);
    }

    /// All counters stand still.
    pub fn stop(&mut self) {
        self.page_0.write32(PmcgCr::OFFSET, 0);
    }

    /// What `counter` has counted since it was told what to count. It is exact as long as a counter does not overflow
    /// twice before it is read, or [`Group::handle_interrupt`] is called.
    ///
    /// # Errors
    /// [`PmcgError::NoCounter`].
    pub fn read(&mut self, counter: usize) -> Result<u64, PmcgError> {
        let bit = self.bit(counter)?;
        // If the second value is smaller, the counter overflowed between the reads, and the flag may or may not be of
        // that overflow: all is read again. That happens twice only if the counter is no counter.
        let mut value = 0;
        for _ in 0..ATTEMPTS {
            let before = self.read_counter(counter);
            let overflown = self.bits_of(PMCG_OVSSET) & bit != 0;
            value = self.read_counter(counter);
            if value >= before {
                if overflown {
                    self.lap(counter, bit);
                }
                break;
            }
        }
        let laps = self.laps.get(counter).copied().unwrap_or(0);
        let whole = laps.checked_shl(self.bits()).unwrap_or(0);
        Ok(whole.wrapping_add(value))
    }

    /// Takes note of all overflows. To be called when the group interrupts; returns the counters that had overflown, as
    /// bits.
    pub fn handle_interrupt(&mut self) -> u64 {
        let overflown = self.bits_of(PMCG_OVSSET);
        for counter in 0..self.counters().min(MOST) {
            let bit = 1 << counter;
            if overflown & bit != 0 {
                self.lap(counter, bit);
            }
        }
        overflown
    }

    /// Lets overflows interrupt, or not: by a message, where one is given, or else by wire.
    ///
    /// # Errors
    /// [`PmcgError::NoMessages`], [`PmcgError::Handshake`].
    pub fn set_interrupt(&mut self, on: bool, message: Option<Message>) -> Result<(), PmcgError> {
        if message.is_some() && !self.cfgr.msi() {
            return Err(PmcgError::NoMessages);
        }
        self.acknowledged(false)?;
        let [address, data, attributes] = IRQ_CFG;
        if self.cfgr.msi() {
            // An address of 0: no message is sent.
            let (to, what) = message.map_or((0, 0), |it| (it.address().0, it.data()));
            let (mem_attr, sh) = message.map_or((0, 0), |it| it.attributes());
            self.page_0.write64(address, to);
            self.page_0.write32(data, what);
            // As the SMMU's own registers for that.
            let value = GerrorIrqCfg2::default().with_mem_attr(mem_attr).with_sh(sh);
            self.page_0.write32(attributes, value.0);
        }
        self.set_bits(if on { PMCG_INTENSET } else { PMCG_INTENCLR }, u64::MAX);
        if on { self.acknowledged(true) } else { Ok(()) }
    }

    /// Gives the registers back. The group counts nothing any more.
    pub fn close(mut self) -> (M, Option<M>) {
        self.stop();
        self.set_bits(PMCG_CNTENCLR, u64::MAX);
        self.set_bits(PMCG_INTENCLR, u64::MAX);
        (self.page_0, self.page_1)
    }

    fn acknowledged(&self, on: bool) -> Result<(), PmcgError> {
        self.page_0.write32(PmcgIrqCtrl::OFFSET, PmcgIrqCtrl::default().with_irqen(on).0);
        let reads =
            (0..PATIENCE).map(|_| PmcgIrqCtrlAck(self.page_0.read32(PmcgIrqCtrlAck::OFFSET)));
        match reads.into_iter().any(|ack| ack.irqen() == on) {
            true => Ok(()),
            false => Err(PmcgError::Handshake),
        }
    }

    fn bit(&self, counter: usize) -> Result<u64, PmcgError> {
        let counters = self.counters();
        match counter < counters {
            true => Ok(1 << counter),
            false => Err(PmcgError::NoCounter { counter, counters }),
        }
    }

    /// Notes that a counter has overflown, and lets it say so again.
    fn lap(&mut self, counter: usize, bit: u64) {
        self.set_bits(PMCG_OVSCLR, bit);
        if let Some(laps) = self.laps.get_mut(counter) {
            *laps = laps.wrapping_add(1);
        }
    }

    /// The page of what may be relocated.
    fn relocated(&self) -> &M {
        match &self.page_1 {
            Some(page) if self.cfgr.reloc_ctrs() => page,
            _ => &self.page_0,
        }
    }

    fn page_of(&self, register: u32) -> &M {
        match register {
            PMCG_OVSCLR | PMCG_OVSSET => self.relocated(),
            _ => &self.page_0,
        }
    }

    /// Writes the ones of the counters that exist; zeros do nothing in these registers.
    fn set_bits(&self, register: u32, bits: u64) {
        let bits = bits & u64::MAX >> (MOST - self.counters());
        let page = self.page_of(register);
        page.write32(register, bits as u32);
        if self.counters() > 32 {
            page.write32(register + 4, (bits >> 32) as u32);
        }
    }

    fn bits_of(&self, register: u32) -> u64 {
        let page = self.page_of(register);
        let upper = if self.counters() > 32 { page.read32(register + 4) } else { 0 };
        u64::from(page.read32(register)) | u64::from(upper) << 32
    }

    /// Bytes from one counter to the next.
    fn stride(&self) -> u32 {
        if self.bits() <= 32 { 4 } else { 8 }
    }

    fn read_counter(&self, counter: usize) -> u64 {
        // There are at most 64 counters, so this fits.
        let at = PMCG_EVCNTR + self.stride() * counter as u32;
        let page = self.relocated();
        if self.bits() <= 32 {
            return page.read32(at).into();
        }
        // Reads both halves of one value: again, if the upper one has changed meanwhile, which it does once in 2^32
        // counts.
        let mut upper = page.read32(at + 4);
        let mut lower = 0;
        for _ in 0..ATTEMPTS {
            lower = page.read32(at);
            let again = page.read32(at + 4);
            if again == upper {
                break;
            }
            upper = again;
        }
        u64::from(lower) | u64::from(upper) << 32
    }

    fn write_counter(&self, counter: usize, value: u64) {
        // There are at most 64 counters, so this fits.
        let at = PMCG_EVCNTR + self.stride() * counter as u32;
        let page = self.relocated();
        if self.bits() <= 32 {
            // Bits beyond the counter's are cut off, which it would not count either.
            page.write32(at, value as u32);
        } else {
            page.write64(at, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_exact_or_masks() {
        let encoded = |filter: Filter| filter.encode().map(|(span, smr)| (span, smr.0));
        let streams = |first, log2| Filter::Streams { first: StreamId(first), log2 };
        assert_eq!(encoded(Filter::Stream(StreamId(0x42))), Ok((false, 0x42)));
        // §18: `...0111` ignores four bits; 0x42 with a span matches 0x42 and 0x43.
        assert_eq!(encoded(streams(0x40, 4)), Ok((true, 0x47)));
        assert_eq!(encoded(streams(0x42, 1)), Ok((true, 0x42)));
        assert_eq!(encoded(streams(0, 32)), Ok((true, 0x7fff_ffff)));
        assert_eq!(encoded(Filter::Any), Ok((true, u32::MAX)));
        for wrong in [streams(0x41, 1), streams(8, 4), streams(0, 0), streams(0, 33)] {
            assert!(encoded(wrong).is_err(), "{wrong:?}");
        }
    }
}
