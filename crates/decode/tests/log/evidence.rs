// SPDX-License-Identifier: MIT OR Apache-2.0
//! Causes and what speaks for them; filters; what several records say together.

use std::fmt::Write;

use smmuv3_decode::log::{Certainty, Decoder, Filter, Options, Record, event};

use super::decode;

/// The most likely cause of an event by itself.
#[track_caller]
fn first(words: [u64; 4], id: &str, evidence: &str) {
    let record = event(words);
    let cause = record.causes.first().unwrap();
    assert_eq!(cause.id, id, "{:?}", record.causes);
    assert!(cause.why.contains(evidence), "{}", cause.why);
    assert!(cause.next.ends_with('.'), "{}", cause.next);
}

const READ: u64 = 0x208 << 32;
const WRITE: u64 = 0x200 << 32;

#[test]
fn each_cause_is_first_where_its_evidence_is() {
    let sid = 0x100 << 32;
    let fault = |code: u64, access, address| [sid | code, access, address, 0];
    first(fault(0x10, WRITE, 0xffff_e040), "msi-doorbell", "top of 32 bits");
    first(fault(0x10, WRITE, 0x0802_0040), "msi-doorbell", "offset 0x040");
    first(fault(0x10, WRITE, 0), "iova-zero", "first page");
    first(fault(0x10, READ, 0x7f_fd10_5a00), "cpu-pointer", "39 bits");
    first(fault(0x10, READ, 0xffff_0000_0812_a000), "cpu-pointer", "kernel");
    first(fault(0x10, READ, 0x5555_1234_5000), "cpu-pointer", "user program");
    first(fault(0x10, READ, 0x8123_4000), "physical-address", "may be an address of RAM");
    first(fault(0x10, READ, 0xfe00_0000), "use-after-unmap", "finds no mapping");
    first([sid | 0x2810, READ, 0x1000_0000, 0], "pasid-torn-down", "PASID 0x2");
    first(
        [sid | 0x10, READ | 1 << 39, 0xfe00_0000, 0x4100_0000],
        "stage-2-mapping",
        "IPA 0x41000000",
    );
    first(
        [sid | 0x10, 0x88 << 32, 0xfe00_0000, 0x4100_0000],
        "stage-2-mapping",
        "context descriptor",
    );
    first(fault(0x11, READ, 1 << 48), "width", "49 bits");
    first(fault(0x12, READ, 0xfe00_0000), "access-flag", "AF");
    first(fault(0x13, WRITE, 0xfe00_0000), "read-only-buffer-written", "without write permission");
    first(fault(0x13, READ, 0xfe00_0000), "direction", "without read permission");
    first(fault(0x13, READ | 4 << 32, 0xfe00_0000), "execute-denied", "XN");
    first(fault(0x20, READ, 0xfe00_0000), "tlb-conflict", "break-before-make");
    first([sid | 0x02, 0, 0, 0], "sid-beyond-table", "outside the stream table");
    first([0x1_0000 << 32 | 0x02, 0, 0, 0], "sid-beyond-table", "more than 16 bits");
    first([sid | 0x03, 0, 0, 0x8000], "memory-not-accessible", "0x8000");
    first([sid | 0x03, 1 << 16, 0, 0x8000], "granule-protection", "GPCF");
    first([sid | 0x04, 0, 0, 0], "bad-entry", "V = 0");
    first([sid | 0x05, 0, 0, 0], "ats-not-enabled", "EATS");
    first([sid | 0x06, 0, 0, 0], "stream-disabled", "S1DSS");
    first([sid | 0x07, 8 << 32, 0, 0], "ats-forbidden", "already translated");
    first([1 << 32 | 0x08, 0, 0, 0], "pasid-without-support", "PASID 0");
    first([sid | 0x580a, 0, 0, 0], "pasid-torn-down", "PASID 0x5");
    first([sid | 0x0a, 0, 0, 0], "table-corrupt", "illegal");
    first([sid | 0x0b, 0x108 << 32, 0, 0x9000], "memory-not-accessible", "translation table");
    first([sid | 0x24, 0, 0, 0], "page-request-hint", "not an error");
    first([sid | 0xe3, 0, 0, 0], "unknown-event", "implementation");
}

