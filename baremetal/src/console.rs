// SPDX-License-Identifier: MIT OR Apache-2.0
//! The serial console: a PL011, and `print!` on it.

use core::fmt::{self, Write};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

use arm_pl011_uart::{PL011Registers, Uart};
use safe_mmio::UniqueMmioPointer;

use crate::lock::Lock;

/// Where QEMU's `virt` machine has it. Not from the device tree: errors in that are to be seen, too.
const UART: *mut PL011Registers = 0x0900_0000 as *mut _;

static CONSOLE: Lock<Console> = Lock::new(Console);

/// Set by whoever says the last words: the lock may be held by somebody who is not coming back.
static DYING: AtomicBool = AtomicBool::new(false);

/// A token for the right to write.
struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let Some(registers) = NonNull::new(UART) else { return Err(fmt::Error) };
        // SAFETY: the registers are there and mapped as Device memory. Others use them at the same time only when
        // something has gone wrong, and all they do is write characters.
        let mut uart = Uart::new(unsafe { UniqueMmioPointer::new(registers) });
        for byte in text.bytes() {
            if byte == b'\n' {
                put(&mut uart, b'\r');
            }
            put(&mut uart, byte);
        }
        Ok(())
    }
}

fn put(uart: &mut Uart, byte: u8) {
    while uart.is_tx_fifo_full() {
        core::hint::spin_loop();
    }
    uart.write_word(byte);
}

/// Writes to the console, in one piece.
pub fn print(arguments: fmt::Arguments) {
    // Nowhere to report an error to.
    let _ = if DYING.load(Ordering::Relaxed) {
        Console.write_fmt(arguments)
    } else {
        CONSOLE.with(|console| console.write_fmt(arguments))
    };
}

/// From now on whoever prints does not wait for others.
pub fn last_words() {
    DYING.store(true, Ordering::Relaxed);
}

/// Prints a line on the console.
#[macro_export]
macro_rules! println {
    () => { $crate::console::print(format_args!("\n")) };
    ($format:literal $($rest:tt)*) => {
        $crate::console::print(format_args!("{}\n", format_args!($format $($rest)*)))
    };
}
