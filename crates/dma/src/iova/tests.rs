// SPDX-License-Identifier: MIT OR Apache-2.0
//! The window against a naive one.