#[test]
fn an_event_without_evidence_is_said_to_be_possible_only() {
    let record = event([0x100_0000_0010, READ, 0xfe00_0000, 0]);
    assert!(record.causes.iter().all(|cause| cause.certainty == Certainty::Possible));
    let bits = event([0x100_0000_0010 | 1 << 9, READ, 0xfe00_0000, 1]);
    assert_eq!(
        bits.violations,
        [
            "word 0 has bits 0x200 set, which are reserved in F_TRANSLATION",
            "word 3 has bits 0x1 set, which are reserved in F_TRANSLATION"
        ]
    );
}

#[test]
fn a_stream_is_shown_as_a_pci_function() {
    use smmuv3_decode::log::bus_device_function as bdf;
    assert_eq!(bdf(0x7d00), "7d:00.0");
    assert_eq!(bdf(0x18b), "01:11.3");
    assert_eq!(bdf(0x1_1900), "1+19:00.0");
}

/// An old Linux event.
fn old(log: &mut String, prefix: &str, words: [u64; 4]) {
    writeln!(log, "{prefix}arm-smmu-v3 smmu0: event {:#04x} received:", words[0] as u8).unwrap();
    for word in words {
        writeln!(log, "{prefix}arm-smmu-v3 smmu0: \t{word:#018x}").unwrap();
    }
}

fn records(log: &str) -> Vec<Record> {
    decode(log.as_bytes(), Options::default()).0
}

fn ids(record: &Record) -> Vec<&str> {
    record.causes.iter().map(|cause| cause.id).collect()
}

#[test]
fn what_was_said_before_is_evidence() {
    let mut log = String::new();
    for page in 0_u64..4 {
        old(&mut log, "", [0x100_0000_0010, READ, 0xfe00_0000 + page * 0x1000, 0]);
    }
    let run = records(&log);
    assert!(run[1].causes[0].certainty == Certainty::Possible);
    assert_eq!(
        (run[3].causes[0].id, run[3].causes[0].certainty),
        ("use-after-unmap", Certainty::Likely)
    );
    assert!(run[3].causes[0].why.starts_with("3 events in a row"), "{}", run[3].causes[0].why);

    let mut log = String::from(
        "arm-smmu-v3 smmu0: EVTQ overflow detected -- events lost\n\
         platform smmu0: CMD_SYNC timeout at 0x00000146 [hwprod 0x00000146, hwcons 0x00000000]\n",
    );
    old(&mut log, "", [0x100_0000_0010, READ, 0xfe00_0000, 0]);
    old(&mut log, "", [0x200_0000_0010, READ, 0xfe00_0800, 0]);
    let all = records(&log);
    assert_eq!(ids(&all[1]), ["driver-unbound", "smmu-unpowered"]);
    let (one, two) = (ids(&all[2]), ids(&all[3]));
    for id in ["driver-unbound", "stale-after-timeout", "after-overflow"] {
        assert!(one.contains(&id), "{id} in {one:?}");
    }
    assert!(!one.contains(&"same-page-other-stream") && two.contains(&"same-page-other-stream"));

    // The same twice hundred times, a thousandth of a second apart.
    let mut log = String::new();
    for count in 0_u64..40 {
        let prefix = format!("[    7.{:06}] ", count * 100);
        old(&mut log, &prefix, [0x100_0000_0010, READ, 0xfe00_0000 + count % 2 * 0x8000, 0]);
    }
    let storm = records(&log);
    assert!(!ids(&storm[5]).contains(&"storm"));
    let cause = storm[39].causes.iter().find(|cause| cause.id == "storm").unwrap();
    assert!(
        cause.why.starts_with("40 events") && cause.why.contains("10000 a second"),
        "{}",
        cause.why
    );
}

#[test]
fn an_smmu_without_ats_does_not_wait_for_a_device() {
    let timeout = "arm-smmu-v3 smmu0: CMD_SYNC timeout at 0x00000010 [hwprod 0x00000012, hwcons 0x00000010]\n";
    let cause = |features: &str| {
        let banner = format!("arm-smmu-v3 smmu0: oas 44-bit (features {features})\n");
        let all = records(&(banner + timeout));
        all[1].causes[0].id
    };
    assert_eq!(cause("0x01008305"), "walk-unanswered");
    assert_eq!(cause("0x00008325"), "hung-endpoint");
    let mut log = "arm-smmu-v3 smmu0: oas 44-bit (features 0x01008305)\n".to_owned();
    old(&mut log, "", [0x100_0000_0005, 0, 0xfe00_0000, 0]);
    assert!(records(&log)[1].causes[0].why.ends_with("this SMMU has no ATS"));
}

