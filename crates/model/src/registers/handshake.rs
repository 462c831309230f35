// SPDX-License-Identifier: MIT OR Apache-2.0
//! Registers whose fields take effect some time after they were written (§2.4).

use crate::random::Random;

/// Bits of CR0 that form one field.
pub(super) const CR0_FIELDS: [u32; 6] = [1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 4, 0b111 << 6];

/// A register whose fields take effect some time after they were written (§2.4).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Handshake {
    /// What software wrote.
    pub(crate) written: u32,
    /// What is in effect.
    pub(crate) ack: u32,
    /// Reads until each bit follows.
    pub(super) wait: [u32; 32],
}

impl Handshake {
    /// Whether any of `bits` is set, or on its way to or from being set.
    pub(crate) const fn guards(&self, bits: u32) -> bool {
        (self.written | self.ack) & bits != 0
    }

    /// Takes a write, field by field. False when a field with a pending update was to change again: it
    /// keeps the earlier value.
    pub(super) fn write(
        &mut self,
        value: u32,
        fields: &[u32],
        delay: u32,
        random: &mut Random,
    ) -> bool {
        let mut fine = true;
        for field in fields {
            let pending = (self.written ^ self.ack) & field != 0;
            if (self.written ^ value) & field == 0 {
                continue;
            }
            if pending {
                fine = false;
                continue;
            }
            self.written = self.written & !field | value & field;
            // A field mask is never zero and has at most 32 bits.
            self.wait[field.trailing_zeros() as usize & 31] = draw(delay, random);
        }
        fine
    }

    /// Lets every field follow whose wait is over; a field's wait is kept at its lowest bit.
    pub(super) fn settle(&mut self) {
        for field in CR0_FIELDS {
            if self.wait[field.trailing_zeros() as usize & 31] == 0 {
                self.ack = self.ack & !field | self.written & field;
            }
        }
    }
}

/// Reads until an update is acknowledged.
pub(super) fn draw(delay: u32, random: &mut Random) -> u32 {
    // The result is at most `delay`, so it fits.
    if delay == 0 { 0 } else { 1 + random.below(delay.into()) as u32 }
}
