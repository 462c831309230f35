// SPDX-License-Identifier: MIT OR Apache-2.0
//! A gigabyte of nothing, in bounded memory.

use std::io::Read;
use std::time::Instant;

use smmuv3_decode::log::{Decoder, Options, read};

/// What a log that is about everything else looks like.
const NOTHING: &str = "\
[ 1234.567890] nvme nvme0: 8/0/0 default/read/poll queues
Nov 26 02:50:42 node7 systemd[1]: Started Session 42 of User somebody.
2026-11-26T02:50:42.123456+00:00 node7 kernel: EXT4-fs (nvme0n1p2): mounted filesystem with ordered data mode
10.0.0.1 - - [26/Nov/2026:02:50:42 +0000] \"GET /index.html HTTP/1.1\" 200 5123 \"-\" \"curl/8.5.0\"
[ 1234.567891] audit: type=1400 audit(1795661442.123:456): apparmor=\"STATUS\" operation=\"profile_load\" pid=1
[ 1234.567892] Call trace: dump_backtrace+0x0/0x1e0 show_stack+0x20/0x30 ptr 0x7f1234567890
[ 1234.567893] usb 1-1: new high-speed USB device number 2 using xhci_hcd
";

/// So many bytes of it.
struct Nothing {
    left: u64,
    place: usize,
}

impl Read for Nothing {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let text = NOTHING.as_bytes();
        let mut written = 0;
        while written < buffer.len() && self.left > 0 {
            let rest = &text[self.place..];
            let count =
                rest.len().min(buffer.len() - written).min(usize::try_from(self.left).unwrap());
            buffer[written..written + count].copy_from_slice(&rest[..count]);
            written += count;
            self.left -= count as u64;
            self.place = (self.place + count) % text.len();
        }
        Ok(written)
    }
}

/// Megabytes a second.
fn run(bytes: u64) -> f64 {
    let mut decoder = Decoder::new(Options::default());
    let start = Instant::now();
    read(Nothing { left: bytes, place: 0 }, &mut decoder, &mut |record| panic!("{record:?}"))
        .unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let summary = decoder.finish(&mut |record| panic!("{record:?}"));
    assert_eq!(summary.problems, 0);
    assert!(summary.lines >= bytes / 110, "{}", summary.lines);
    bytes as f64 / 1e6 / seconds
}

#[test]
fn in_a_log_about_everything_else_nothing_is_found() {
    run(8 << 20);
}

/// `cargo test --release -p smmuv3-decode --test log gigabyte -- --ignored --nocapture`
#[test]
#[ignore = "a measurement: needs an optimised build"]
fn a_gigabyte_of_nothing_is_read_at_200_megabytes_a_second() {
    let speed = run(1 << 30);
    println!("{speed:.0} MB/s");
    assert!(speed >= 200.0, "{speed:.0} MB/s");
}
