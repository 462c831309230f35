// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a device asks for.

/// One untranslated access of a device (§9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    /// StreamID.
    pub stream: u32,
    /// SubstreamID (PASID), where the device gives one.
    pub substream: Option<u32>,
    /// Address that the device issues.
    pub address: u64,
    /// Whether it writes.
    pub write: bool,
    /// Whether it is privileged (PnU).
    pub privileged: bool,
    /// Whether it fetches instructions (InD); writes are always data.
    pub instruction: bool,
}

impl Access {
    /// An unprivileged data read without substream.
    pub const fn read(stream: u32, address: u64) -> Self {
        Self {
            stream,
            substream: None,
            address,
            write: false,
            privileged: false,
            instruction: false,
        }
    }

    /// An unprivileged write without substream.
    pub const fn write(stream: u32, address: u64) -> Self {
        Self { write: true, ..Self::read(stream, address) }
    }
}
