// SPDX-License-Identifier: MIT OR Apache-2.0
//! The generic timer: a clock for everybody, and a watchdog.

use core::sync::atomic::{AtomicU64, Ordering};

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{
    CNTFRQ_EL0, CNTV_CTL_EL0, CNTV_CVAL_EL0, CNTVCT_EL0, Readable, Writeable,
};
use alloc::boxed::Box;
use smmuv3_discovery::{Line, Trigger};

use crate::{interrupts, verdict};

/// The virtual timer's interrupt, at EL1 and EL2 alike.
const VIRTUAL_TIMER: Line = Line { intid: 27, trigger: Trigger::Level };

/// Nanoseconds in a tick, times 2^32. The counter has the same frequency on all CPUs.
static SCALE: AtomicU64 = AtomicU64::new(0);

/// Nanoseconds since the machine was switched on. All CPUs share the counter; it never goes back.
pub fn now() -> u64 {
    let mut scale = SCALE.load(Ordering::Relaxed);
    if scale == 0 {
        // Whoever comes second stores the same.
        scale = (1_000_000_000 << 32) / CNTFRQ_EL0.get().max(1);
        SCALE.store(scale, Ordering::Relaxed);
    }
    // Otherwise the counter may be read before what comes before this call.
    barrier::isb(barrier::SY);
    ((u128::from(CNTVCT_EL0.get()) * u128::from(scale)) >> 32) as u64
}

/// Waits until `done`, at most `limit` nanoseconds; whether it came to that.
pub fn wait(limit: u64, mut done: impl FnMut() -> bool) -> bool {
    let begun = now();
    loop {
        if done() {
            return true;
        }
        if now() - begun > limit {
            return false;
        }
        // Whoever is waited for may want what `done` looks at.
        for _ in 0..100 {
            core::hint::spin_loop();
        }
    }
}

/// Ends the machine after so many seconds, whatever it is doing then with interrupts on.
pub fn watch(seconds: u64) {
    let ticks = CNTFRQ_EL0.get() * seconds;
    CNTV_CVAL_EL0.set(CNTVCT_EL0.get() + ticks);
    CNTV_CTL_EL0.write(CNTV_CTL_EL0::ENABLE::SET + CNTV_CTL_EL0::IMASK::CLEAR);
    let bark = move || verdict::die(format_args!("no verdict within {seconds} s"));
    interrupts::attach(VIRTUAL_TIMER, Box::new(bark));
}
