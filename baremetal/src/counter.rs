// SPDX-License-Identifier: MIT OR Apache-2.0
//! Instructions, counted by the CPU itself. Under QEMU's `-icount` they are exact, and the same in every run.

use core::arch::asm;

/// INST_RETIRED, an event that every PMUv3 knows of or says that it does not (PMCEID0_EL0).
const INST_RETIRED: u64 = 0x08;
/// PMCR_EL0.E: counters count.
const ENABLE: u64 = 1 << 0;
/// PMEVTYPER_EL0.NSH: count at EL2 as well.
const AT_EL2: u64 = 1 << 27;

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
