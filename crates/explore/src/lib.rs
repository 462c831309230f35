// SPDX-License-Identifier: MIT OR Apache-2.0
//! A page in the browser that explains what an SMMUv3 says.