#[test]
fn events_that_repeat_are_counted_and_the_last_place_is_known() {
    let mut log = String::new();
    for _ in 0..3 {
        old(&mut log, "[    7.5] ", [0x100_0000_0002, 0, 0, 0]);
    }
    old(&mut log, "[    8.5] ", [0x100_0000_0004, 0, 0, 0]);
    let (records, summary) = decode(log.as_bytes(), Options::default());
    let counts: Vec<(&str, u64, u64)> =
        records.iter().map(|record| (record.name.as_str(), record.count, record.line)).collect();
    assert_eq!(counts, [("C_BAD_STREAMID", 3, 1), ("C_BAD_STE", 1, 16)]);
    assert_eq!((summary.events, summary.records, summary.lines), (4, 2, 20));
    let group = &summary.by_event.groups()[0];
    assert_eq!((group.count, group.first.line, group.last.line), (3, 1, 11));
    assert_eq!(group.last.time.as_deref(), Some("7.5"));
}

#[test]
fn only_what_is_asked_for_is_reported() {
    let mut log = String::new();
    old(&mut log, "[    7.5] ", [0x100_0000_0010, READ, 0xfe00_0000, 0]);
    old(&mut log, "[    8.5] ", [0x200_0000_0002, 0, 0, 0]);
    old(&mut log, "[    9.5] ", [0x100_0000_0004, 0, 0, 0]);
    let only = |conditions: &[&str], since: Option<&str>| {
        let mut filter = Filter::default();
        for condition in conditions {
            filter.add(condition).unwrap();
        }
        if let Some(since) = since {
            filter.since(since).unwrap();
        }
        let options = Options { filter, ..Options::default() };
        let (records, summary) = decode(log.as_bytes(), options);
        assert_eq!(summary.events, records.len() as u64);
        records.into_iter().map(|record| record.name).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(only(&["sid=0x100"], None), "F_TRANSLATION C_BAD_STE");
    assert_eq!(only(&["sid=02:00.0"], None), "C_BAD_STREAMID");
    assert_eq!(only(&["event=0x10", "event=C_BAD_STREAMID"], None), "F_TRANSLATION C_BAD_STREAMID");
    assert_eq!(only(&["sid=0x100", "event=0x10"], None), "F_TRANSLATION");
    assert_eq!(only(&["instance=smmu1"], None), "");
    assert_eq!(only(&[], Some("8")), "C_BAD_STREAMID C_BAD_STE");
    assert_eq!(only(&[], Some("2026-01-01")), "F_TRANSLATION C_BAD_STREAMID C_BAD_STE");
}

#[test]
fn whoever_watches_a_log_is_told_at_once() {
    let mut log = String::new();
    old(&mut log, "", [0x100_0000_0010, READ, 0xfe00_0000, 0]);
    let mut decoder = Decoder::new(Options::default());
    let mut told = Vec::new();
    for line in log.lines().take(4) {
        decoder.line(line.as_bytes(), &mut |record| told.push(record));
    }
    decoder.flush(&mut |record| told.push(record));
    assert_eq!(told.len(), 0, "it is not whole");
    decoder.line(log.lines().last().unwrap().as_bytes(), &mut |record| told.push(record));
    assert_eq!(told.len(), 0, "the kernel's decoding may follow");
    decoder.flush(&mut |record| told.push(record));
    assert_eq!(told.len(), 1);
    assert_eq!(decoder.finish(&mut |_| panic!("told twice")).events, 1);
}

#[test]
fn a_reserved_code_is_a_violation_and_uncertain_bits_are_none() {
    let of = |words| event(words).violations.join("; ");
    assert!(
        of([0x100_0000_0026, 0, 0, 0]).starts_with("EventID: is reserved"),
        "{}",
        of([0x26, 0, 0, 0])
    );
    // An implementation's own.
    assert_eq!(of([0x100_0000_00e3, 1, 2, 3]), "");
    // The request's flags in F_BAD_ATS_TREQ, a SubstreamID of F_STREAM_DISABLED, bits of F_PERMISSION: §21.3.
    assert_eq!(of([0x100_0000_0005, 1 << 35, 0x1000, 0]), "");
    assert_eq!(of([0x100_0000_2806, 0, 0, 0]), "");
    assert_eq!(of([0x100_0000_0013, WRITE | 1 << 45, 0x1000, 0]), "");
    // A SubstreamID without SSV and an IPA without S2 are unknown, not wrong.
    assert_eq!(of([0x100_0000_5010, READ, 0xfe00_0000, 0x1000]), "");
}

#[test]
fn a_device_has_few_doorbells() {
    let write = |page: u64| [0x100_0000_0010, WRITE, page << 12 | 0x040, 0];
    let mut log = String::new();
    for page in (0..32).map(|page| 0xf_e000 + page * 16) {
        old(&mut log, "", write(page));
    }
    let roaming = records(&log);
    assert_eq!(roaming[0].causes[0].id, "msi-doorbell");
    assert!(roaming[4..].iter().all(|record| !ids(record).contains(&"msi-doorbell")));
    // One page again and again, other accesses between, is one.
    let mut log = String::new();
    for page in 0..32 {
        old(&mut log, "", write(0xf_fffe));
        old(&mut log, "", [0x100_0000_0010, READ, 0xfd00_0000 + page * 0x5000, 0]);
    }
    let same = records(&log);
    assert!(same.iter().step_by(2).all(|record| record.causes[0].id == "msi-doorbell"));
}

#[test]
fn how_a_table_was_accessed_is_null_where_none_was() {
    use smmuv3_decode::log::Value;
    let of = |words| event(words).fields().and_then(|fields| fields.get("ttrnw"));
    assert_eq!(of([0x100_0000_0013, WRITE, 0x1000, 0]), Some(Value::Null));
    let table = 0x100 << 32 | 1 << 39 | 1 << 44;
    assert_eq!(of([0x100_0000_0013, table, 0x1000, 0x2000]), Some(Value::Bool(true)));
}

#[test]
fn a_message_between_the_words_of_an_event_does_not_cut_it() {
    let lines = [
        "event 0x10 received:",
        "\t0x0000010000000010",
        "\t0x0000020000000000",
        "EVTQ overflow detected -- events lost",
        "\t0x0000000000002000",
        "\t0x0000000000000000",
    ];
    let log: String = lines.iter().map(|line| format!("arm-smmu-v3 smmu0: {line}\n")).collect();
    let all = records(&log);
    let event = all.iter().find(|record| record.name == "F_TRANSLATION").unwrap();
    assert_eq!((event.address(), event.violations.len(), all.len()), (Some(0x2000), 0, 2));
}

#[test]
fn a_log_that_a_terminal_wrapped_is_the_same() {
    let mut log = String::new();
    old(&mut log, "[    7.471032] [T12345] ", [0x180_0000_0010, WRITE, 0xffff_e040, 0]);
    log.push_str(
        "[    7.471033] [T12345] arm-smmu-v3 smmu0: event: F_TRANSLATION client: 0000:01:00.0 sid: 0x180 ssid: \
         0x0 iova: 0xffffe040 ipa: 0x0\n\
         [    7.471033] [T12345] arm-smmu-v3 smmu0: unpriv data write s1 \"Input address caused fault\" stag: 0x0\n\
         [    7.6] arm-smmu-v3 smmu0: CMD_SYNC timeout at 0x00000146 [hwprod 0x00000146, hwcons 0x00000000]\n",
    );
    let whole = records(&log);
    for columns in [52, 60, 72, 80] {
        let mut wrapped = String::new();
        for line in log.lines() {
            for (place, letter) in line.chars().enumerate() {
                if place > 0 && place % columns == 0 {
                    wrapped.push('\n');
                }
                wrapped.push(letter);
            }
            wrapped.push('\n');
        }
        let found = records(&wrapped);
        // More than one wrap of a line is not put together.
        let same = found.iter().zip(&whole).all(|(found, whole)| found.detail == whole.detail);
        assert!(same || columns < 72, "{columns}: {found:#?}");
        assert_eq!(found.len(), whole.len(), "{columns}");
    }
}

#[test]
fn an_event_on_one_line_is_read_in_any_form() {
    let words = "0x0000018000000010 0x0000020000000000 0x00000000ffffe040 0x0000000000000000";
    for form in
        ["0x10 WORDS", "event 0x10: WORDS", "event 0x10 received: WORDS", "event 0x10 WORDS"]
    {
        let all = records(&form.replace("WORDS", words));
        assert_eq!(all.len(), 1, "{form}");
        assert_eq!(all[0].address(), Some(0xffff_e040), "{form}");
    }
    // Another code than the words' is no event's.
    assert!(records(&format!("0x11 {words}")).is_empty());
    assert!(records("event 0x10 of the timer").is_empty());
}
