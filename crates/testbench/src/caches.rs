// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory as an SMMU sees it that does not snoop the CPUs' caches: what the driver did not publish it does not
//! see.
//!
//! Only memory from [`smmuv3::Frames`] is cached by CPUs: tables. Queues, stream tables and contexts are in
//! coherent memory, and the data of devices is not what is being tested here.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;
use std::sync::Arc;

use smmuv3_model::{Abort, Memory};

use crate::lock::{Guard, Lock};
use crate::ram::Ram;

/// What an SMMU finds in memory that was handed out and not published since: a descriptor that leads nowhere
/// good.
const STALE: u64 = 0xfbfb_fbfb_fbfb_fbfb;

/// A page of cached memory.
#[derive(Debug)]
struct Page {
    /// What has reached memory.
    words: [u64; WORDS],
    /// Which words are cached at all: handed out.
    cached: [bool; WORDS],
}

const WORDS: usize = 512;
const PAGE: u64 = 8 * WORDS as u64;

/// All memory that CPUs cache, by page number.
#[derive(Debug, Default)]
struct Behind(HashMap<u64, Box<Page>, BuildHasherDefault<Number>>);

/// The hash of one number: nobody chooses page numbers so that they collide.
#[derive(Debug, Default)]
struct Number(u64);

impl Hasher for Number {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x9fb2_1c65_1e98_df25);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

impl Page {
    fn get(&self, pa: u64) -> Option<u64> {
        let word = (pa % PAGE / 8) as usize;
        let aligned = pa.is_multiple_of(8) && *self.cached.get(word)?;
        self.words.get(word).copied().filter(|_| aligned)
    }
}

impl Behind {
    fn get_mut(&mut self, pa: u64) -> Option<&mut u64> {
        let page = self.0.get_mut(&(pa / PAGE))?;
        let word = (pa % PAGE / 8) as usize;
        let aligned = pa.is_multiple_of(8) && *page.cached.get(word)?;
        page.words.get_mut(word).filter(|_| aligned)
    }

    fn get(&self, pa: u64) -> Option<u64> {
        self.0.get(&(pa / PAGE))?.get(pa)
    }

    /// Calls `each` with every page that has some of `bytes` bytes from `pa` on, and which words of it these are.
    fn parts(pa: u64, bytes: u64, mut each: impl FnMut(u64, Range<usize>)) {
        let end = pa + bytes;
        let mut at = pa;
        while at < end {
            let stop = (at / PAGE + 1).saturating_mul(PAGE).min(end);
            let first = (at % PAGE / 8) as usize;
            each(at / PAGE, first..first + (stop - at).div_ceil(8) as usize);
            at = stop;
        }
    }
}

/// What has reached memory behind the CPUs' caches.
#[derive(Clone, Debug, Default)]
pub struct Caches {
    memory: Arc<Lock<Behind>>,
}

impl Caches {
    fn memory(&self) -> Guard<'_, Behind> {
        self.memory.lock()
    }

    /// The word at `pa`, if it is cached; as it reached memory.
    fn get(&self, pa: u64) -> Option<u64> {
        self.memory().get(pa)
    }

    /// Nothing is left of what was cached.
    pub fn clear(&self) {
        self.memory().0 = HashMap::default();
    }

    /// Cached memory was handed out.
    pub fn allocated(&self, pa: u64, bytes: u64) {
        let mut memory = self.memory();
        Behind::parts(pa, bytes, |number, words| {
            let blank = || Box::new(Page { words: [STALE; WORDS], cached: [false; WORDS] });
            let page = memory.0.entry(number).or_insert_with(blank);
            for word in words {
                (page.words[word], page.cached[word]) = (STALE, true);
            }
        });
    }

    /// Memory was given back.
    pub fn freed(&self, pa: u64, bytes: u64) {
        let mut memory = self.memory();
        Behind::parts(pa, bytes, |number, words| {
            let Some(page) = memory.0.get_mut(&number) else { return };
            page.cached[words].fill(false);
            if !page.cached.contains(&true) {
                memory.0.remove(&number);
            }
        });
    }

    /// The driver cleaned the lines that hold these bytes.
    pub fn published(&self, ram: &Ram, pa: u64, bytes: u64) {
        let mut memory = self.memory();
        Behind::parts(pa & !7, bytes + pa % 8, |number, words| {
            let Some(page) = memory.0.get_mut(&number) else { return };
            for word in words.filter(|word| page.cached[*word]) {
                if let Some(value) = ram.read64(number * PAGE + 8 * word as u64) {
                    page.words[word] = value;
                }
            }
        });
    }
}

