// SPDX-License-Identifier: MIT OR Apache-2.0
//! Damaged logs: nothing panics, nothing is lost but what is damaged, and the size of blocks does not matter.

use std::fmt::Write as _;

use proptest::prelude::*;
use smmuv3_decode::log::{Blocks, Decoder, LINE, Options, interesting, survives};

use super::{corpus, decode, json};

/// A xorshift generator: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap()
    }
}

/// The same log given in parts.
fn in_parts(log: &[u8], mut size: impl FnMut() -> usize) -> String {
    let mut text = String::new();
    let mut decoder = Decoder::new(Options::default());
    let mut blocks = Blocks::default();
    let mut tell = |record| writeln!(text, "{}", serde_json::to_string(&record).unwrap()).unwrap();
    let mut rest = log;
    while !rest.is_empty() {
        let (part, behind) = rest.split_at(size().clamp(1, rest.len()));
        blocks.add(part, &mut decoder, &mut tell);
        rest = behind;
    }
    blocks.end(&mut decoder, &mut tell);
    let summary = decoder.finish(&mut tell);
    text + &serde_json::to_string(&summary).unwrap() + "\n"
}

/// The same log given line by line, without a search in blocks.
fn by_lines(log: &[u8]) -> String {
    let mut text = String::new();
    let mut decoder = Decoder::new(Options::default());
    let mut tell = |record| writeln!(text, "{}", serde_json::to_string(&record).unwrap()).unwrap();
    let log = log.strip_suffix(b"\n").unwrap_or(log);
    for line in log.split(|byte| *byte == b'\n') {
        decoder.line(line, &mut tell);
    }
    let summary = decoder.finish(&mut tell);
    text + &serde_json::to_string(&summary).unwrap() + "\n"
}

