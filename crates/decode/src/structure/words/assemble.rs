// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the numbers of lines to the words of a structure.

use super::lex::{Line, Token};
use super::{Need, Order, Shape, Words, WordsError};

/// Numbers of one size, in the order of memory.
struct Numbers {
    values: Vec<u64>,
    /// Bytes of each: 1, 2, 4 or 8.
    size: usize,
    /// How bytes lie in them, where the form tells.
    bytes: Certainty,
}

/// What is known about the order of bytes within numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Certainty {
    /// They are values: `0x` stands before them, or the tool prints values.
    Values,
    /// They are bytes in groups, as `xxd` prints them.
    Groups,
    /// They are most likely values.
    Likely,
    /// Both are common.
    Open,
}

/// The words of `lines`.
pub(super) fn assemble(
    lines: &[Line],
    shape: &Shape<'_>,
    order: Order,
) -> Result<Words, WordsError> {
    let numbers = numbers(lines, Some(shape))?;
    if let ([value], 4) = (&numbers.values[..], shape.bytes) {
        // A register of 32 bits may have been printed with 16 digits.
        if u32::try_from(*value).is_err() {
            let name = shape.name.to_owned();
            return Err(WordsError::DoesNotFit { value: *value, name });
        }
    }
    ordered(&numbers, shape, order)
}

/// 32-bit registers out of `lines`.
pub(super) fn registers(lines: &[Line], order: Order) -> Result<Vec<u32>, WordsError> {
    let mut numbers = numbers(lines, None)?;
    if numbers.bytes == Certainty::Groups {
        swap(&mut numbers);
    }
    let bytes = numbers.memory(match order {
        Order::Auto => Order::Memory,
        other => other,
    });
    if !bytes.len().is_multiple_of(4) {
        let need = Need { name: "a register".to_owned(), bytes: 4 };
        let size = numbers.size_name();
        return Err(WordsError::Count { given: numbers.values.len(), size, need });
    }
    let word = |bytes: &[u8]| Some(u32::from_le_bytes(bytes.try_into().ok()?));
    Ok(bytes.chunks(4).filter_map(word).collect())
}

/// All numbers, after their addresses; their size is what makes them as many bytes as `shape` has, or is told by
/// how they were written.
fn numbers(lines: &[Line], shape: Option<&Shape<'_>>) -> Result<Numbers, WordsError> {
    let all = || lines.iter().flat_map(|line| &line.tokens);
    let long = all().any(|token| matches!(token, Token::Bytes(_)));
    let colon = lines.iter().any(|line| line.colon);
    let offsets = lines.iter().any(|line| line.address.is_some());
    let prefixed = all().any(|token| matches!(token, Token::Number { prefixed: true, .. }));
    let digits = all().map(|token| match token {
        Token::Number { digits, .. } => *digits,
        Token::Bytes(_) => 2,
    });
    let digits = digits.max().unwrap_or(0);
    let written = match digits {
        _ if long => 1,
        0..=2 => 1,
        3..=4 => 2,
        5..=8 => 4,
        _ => 8,
    };
    let count = |size: usize| counted(lines, size);
    let size = match shape {
        // Registers: numbers by themselves have 32 bits however they were written, unless they are a row of bytes
        // or of halves.
        None if offsets || long || written > 4 => written,
        None if !prefixed && all().count() >= 4 && even(all()) => written,
        None => 4,
        Some(_) if long => 1,
        Some(shape) if shape.bytes == 4 && count(4) == Ok(1) => 4,
        Some(shape) => {
            let fits = |size: &usize| {
                count(*size).is_ok_and(|count| count.checked_mul(*size) == Some(shape.bytes))
            };
            match [8, 4, 2, 1].into_iter().find(fits) {
                Some(size) if digits <= 2 * size => size,
                _ => {
                    let need = Need { name: shape.name.to_owned(), bytes: shape.bytes };
                    let given = count(written)?;
                    let size = name_of(written);
                    return Err(WordsError::Count { given, size, need });
                }
            }
        }
    };
    let values = values(lines, size)?;
    // xxd has two spaces before its text column, U-Boot four; a short line has five more for each missing group.
    let far = lines.iter().any(|line| line.gap % 5 == 4);
    let bytes = match size {
        1 => Certainty::Values,
        _ if prefixed => Certainty::Values,
        // xxd prints two bytes in a group unless told otherwise; U-Boot's md.w prints values.
        2 if colon && far => Certainty::Values,
        2 if colon => Certainty::Groups,
        2 if offsets => Certainty::Values,
        2 => Certainty::Open,
        _ => Certainty::Likely,
    };
    let numbers = Numbers { values, size, bytes };
    if long
        && let Some(shape) = shape
        && numbers.values.len() != shape.bytes
    {
        let need = Need { name: shape.name.to_owned(), bytes: shape.bytes };
        let size = numbers.size_name();
        return Err(WordsError::Count { given: numbers.values.len(), size, need });
    }
    Ok(numbers)
}

