// SPDX-License-Identifier: MIT OR Apache-2.0
//! A page in the browser that explains what an SMMUv3 says.
//!
//! * [`answer`]: one question in JSON, one answer in JSON. [`Log`] does the same for a log that comes in
//!   pieces. The page calls them as WebAssembly, or through a server where there is none.
//! * `page`: the page itself, one file that needs nothing else.
//!
//! [`answer`]: fn@answer

mod answer;
mod detect;
#[cfg(any(target_arch = "wasm32", test))]
mod exports;
#[cfg(not(target_arch = "wasm32"))]
mod hash;
mod layout;
mod log;
#[cfg(not(target_arch = "wasm32"))]
pub mod page;

pub use answer::answer;
pub use log::Log;
