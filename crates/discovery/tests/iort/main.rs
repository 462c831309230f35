// SPDX-License-Identifier: MIT OR Apache-2.0
//! The IORT: tables written by hand, right ones and wrong ones.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

#[path = "../common/mod.rs"]
mod common;

mod golden;
mod hostile;
mod topology;