/// Whether all numbers were written with the same number of digits.
fn even<'a>(mut tokens: impl Iterator<Item = &'a Token>) -> bool {
    let digits = |token: &Token| match token {
        Token::Number { digits, .. } => *digits,
        Token::Bytes(_) => 2,
    };
    let first = tokens.next().map(digits);
    matches!(first, Some(2 | 4 | 8)) && tokens.all(|token| Some(digits(token)) == first)
}

fn name_of(size: usize) -> String {
    if size == 1 { "8 bits".to_owned() } else { format!("{} bits", 8 * size) }
}

/// How many numbers there are if each has `size` bytes.
fn counted(lines: &[Line], size: usize) -> Result<usize, WordsError> {
    values(lines, size).map(|values| values.len())
}

/// The numbers in the order of their addresses, repeated lines written out.
fn values(lines: &[Line], size: usize) -> Result<Vec<u64>, WordsError> {
    // Where some lines say where they are and others don't, the order is that of the lines.
    let addressed = lines.iter().all(|line| line.address.is_some() || line.repeat);
    let bases: &[Option<u32>] = if addressed { &[Some(16), Some(8), None] } else { &[None] };
    let mut failure = None;
    for base in bases {
        match placed(lines, size, *base) {
            Ok(values) => return Ok(values),
            // What hexadecimal addresses leave out is what people know.
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(Vec::new()), Err)
}

/// The same with addresses in base `base`; without one they are not looked at, or count lines.
fn placed(lines: &[Line], size: usize, base: Option<u32>) -> Result<Vec<u64>, WordsError> {
    let own = |line: &Line| -> Vec<u64> {
        let value = |token: &Token| match token {
            Token::Number { value, .. } => vec![*value],
            Token::Bytes(bytes) => bytes.iter().map(|byte| u64::from(*byte)).collect(),
        };
        line.tokens.iter().flat_map(value).collect()
    };
    let address = |line: &Line| {
        let text = line.address.as_ref()?;
        u64::from_str_radix(text, base?).ok()
    };
    let elided = lines.iter().any(|line| line.repeat);
    let Some(_) = base else {
        let counted = |(at, line): (usize, &Line)| {
            line.address.as_ref().is_none_or(|text| text.parse() == Ok(at))
        };
        if elided || !lines.iter().enumerate().all(counted) {
            return Err(WordsError::Gap { expected: 0, next: 0 });
        }
        return Ok(lines.iter().flat_map(own).collect());
    };
    let mut lines: Vec<&Line> = lines.iter().collect();
    if !elided {
        lines.sort_by_key(|line| address(line));
    }
    let mut values: Vec<u64> = Vec::new();
    let (mut last, mut next, mut again) = (Vec::new(), None::<u64>, false);
    for line in lines {
        if line.repeat {
            again = true;
            continue;
        }
        let at = address(line).ok_or(WordsError::Gap { expected: 0, next: 0 })?;
        while again && !last.is_empty() && next.is_some_and(|next| next < at) {
            values.extend(&last);
            next = next.and_then(|next| next.checked_add((last.len() * size) as u64));
            if values.len() > super::MOST_TEXT {
                return Err(WordsError::TooMuch);
            }
        }
        again = false;
        if let Some(expected) = next
            && expected != at
        {
            return Err(WordsError::Gap { expected, next: at });
        }
        last = own(line);
        values.extend(&last);
        next = at.checked_add((last.len() * size) as u64);
    }
    Ok(values)
}

impl Numbers {
    fn size_name(&self) -> String {
        name_of(self.size)
    }

    /// The bytes as they lie in memory, if the numbers are in `order`.
    fn memory(&self, order: Order) -> Vec<u8> {
        let element = |value: &u64| {
            let mut bytes = value.to_le_bytes().to_vec();
            bytes.truncate(self.size);
            if order == Order::SwappedBytes {
                bytes.reverse();
            }
            bytes
        };
        let mut elements: Vec<Vec<u8>> = self.values.iter().map(element).collect();
        if order == Order::LastFirst {
            elements.reverse();
        }
        let mut bytes = elements.concat();
        for word in bytes.chunks_mut(8) {
            match order {
                Order::HighFirst if word.len() == 8 => word.rotate_left(4),
                Order::SwappedBytes if self.size == 1 => word.reverse(),
                _ => {}
            }
        }
        bytes
    }

    fn words(&self, order: Order) -> Vec<u64> {
        let word = |bytes: &[u8]| {
            let mut whole = [0; 8];
            for (to, from) in whole.iter_mut().zip(bytes) {
                *to = *from;
            }
            u64::from_le_bytes(whole)
        };
        self.memory(order).chunks(8).map(word).collect()
    }
}

/// Groups of bytes as values.
fn swap(numbers: &mut Numbers) {
    let size = numbers.size;
    for value in &mut numbers.values {
        *value = value.swap_bytes() >> (64 - 8 * size.clamp(1, 8));
    }
    numbers.bytes = Certainty::Values;
}

/// The words in `order`, or in the order that makes sense.
fn ordered(numbers: &Numbers, shape: &Shape<'_>, order: Order) -> Result<Words, WordsError> {
    let usual = match numbers.bytes {
        Certainty::Groups => Order::SwappedBytes,
        _ => Order::Memory,
    };
    let asked = order != Order::Auto;
    let read = |order: Order| Words {
        words: numbers.words(order),
        order,
        deduced: !asked && order != usual,
    };
    if asked {
        // Asked for memory order, groups of bytes are what the tool meant.
        return Ok(read(if order == Order::Memory { usual } else { order }));
    }
    let others: &[Order] = match (numbers.size, numbers.bytes) {
        (1, _) => &[Order::SwappedBytes],
        (2, _) => &[Order::SwappedBytes, Order::Memory],
        (4, Certainty::Values) => &[Order::HighFirst, Order::LastFirst],
        (4, _) => &[Order::HighFirst, Order::LastFirst, Order::SwappedBytes],
        (_, Certainty::Values) => &[Order::LastFirst],
        _ => &[Order::LastFirst, Order::SwappedBytes],
    };
    let first = read(usual);
    let open = numbers.bytes == Certainty::Open;
    let plausible = |words: &Words| shape.plausible.is_none_or(|plausible| plausible(&words.words));
    if !open && (shape.plausible.is_none() || plausible(&first)) {
        return Ok(first);
    }
    let mut possible: Vec<Words> = Vec::new();
    for words in core::iter::once(first.clone()).chain(others.iter().map(|order| read(*order))) {
        let new = possible.iter().all(|other| other.words != words.words);
        if new && plausible(&words) {
            possible.push(words);
        }
    }
    let same = others.iter().all(|order| read(*order).words == first.words);
    let orders = |words: Vec<Words>| words.into_iter().map(|words| words.order).collect();
    match possible.len() {
        _ if same => Ok(first),
        1 => Ok(possible.remove(0)),
        0 if open => {
            Err(WordsError::Ambiguous { orders: vec![Order::Memory, Order::SwappedBytes] })
        }
        0 => Ok(first),
        _ => Err(WordsError::Ambiguous { orders: orders(possible) }),
    }
}
