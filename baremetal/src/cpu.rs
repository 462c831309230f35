// SPDX-License-Identifier: MIT OR Apache-2.0
//! CPUs: which one this is, masking its interrupts, and starting the others.

use alloc::alloc::{Layout, alloc_zeroed};
use core::sync::atomic::{AtomicUsize, Ordering};

use aarch64_cpu::asm::{barrier, sev, wfe};
use aarch64_cpu::registers::{
    CNTHCTL_EL2, CNTKCTL_EL1, CurrentEL, HCR_EL2, MPIDR_EL1, Readable, Writeable,
};
use aarch64_rt::{Stack, start_core};
use core::arch::asm;
use smccc::{Hvc, Smc};

use crate::interrupts;
use crate::lock::Lock;
use crate::machine::{Conduit, Machine};

/// 64 KiB.
type OwnStack = Stack<16>;

/// Which exception level this is.
pub fn exception_level() -> u64 {
    CurrentEL.read(CurrentEL::EL)
}

/// The number of this CPU, from 0 on. QEMU's `virt` numbers them by the lowest affinity field, up to 16 of them.
pub fn number() -> usize {
    (MPIDR_EL1.get() & 0xff) as usize
}

/// Runs `critical` with interrupts of this CPU masked.
#[inline(always)]
pub fn mask_irqs<R>(critical: impl FnOnce() -> R) -> R {
    let daif: u64;
    // SAFETY: masking interrupts breaks nothing. No `nomem`: what is inside stays inside.
    unsafe { asm!("mrs {}, daif", "msr daifset, #2", out(reg) daif, options(nostack)) };
    let result = critical();
    // SAFETY: the mask is as it was.
    unsafe { asm!("msr daif, {}", in(reg) daif, options(nostack)) };
    result
}

/// Sets this CPU up, and lets interrupts come in: their handlers are in place.
pub fn init() {
    // An event each time that this bit of the counter becomes 1: `wfe` ends at least every 65 us at 1 GHz.
    const BIT: u64 = 15;
    if exception_level() == 2 {
        // Interrupts are for EL2, and bits of CNTHCTL are those without E2H.
        HCR_EL2.modify_no_read(HCR_EL2.extract(), HCR_EL2::IMO::EnableVirtualIRQ);
        CNTHCTL_EL2.set(CNTHCTL_EL2.get() & !0xf8 | BIT << 4 | 1 << 2);
    } else {
        CNTKCTL_EL1.set(CNTKCTL_EL1.get() & !0xf8 | BIT << 4 | 1 << 2);
    }
    barrier::isb(barrier::SY);
    // SAFETY: the handlers are in place.
    unsafe { asm!("msr daifclr, #2", options(nostack)) };
}

/// How many CPUs run.
static ONLINE: AtomicUsize = AtomicUsize::new(1);

/// How many CPUs run.
pub fn online() -> usize {
    ONLINE.load(Ordering::Acquire)
}

/// Starts the other CPUs, each on a stack of its own, and returns without waiting for them.
///
/// # Errors
/// PSCI's.
pub fn start_others(machine: &Machine) -> Result<(), smccc::psci::Error> {
    for &mpidr in machine.cpus.iter().filter(|mpidr| **mpidr & 0xff != number() as u64) {
        // SAFETY: the layout is not empty.
        let stack = unsafe { alloc_zeroed(Layout::new::<OwnStack>()) }.cast::<OwnStack>();
        assert!(!stack.is_null(), "no memory for a stack");
        // SAFETY: the stack is the new CPU's alone and never freed; RAM is mapped alike on all CPUs.
        unsafe {
            match machine.conduit {
                Conduit::Hvc => start_core::<Hvc, _, 16>(mpidr, stack, || serve())?,
                Conduit::Smc => start_core::<Smc, _, 16>(mpidr, stack, || serve())?,
            }
        }
    }
    Ok(())
}

/// What the other CPUs are asked to do: called with the CPU's number.
#[derive(Clone, Copy)]
struct Work(*const (dyn Fn(usize) + Sync));

// SAFETY: what it points to is Sync, and outlives its use: `on_all` sees to that.
unsafe impl Send for Work {}

static WORK: Lock<Option<Work>> = Lock::new(None);
/// How much work was handed out.
static ROUND: AtomicUsize = AtomicUsize::new(0);
/// How many CPUs have finished this round.
static FINISHED: AtomicUsize = AtomicUsize::new(0);

/// What a CPU does that was started: waits for work, does it, for ever.
fn serve() -> ! {
    interrupts::init_cpu(number());
    init();
    let mut done = ROUND.load(Ordering::Acquire);
    ONLINE.fetch_add(1, Ordering::AcqRel);
    loop {
        while ROUND.load(Ordering::Acquire) == done {
            wfe();
        }
        done += 1;
        if let Some(Work(work)) = WORK.with(|work| *work) {
            // SAFETY: `on_all` is waiting below until this CPU has finished.
            unsafe { (*work)(number()) };
        }
        FINISHED.fetch_add(1, Ordering::AcqRel);
    }
}

/// Runs `work` on every CPU that is online, this one included, and waits for all of them.
pub fn on_all(work: &(dyn Fn(usize) + Sync)) {
    let others = online() - 1;
    FINISHED.store(0, Ordering::Relaxed);
    let work_of_others: *const (dyn Fn(usize) + Sync + '_) = work;
    // SAFETY: only the lifetime changes; nobody uses it after this function has returned.
    let work_of_others: *const (dyn Fn(usize) + Sync + 'static) =
        unsafe { core::mem::transmute(work_of_others) };
    WORK.with(|work| *work = Some(Work(work_of_others)));
    ROUND.fetch_add(1, Ordering::AcqRel);
    barrier::dsb(barrier::ISHST);
    sev();
    work(number());
    while FINISHED.load(Ordering::Acquire) != others {
        core::hint::spin_loop();
    }
    WORK.with(|work| *work = None);
}
