// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines, their addresses and their numbers.

use super::{MOST_TEXT, WordsError};

/// Longest run that gdb's `<repeats N times>` may stand for.
const MOST_REPEATS: usize = 4096;

/// A number as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// At most 64 bits.
    Number {
        value: u64,
        /// Digits as written, leading zeros included.
        digits: usize,
        /// Whether `0x` stands before it.
        prefixed: bool,
    },
    /// A string of bytes in the order of memory: more than 16 digits, without `0x`.
    Bytes(Vec<u8>),
}

/// One line that has something in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// What stands before the numbers and names their place, as digits: its base is not known yet.
    pub address: Option<String>,
    /// Whether a colon follows the address: tools that print bytes in groups do that.
    pub colon: bool,
    /// Spaces between the last number and the text column, if there is one.
    pub gap: usize,
    pub tokens: Vec<Token>,
    /// `*`: the line before again, until the next address.
    pub repeat: bool,
}

/// The ways in which `text` falls into lines: the best first. Nothing is in it if there is no number.
pub(super) fn readings(text: &str) -> Result<Vec<Vec<Line>>, WordsError> {
    if text.len() > MOST_TEXT {
        return Err(WordsError::TooMuch);
    }
    let mut lines = Vec::new();
    for text in text.lines() {
        lines.extend(line(text)?);
    }
    let all = || lines.iter().flat_map(|line: &Line| &line.tokens);
    if all().next().is_none() {
        return Ok(Vec::new());
    }
    if all().any(|token| matches!(token, Token::Bytes(_))) {
        // The last line of a string of bytes may be short enough for a number.
        for token in lines.iter_mut().flat_map(|line| &mut line.tokens) {
            if let Token::Number { value, digits, prefixed: false } = *token
                && digits % 2 == 0
            {
                let bytes = value.to_be_bytes();
                *token = Token::Bytes(bytes.iter().skip(8 - digits / 2).copied().collect());
            }
        }
        return Ok(vec![lines]);
    }
    let with_offsets = offsets(&lines);
    Ok(with_offsets.into_iter().chain([lines]).collect())
}

/// One line; `None` if nothing is in it.
fn line(text: &str) -> Result<Option<Line>, WordsError> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    let said = |start: &str| text.starts_with(start);
    // devmem2 says these before its value.
    if text.is_empty() || said("#") || said("/dev/mem opened") || said("Memory mapped at") {
        return Ok(None);
    }
    if text == "*" {
        return Ok(Some(Line { repeat: true, ..Line::default() }));
    }
    if let Some((address, rest)) = addressed(text) {
        let (numbers, gap) = without_text_column(rest);
        if let Ok(tokens) = tokens(numbers) {
            let address = Some(address.to_owned());
            return Ok(Some(Line { address, colon: true, gap, tokens, repeat: false }));
        }
    }
    // hexdump -C and od -z put the text column in marks.
    let marked = text.find(" |").or_else(|| text.find(" >"));
    let dump = text.starts_with(|c: char| c.is_ascii_hexdigit());
    let text = marked.filter(|_| dump).and_then(|at| text.get(..at)).unwrap_or(text);
    if let Some(named) = labelled(text) {
        let numbers: Vec<&str> = in_order(&named)?;
        let tokens = tokens(&numbers.join(" "))?;
        return Ok(Some(Line { tokens, ..Line::default() }));
    }
    // `arm-smmu-v3 2b400000.iommu: 0x...`: what stands before the last colon names the line.
    let colon = || text.rfind(": ").or_else(|| text.rfind(":\t")).map(|at| at.saturating_add(1));
    let end = text.ends_with(':').then_some(text.len()).or_else(colon);
    let rest = end.and_then(|at| text.get(at..)).unwrap_or(text);
    // `$1 = {0x8002000b, 0xd4, 0x0 <repeats 6 times>}`: gdb names what it prints.
    let rest = match rest.split_once('{') {
        Some((name, numbers)) if name.contains('=') => {
            numbers.rsplit('{').next().unwrap_or(numbers)
        }
        _ => rest,
    };
    let rest = rest.split(" #").next().unwrap_or(rest);
    let tokens = tokens(rest)?;
    let line = Line { tokens, ..Line::default() };
    Ok((!line.tokens.is_empty()).then_some(line))
}

/// `w0: 0x10 w1: 0x0`, `STE[0]=0x9, STE[1]=0x0`: names and their numbers, one each, two at least; `None` where
/// there is anything else.
pub(super) fn labelled(text: &str) -> Option<Vec<(&str, &str)>> {
    let parts = |c: char| c.is_whitespace() || ",;:=\0{}\"".contains(c);
    let mut parts = text.split(parts).filter(|part| !part.is_empty());
    let mut found = Vec::new();
    while let Some(name) = parts.next() {
        let value = parts.next()?;
        // Only numbers with `0x` are surely none of the names: `add` and `fee` are digits, too.
        let prefixed = |word: &str| word.starts_with("0x") || word.starts_with("0X");
        if prefixed(name) || !name.contains(|c: char| c.is_ascii_alphabetic()) || !prefixed(value) {
            return None;
        }
        found.push((name, value));
    }
    (found.len() > 1 && text.contains([':', '='])).then_some(found)
}

