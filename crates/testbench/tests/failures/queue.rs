// SPDX-License-Identifier: MIT OR Apache-2.0
//! The smallest queues work, and wrap at every position.

use smmuv3::Failure;
use smmuv3_formats::register::CmdqCons;
use smmuv3_testbench::machine::Machine;
use smmuv3_testbench::oracle::Use;

use crate::setup::{DISK, GPU, NARROW, NIC, PAGE, Setup, config, unmap_failure};

const IOVA: u64 = 0x1000_0000;

#[test]
fn queues_of_two_four_and_eight_entries_work_wherever_they_wrap() {
    for (command_queue_log2, event_queue_log2) in [(1, 0), (0, 1), (2, 2), (3, 3)] {
        for seed in 0..4 {
            let context = format!("2^{command_queue_log2} commands, seed {seed}");
            let mut small = config();
            small.command_queue_log2 = command_queue_log2;
            small.event_queue_log2 = event_queue_log2;
            let setup = Setup::with(seed, small, |profile| profile);
            let events = 1 << event_queue_log2;
            for round in 0..40 {
                let domain = usize::from(round % 2 == 1);
                let pages = 1 + round % 5;
                setup.map(domain, IOVA, 0, pages * PAGE).unwrap();
                for master in [NIC, DISK, GPU] {
                    setup.attach(master, Use::Domain(domain)).unwrap();
                    let at = (pages - 1) * PAGE;
                    assert_eq!(setup.dma(master, IOVA + at), Some(setup.memory + at), "{context}");
                }
                assert_eq!(setup.unmap(domain, IOVA, pages * PAGE), Ok(pages * PAGE), "{context}");
                assert_eq!((setup.dma(NIC, IOVA), setup.dma(GPU, IOVA)), (None, None), "{context}");
                for instance in [0, 1] {
                    let (reports, more) = setup.reports(instance, events);
                    assert_eq!((reports.len(), more), (1, false), "{context}: {reports:?}");
                }
                if round % 3 == 0 {
                    setup.attach(DISK, Use::Blocked).unwrap();
                }
                setup.check(&context);
            }
            setup.tear_down(&context);
        }
    }
}

#[test]
fn a_consumer_index_that_makes_no_sense_is_a_failure_with_the_value() {
    let setup = Setup::new(1);
    setup.map(0, IOVA, 0, PAGE).unwrap();
    setup.attach(NIC, Use::Domain(0)).unwrap();
    // Nothing was given that far ahead.
    let value = setup.machine.read32(NARROW, CmdqCons::OFFSET).wrapping_add(9) & 0x1f;
    setup.machine.lie(NARROW, CmdqCons::OFFSET, Some(value));
    let failure = unmap_failure(setup.unmap(0, IOVA, PAGE));
    assert_eq!(failure, (NARROW, Failure::Index { register: value }));
    assert!(setup.has_failed(NARROW));
    setup.machine.lie(NARROW, CmdqCons::OFFSET, None);
    setup.reset(NARROW, &[], &[(0, IOVA, PAGE)]);
    setup.tear_down("after a wrong index");
}
