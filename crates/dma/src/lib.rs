// SPDX-License-Identifier: MIT OR Apache-2.0
//! DMA over the `smmuv3` driver.
#![no_std]
#![cfg_attr(test, allow(clippy::disallowed_methods, clippy::disallowed_macros))]

extern crate alloc;
#[cfg(any(test, loom))]
extern crate std;

mod bounce;
mod buffer;
mod coherent;
mod config;
mod error;
mod flush;
mod iova;
mod local;
mod map;
mod platform;
mod retired;
mod space;
mod span;
mod spin;
mod supply;
mod sync;
#[cfg(feature = "virtio-drivers")]
mod virtio;

pub use buffer::{Buffer, Lent};
pub use coherent::Coherent;
pub use config::{DmaConfig, Lazy, Reclaim};
pub use error::{BufferError, CloseError, MapError, NewError, ReserveError, UnmapError};
pub use platform::{Direction, DmaPlatform};
pub use space::{DmaSpace, Usage};
#[cfg(feature = "virtio-drivers")]
pub use virtio::{NOWHERE, VirtioFailure, VirtioHal, VirtioSpace};
