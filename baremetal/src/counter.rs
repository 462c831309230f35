// SPDX-License-Identifier: MIT OR Apache-2.0
//! Instructions, counted by the CPU itself. Under QEMU's `-icount` they are exact, and the same in every run.

use alloc::boxed::Box;
use alloc::format;
use core::arch::asm;
use core::error::Error;
use core::fmt;

use crate::println;

/// INST_RETIRED, an event that every PMUv3 knows of or says that it does not (PMCEID0_EL0).
const INST_RETIRED: u64 = 0x08;
/// PMCR_EL0.E: counters count.
const ENABLE: u64 = 1 << 0;
/// PMEVTYPER_EL0.NSH: count at EL2 as well.
const AT_EL2: u64 = 1 << 27;

/// Rounds before those that count: tables come into being in them.
const WARM: u64 = 4;

/// Prints a figure.
pub fn figure(name: fmt::Arguments, value: f64, unit: &str) {
    let name = format!("{name}");
    println!("{name:<55} {value:>8.1}  {unit}");
}

/// The averages of `N` counts, over rounds that `work` is told the numbers of, after some that are not counted.
pub fn average<const N: usize>(
    rounds: u64,
    mut work: impl FnMut(u64) -> Result<[u64; N], Box<dyn Error>>,
) -> Result<[f64; N], Box<dyn Error>> {
    let mut sums = [0; N];
    for round in 0..WARM + rounds {
        let counts = work(round)?;
        if round >= WARM {
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
    }
    Ok(sums.map(|sum| sum as f64 / rounds as f64))
}

/// The first event counter of this CPU.
#[derive(Clone, Copy, Debug)]
pub struct Counter {
    /// Instructions that a measurement of nothing takes.
    nothing: u64,
}

impl Counter {
    /// Starts counting; `None` where instructions cannot be counted.
    pub fn start() -> Option<Self> {
        let (control, events): (u64, u64);
        // SAFETY: registers of the PMU, which every CPU of this machine has, and which nobody else uses.
        unsafe {
            asm!("mrs {}, pmcr_el0", "mrs {}, pmceid0_el0", out(reg) control, out(reg) events);
        }
        let counters = control >> 11 & 0x1f;
        if counters == 0 || events >> INST_RETIRED & 1 == 0 {
            return None;
        }
        // SAFETY: as above.
        unsafe {
            asm!(
                "msr pmevtyper0_el0, {kind}",
                "msr pmcntenset_el0, {first}",
                "msr pmcr_el0, {control}",
                "isb",
                kind = in(reg) INST_RETIRED | AT_EL2,
                first = in(reg) 1u64,
                control = in(reg) control | ENABLE,
            );
        }
        let started = Self { nothing: 0 };
        let nothing = started.count(|| {}).0;
        Some(Self { nothing })
    }

    /// Runs `work`, and returns how many instructions it took.
    pub fn count<R>(self, work: impl FnOnce() -> R) -> (u64, R) {
        let before = read();
        let result = work();
        // The counter may have 32 bits.
        let taken = u64::from((read() as u32).wrapping_sub(before as u32));
        (taken.saturating_sub(self.nothing), result)
    }
}

fn read() -> u64 {
    let count: u64;
    // SAFETY: reading a counter breaks nothing. No `nomem`: what is counted stays between two of these.
    unsafe {
        asm!("isb", "mrs {}, pmevcntr0_el0", out(reg) count, options(nostack, preserves_flags))
    };
    count
}
