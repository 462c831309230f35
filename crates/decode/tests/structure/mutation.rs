// SPDX-License-Identifier: MIT OR Apache-2.0
//! Text that nobody would write: it may be refused, but nothing may break.

use smmuv3_decode::structure::words::{MOST_TEXT, Order};
use smmuv3_decode::structure::{Kind, NAMED, Options, encode, kinds, read, survives};

/// SplitMix64: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// What dumps are made of.
const PARTS: &[&str] = &[
    "0",
    "1",
    "10",
    "0x",
    "0x10",
    "00000010",
    "0000790000000010",
    "0x0000020800000080",
    "ffffffffffffffff",
    "1000000000790000800000000802000040e0ffff",
    "1000 0000",
    " ",
    "  ",
    "    ",
    "\n",
    "\t",
    ":",
    ": ",
    "*",
    "\n*\n",
    "|",
    ">",
    "<",
    "<repeats 6 times>",
    "<repeats 99999999999999999999 times>",
    "{",
    "}",
    "=",
    ",",
    "_",
    "#",
    "\0",
    "\u{fffd}",
    "é",
    "ULL",
    "00000000:",
    "00000010  ",
    "0x80040000 <strtab+64>:\t",
    "$1 = {",
    "idr0=",
    "IDR5:",
    "e2h=1",
    "qemu",
    "-",
    "+",
    "…",
];

#[test]
fn random_text_breaks_nothing() {
    let mut random = Random(6);
    let names: Vec<String> = kinds().map(|(name, _)| name).collect();
    let kinds: Vec<Kind> = names.iter().map(|name| Kind::find(name).unwrap()).collect();
    let mut understood = 0;
    for round in 0..20_000 {
        let parts = random.below(40);
        let text: String = (0..parts).map(|_| PARTS[random.below(PARTS.len())]).collect();
        let order = Order::ALL[random.below(Order::ALL.len())];
        // Those that have more forms come more often.
        let kind = if round % 2 == 0 {
            kinds[random.below(NAMED.len())]
        } else {
            kinds[random.below(kinds.len())]
        };
        let options = Options { order, ..Options::default() };
        if let Ok(decoded) = read(kind, &text, &options) {
            understood += 1;
            assert!(serde_json::to_string(&decoded).is_ok());
        }
        if round % 10 == 0 {
            survives(&text);
        }
        let fields = [(text.clone(), "1".to_owned()), ("v".to_owned(), text)];
        let _ = encode(kind, &fields, &options);
    }
    assert!(understood > 100, "{understood}");
}

#[test]
fn random_words_are_always_explained() {
    let mut random = Random(7);
    for (name, _) in kinds() {
        let kind = Kind::find(&name).unwrap();
        for _ in 0..200 {
            let words: Vec<u64> = (0..8)
                .map(|_| match random.below(3) {
                    0 => random.next(),
                    1 => random.next() & random.next() & random.next(),
                    _ => u64::MAX,
                })
                .collect();
            for count in [1, 2, 4, 8] {
                let text: Vec<String> =
                    words[..count].iter().map(|word| format!("{word:016x}")).collect();
                let _ = read(kind, &text.join(" "), &Options::default());
            }
        }
    }
}

#[test]
fn damaged_dumps_break_nothing() {
    let dump = "00000000  0b 00 02 80 00 00 00 00  d4 00 00 00 00 00 00 00  |................|\n\
                00000010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|\n*\n00000040\n";
    let mut random = Random(8);
    let ste = Kind::find("ste").unwrap();
    assert!(read(ste, dump, &Options::default()).is_ok());
    for _ in 0..20_000 {
        let mut bytes = dump.as_bytes().to_vec();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            match random.below(3) {
                0 => bytes[at] = random.next() as u8,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, PARTS[random.below(PARTS.len())].as_bytes()[0]),
            }
        }
        let _ = read(ste, &String::from_utf8_lossy(&bytes), &Options::default());
    }
    // A distance that would need more memory than there is.
    let far = "00000000  0b 00 02 80 00 00 00 00  d4 00 00 00 00 00 00 00\n*\nffffffff\n";
    assert!(read(ste, far, &Options::default()).is_err());
    assert!(read(ste, &"f".repeat(MOST_TEXT), &Options::default()).is_err());
}
