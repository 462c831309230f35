// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is read from the command line and from files, mutated: nothing panics, and all that is read makes sense. The
//! same mutants each time.

use clap::Parser;
use smmuv3_discovery::iort::Iort;

use crate::args::{Cli, Command, EntryKind};
use crate::{firmware, machine, sid, tlbi, update};

/// Tables of firmware, byte by byte.
#[path = "../../discovery/tests/common/table.rs"]
#[allow(dead_code, reason = "the tests there use more of it")]
mod table;

/// Mutants of each kind.
const ROUNDS: usize = 100_000;

/// A xorshift generator.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// One of `seeds` with a few characters of `letters`, or of it, where they do not belong.
    fn mutant(&mut self, seeds: &[&str], letters: &str) -> String {
        let mut text: Vec<char> = self.of(seeds).chars().collect();
        let letters: Vec<char> = letters.chars().collect();
        for _ in 0..self.below(4) {
            let at = self.below(text.len() + 1);
            match self.below(4) {
                0 => text.insert(at, self.of(&letters)),
                1 if at < text.len() => text[at] = self.of(&letters),
                2 if at < text.len() => drop(text.remove(at)),
                _ => {
                    let other: Vec<char> = self.of(seeds).chars().collect();
                    let from = self.below(other.len());
                    text.truncate(at);
                    text.extend(&other[from..]);
                }
            }
        }
        text.into_iter().collect()
    }

    /// Words of which some bits are set, few or many.
    fn words(&mut self) -> [u64; 8] {
        std::array::from_fn(|_| match self.below(4) {
            0 => 0,
            1 => self.next() & self.next() & self.next(),
            2 => 1 << self.below(64),
            _ => self.next(),
        })
    }
}

#[test]
fn names_of_devices() {
    let mut rng = Rng(1);
    let seeds =
        ["0000:01:00.0", "ff:1f.7", "0x100", "4294967295", r"\_SB.DMA0", "10000:00:00.1", "7d00"];
    for _ in 0..ROUNDS {
        let text = rng.mutant(&seeds, "0123456789abcdefxX:./\\-+ é\0");
        if let Ok(sid::Name::Function(function)) = sid::read(&text) {
            // What it is printed as is the same function.
            assert_eq!(
                sid::read(&function.to_string()).map(|name| match name {
                    sid::Name::Function(again) => again.requester(),
                    _ => 0,
                }),
                Ok(function.requester()),
                "{text}"
            );
        }
        let _ = sid::Spans::of(&[text]);
    }
}

#[test]
fn ranges_of_addresses() {
    let mut rng = Rng(2);
    let seeds = [
        "0x1000..0x3000",
        "0x40000000+2M",
        "0xffff000000000000+0x1000000000000",
        "0+33p",
        "0xfffffffffffff000..0x10000000000000000",
        "18446744073709551615+1",
        "0x7ffffffff000",
    ];
    let options = [
        "",
        "--leaf",
        "--leaf --ttl 1",
        "--leaf --ttl 2",
        "--leaf --ttl 3",
        "--stage 2",
        "--tg 16k",
        "--tg 64k --leaf",
        "--tg 64k --leaf --ttl 1",
        "--tg 16k --leaf --ttl 1",
        "--el2 --any-asid",
        "--ssid 0xfffff --sid 0xffffffff",
    ];
    for _ in 0..ROUNDS / 10 {
        let text = rng.mutant(&seeds, "0123456789abcdefxpKMGT.+-_ é");
        let line = format!("smmuv3 tlbi {}", rng.of(&options));
        let words =
            line.split_whitespace().map(str::to_owned).chain(["--".to_owned(), text.clone()]);
        let Ok(Cli { command: Some(Command::Tlbi(options)) }) = Cli::try_parse_from(words) else {
            panic!("{line} {text}");
        };
        let Ok(plan) = tlbi::Plan::new(&text, &options) else { continue };
        // All of the range is named, in order, and nothing else but a page.
        let mut at = plan.first.0;
        for command in &plan.with_ril.commands {
            assert_eq!(command.first.map(|first| first.0), Some(at), "{line} {text}");
            at = command.last.map_or(0, |last| last.0).wrapping_add(1);
        }
        let more = plan.with_ril.more_pages * plan.granule;
        assert_eq!(at, plan.last.0.wrapping_add(1).wrapping_add(more), "{line} {text}");
        assert!(
            plan.atc.first.0 <= plan.first.0 && plan.atc.last.0 >= plan.last.0,
            "{line} {text}"
        );
        assert!(!tlbi::text(&plan, &options).is_empty());
    }
}

#[test]
fn entries() {
    let mut rng = Rng(3);
    for _ in 0..ROUNDS / 10 {
        let kind = rng.of(&[EntryKind::Ste, EntryKind::Cd]);
        let (mut from, mut to) = (rng.words(), rng.words());
        if rng.below(2) == 0 {
            // Valid, and something that translates.
            for words in [&mut from, &mut to] {
                words[0] = words[0] | 1 | 1 << 31 | rng.next() & 0b1110;
            }
        }
        let plan = update::Plan::new(kind, &from, &to, 1, 2);
        assert!(plan.steps.len() <= 3);
        assert_eq!(plan.steps.is_empty(), from == to, "{from:x?} {to:x?}");
        // What the stores add up to is the new entry.
        let mut words = from;
        for store in plan.steps.iter().flat_map(|step| &step.stores) {
            assert_eq!(store.old.0, words[store.word]);
            words[store.word] = store.new.0;
        }
        assert_eq!(words, to);
        assert!(!update::text(&plan, 80).is_empty());
    }
    let seeds = [
        "8002000b,d4,0,0,0,0,0,0",
        "0x0 0x1\n10: 2 3 # x\n4 5 6 7",
        "0 0 0 0 0 0 0 ffffffffffffffff",
    ];
    for _ in 0..ROUNDS {
        let text = rng.mutant(&seeds, "0123456789abcdefx,: #\n_é@\0");
        if !text.starts_with('@') && text != "-" {
            let _ = update::read(&text);
        }
    }
}

#[test]
fn tables_of_firmware() {
    let mut rng = Rng(4);
    let table = table::golden();
    for _ in 0..ROUNDS / 20 {
        let mut bytes = table.clone();
        for _ in 0..rng.below(4) + 1 {
            let at = 36 + rng.below(bytes.len() - 36);
            bytes[at] =
                rng.of(&[0, 1, 0x7f, 0x80, 0xff, b'<']) ^ (rng.below(2) * rng.below(256)) as u8;
        }
        let Ok(iort) = Iort::unsummed(&bytes) else { continue };
        let Ok(topology) = smmuv3_discovery::Topology::from_iort(&iort) else { continue };
        machine::look_at_all_of(topology);
    }
    let dump = "IORT @ 0x0000000000000000\n    0000: 49 4F 52 54 EC 02 00 00 03 3F 48 49 53 49 20 20  IORT.....?HISI  \n\
                \x20   0010: 48 49 50 30 37 20 41 42                          HIP07 AB\n";
    for _ in 0..ROUNDS {
        let text = rng.mutant(&[dump], "0123456789ABCDEF :\n@é");
        let table = firmware::dumped_table(text.as_bytes(), "IORT");
        assert!(table.is_none_or(|table| table.len() <= text.len()), "{text}");
    }
}
