// SPDX-License-Identifier: MIT OR Apache-2.0
//! Causes that lie in what the log said before.

use super::{Cause, View};

/// Events of a stream that make a storm.
const STORM: u64 = 100;
/// Events a second that make one, from so many events on.
const RATE: u64 = 1000;
const FEW: u64 = 10;
/// Lines within which two messages belong together.
const NEAR: u64 = 200;

/// What explains the event better than the event itself.
pub fn before(view: &View, causes: &mut Vec<Cause>) {
    let instance = view.history.instance(&view.record.instance);
    let near = |line: Option<u64>| near(view, line);
    if let Some(line) = instance.was_enabled.filter(|line| *line < view.record.line)
        && instance.events < 16
    {
        causes.push(Cause::likely(
            "firmware-left-running",
            format!(
                "firmware left the SMMU on (line {line}), and this is among its first \
                events: a device that firmware started may still do DMA"
            ),
            "Find the device in the firmware's boot (display, USB, network, RAID); have firmware \
             stop it, or describe its buffers as RMR.",
        ));
    }
    if let Some(line) = near(instance.started).filter(|_| instance.events == 0) {
        causes.push(Cause::possible(
            "firmware-left-running",
            format!(
                "this is the SMMU's first event since it was set up (line {line}): a device that \
                 firmware started may still do DMA"
            ),
            "Look which device has this StreamID, and whether firmware uses it (display, USB, \
             network).",
        ));
    }
    if let Some(line) = near(instance.unbound) {
        causes.push(Cause::likely(
            "driver-unbound",
            format!(
                "the SMMU's driver is no longer bound (line {line}): nothing maintains its tables"
            ),
            "Do not unbind an SMMU's driver while its devices do DMA; reboot.",
        ));
    }
    if let Some(line) = near(instance.timeout) {
        causes.push(Cause::possible(
            "stale-after-timeout",
            format!(
                "a CMD_SYNC timed out before (line {line}): invalidations may be missing, so \
                caches may hold old mappings or configurations"
            ),
            "Explain the CMD_SYNC timeout first.",
        ));
    }
}

/// What is worth knowing beside the cause.
pub fn after(view: &View, causes: &mut Vec<Cause>) {
    let stream = view.history.stream(view.record);
    let instance = view.history.instance(&view.record.instance);
    let events = stream.events + view.record.count;
    let rate = stream.rate().filter(|_| stream.events >= FEW);
    if events >= STORM || rate.is_some_and(|rate| rate >= RATE) {
        let speed = rate.map_or(String::new(), |rate| format!(", about {rate} a second"));
        causes.push(Cause::possible(
            "storm",
            format!(
                "{events} events of this stream since line {}{speed}: the device repeats \
                what fails, and later events may be lost",
                first(view, stream.first)
            ),
            "Stop the device (unbind its driver) before anything else; the first event of the \
             storm tells most.",
        ));
    }
    if let Some(line) = near(view, instance.overflow) {
        causes.push(Cause::possible(
            "after-overflow",
            format!(
                "the event queue overflowed before (line {line}): events are missing, and \
                this need not be the first of its kind"
            ),
            "Look for the first event before the overflow.",
        ));
    }
    if let Some(other) = view.history.other_stream(view.record) {
        causes.push(Cause::possible(
            "same-page-other-stream",
            format!(
                "stream {other:#x} had an event on the same page: two devices use one \
                buffer, or one device appears under two StreamIDs"
            ),
            "Check whether both StreamIDs belong to one device (an alias behind a bridge), and \
             that firmware's map names both.",
        ));
    }
    if view.stall {
        causes.push(Cause::possible(
            "stalled",
            "Stall is 1: the transaction waits until software answers with CMD_RESUME",
            "Check that somebody handles the stall; an unanswered one blocks the device.",
        ));
    }
}

/// A line that is before the record, and not long before.
fn near(view: &View, line: Option<u64>) -> Option<u64> {
    line.filter(|line| *line < view.record.line && view.record.line - line <= NEAR)
}

fn first(view: &View, line: u64) -> u64 {
    if line == 0 { view.record.line } else { line }
}
