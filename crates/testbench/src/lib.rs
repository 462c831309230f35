//! testbench

pub mod qemu;
pub mod ram;
pub mod scenario;
