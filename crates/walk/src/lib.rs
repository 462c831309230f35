// SPDX-License-Identifier: MIT OR Apache-2.0
//! Walks stream tables, contexts and translation tables in an image of memory, and says what hardware
//! would do.
#![forbid(unsafe_code)]
