// SPDX-License-Identifier: MIT OR Apache-2.0
//! Characters for QEMU's PL011, which needs no setting up.

use core::fmt;

const UART: *mut u8 = 0x0900_0000 as *mut u8;

struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: the data register, mapped as Device memory.
            unsafe { UART.write_volatile(byte) };
        }
        Ok(())
    }
}

/// Writes a line.
pub fn line(arguments: fmt::Arguments) {
    // It does not fail.
    let _ = fmt::Write::write_fmt(&mut Console, format_args!("{arguments}\n"));
}

/// Prints a line.
#[macro_export]
macro_rules! println {
    ($($text:tt)*) => { $crate::console::line(format_args!($($text)*)) };
}
