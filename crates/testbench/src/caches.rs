// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory as an SMMU sees it that does not snoop the CPUs' caches: what the driver did not publish it does not
//! see.
//!
//! Only memory from [`smmuv3::Frames`] is cached by CPUs: tables. Queues, stream tables and contexts are in
//! coherent memory, and the data of devices is not what is being tested here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smmuv3_model::{Abort, Memory};

use crate::ram::Ram;

/// What an SMMU finds in memory that was handed out and not published since: a descriptor that leads nowhere
/// good.
const STALE: u64 = 0xfbfb_fbfb_fbfb_fbfb;

/// What has reached memory behind the CPUs' caches.
#[derive(Clone, Debug, Default)]
pub struct Caches {
    /// By word address, for all memory that CPUs cache.
    memory: Arc<Mutex<BTreeMap<u64, u64>>>,
}

impl Caches {
    fn memory(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cached memory was handed out.
    pub fn allocated(&self, pa: u64, bytes: u64) {
        let mut memory = self.memory();
        for word in (pa..pa + bytes).step_by(8) {
            memory.insert(word, STALE);
        }
    }

    /// Memory was given back.
    pub fn freed(&self, pa: u64, bytes: u64) {
        let mut memory = self.memory();
        for word in (pa..pa + bytes).step_by(8) {
            memory.remove(&word);
        }
    }

    /// The driver cleaned the lines that hold these bytes.
    pub fn published(&self, ram: &Ram, pa: u64, bytes: u64) {
        let mut memory = self.memory();
        for word in (pa & !7..pa + bytes).step_by(8) {
            if let (Some(seen), Some(value)) = (memory.get_mut(&word), ram.read64(word)) {
                *seen = value;
            }
        }
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

impl Memory for SmmuMemory {
    fn read64(&self, pa: u64) -> Result<u64, Abort> {
        let seen = self.caches.as_ref().and_then(|caches| caches.memory().get(&pa).copied());
        seen.or_else(|| self.ram.read64(pa)).ok_or(Abort { pa })
    }

    fn write64(&self, pa: u64, value: u64) -> Result<(), Abort> {
        self.ram.write64(pa, value).ok_or(Abort { pa })
    }

    fn compare_exchange64(&self, pa: u64, current: u64, new: u64) -> Result<u64, Abort> {
        let Some(caches) = &self.caches else {
            return self.ram.compare_exchange64(pa, current, new).ok_or(Abort { pa });
        };
        let mut memory = caches.memory();
        match memory.get_mut(&pa) {
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
        caches.published(&ram, 0x4000_0008, 8);
        assert_eq!((smmu.read64(0x4000_0008), smmu.read64(0x4000_0000)), (Ok(7), Ok(STALE)));
        caches.freed(0x4000_0000, 0x1000);
        assert_eq!(smmu.read64(0x4000_0000), Ok(0));
    }
}
