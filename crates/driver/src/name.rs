// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an SMMU is called.

use core::fmt;

/// Most bytes of a [`Name`].
const MOST: usize = 31;

/// A name of at most 31 bytes, by value: firmware's as a rule, which need not outlive the driver.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name {
    /// UTF-8 up to `len`, zeros behind it.
    bytes: [u8; MOST],
    /// At most `MOST`.
    len: u8,
}

impl Name {
    /// The first characters of `name`, as many as there is room for.
    pub const fn new(name: &str) -> Self {
        let mut len = if name.len() < MOST { name.len() } else { MOST };
        // Down to where a character begins; 0 is such a place.
        while !name.is_char_boundary(len) {
            len -= 1;
        }
        let mut bytes = [0; MOST];
        let (kept, _) = name.as_bytes().split_at(len);
        let (room, _) = bytes.split_at_mut(len);
        room.copy_from_slice(kept);
        Self { bytes, len: len as u8 }
    }

    /// The name.
    pub const fn as_str(&self) -> &str {
        let (name, _) = self.bytes.split_at(self.len as usize);
        match core::str::from_utf8(name) {
            Ok(name) => name,
            // It was cut between characters.
            Err(_) => "",
        }
    }
}

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn long_names_end_between_characters() {
        const SHORT: Name = Name::new("smmu0");
        assert_eq!(
            (SHORT.as_str(), format!("{SHORT:>7}|{SHORT:?}")),
            ("smmu0", "  smmu0|\"smmu0\"".into())
        );
        assert_eq!(Name::new("").as_str(), "");
        let all = "iommu@0123456789abcdef-01234567";
        assert_eq!(Name::from(all), all);
        assert_eq!(Name::new("iommu@0123456789abcdef-012345678"), all);
        // The 30th and 31st byte are those of one character; then the 31st and 32nd.
        let cut = "iommu@0123456789abcdef-012345";
        assert_eq!(Name::new(&format!("{cut}\u{e9}x")), format!("{cut}\u{e9}").as_str());
        assert_eq!(Name::new(&format!("{cut}6\u{e9}")), format!("{cut}6").as_str());
        assert_ne!(Name::new("smmu1"), Name::new("smmu10"));
    }
}
