// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the golden tests share: a field table as the reference prints it, and golden images.
#![allow(dead_code, unused_macros, unused_imports, reason = "each test file uses its part of this")]

use smmuv3_formats::Field;

/// A field as the reference lists it: name, 64-bit word, highest and lowest bit.
pub type Row = (&'static str, usize, u32, u32);

/// The bits of a row's word.
pub fn mask(row: &Row) -> u64 {
    let width = row.2 - row.3 + 1;
    if width == 64 { u64::MAX } else { ((1 << width) - 1) << row.3 }
}

/// Every difference between a field table and the reference, in words. `optional` are fields that the
/// reference mentions but a Non-secure interface may leave out, or that it marks as uncertain.
pub fn differences(
    title: &str,
    fields: &[Field],
    required: &[Row],
    optional: &[Row],
) -> Vec<String> {
    let mut found = Vec::new();
    let has = |row: &Row| {
        fields.iter().any(|f| (f.name, f.word, f.hi, f.lo) == (row.0, row.1, row.2, row.3))
    };
    for row in required {
        if !has(row) {
            found.push(format!("{title}: no {} at w{}[{}:{}]", row.0, row.1, row.2, row.3));
        }
    }
    for f in fields {
        let row = (f.name, f.word, f.hi, f.lo);
        if !required.contains(&row) && !optional.contains(&row) {
            found.push(format!("{title}: unlisted {f} in w{}", f.word));
        }
    }
    found
}

/// Every breach of the promises about a field table: inside the words, in order, no overlap, no name
/// twice.
pub fn disorder(title: &str, fields: &[Field], words: usize, bits: u32) -> Vec<String> {
    let mut found = Vec::new();
    for (i, f) in fields.iter().enumerate() {
        if f.word >= words || f.hi >= bits || f.lo > f.hi {
            found.push(format!("{title}: {f} in w{} is outside the structure", f.word));
        }
        for g in &fields[..i] {
            if (g.word, g.lo) >= (f.word, f.lo) {
                found.push(format!("{title}: {g} is listed before {f}"));
            }
            if g.word == f.word && g.lo <= f.hi && f.lo <= g.hi {
                found.push(format!("{title}: {g} overlaps {f}"));
            }
            if g.name == f.name && g.name != "IMPDEF" {
                found.push(format!("{title}: {} is listed twice", g.name));
            }
        }
    }
    found
}

/// Fails with all differences at once.
#[track_caller]
pub fn expect_none(found: Vec<String>) {
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

/// One golden image: the words decode to the values, by getter and by table; the builders give the
/// words, from a structure of zeros and, in the fields, from one of ones.
macro_rules! golden {
    ($t:ty, [$($word:expr),* $(,)?], { $($get:ident $with:ident $name:literal = $value:expr;)* }) => {{
        use smmuv3_formats::Layout;
        let words = [$($word),*];
        let image: $t = common::Words::from_words(&words);
        $(assert_eq!(image.$get(), $value, "{} of {}", $name, <$t>::NAME);)*
        $({
            let [value, _] = [$value, image.$get()].map(u64::from);
            let listed = <$t>::FIELDS.iter().any(|f| {
                f.name == $name && f.extract(words[f.word]) == value
            });
            assert!(listed, "no {} = {value:#x} by the table of {}", $name, <$t>::NAME);
        })*
        let zeros: $t = common::Words::from_words(&words.map(|_| 0));
        let built = zeros$(.$with($value))*;
        assert_eq!(common::Words::to_words(&built), words, "built from zeros: {}", <$t>::NAME);
        let listed = words.iter().enumerate().map(|(index, _)| {
            let given = [$($name),*];
            <$t>::FIELDS.iter().filter(|f| f.word == index && given.contains(&f.name))
                .fold(0, |all, f| all | f.mask())
        });
        let ones: $t = common::Words::from_words(&words.map(|_| u64::MAX));
        let whole = common::Words::to_words(&ones);
        let rebuilt = ones$(.$with($value))*;
        let expected: Vec<u64> = listed.zip(&words).zip(whole)
            .map(|((mask, word), one)| one & !mask | word).collect();
        assert_eq!(common::Words::to_words(&rebuilt), expected, "built from ones: {}", <$t>::NAME);
    }};
}
pub(crate) use golden;

/// A structure of any size as 64-bit words; a 32-bit register is one word.
pub trait Words {
    /// From words.
    fn from_words(words: &[u64]) -> Self;
    /// As words.
    fn to_words(&self) -> Vec<u64>;
}

/// Makes types usable in [`golden`].
macro_rules! words {
    (array $($t:ty),* $(,)?) => {$(
        impl common::Words for $t {
            fn from_words(words: &[u64]) -> Self { Self(words.try_into().unwrap()) }
            fn to_words(&self) -> Vec<u64> { self.0.to_vec() }
        }
    )*};
    ($int:ty: $($t:ty),* $(,)?) => {$(
        impl common::Words for $t {
            fn from_words(words: &[u64]) -> Self { Self(words[0] as $int) }
            fn to_words(&self) -> Vec<u64> { vec![u64::from(self.0)] }
        }
    )*};
}
pub(crate) use words;
