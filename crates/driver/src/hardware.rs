// SPDX-License-Identifier: MIT OR Apache-2.0
//! What most implementations of [`Platform`](crate::Platform) on AArch64 need of the hardware: for `publish`,
//! [`order_stores`] or `clean_to_poc` (on AArch64); for the registers, `Registers` (feature `safe-mmio`).

mod publish;
#[cfg(feature = "safe-mmio")]
mod registers;

#[cfg(target_arch = "aarch64")]
pub use publish::clean_to_poc;
pub use publish::order_stores;
#[cfg(feature = "safe-mmio")]
pub use registers::Registers;
