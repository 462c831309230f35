// SPDX-License-Identifier: MIT OR Apache-2.0
//! An SMMU that refuses a command while a guest's entry changes: the device is blocked or as before, nothing of it stays
//! the guest's that is not, and after a reset all goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use smmuv3::nest::Forwarder;
use smmuv3::{AttachError, Config, StreamId};
use smmuv3_formats::{Command, Ste};
use smmuv3_testbench::platform::{Observer, Point, World};

use crate::guest::{DATA, Guest, VA};
use crate::host::{Host, STREAMS, Use};

const ILL: u8 = 1;

/// Makes the SMMU refuse the command that comes after the `left`th thing that the driver does.
struct Refusing {
    world: Arc<World>,
    left: AtomicUsize,
}

impl Observer for Refusing {
    fn at(&self, _: Point, _: bool) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 0 {
            self.world.machine().model(0).unwrap().fail_next_command(ILL);
        }
    }
}

fn change(host: &Host, to: Use) -> Result<(), AttachError> {
    let nest = |ste: Ste| host.nest.attach(&host.masters[0], &[StreamId(STREAMS[0].1)], &ste);
    match to {
        Use::Space(space) => nest(Guest::entry(space)),
        Use::Bypass => nest(Guest::bypass()),
        Use::Invalid => nest(Ste::default()),
        Use::Plain => host.iommu.attach(&host.masters[0], &host.domain),
        Use::Detached => host.iommu.detach(&host.masters[0]).map_err(Into::into),
    }
}

/// Whether anything was refused.
fn refused(from: Use, to: Use, nth: usize) -> bool {
    let context = format!("from {from:?} to {to:?}, after {nth}");
    let mut host = Host::new(nth as u64, Config::default());
    host.guest.map(0, 0, DATA);
    host.guest.map(1, 0, DATA + 1);
    change(&host, from).unwrap();
    host.uses[0] = from;
    assert_eq!(host.verdict(), Ok(()), "{context}");
    let (world, left) = (host.world.clone(), AtomicUsize::new(nth));
    host.world.set_observer(Some(Arc::new(Refusing { world, left })));
    let result = change(&host, to);
    host.world.set_observer(None);
    let Err(error) = result else {
        host.uses[0] = to;
        // It may have been a CMD_SYNC, or nothing at all: what was refused then was tried again.
        assert_eq!(host.verdict(), Ok(()), "{context}");
        return false;
    };
    assert!(matches!(error, AttachError::Unconfirmed(_)), "{context}: {error:?}");
    // In either entry, or blocked.
    let mut allowed = vec![None];
    for state in [from, to] {
        host.uses[0] = state;
        allowed.extend([VA, Guest::ipa(DATA)].map(|address| host.expected(0, address)));
    }
    for address in [VA, Guest::ipa(DATA)] {
        assert!(allowed.contains(&host.reached(0, address)), "{context}");
    }
    // The guest's commands do no harm, whether it has the stream or not.
    host.world.take_commands();
    host.commands(&[Command([0x20 << 32 | 5, 1]), Command([0x46, 0])]);
    host.iommu.reset(&host.smmu).unwrap();
    let addresses = [VA, Guest::ipa(DATA)];
    // What is blocked by the reset is nobody's, and its VMID may be another's next.
    let blocked = addresses.iter().all(|address| host.reached(0, *address).is_none());
    for detached in [false, true] {
        if detached {
            host.detach(0);
            assert_eq!(host.verdict(), Ok(()), "{context}");
        }
        host.world.take_commands();
        host.commands(&[Command([0x20 << 32 | 5, 1]), Command([0x11, 0])]);
        if blocked || detached {
            assert_eq!(host.world.take_commands(), [], "{context}: no stream is the guest's");
        }
    }
    host.nest(0, Guest::entry(0), Use::Space(0));
    assert_eq!(host.verdict(), Ok(()), "{context}");
    true
}

#[test]
fn a_change_that_is_refused_is_undone_by_a_reset() {
    let states =
        [Use::Space(0), Use::Space(1), Use::Bypass, Use::Invalid, Use::Plain, Use::Detached];
    let mut count = 0;
    for from in states {
        for to in states.into_iter().filter(|to| *to != from) {
            count += (0..40).filter(|nth| refused(from, to, *nth)).count();
        }
    }
    assert!(count > 100, "{count}");
}

#[test]
fn commands_of_a_guest_that_are_refused_are_unconfirmed_and_can_be_given_again() {
    let mut host = Host::new(1, Config::default());
    host.guest.map(0, 0, DATA);
    host.nest(0, Guest::entry(0), Use::Space(0));
    assert_eq!(host.verdict(), Ok(()));
    let commands = host.guest.unmap(0, 0, false);
    host.world.machine().model(0).unwrap().fail_next_command(ILL);
    let mut forwarder = Forwarder::new();
    let result = host.nest.forward(&mut forwarder, &commands);
    assert_eq!(result.map_err(|unconfirmed| unconfirmed.instance), Err(host.nest.instance()));
    assert_eq!(forwarder, Forwarder::new());
    host.commands(&commands);
    assert_eq!(host.verdict(), Ok(()));
}

/// A guest that loses its streams by a change that was refused says meanwhile what it has unmapped; then it gets them back. Returns
/// whether anything was refused.
fn unmapped_meanwhile(to: Use, nth: usize, resets: bool) -> bool {
    let context = format!("to {to:?}, after {nth}, resets: {resets}");
    let mut host = Host::new(nth as u64, Config::default());
    host.guest.map(0, 0, DATA);
    host.nest(0, Guest::entry(0), Use::Space(0));
    assert_eq!(host.verdict(), Ok(()), "{context}");
    let (world, left) = (host.world.clone(), AtomicUsize::new(nth));
    host.world.set_observer(Some(Arc::new(Refusing { world, left })));
    let result = change(&host, to);
    host.world.set_observer(None);
    let commands = host.guest.unmap(0, 0, false);
    // What was to be refused may have been for none of the change's.
    if host.nest.forward(&mut Forwarder::new(), &commands).is_err() {
        host.commands(&commands);
    }
    // Or it is for the reset.
    if resets && host.iommu.reset(&host.smmu).is_err() {
        host.iommu.reset(&host.smmu).unwrap();
    }
    host.uses[0] = Use::Space(0);
    match change(&host, Use::Space(0)) {
        Ok(()) => assert_eq!(host.verdict(), Ok(()), "{context}"),
        // Until a reset.
        Err(AttachError::Unconfirmed(_)) => {
            assert!(!resets, "{context}");
            assert_eq!(host.reached(0, VA), None, "{context}");
        }
        Err(error) => panic!("{context}: {error}"),
    }
    result.is_err()
}

#[test]
fn what_a_guest_unmaps_after_a_change_that_was_refused_is_not_reached_when_it_has_its_streams_again()
 {
    let mut count = 0;
    for to in [Use::Bypass, Use::Invalid, Use::Plain, Use::Detached] {
        for resets in [false, true] {
            count += (0..40).filter(|nth| unmapped_meanwhile(to, *nth, resets)).count();
        }
    }
    assert!(count > 20, "{count}");
}
