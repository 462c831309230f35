// SPDX-License-Identifier: MIT OR Apache-2.0
//! One structure: from words to fields, and back.
