// SPDX-License-Identifier: MIT OR Apache-2.0
//! A device that keeps translations, and becomes one of the targets.

use super::*;

/// A device that keeps translations joins a tag that another uses, while a page of theirs is unmapped: `join` is given what
/// makes it one of the targets, and what lets it ask.
fn device_joins(join: impl Fn(&Readers, &dyn Fn(), &dyn Fn()) + Send + Sync + Copy + 'static) {
    struct Joined {
        readers: Readers,
        /// Whether the device is among them.
        targets: Snapshot<bool>,
        /// Whether hardware has the page cached, for the other user, and whether the device keeps it: an answer is not
        /// overtaken by an invalidation.
        hardware: Mutex<(bool, bool)>,
    }
    explore(OF_TWO, move || {
        let joined = Arc::new(Joined {
            readers: Readers::new(1).unwrap(),
            targets: Snapshot::new(Box::new(false)),
            hardware: Mutex::new((true, false)),
        });
        let unmap = {
            let joined = joined.clone();
            thread::spawn(move || {
                // Nothing is walked any more.
                let section = joined.readers.section(0, &joined.targets);
                let told = *section;
                joined.hardware.lock().unwrap().0 = false;
                if told {
                    joined.hardware.lock().unwrap().1 = false;
                }
            })
        };
        let retired = core::cell::Cell::new(None);
        let publish = || retired.set(Some(joined.targets.replace(Box::new(true))));
        let ask = || {
            joined.hardware.lock().unwrap().1 = false;
            let (cached, kept) = &mut *joined.hardware.lock().unwrap();
            *kept = *cached;
        };
        join(&joined.readers, &publish, &ask);
        unmap.join().unwrap();
        assert!(!joined.hardware.lock().unwrap().1, "R1: the device keeps what is unmapped");
        Retired::free([retired.take()], &joined.readers, thread::yield_now);
    });
}

#[test]
fn loom_a_device_that_joins_is_granted_nothing_that_it_is_not_told_of() {
    // As in `attach::change`.
    device_joins(|readers, publish, ask| {
        publish();
        readers.grace(&thread::yield_now);
        ask();
    });
}

#[test]
#[should_panic(expected = "R1: the device keeps what is unmapped")]
fn loom_twin_that_lets_a_device_in_at_once_grants_it_what_is_unmapped() {
    device_joins(|_, publish, ask| {
        publish();
        ask();
    });
}

#[test]
#[should_panic(expected = "R1: the device keeps what is unmapped")]
fn loom_twin_that_waits_before_it_adds_the_device_grants_it_what_is_unmapped() {
    device_joins(|readers, publish, ask| {
        readers.grace(&thread::yield_now);
        publish();
        ask();
    });
}
