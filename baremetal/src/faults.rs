// SPDX-License-Identifier: MIT OR Apache-2.0
//! What SMMUs reported, and by which interrupt: kept by the handlers for whoever asks.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use aarch64_cpu::asm::sev;

use smmuv3::{Interrupt, Report};

use crate::lock::Lock;
use crate::platform::Kernel;
use crate::time;

/// How many reports are kept. In a handler no memory is allocated.
const MOST: usize = 1024;

/// How long an event may take from the device to here.
const LIMIT: u64 = 5_000_000_000;

/// What was reported since somebody asked.
pub struct Faults {
    state: Lock<State>,
    completions: AtomicU64,
}

struct State {
    reports: Vec<Report<Kernel>>,
    /// Did not fit.
    lost: usize,
    interrupts: u64,
}

impl Faults {
    /// Nothing so far.
    pub fn new() -> Self {
        let reports = Vec::with_capacity(MOST);
        let state = Lock::new(State { reports, lost: 0, interrupts: 0 });
        Self { state, completions: AtomicU64::new(0) }
    }

    /// Bytes on the heap for reports that may come.
    pub fn room(&self) -> usize {
        self.state.with(|state| state.reports.capacity() * size_of::<Report<Kernel>>())
    }

    /// An interrupt was raised. Completed commands wake the CPUs that wait for them in the platform's `relax`.
    pub fn interrupted(&self, which: Interrupt) {
        if matches!(which, Interrupt::Sync | Interrupt::Any) {
            sev();
        }
        if which == Interrupt::Sync {
            self.completions.fetch_add(1, Ordering::Relaxed);
        } else {
            self.state.with(|state| state.interrupts += 1);
        }
    }

    /// How often there were commands complete.
    pub fn completions(&self) -> u64 {
        self.completions.load(Ordering::Relaxed)
    }

    /// Keeps a report.
    pub fn keep(&self, report: Report<Kernel>) {
        self.state.with(|state| {
            if state.reports.len() < MOST {
                state.reports.push(report);
            } else {
                state.lost += 1;
            }
        });
    }

    /// Takes what was reported since the last call, and the number of interrupts since. Waits until there are `least`
    /// reports, but not for ever.
    pub fn take(&self, least: usize) -> (Vec<Report<Kernel>>, u64) {
        time::wait(LIMIT, || self.state.with(|state| state.reports.len() >= least));
        let fresh = Vec::with_capacity(MOST);
        let (reports, lost, interrupts) = self.state.with(|state| {
            let reports = core::mem::replace(&mut state.reports, fresh);
            (reports, core::mem::take(&mut state.lost), core::mem::take(&mut state.interrupts))
        });
        assert!(lost == 0, "{lost} reports did not fit");
        (reports, interrupts)
    }
}