#[test]
fn the_size_of_the_parts_in_which_a_log_comes_does_not_matter() {
    for (path, log) in corpus() {
        let whole = json(&log, Options::default());
        for size in [1, 2, 3, 7, 64, 4095, 4096] {
            assert_eq!(in_parts(&log, || size), whole, "{}, parts of {size}", path.display());
        }
        assert_eq!(by_lines(&log), whole, "{}, by lines", path.display());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(6), ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same(sizes in proptest::collection::vec(1_usize..400, 1..20), which in 0_usize..64) {
        let logs = corpus();
        let (_, log) = &logs[which % logs.len()];
        let mut sizes = sizes.iter().cycle();
        prop_assert_eq!(in_parts(log, || *sizes.next().unwrap()), json(log, Options::default()));
    }

    #[test]
    fn any_event_is_read_as_it_was_written(words in any::<[u64; 4]>(), id in 0_usize..19) {
        let id = smmuv3_formats::EventId::ALL[id % smmuv3_formats::EventId::ALL.len()];
        let words = [words[0] & !0xff | id as u64, words[1], words[2], words[3]];
        let mut log = format!("arm-smmu-v3 a.smmu: event {:#04x} received:\n", id as u8);
        for word in words {
            writeln!(log, "arm-smmu-v3 a.smmu: \t{word:#018x}").unwrap();
        }
        let (records, _) = decode(log.as_bytes(), Options::default());
        prop_assert_eq!(records.len(), 1);
        let value = serde_json::to_value(&records[0]).unwrap();
        prop_assert_eq!(&value["name"], id.name());
        let hex: Vec<String> = words.iter().map(|word| format!("{word:#018x}")).collect();
        prop_assert_eq!(&value["words"], &serde_json::json!(hex));
        let alone = smmuv3_decode::log::event(words);
        prop_assert_eq!(&alone.detail, &records[0].detail);
        prop_assert_eq!(&alone.violations, &records[0].violations);
        let sid = format!("{:#x}", words[0] >> 32);
        prop_assert_eq!(&value["fields"]["sid"], &sid);
    }
}

/// Some bytes changed, moved, doubled or lost.
fn mutate(log: &mut Vec<u8>, random: &mut Random) {
    const BYTES: &[u8] = b"\n\r\0x0 [:\"{>fFgz\xff\x1b1";
    for _ in 0..=random.below(8) {
        let place = random.below(log.len());
        let end = (place + random.below(40)).min(log.len());
        match random.below(6) {
            0 => {
                if let Some(byte) = log.get_mut(place) {
                    *byte = BYTES[random.below(BYTES.len())];
                }
            }
            1 => {
                if let Some(byte) = log.get_mut(place) {
                    *byte ^= 1 << random.below(8);
                }
            }
            2 => drop(log.drain(place..end)),
            3 => {
                let copy = log[place..end].to_vec();
                let at = random.below(log.len());
                drop(log.splice(at..at, copy));
            }
            4 => log.insert(place, BYTES[random.below(BYTES.len())]),
            _ => log.truncate(log.len() - random.below(log.len() / 4 + 1)),
        }
    }
}

/// `SMMUV3_MUTATIONS=1000000 cargo test -p smmuv3-decode --test log mutation` tries more of them.
#[test]
fn no_mutation_of_the_corpus_panics() {
    let count = std::env::var("SMMUV3_MUTATIONS").map_or(100_000, |count| count.parse().unwrap());
    // Each start is a record or two of the corpus, so that the changes hit what matters.
    let logs = corpus();
    let mut random = Random(0x5eed);
    for _ in 0..count {
        let (_, log) = &logs[random.below(logs.len())];
        let start = random.below(log.len());
        let end = (start + 50 + random.below(600)).min(log.len());
        let mut part = log[start..end].to_vec();
        mutate(&mut part, &mut random);
        survives(&part);
    }
}

#[test]
fn what_the_search_in_blocks_leaves_out_says_nothing() {
    let logs = corpus();
    let mut random = Random(7);
    for _ in 0..300 {
        let (path, log) = &logs[random.below(logs.len())];
        let mut log = log.clone();
        mutate(&mut log, &mut random);
        assert_eq!(by_lines(&log), json(&log, Options::default()), "{}", path.display());
    }
    for dull in
        ["", "nvme nvme0: 8/0/0 queues", "event: click", "0x7f123456", "deadbeef", "10:20:30 x"]
    {
        assert!(!interesting(dull.as_bytes()) || dull == "0x7f123456", "{dull}");
    }
}

#[test]
fn a_line_without_end_takes_no_memory() {
    let mut log = b"arm-smmu-v3 smmu0: event 0x02 received:\n".to_vec();
    // Two megabytes on one line, then the words.
    log.extend(std::iter::repeat_n(b'x', 2 << 20));
    log.extend(b" event 0x10 received: \n");
    for _ in 0..4 {
        log.extend(b"arm-smmu-v3 smmu0: \t0x0000010000000002\n");
    }
    let (records, summary) = decode(&log, Options::default());
    assert_eq!((records.len(), records[0].name.as_str(), summary.lines), (1, "C_BAD_STREAMID", 6));
    // A message at the bound of a line is cut there, and what is behind it is not seen.
    let mut line = vec![b' '; LINE - 10];
    line.extend(b"arm-smmu-v3 smmu0: CMDQ timeout\n");
    assert_eq!(decode(&line, Options::default()).0, []);
}

#[test]
fn hostile_lines_take_no_time() {
    // Each would take minutes if its cost grew with the square of its length.
    for part in ["0x123456789 ", "[ ]", "(a)", "kernel: ", "smmu: ", "> ", "00 ", "\x1b[0m"] {
        survives(part.repeat((1 << 20) / part.len()).as_bytes());
        let line = part.repeat(LINE / part.len()) + "\n";
        survives(line.repeat(20).as_bytes());
    }
}

#[test]
fn many_streams_take_bounded_memory_and_the_rest_is_counted_together() {
    let mut log = String::new();
    for sid in 0_u64..5000 {
        for word in [sid << 32 | 0x10, 0x208 << 32, 0xf000_0000 + (sid << 12), 0] {
            writeln!(log, "arm-smmu-v3 smmu{}: \t{word:#018x}", sid % 200).unwrap();
        }
    }
    let (records, summary) = decode(log.as_bytes(), Options::default());
    assert_eq!((records.len(), summary.events), (5000, 5000));
    assert_eq!((summary.by_stream.groups().len(), summary.by_stream.others), (1024, 3976));
    assert_eq!((summary.by_instance.groups().len(), summary.by_instance.others), (200, 0));
}

#[test]
fn words_of_many_instances_that_never_end_are_given_up() {
    let mut log = String::new();
    for instance in 0..500 {
        writeln!(log, "arm-smmu-v3 smmu{instance}: event 0x10 received:").unwrap();
    }
    let (records, _) = decode(log.as_bytes(), Options::default());
    assert_eq!(records.len(), 500);
    assert!(records.iter().all(|record| record.violations[0].contains("words are missing")));
    // In the order of the log, though 64 are kept at most.
    assert!(records.windows(2).all(|two| two[0].line < two[1].line));
}

#[test]
fn words_that_a_mail_program_cut_in_two_are_words() {
    let log = b"arm-smmu-v3 smmu0: event 0x10 received:\n\
        arm-smmu-v3 smmu0: \t0x00000180 00000010\n\
        arm-smmu-v3 smmu0: \t0x0000020000000000\n\
        arm-smmu-v3 smmu0: \t0x00000000 ffffe040\n\
        arm-smmu-v3 smmu0: \t0x00000000 00000000\n";
    let (records, _) = super::decode(log, smmuv3_decode::log::Options::default());
    let words =
        ["0x0000018000000010", "0x0000020000000000", "0x00000000ffffe040", "0x0000000000000000"];
    let json = serde_json::to_value(&records[0]).unwrap();
    assert_eq!(json["words"], serde_json::json!(words));
}