/// Memory as one SMMU sees it.
#[derive(Clone, Debug)]
pub struct SmmuMemory {
    ram: Ram,
    /// Set for an SMMU that does not snoop.
    caches: Option<Caches>,
}

impl SmmuMemory {
    /// Of an SMMU that sees what CPUs see; or, with `caches`, what they published.
    pub fn new(ram: Ram, caches: Option<Caches>) -> Self {
        Self { ram, caches }
    }
}

impl SmmuMemory {
    /// The first of the words that is `wanted`, or that cannot be read.
    fn find(
        &self,
        caches: &Caches,
        (pa, stride, count): (u64, u64, u64),
        wanted: impl Fn(u64) -> bool,
    ) -> Option<u64> {
        let memory = caches.memory();
        let at = |number: u64| pa.wrapping_add(number.wrapping_mul(stride));
        // The page of the word before is mostly that of the next one.
        let mut known = (u64::MAX, None);
        (0..count).find(|number| {
            let at = at(*number);
            if known.0 != at / PAGE {
                known = (at / PAGE, memory.0.get(&(at / PAGE)));
            }
            let cached = known.1.and_then(|page| page.get(at));
            cached.or_else(|| self.ram.read64(at)).is_none_or(&wanted)
        })
    }
}

impl Memory for SmmuMemory {
    #[inline]
    fn read64(&self, pa: u64) -> Result<u64, Abort> {
        let seen = self.caches.as_ref().and_then(|caches| caches.get(pa));
        seen.or_else(|| self.ram.read64(pa)).ok_or(Abort { pa })
    }

    fn find64(&self, pa: u64, stride: u64, count: u64, bits: u64) -> Option<u64> {
        match &self.caches {
            None => self.ram.find64(pa, stride, count, bits),
            Some(caches) => self.find(caches, (pa, stride, count), |word| word & bits == bits),
        }
    }

    fn find_any64(&self, pa: u64, stride: u64, count: u64, bits: u64) -> Option<u64> {
        match &self.caches {
            None => self.ram.find_any64(pa, stride, count, bits),
            Some(caches) => self.find(caches, (pa, stride, count), |word| word & bits != 0),
        }
    }

    fn write64(&self, pa: u64, value: u64) -> Result<(), Abort> {
        self.ram.write64(pa, value).ok_or(Abort { pa })
    }

    fn compare_exchange64(&self, pa: u64, current: u64, new: u64) -> Result<u64, Abort> {
        let Some(caches) = &self.caches else {
            return self.ram.compare_exchange64(pa, current, new).ok_or(Abort { pa });
        };
        let mut memory = caches.memory();
        match memory.get_mut(pa) {
            // A CPU that looks finds it in memory; what it has not published is not there.
            Some(seen) if *seen == current => {
                *seen = new;
                let stored = self.ram.compare_exchange64(pa, current, new);
                stored.map(|_| current).ok_or(Abort { pa })
            }
            Some(seen) => Ok(*seen),
            None => self.ram.compare_exchange64(pa, current, new).ok_or(Abort { pa }),
        }
    }

    fn read(&self, pa: u64, buffer: &mut [u8]) -> Result<(), Abort> {
        self.ram.read(pa, buffer).map_err(|_| Abort { pa })
    }

    fn write(&self, pa: u64, bytes: &[u8]) -> Result<(), Abort> {
        self.ram.write(pa, bytes).map_err(|_| Abort { pa })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_published_is_not_seen() {
        let ram = Ram::heap(0x4000_0000, 0x2000).unwrap();
        let caches = Caches::default();
        let smmu = SmmuMemory::new(ram.clone(), Some(caches.clone()));
        let snooping = SmmuMemory::new(ram.clone(), None);
        caches.allocated(0x4000_0000, 0x1000);
        assert!(ram.write64(0x4000_0008, 7).is_some());
        assert!(ram.write64(0x4000_1008, 9).is_some());
        assert_eq!((smmu.read64(0x4000_0008), snooping.read64(0x4000_0008)), (Ok(STALE), Ok(7)));
        assert_eq!(smmu.read64(0x4000_1008), Ok(9), "never cached");
        let found = |memory: &SmmuMemory| memory.find64(0x4000_0000, 8, 4, 1);
        assert_eq!((found(&smmu), found(&snooping)), (Some(0), Some(1)));
        caches.published(&ram, 0x4000_0008, 8);
        assert_eq!((smmu.read64(0x4000_0008), smmu.read64(0x4000_0000)), (Ok(7), Ok(STALE)));
        caches.freed(0x4000_0000, 0x1000);
        assert_eq!(smmu.read64(0x4000_0000), Ok(0));
    }
}
