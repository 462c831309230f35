// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an address looks like.

/// Whether an address is that of a doorbell that takes MSIs: GITS_TRANSLATER (offset 0x40 of the second 64 KiB of an
/// ITS) and MSI_SETSPI_NS of GICv2m (offset 0x40 of its frame) share the low bits.
pub fn is_doorbell(address: u64) -> bool {
    address & 0xfff == 0x040
}

/// Whether a doorbell's page is where 32-bit addresses end: allocators hand out IOVAs from the top.
pub fn is_top_of_32_bits(address: u64) -> bool {
    (0xfff0_0000..=0xffff_ffff).contains(&address)
}

/// Whose pointer an address looks like.
pub fn pointer(address: u64) -> Option<&'static str> {
    match address {
        0xffff_0000_0000_0000.. => Some("a kernel's virtual address (the upper 16 bits are ones)"),
        0xff00_0000_0000_0000..=0xfffe_ffff_ffff_ffff => {
            Some("a kernel's virtual address (the upper bits are ones), perhaps tagged")
        }
        0xaaaa_0000_0000..=0xaaaf_ffff_ffff => Some(
            "a user program's address (arm64 loads position-independent programs at 0xaaaa...)",
        ),
        0x5500_0000_0000..=0x56ff_ffff_ffff => {
            Some("a user program's address (programs are loaded at 0x55...)")
        }
        0x7f00_0000_0000..=0x7fff_ffff_ffff => {
            Some("a user program's address (libraries and stacks lie at 0x7f...)")
        }
        // Not the last GiB: IOVAs of 48 bits are handed out from there.
        0xfff0_0000_0000..=0xffff_bfff_ffff => {
            Some("a user program's address (arm64 puts libraries and stacks below 2^48)")
        }
        0x7f_0000_0000..=0x7f_ffff_ffff => Some(
            "a user program's address where addresses have 39 bits (libraries and stacks lie at \
             0x7f...)",
        ),
        _ => None,
    }
}

/// Bits that an address needs.
pub fn bits(address: u64) -> u32 {
    64 - address.leading_zeros()
}

/// Where Arm machines often have RAM.
pub fn is_like_ram(address: u64) -> bool {
    matches!(address, 0x4000_0000..=0xdfff_ffff | 0x8_0000_0000..=0x7ff_ffff_ffff)
}
