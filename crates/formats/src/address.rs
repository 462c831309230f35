// SPDX-License-Identifier: MIT OR Apache-2.0
//! The four numbers that must never be mixed up: what a device is, and what an address means.

use core::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:#x}"), self.0)
            }
        }
    };
}

number! {
    /// StreamID: names a device, or one function of it, to one SMMU (§1). At most 32 bits.
    StreamId(u32), "sid "
}
number! {
    /// SubstreamID: the PASID of a transaction (§1). At most 20 bits.
    SubstreamId(u32), "ssid "
}
number! {
    /// The address that a device issues: the input of the first enabled stage.
    Iova(u64), "iova "
}
number! {
    /// A physical address, or an intermediate one where stage 2 follows.
    PhysAddr(u64), "pa "
}

impl PhysAddr {
    /// The address `bytes` further on; `None` past the end of the address space.
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }
}

impl Iova {
    /// The address `bytes` further on; `None` past the end of the address space.
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }
}
