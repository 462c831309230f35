// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one call to the host that is needed: ending QEMU with an exit status of our own.

use core::arch::asm;

/// SYS_EXIT_EXTENDED (Semihosting for AArch32 and AArch64, section 5).
const EXIT_EXTENDED: u64 = 0x20;
/// ADP_Stopped_ApplicationExit: the program ended by itself.
const APPLICATION_EXIT: u64 = 0x2_0026;

/// Ends QEMU, on whichever CPU it is called.
pub fn exit(status: u8) -> ! {
    let block = [APPLICATION_EXIT, u64::from(status)];
    loop {
        // SAFETY: the call reads `block` and does not come back. Where no host listens it is an exception, which ends
        // here again: then the time limit of whoever started the machine applies.
        unsafe {
            asm!("hlt #0xf000", in("x0") EXIT_EXTENDED, in("x1") block.as_ptr(), options(nostack));
        }
    }
}
