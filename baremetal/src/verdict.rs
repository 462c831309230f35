// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report, a line for each check, and the verdict that the machine ends with.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use core::error::Error;
use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::{console, cpu, interrupts, println, semihosting, time};

/// All checks passed.
const OK: u8 = 0;
/// A check failed.
const FAILED: u8 = 1;
/// The image panicked, took an exception that it did not expect, or hung.
const DIED: u8 = 2;

/// What a check found, in a few words with the figures; or why it failed.
pub type Outcome = Result<String, Box<dyn Error>>;

/// How the checks went.
#[derive(Default)]
pub struct Report {
    passed: usize,
    failed: usize,
    first: Option<String>,
}

impl Report {
    /// Prints what became of the check `name`; whether it passed.
    pub fn note(&mut self, name: &str, outcome: Outcome) -> bool {
        match outcome {
            Ok(detail) => {
                self.passed += 1;
                println!("ok      {name:<12} {detail}");
                true
            }
            Err(error) => {
                self.failed += 1;
                self.first.get_or_insert_with(|| name.to_owned());
                println!("FAILED  {name:<12} {error}");
                false
            }
        }
    }

    /// Whether nothing has failed so far.
    pub fn is_good(&self) -> bool {
        self.failed == 0
    }

    /// Prints the verdict and ends the machine with it.
    pub fn close(self) -> ! {
        let seconds = time::now() / 1_000_000_000;
        let tenths = time::now() / 100_000_000 % 10;
        let Self { passed, failed, first } = self;
        println!();
        let interrupts = interrupts::count();
        println!(
            "{passed} checks passed, {failed} failed; {interrupts} interrupts, {seconds}.{tenths} s"
        );
        match first {
            None => {
                println!("verdict: ok");
                semihosting::exit(OK)
            }
            Some(first) => {
                println!("verdict: FAILED: {first}");
                semihosting::exit(FAILED)
            }
        }
    }
}

/// Ends the machine at once.
pub fn die(why: fmt::Arguments) -> ! {
    static DEAD: AtomicBool = AtomicBool::new(false);
    console::last_words();
    // Of several CPUs that die one is enough to say so; a second death of the same one is in here.
    if DEAD.swap(true, Ordering::Relaxed) {
        semihosting::exit(DIED);
    }
    println!();
    println!(
        "verdict: FAILED: {why} (CPU {}, {} ms after start)",
        cpu::number(),
        time::now() / 1_000_000
    );
    semihosting::exit(DIED)
}

/// Fails a check unless `condition` holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err(alloc::format!($($why)+).into());
        }
    };
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    match info.location() {
        Some(place) => die(format_args!("panic: {}, at {place}", info.message())),
        None => die(format_args!("panic: {}", info.message())),
    }
}
