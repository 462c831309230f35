// SPDX-License-Identifier: MIT OR Apache-2.0
//! Explains what an Arm SMMUv3 and its drivers say.
//!
//! * [`log`]: a whole kernel log in, records with their causes and a summary out.
//! * [`structure`]: one entry, command, record, descriptor or register, from words to fields and back.
//!
//! Nothing here reads a file or prints: the command line and the page in the browser stand on it.
#![forbid(unsafe_code)]

pub mod log;
pub mod structure;
