// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ways to fail, asked for by `fail-by=`: to see that each is noticed by whoever started the machine.

use crate::verdict::{Outcome, Report};

/// Fails in the way `how`.
pub fn fail(how: &str, report: &mut Report) {
    match how {
        "check" => {
            let outcome: Outcome = Err("this was asked for".into());
            report.note("deliberate", outcome);
        }
        "panic" => panic!("this was asked for"),
        "exception" => {
            // Nothing is mapped there.
            let pointer = core::ptr::without_provenance::<u64>(0x7f_0000_0000);
            // SAFETY: none: the exception that this makes is what is wanted, and ends the machine.
            unsafe { pointer.read_volatile() };
        }
        "hang" => loop {
            core::hint::spin_loop();
        },
        _ => panic!("fail-by={how}: one of check, panic, exception, hang"),
    }
}
