// SPDX-License-Identifier: MIT OR Apache-2.0
//! What stands in the place of a part that is left out (features `ats`, `pasids`, `sva`, `nested`, `policies`,
//! `stalls`, `hand-over`): the same names, of which there is never one, so that neither those who ask for one nor their code need to
//! know.

#[cfg(all(feature = "alloc", not(feature = "hand-over")))]
pub(crate) mod adopt;
#[cfg(not(feature = "ats"))]
mod ats;
#[cfg(all(feature = "alloc", not(feature = "hand-over")))]
pub(crate) mod keep;
#[cfg(all(feature = "alloc", not(feature = "nested")))]
pub(crate) mod nest;
#[cfg(all(feature = "alloc", not(feature = "pasids")))]
pub(crate) mod others;
#[cfg(all(feature = "alloc", not(feature = "sva")))]
pub(crate) mod process;
#[cfg(all(feature = "alloc", not(feature = "policies")))]
pub(crate) mod retag;
#[cfg(all(feature = "alloc", not(feature = "stalls")))]
pub(crate) mod stall;

#[cfg(not(feature = "ats"))]
pub(crate) use ats::*;
