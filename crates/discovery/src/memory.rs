// SPDX-License-Identifier: MIT OR Apache-2.0
//! Heap memory whose allocation can fail.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};

use smmuv3::NoMemory;

/// `Vec::push` that fails instead of aborting.
pub(crate) fn push<T>(list: &mut Vec<T>, item: T) -> Result<(), NoMemory> {
    list.try_reserve(1).map_err(|_| NoMemory)?;
    list.push(item);
    Ok(())
}

/// A copy of `text`.
pub(crate) fn text(text: &str) -> Result<String, NoMemory> {
    format(format_args!("{text}"))
}

/// `format!` that fails instead of aborting.
pub(crate) fn format(arguments: fmt::Arguments<'_>) -> Result<String, NoMemory> {
    struct Growing(String);
    impl fmt::Write for Growing {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.try_reserve(text.len()).map_err(|_| fmt::Error)?;
            self.0.push_str(text);
            Ok(())
        }
    }
    let mut growing = Growing(String::new());
    // Nothing of ours refuses to be printed, so it can only be memory.
    growing.write_fmt(arguments).map_err(|_| NoMemory)?;
    Ok(growing.0)
}
