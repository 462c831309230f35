// SPDX-License-Identifier: MIT OR Apache-2.0
//! The wires from QEMU's SMMUs to its interrupt controller.

use super::qtest::Qtest;

/// How often an SMMU has raised each of its wires. QEMU raises and lowers one at once: they are edges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interrupts {
    /// That of the event queue.
    pub event: u64,
    /// That of the page request queue, which QEMU does not have.
    pub page_request: u64,
    /// That of a CMD_SYNC which asked for one.
    pub sync: u64,
    /// That of GERROR.
    pub error: u64,
}

impl Interrupts {
    /// Of the SMMU whose wires begin at input `first` of the interrupt controller: one beside the other, in this order.
    pub(super) fn raised(qtest: &Qtest, first: u32) -> Self {
        let [event, page_request, sync, error] =
            [0, 1, 2, 3].map(|wire| qtest.raised(first + wire));
        Self { event, page_request, sync, error }
    }
}
