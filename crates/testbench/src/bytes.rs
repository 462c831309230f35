// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sizes, in words.

use core::fmt;

/// A number of bytes as people write it.
pub(crate) struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes >= 1 << 20 && bytes % (1 << 20) == 0 => write!(f, "{} MiB", bytes >> 20),
            bytes if bytes >= 1 << 10 && bytes % (1 << 10) == 0 => write!(f, "{} KiB", bytes >> 10),
            1 => f.write_str("1 byte"),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_largest_unit_that_they_are_whole_in() {
        let words = [0, 1, 5, 4096, 4100, 2 << 20, (2 << 20) + 4096].map(|n| Bytes(n).to_string());
        let right = ["0 bytes", "1 byte", "5 bytes", "4 KiB", "4100 bytes", "2 MiB", "2052 KiB"];
        assert_eq!(words, right);
    }
}