/// The numbers of names that count up from 0 or 1; all others say an order that is not known here.
fn in_order<'a>(named: &[(&'a str, &'a str)]) -> Result<Vec<&'a str>, WordsError> {
    let count = |name: &str| {
        let name = name.trim_end_matches([']', ')']);
        let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        name.get(name.len() - digits..)?.parse::<usize>().ok()
    };
    let first = named.first().and_then(|(name, _)| count(name)).filter(|first| *first <= 1);
    named
        .iter()
        .enumerate()
        .map(|(index, (name, value))| match (first, count(name)) {
            (Some(first), Some(at)) if at == first + index => Ok(*value),
            _ => Err(WordsError::Named { name: name.chars().take(40).collect() }),
        })
        .collect()
}

/// The address before a colon, and what follows: `0000000080040000: ...`, `0x80040000 <strtab+64>:\t...`.
fn addressed(text: &str) -> Option<(&str, &str)> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let end = digits.find(|c: char| !c.is_ascii_hexdigit())?;
    let (address, mut rest) = digits.split_at_checked(end)?;
    if let Some(symbol) = rest.trim_start().strip_prefix('<') {
        rest = symbol.split_once('>')?.1;
    }
    let rest = rest.strip_prefix(':')?;
    let fits = (1..=16).contains(&address.len());
    fits.then_some((address, rest))
}

/// The numbers of a line, and how far away the text column is: two spaces or more begin it, where numbers have
/// no `0x`.
fn without_text_column(rest: &str) -> (&str, usize) {
    let rest = rest.trim_start();
    if rest.starts_with("0x") || rest.contains('\t') {
        return (rest, 0);
    }
    let rest = rest.split('|').next().unwrap_or(rest);
    match rest.find("  ") {
        // hexdump -C and od part groups by two spaces; those have no colon, but people add one.
        Some(at) => {
            let (numbers, column) = rest.split_at_checked(at).unwrap_or((rest, ""));
            (numbers, column.len().saturating_sub(column.trim_start().len()))
        }
        None => (rest, 0),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, WordsError> {
    let parts = |c: char| c.is_whitespace() || c == '\0' || ",;[]{}()\"'".contains(c);
    let mut found: Vec<Token> = Vec::new();
    let mut words = text.split(parts).filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        if word == "<repeats" {
            let times = words.next().and_then(|times| times.parse().ok());
            let (Some(times), Some("times>"), Some(last)) = (times, words.next(), found.last())
            else {
                return Err(WordsError::NotHex { token: word.to_owned() });
            };
            let times: usize = times;
            let more = times.min(MOST_REPEATS).saturating_sub(1);
            found.extend(core::iter::repeat_n(last.clone(), more));
            continue;
        }
        found.push(token(word)?);
    }
    Ok(found)
}

fn token(word: &str) -> Result<Token, WordsError> {
    let not_hex = || WordsError::NotHex { token: word.chars().take(40).collect() };
    let plain = word.trim_end_matches(['u', 'U', 'l', 'L']);
    let prefix = plain.strip_prefix("0x").or_else(|| plain.strip_prefix("0X"));
    let digits: String = prefix.unwrap_or(plain).chars().filter(|c| *c != '_').collect();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(not_hex());
    }
    if digits.len() <= 16 {
        let value = u64::from_str_radix(&digits, 16).map_err(|_| not_hex())?;
        return Ok(Token::Number { value, digits: digits.len(), prefixed: prefix.is_some() });
    }
    let shown: String = word.chars().take(80).collect();
    if prefix.is_some() {
        return Err(WordsError::TooLong { token: shown });
    }
    if !digits.len().is_multiple_of(2) {
        return Err(WordsError::HalfByte { token: shown });
    }
    let pairs = digits.as_bytes().chunks(2);
    let bytes = pairs.filter_map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok());
    Ok(Token::Bytes(bytes.collect()))
}

/// The same lines with the first number of each taken for its offset, if they can be what `od` and `hexdump`
/// print: an offset of its own length without `0x`, then numbers that are all as long as each other.
fn offsets(lines: &[Line]) -> Option<Vec<Line>> {
    let plain = |token: &Token| match token {
        Token::Number { value, digits, prefixed: false } => Some((*value, *digits)),
        _ => None,
    };
    let mut length = None;
    let mut stripped = Vec::new();
    for line in lines {
        if line.repeat {
            stripped.push(line.clone());
            continue;
        }
        if line.address.is_some() {
            return None;
        }
        let (first, rest) = line.tokens.split_first()?;
        let (value, digits) = plain(first)?;
        let right = *length.get_or_insert(digits) == digits && (6..=10).contains(&digits);
        let mut sizes = rest.iter().map(|token| plain(token).map(|(_, digits)| digits));
        let size = sizes.clone().next();
        let same = sizes.all(|one| Some(one) == size);
        let usual =
            size.is_none_or(|size| matches!(size, Some(2 | 4 | 8 | 16)) && size != Some(digits));
        if !right || !same || !usual {
            return None;
        }
        let address = Some(format!("{value:0digits$x}"));
        stripped.push(Line { address, colon: false, tokens: rest.to_vec(), ..line.clone() });
    }
    stripped.iter().any(|line| !line.tokens.is_empty()).then_some(stripped)
}
