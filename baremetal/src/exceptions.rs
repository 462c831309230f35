// SPDX-License-Identifier: MIT OR Apache-2.0
//! Exception vectors: interrupts are dispatched, everything else is the end.

use core::arch::naked_asm;

use aarch64_cpu::registers::{ESR_EL1, ESR_EL2, FAR_EL1, FAR_EL2, Readable};
use aarch64_rt::{ExceptionHandlers, RegisterStateRef, exception_handlers};

use crate::{cpu, interrupts, verdict};

exception_handlers!(Exceptions);

struct Exceptions;

impl ExceptionHandlers for Exceptions {
    /// aarch64-rt keeps the general registers of what was interrupted. The compiler also uses those of SIMD, in copies
    /// of memory as in a handler: they are kept here.
    #[unsafe(naked)]
    extern "C" fn irq_current(_: RegisterStateRef) {
        naked_asm!(
            "stp x29, x30, [sp, #-16]!",
            "sub sp, sp, #528",
            "stp q0, q1, [sp, #0]",
            "stp q2, q3, [sp, #32]",
            "stp q4, q5, [sp, #64]",
            "stp q6, q7, [sp, #96]",
            "stp q8, q9, [sp, #128]",
            "stp q10, q11, [sp, #160]",
            "stp q12, q13, [sp, #192]",
            "stp q14, q15, [sp, #224]",
            "stp q16, q17, [sp, #256]",
            "stp q18, q19, [sp, #288]",
            "stp q20, q21, [sp, #320]",
            "stp q22, q23, [sp, #352]",
            "stp q24, q25, [sp, #384]",
            "stp q26, q27, [sp, #416]",
            "stp q28, q29, [sp, #448]",
            "stp q30, q31, [sp, #480]",
            "mrs x9, fpcr",
            "mrs x10, fpsr",
            "str x9, [sp, #512]",
            "str x10, [sp, #520]",
            "bl {dispatch}",
            "ldr x9, [sp, #512]",
            "ldr x10, [sp, #520]",
            "msr fpcr, x9",
            "msr fpsr, x10",
            "ldp q0, q1, [sp, #0]",
            "ldp q2, q3, [sp, #32]",
            "ldp q4, q5, [sp, #64]",
            "ldp q6, q7, [sp, #96]",
            "ldp q8, q9, [sp, #128]",
            "ldp q10, q11, [sp, #160]",
            "ldp q12, q13, [sp, #192]",
            "ldp q14, q15, [sp, #224]",
            "ldp q16, q17, [sp, #256]",
            "ldp q18, q19, [sp, #288]",
            "ldp q20, q21, [sp, #320]",
            "ldp q22, q23, [sp, #352]",
            "ldp q24, q25, [sp, #384]",
            "ldp q26, q27, [sp, #416]",
            "ldp q28, q29, [sp, #448]",
            "ldp q30, q31, [sp, #480]",
            "add sp, sp, #528",
            "ldp x29, x30, [sp], #16",
            "ret",
            dispatch = sym interrupts::dispatch,
        )
    }

    extern "C" fn sync_current(state: RegisterStateRef) {
        end("synchronous exception", &state)
    }

    extern "C" fn serror_current(state: RegisterStateRef) {
        end("SError", &state)
    }

    extern "C" fn fiq_current(state: RegisterStateRef) {
        end("FIQ", &state)
    }
}

fn end(what: &str, state: &RegisterStateRef) -> ! {
    let (syndrome, address) = match cpu::exception_level() {
        2 => (ESR_EL2.get(), FAR_EL2.get()),
        _ => (ESR_EL1.get(), FAR_EL1.get()),
    };
    let at = state.elr;
    verdict::die(format_args!("{what} at {at:#x}: ESR {syndrome:#x}, FAR {address:#x}"))
}
