// SPDX-License-Identifier: MIT OR Apache-2.0
//! `iommu-testdev`: a device that writes a fixed pattern and says whether it arrived.

use super::error::QemuError;
use super::qtest::Qtest;

/// The 32-bit little-endian word that the device writes over and over.
pub const PATTERN: u32 = 0x1234_5678;

// Offsets in BAR 0, of 32-bit registers.
const TRIGGER: u64 = 0x00;
const IOVA_LOW: u64 = 0x04;
const IOVA_HIGH: u64 = 0x08;
const LENGTH: u64 = 0x0c;
const RESULT: u64 = 0x10;
const DOORBELL: u64 = 0x14;
const PA_LOW: u64 = 0x1c;
const PA_HIGH: u64 = 0x20;

/// The byte that the device writes at `offset` from the start of a transfer.
#[must_use]
pub fn pattern(offset: usize) -> u8 {
    // A remainder by 4 indexes four bytes.
    PATTERN.to_le_bytes()[offset % 4]
}

/// What the device says about a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestdevResult {
    /// Everything was written, and the memory at the given physical address has it.
    Written,
    /// The length was 0.
    BadLength,
    /// The SMMU, or the bus behind it, refused at least a part of the write.
    WriteFailed,
    /// Everything was written, but there is no memory at the given physical address.
    ReadBackFailed,
    /// Everything was written, but the memory at the given physical address has something else.
    Mismatch,
    /// The device had not been armed.
    NotArmed,
    /// Security state and physical address space contradict each other.
    BadAttributes,
    /// Armed, but not run.
    Busy,
    /// Disarmed.
    Idle,
    /// Anything else.
    Unknown(u32),
}

impl TestdevResult {
    /// Decodes the device's result register.
    #[must_use]
    pub fn decode(code: u32) -> Self {
        match code {
            0 => Self::Written,
            0xdead_0001 => Self::BadLength,
            0xdead_0002 => Self::WriteFailed,
            0xdead_0003 => Self::ReadBackFailed,
            0xdead_0004 => Self::Mismatch,
            0xdead_0005 => Self::NotArmed,
            0xdead_0006 => Self::BadAttributes,
            0xffff_fffe => Self::Busy,
            0xffff_ffff => Self::Idle,
            other => Self::Unknown(other),
        }
    }
}

/// Writes `length` bytes of the pattern to `iova`; the device compares with the memory at `pa`, which
/// it reads around the SMMU. `bar` is the physical address of its registers.
pub(super) fn run(
    qtest: &mut Qtest,
    bar: u64,
    iova: u64,
    length: u32,
    pa: u64,
) -> Result<TestdevResult, QemuError> {
    // Halves of 64-bit addresses.
    qtest.writel(bar + IOVA_LOW, iova as u32)?;
    qtest.writel(bar + IOVA_HIGH, (iova >> 32) as u32)?;
    qtest.writel(bar + LENGTH, length)?;
    qtest.writel(bar + PA_LOW, pa as u32)?;
    qtest.writel(bar + PA_HIGH, (pa >> 32) as u32)?;
    qtest.writel(bar + DOORBELL, 1)?;
    // The transfer happens within this read.
    qtest.readl(bar + TRIGGER)?;
    qtest.readl(bar + RESULT).map(TestdevResult::decode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_repeats_from_the_start_of_a_transfer() {
        let bytes: Vec<u8> = (0..6).map(pattern).collect();
        assert_eq!(bytes, [0x78, 0x56, 0x34, 0x12, 0x78, 0x56]);
    }

    #[test]
    fn every_result_code_has_a_meaning_of_its_own() {
        use TestdevResult::{
            BadAttributes, BadLength, Busy, Idle, Mismatch, NotArmed, ReadBackFailed, Unknown,
            WriteFailed, Written,
        };
        let decoded = [0, 1, 2, 3, 4, 5, 6].map(|code| match code {
            0 => TestdevResult::decode(0),
            code => TestdevResult::decode(0xdead_0000 | code),
        });
        let expected =
            [Written, BadLength, WriteFailed, ReadBackFailed, Mismatch, NotArmed, BadAttributes];
        assert_eq!(decoded, expected);
        assert_eq!([0xffff_fffe, 0xffff_ffff].map(TestdevResult::decode), [Busy, Idle]);
        assert_eq!(TestdevResult::decode(7), Unknown(7));
    }
}
