// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers as logs and dumps print them.

/// Bytes of a structure that one line can give: two records.
const MOST: usize = 64;

/// The value of up to 16 hexadecimal digits.
pub fn hex(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(value << 4 | u64::from(digit))
    })
}

/// The value of `0x...`.
pub fn prefixed(token: &[u8]) -> Option<u64> {
    hex(bare(token)?)
}

/// The number at the start of `text`, in hexadecimal with or without `0x`, and what follows it.
pub fn leading(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bare(text).unwrap_or(text);
    let length = digits.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, rest) = digits.split_at_checked(length)?;
    Some((hex(digits)?, rest))
}

/// The decimal number at the start of `text`, and what follows it.
pub fn decimal(text: &[u8]) -> Option<(u64, &[u8])> {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at_checked(length)?;
    Some((str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

fn bare(token: &[u8]) -> Option<&[u8]> {
    token.strip_prefix(b"0x").or_else(|| token.strip_prefix(b"0X"))
}

/// How a number was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// A value of so many bytes, the lowest of which comes first in memory.
    Value(usize),
    /// So many bytes in the order of memory.
    Bytes(usize),
}

/// Consecutive bytes of memory that one line gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The bytes, lowest address first.
    pub bytes: Vec<u8>,
    /// The same when what looks like values are bytes in order; `None` where that is the same.
    pub swapped: Option<Vec<u8>>,
    /// Whether somebody meant an event for sure: 64-bit numbers, or all of it on one line, and no address before
    /// them, as a dump of memory has it.
    pub plain: bool,
}

/// What ends a number.
fn is_separator(byte: u8) -> bool {
    byte.is_ascii_whitespace() || b",;`'\"()[]{}<>|*".contains(&byte)
}

/// The bytes that `text` consists of, if it consists of nothing else: 64-bit or 32-bit values, or bytes, with an
/// address before them or not. After an address, an ASCII column may follow.
pub fn run(text: &[u8]) -> Option<Run> {
    let mut tokens = text.split(|byte| is_separator(*byte)).filter(|token| !token.is_empty());
    let mut tokens: Vec<&[u8]> = tokens.by_ref().take(MOST + 20).collect();
    let mut labelled = false;
    if let Some(label) = tokens.first().and_then(|first| first.strip_suffix(b":")) {
        leading(label).filter(|(_, rest)| rest.is_empty())?;
        tokens.remove(0);
        labelled = true;
    } else if tokens.len() >= 17
        && tokens[0].len() >= 7
        && tokens[1..17].iter().all(|t| t.len() == 2)
    {
        // `hexdump -C` has no colon.
        hex(tokens[0])?;
        tokens.remove(0);
        labelled = true;
    }
    // `0x10 0x0000018000000010 ...`: the code, then the words.
    if let [code, word, ..] = tokens[..]
        && tokens.len() == 5
        && bare(code).is_some_and(|code| code.len() <= 2)
        && prefixed(code) == prefixed(word).map(|word| word & 0xff)
    {
        tokens.remove(0);
    }
    // `0x00000180 00000010`: a word that a mail program cut in two. No dump has `0x` before every other number.
    if let [upper, lower] = tokens[..]
        && bare(upper).is_some_and(|digits| digits.len() == 8)
        && lower.len() == 8
    {
        let word = prefixed(upper)? << 32 | hex(lower)?;
        let bytes = word.to_le_bytes().to_vec();
        let swapped = Some(word.to_be_bytes().to_vec());
        return Some(Run { bytes, swapped, plain: !labelled });
    }
    if let Some(four) = four(&tokens) {
        return Some(Run { bytes: four, swapped: None, plain: !labelled });
    }
    let unit = unit(tokens.first()?)?;
    let mut bytes = Vec::with_capacity(MOST);
    let mut swapped = Vec::new();
    for token in &tokens {
        if self::unit(token) != Some(unit) || bytes.len() >= MOST {
            // Only a dump has something behind its numbers.
            if labelled && bytes.len() >= 16 {
                break;
            }
            return None;
        }
        match unit {
            Unit::Value(size) => {
                let value = hex(bare(token).unwrap_or(token))?.to_le_bytes();
                bytes.extend(value.iter().take(size));
                swapped.extend(value.iter().take(size).rev());
            }
            Unit::Bytes(_) => {
                for pair in token.chunks_exact(2) {
                    bytes.push(u8::try_from(hex(pair)?).ok()?);
                }
            }
        }
    }
    let enough = unit == Unit::Value(8) || bytes.len() >= 16;
    let plain = !labelled && (unit == Unit::Value(8) || bytes.len() == 32);
    let swapped = (!swapped.is_empty()).then_some(swapped);
    enough.then_some(Run { bytes, swapped, plain })
}

/// Four numbers of which the first has more than 32 bits: `0x0000020000000010 0x20000000000 0x0 0x0`.
fn four(tokens: &[&[u8]]) -> Option<Vec<u8>> {
    let [first, ..] = tokens else { return None };
    if tokens.len() != 4 || bare(first)?.len() < 9 {
        return None;
    }
    let mut bytes = Vec::with_capacity(32);
    for token in tokens {
        bytes.extend(prefixed(token)?.to_le_bytes());
    }
    Some(bytes)
}

fn unit(token: &[u8]) -> Option<Unit> {
    let digits = bare(token).unwrap_or(token);
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    match (digits.len(), digits.len() < token.len()) {
        (16, _) => Some(Unit::Value(8)),
        (8, _) => Some(Unit::Value(4)),
        (size @ (2 | 4 | 64), false) => Some(Unit::Bytes(size / 2)),
        _ => None,
    }
}

/// The words of up to 32 bytes, and how many of them are whole.
pub fn words(bytes: &[u8]) -> ([u64; 4], usize) {
    let mut words = [0; 4];
    let mut whole = 0;
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
        whole += 1;
    }
    (words, whole)
}
