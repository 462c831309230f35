// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ranges of addresses as they are written.

const RIGHT: &str = "a range is 0x1000..0x3000 (without its end), 0x1000-0x2fff (with it), 0x1000+8K, \
                     0x1000+2p (pages), or 0x1234 (the page that has it)";

/// Reads a range for pages of 2^`shift` bytes: its first address, and its bytes, at least one. Neither has to be whole
/// pages, and `first + bytes` is at most 2^64.
///
/// # Errors
/// Why it is none, and what would be one.
pub fn read(text: &str, shift: u32) -> Result<(u64, u128), String> {
    let wrong = |what: &str| Err(format!("{text:?}: {what}; {RIGHT}"));
    let (first, bytes) = if let Some((first, end)) = text.split_once("..") {
        let (Some(first), Some(end)) = (number(first), end_of(end)) else {
            return wrong("an address is a number such as 0x1000");
        };
        match end.checked_sub(first.into()) {
            None | Some(0) => return wrong("nothing is in it"),
            Some(bytes) => (first, bytes),
        }
    } else if let Some((first, last)) = text.split_once('-') {
        // As reports print ranges: the last byte is in it.
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return wrong("an address is a number such as 0x1000");
        };
        match u128::from(last).checked_sub(first.into()) {
            None => return wrong("nothing is in it"),
            Some(bytes) => (first, bytes + 1),
        }
    } else if let Some((first, size)) = text.split_once('+') {
        let Some(first) = number(first) else {
            return wrong("an address is a number such as 0x1000");
        };
        let Some(bytes) = size_of(size, shift) else {
            return wrong("a size is a number such as 0x2000, 8K, 2M, 1G or 2p");
        };
        if bytes == 0 {
            return wrong("nothing is in it");
        }
        (first, bytes)
    } else {
        let Some(address) = number(text) else { return wrong("it is no address") };
        (address >> shift << shift, 1 << shift)
    };
    match bytes.checked_add(first.into()) {
        Some(end) if end <= 1 << 64 => Ok((first, bytes)),
        _ => wrong("it passes 64 bits"),
    }
}

/// A number, decimal or 0x….
fn number(text: &str) -> Option<u64> {
    let digits = text.trim().replace('_', "");
    match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) if !hex.starts_with('+') => u64::from_str_radix(hex, 16).ok(),
        Some(_) => None,
        None if digits.starts_with('+') => None,
        None => digits.parse().ok(),
    }
}

/// As [`number`], also 2^64.
fn end_of(text: &str) -> Option<u128> {
    match text.trim().replace('_', "").as_str() {
        "0x10000000000000000" => Some(1 << 64),
        other => number(other).map(u128::from),
    }
}

fn size_of(text: &str, shift: u32) -> Option<u128> {
    let text = text.trim();
    let (digits, shift) = match text.char_indices().next_back()? {
        (at, 'K' | 'k') => (&text[..at], 10),
        (at, 'M' | 'm') => (&text[..at], 20),
        (at, 'G' | 'g') => (&text[..at], 30),
        (at, 'T' | 't') => (&text[..at], 40),
        (at, 'p' | 'P') => (&text[..at], shift),
        _ => (text, 0),
    };
    // 64 bits and 40 more at most.
    number(digits).map(|number| u128::from(number) << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_an_end_a_size_or_one_page() {
        for (text, first, bytes) in [
            ("0x1000..0x3000", 0x1000, 0x2000),
            ("4096+8K", 0x1000, 0x2000),
            ("0x1000-0x2fff", 0x1000, 0x2000),
            ("0-0xffffffffffffffff", 0, 1 << 64),
            ("0x1000+2p", 0x1000, 0x8000),
            ("0x1_0000", 0x1_0000, 0x4000),
            // The page that has it, and no byte of the next one.
            ("0x1_3fff", 0x1_0000, 0x4000),
            ("0xffffffffffffffff", 0xffff_ffff_ffff_c000, 0x4000),
            ("0x40000000+1G", 0x4000_0000, 1 << 30),
            ("0+0x10", 0, 0x10),
            ("0xfffffffffffff000..0x10000000000000000", 0xffff_ffff_ffff_f000, 0x1000),
            ("0+16777216T", 0, 1 << 64),
        ] {
            assert_eq!(read(text, 14), Ok((first, bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_range_is_told_what_is_one() {
        for (text, why) in [
            ("", "no address"),
            ("page", "no address"),
            ("0x1000..0x1000", "nothing is in it"),
            ("0x2000..0x1000", "nothing is in it"),
            ("0x1000+0", "nothing is in it"),
            ("0x1000+8Q", "a size is a number"),
            ("0x1000+", "a size is a number"),
            ("..0x1000", "an address is a number"),
            ("0x2000-0x1000", "nothing is in it"),
            ("0x1000-", "an address is a number"),
            ("0xffffffffffffffff+2", "passes 64 bits"),
            ("0x1+16777216T", "passes 64 bits"),
        ] {
            let told = read(text, 12).unwrap_err();
            assert!(told.contains(why) && told.contains("0x1000..0x3000"), "{text}: {told}");
        }
    }
}
