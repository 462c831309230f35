// SPDX-License-Identifier: MIT OR Apache-2.0
//! Kernel logs: what of them is about SMMUs, and what it means.
