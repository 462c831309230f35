// SPDX-License-Identifier: MIT OR Apache-2.0
//! The standard library of the page's WebAssembly, which `crates/explore/build.rs` builds where it is there.

use crate::bare;
use crate::environment::Workspace;
use crate::report::{Step, Verdict};

/// What the step is for.
pub const WHAT: &str = "find or install std for the page's WebAssembly";

/// The target of the page's module.
const TARGET: &str = "wasm32-unknown-unknown";

/// Gets the target, before anything is built that would do without it. Skipped where it cannot be got: the page
/// then leaves the decoding to the local server, and tests of the module skip themselves.
pub fn obtain(step: &mut Step, workspace: &Workspace) -> Verdict {
    if bare::is_installed(TARGET) {
        return Verdict::passed(format!("{TARGET} is installed"));
    }
    match bare::add_by_rustup(step, workspace, TARGET) {
        Ok(()) => Verdict::passed(format!("rustup target add {TARGET}")),
        Err(error) => Verdict::skipped(format!("no {TARGET}: rustup target add: {error:#}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_is_the_one_that_the_page_is_built_for() {
        let root = Workspace::find().unwrap().root;
        let script = std::fs::read_to_string(root.join("crates/explore/build.rs")).unwrap();
        assert!(script.contains(&format!("const TARGET: &str = \"{TARGET}\";")));
    }

    #[test]
    fn a_target_that_does_not_exist_is_not_installed() {
        assert!(!bare::is_installed("wasm32-unknown-nowhere"));
    }
}
