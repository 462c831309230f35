// SPDX-License-Identifier: MIT OR Apache-2.0
//! Panics of the driver or the model, as something that a run finds and reports.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// While this thread catches panics: what the last one said, and where.
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Calls `doing`; what it returned, or what it panicked with.
///
/// The caller uses whatever `doing` left half done only to look at it and to drop it.
///
/// # Errors
/// The message of the panic and its place in the source.
pub fn catch<R>(doing: impl FnOnce() -> R) -> Result<R, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let caught = LAST.with_borrow_mut(|last| {
                let catching = last.is_some();
                if catching {
                    *last = Some(info.to_string().replace('\n', " "));
                }
                catching
            });
            if !caught {
                others(info);
            }
        }));
    });
    let outer = LAST.replace(Some(String::new()));
    let result = panic::catch_unwind(AssertUnwindSafe(doing));
    let said = LAST.replace(outer);
    result.map_err(|_| said.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_with_its_place_and_nothing_else_is() {
        assert_eq!(catch(|| 7), Ok(7));
        let said = catch(|| panic!("no such stream {:#x}", 9)).unwrap_err();
        assert!(said.contains("no such stream 0x9") && said.contains("panics.rs"), "{said}");
    }
}
