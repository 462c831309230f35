// SPDX-License-Identifier: MIT OR Apache-2.0
//! The CPUs' ASIDs: which one each process has, and whether it is pinned.

use std::collections::{BTreeMap, BTreeSet};

/// The first ASID that is given to a process whose scenario does not say one: more than 8 bits where CPUs have
/// more.
const FIRST_WIDE: u16 = 0x100;
/// As well, for CPUs with 8 bits.
const FIRST_NARROW: u16 = 0x40;

/// What CPUs know of processes.
#[derive(Debug)]
pub struct Cpu {
    /// Of each process that was started: its ASID, if it can be pinned, and how often it is.
    processes: BTreeMap<u64, (Option<u16>, usize)>,
    next: u16,
    /// The first and the last that are given to processes whose scenario does not say one.
    given: (u16, u16),
    /// Those that scenarios say.
    chosen: BTreeSet<u16>,
    /// Pins that were given back without having been taken.
    wrong: usize,
}

impl Default for Cpu {
    fn default() -> Self {
        let given = (FIRST_WIDE, u16::MAX);
        let (processes, chosen) = (BTreeMap::new(), BTreeSet::new());
        Self { processes, next: FIRST_WIDE, given, chosen, wrong: 0 }
    }
}

impl Cpu {
    /// CPUs whose ASIDs have so many bits.
    pub fn set_bits(&mut self, bits: u32) {
        self.given = if bits > 8 { (FIRST_WIDE, u16::MAX) } else { (FIRST_NARROW, 0xff) };
        self.next = self.given.0;
    }

    /// Another kernel begins, which knows of no process.
    pub fn restart(&mut self, bits: u32) {
        *self = Self::default();
        self.set_bits(bits);
    }

    /// A process starts, with this ASID, with none that can be pinned for 0, or with any. What the driver is to
    /// call it by, and its ASID.
    pub fn start(&mut self, asid: Option<u16>) -> (u64, Option<u16>) {
        let asid = match asid {
            Some(0) => None,
            Some(asid) => {
                self.chosen.insert(asid);
                Some(asid)
            }
            None => Some(self.any()),
        };
        let cookie = self.processes.len() as u64 + 1;
        self.processes.insert(cookie, (asid, 0));
        (cookie, asid)
    }

    /// The next that no process has pinned, and no scenario says: a long run has more processes than there are numbers.
    fn any(&mut self) -> u16 {
        let (first, last) = self.given;
        loop {
            let asid = self.next;
            self.next = if asid >= last { first } else { asid + 1 };
            let pinned = |(own, pins): &(Option<u16>, usize)| *own == Some(asid) && *pins > 0;
            // There are many more than a scenario has processes.
            if !self.chosen.contains(&asid) && !self.processes.values().any(pinned) {
                return asid;
            }
        }
    }

    /// The ASID of a process, which it keeps until it is unpinned.
    pub fn pin(&mut self, cookie: u64) -> Option<u16> {
        let (asid, pins) = self.processes.get_mut(&cookie)?;
        *pins += usize::from(asid.is_some());
        *asid
    }

    /// Undoes one [`Cpu::pin`].
    pub fn unpin(&mut self, cookie: u64, asid: u16) {
        match self.processes.get_mut(&cookie) {
            Some((own, pins @ 1..)) if *own == Some(asid) => *pins -= 1,
            _ => self.wrong += 1,
        }
    }

    /// Pins that were not given back, and those that were not there to be given back.
    pub fn left(&self) -> (usize, usize) {
        (self.processes.values().map(|(_, pins)| pins).sum(), self.wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_counted_by_process() {
        let mut cpu = Cpu::default();
        let (first, asid) = cpu.start(None);
        assert_eq!((cpu.pin(first), asid), (Some(0x100), Some(0x100)));
        let (second, _) = cpu.start(Some(7));
        assert_eq!(cpu.pin(second), Some(7));
        let (third, asid) = cpu.start(Some(0));
        assert_eq!((cpu.pin(third), asid), (None, None));
        cpu.unpin(first, 0x100);
        assert_eq!(cpu.left(), (1, 0));
        cpu.unpin(first, 0x100);
        cpu.unpin(second, 8);
        assert_eq!(cpu.left(), (1, 2));
        cpu.restart(8);
        assert_eq!((cpu.left(), cpu.start(None)), ((0, 0), (1, Some(0x40))));
    }

    #[test]
    fn numbers_that_are_pinned_or_chosen_are_not_given_again() {
        let mut cpu = Cpu::default();
        cpu.set_bits(8);
        cpu.start(Some(245));
        let (first, asid) = cpu.start(None);
        assert_eq!((cpu.pin(first), asid), (Some(0x40), Some(0x40)));
        for _ in 0..1000 {
            let (_, asid) = cpu.start(None);
            assert!(asid.is_some_and(|asid| (0x41..=0xff).contains(&asid) && asid != 245));
        }
    }
}
