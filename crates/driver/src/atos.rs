// SPDX-License-Identifier: MIT OR Apache-2.0
//! Address translation operations (§2.5): asking an SMMU what an address of a device translates to, without a device.
//!
//! The answer comes from the same caches as the device's own accesses, and so tells what the SMMU does, not what the
//! tables say. Of an SMMU there is one such operation at a time.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use smmuv3_formats::register::{Cr0, GatosAddr, GatosCtrl, GatosPar, GatosParFault, GatosSid};
use smmuv3_formats::{EventId, Iova, PhysAddr, StreamId, SubstreamId};

use crate::instance::Instance;
use crate::mutation::Mutation;
use crate::platform::{Mmio, Platform};

/// Which stages an address is to be put through (GATOS_ADDR.TYPE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stages {
    /// Stage 1: from an input address to the output of stage 1.
    First = 1,
    /// Stage 2: from an intermediate address, which is given as the input address.
    Second = 2,
    /// Both.
    Both = 3,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whose access.
    pub stream: StreamId,
    /// With which PASID; `None` without.
    pub substream: Option<SubstreamId>,
    /// The address. Its page counts.
    pub address: Iova,
    /// The stages.
    pub stages: Stages,
    /// Of a write.
    pub write: bool,
    /// Of a privileged access.
    pub privileged: bool,
    /// Of an instruction fetch.
    pub instruction: bool,
}

impl Question {
    /// An unprivileged data read without a PASID, through stage 1.
    pub const fn read(stream: StreamId, address: Iova) -> Self {
        Self {
            stream,
            substream: None,
            address,
            stages: Stages::First,
            write: false,
            privileged: false,
            instruction: false,
        }
    }
}

/// Where an address goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The address that it is translated to.
    pub pa: PhysAddr,
    /// Bytes of the translation that was used, a power of two; `pa` may be anywhere in it.
    pub size: u64,
    /// Its memory type, as a byte of a MAIR (§6).
    pub attributes: u8,
    /// Its shareability, as in a descriptor (§15).
    pub shareability: u8,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AtosError {
    /// The SMMU cannot be asked (IDR0.ATOS = 0).
    NotImplemented,
    /// Another question is being answered: ask again.
    Busy,
    /// The SMMU is not in service.
    Off,
    /// It did not answer within the deadline; what it was asked last may still be under way.
    NoAnswer,
    /// An access would be refused with this event.
    Refused {
        /// The event.
        event: EventId,
        /// Which stage, and at what.
        reason: Reason,
        /// For stage 2, the intermediate address that it was asked for; its page.
        address: u64,
    },
    /// The SMMU cannot be asked for these stages (INV_REQ).
    InvalidRequest,
    /// The stream does not have these stages (INV_STAGE).
    InvalidStage,
    /// The SMMU could not complete it (INTERNAL_ERR): it was turned off meanwhile, for example.
    Internal,
    /// A code that the architecture does not have.
    Unknown {
        /// GATOS_PAR.
        par: u64,
    },
}

/// What a refusal is about (GATOS_PAR.REASON).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Stage 1, or configuration.
    First = 0,
    /// Stage 2, at the fetch of a context.
    Context = 1,
    /// Stage 2, at a table of stage 1.
    Table = 2,
    /// Stage 2, at the output of stage 1.
    Output = 3,
}

impl fmt::Display for AtosError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotImplemented => f.write_str("the SMMU has no translation operations"),
            Self::Busy => f.write_str("another translation operation is under way"),
            Self::Off => f.write_str("the SMMU is not in service"),
            Self::NoAnswer => f.write_str("the SMMU did not answer"),
            Self::Refused { event, reason: Reason::First, .. } => {
                write!(f, "refused: {}", event.name())
            }
            Self::Refused { event, reason, address } => {
                let of = match reason {
                    Reason::Context => "of a context",
                    Reason::Table => "of a table of stage 1",
                    Reason::First | Reason::Output => "that stage 1 gives",
                };
                write!(f, "stage 2 refuses {address:#x} {of}: {}", event.name())
            }
            Self::InvalidRequest => f.write_str("the SMMU cannot be asked for these stages"),
            Self::InvalidStage => f.write_str("the stream does not have these stages"),
            Self::Internal => f.write_str("the SMMU could not complete the operation"),
            Self::Unknown { par } => write!(f, "the SMMU answered {par:#x}, which means nothing"),
        }
    }
}

impl core::error::Error for AtosError {}

/// Whether somebody is asking.
#[derive(Debug, Default)]
pub(crate) struct Asking(AtomicBool);

impl Asking {
    /// Nobody is asking.
    pub(crate) const fn new() -> Self {
        Self(AtomicBool::new(false))
    }
}

impl<P: Platform> Instance<P> {
    /// Asks the SMMU what an address translates to, and waits for the answer with [`Platform::relax`].
    ///
    /// It fills the SMMU's caches as an access would, but neither records events nor sets flags in tables.
    ///
    /// # Errors
    /// See [`AtosError`].
    pub fn ask(&self, platform: &P, question: &Question) -> Result<Answer, AtosError> {
        if !self.features().translation_operations {
            return Err(AtosError::NotImplemented);
        }
        // Held until the question is answered: the SMMU is neither suspended nor forgotten meanwhile.
        let inside = self.commands().enter(platform);
        let moment = self.commands().moment();
        if inside.is_none() || moment.has_failed() {
            return Err(AtosError::Off);
        }
        let asking = &self.asking().0;
        let alone = asking.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
        let alone = if self.leaves_out(Mutation::NoAskingLock) { Ok(false) } else { alone };
        if alone.is_err() {
            return Err(AtosError::Busy);
        }
        let par = self.operate(platform, question);
        asking.store(false, Ordering::Release);
        // A suspend or a reset meanwhile: the question may have been ignored, while SMMUEN was 0 (§2.5), and the answer be another's.
        // That is still so, or the moment is another one: it works again only after that has changed.
        if !Cr0(self.mmio().read32(Cr0::OFFSET)).smmuen() || !self.commands().is_as_at(moment) {
            return Err(AtosError::Off);
        }
        par.and_then(|par| read(par, question.address))
    }

    /// The operation, alone. Returns GATOS_PAR.
    fn operate(&self, platform: &P, question: &Question) -> Result<u64, AtosError> {
        let mmio = self.mmio();
        let runs = || GatosCtrl(mmio.read32(GatosCtrl::OFFSET)).run();
        // An earlier question that was given up on: its registers stay frozen until the SMMU has finished with it.
        if runs() {
            return Err(AtosError::Busy);
        }
        let substream = question.substream.map_or(0, |substream| u64::from(substream.0));
        let sid = GatosSid::default()
            .with_stream_id(question.stream.0.into())
            .with_ssid_valid(question.substream.is_some())
            .with_substream_id(substream & 0xf_ffff);
        let addr = GatosAddr::default()
            .with_addr(question.address.0 & !0xfff)
            .with_kind(question.stages as u64)
            .with_pnu(question.privileged)
            .with_rnw(!question.write)
            .with_ind(question.instruction)
            .with_httui(true);
        mmio.write64(GatosSid::OFFSET, sid.0);
        mmio.write64(GatosAddr::OFFSET, addr.0);
        mmio.write32(GatosCtrl::OFFSET, GatosCtrl::default().with_run(true).0);
        let (began, deadline) = (platform.now(), self.commands().deadline());
        let runs = || !self.leaves_out(Mutation::EarlyAnswer) && runs();
        while runs() {
            if platform.now().saturating_sub(began) > deadline {
                return Err(AtosError::NoAnswer);
            }
            platform.relax();
        }
        let half = |offset| u64::from(mmio.read32(offset));
        Ok(half(GatosPar::OFFSET) | half(GatosPar::OFFSET + 4) << 32)
    }
}

#[cfg(feature = "alloc")]
impl<P: Platform> crate::iommu::Smmu<P> {
    /// Asks what an address of a device translates to; see [`Instance::ask`]. A suspend or a removal waits for the answer,
    /// or for the deadline of one that does not come.
    ///
    /// # Errors
    /// See [`AtosError`].
    pub fn ask(&self, question: &Question) -> Result<Answer, AtosError> {
        let instance = self.core.instances.get(self.id).ok_or(AtosError::Off)?;
        instance.ask(&self.core.platform, question)
    }
}

/// What GATOS_PAR says of `address`.
fn read(par: u64, address: Iova) -> Result<Answer, AtosError> {
    const INTERNAL_ERR: u64 = 0xfd;
    const INV_STAGE: u64 = 0xfe;
    const INV_REQ: u64 = 0xff;
    let good = GatosPar(par);
    if good.fault() {
        let fault = GatosParFault(par);
        let reason = match fault.reason() {
            0 => Reason::First,
            1 => Reason::Context,
            2 => Reason::Table,
            _ => Reason::Output,
        };
        // The field has 8 bits.
        let code = fault.fault_code();
        return Err(match (code, EventId::from_code(code as u8)) {
            (INV_REQ, _) => AtosError::InvalidRequest,
            (INV_STAGE, _) => AtosError::InvalidStage,
            (INTERNAL_ERR, _) => AtosError::Internal,
            (_, Some(event)) => AtosError::Refused { event, reason, address: fault.faddr() },
            (_, None) => AtosError::Unknown { par },
        });
    }
    let (start, size) = match (good.size(), good.addr()) {
        (false, start) => (start, 0x1000),
        // The size is coded in the lowest set bit, and there is none.
        (true, 0) => return Err(AtosError::Unknown { par }),
        (true, coded) => {
            let lowest = coded & coded.wrapping_neg();
            // ADDR has 56 bits: no overflow.
            (coded & !lowest, lowest << 1)
        }
    };
    Ok(Answer {
        pa: PhysAddr(start | address.0 & (size - 1)),
        size,
        // The fields have 8 and 2 bits.
        attributes: good.attr() as u8,
        shareability: good.sh() as u8,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    const ADDRESS: Iova = Iova(0x1234_5678);

    #[test]
    fn sizes_are_the_lowest_set_bit() {
        let answer = |par| read(par, ADDRESS).map(|answer| (answer.pa.0, answer.size));
        assert_eq!(answer(0x8000_1000), Ok((0x8000_1678, 0x1000)));
        // §2.5: N is 20, 2 MiB.
        assert_eq!(answer(0x8000_0000 | 1 << 20 | 1 << 11), Ok((0x8014_5678, 0x20_0000)));
        // N is 12, 8 KiB, the smallest.
        assert_eq!(answer(0x8000_1000 | 1 << 11), Ok((0x8000_1678, 0x2000)));
        assert_eq!(answer(1 << 11), Err(AtosError::Unknown { par: 1 << 11 }));
        let all = read(0xff00_0000_8000_1300, ADDRESS).unwrap();
        assert_eq!((all.attributes, all.shareability), (0xff, 3));
    }

    #[test]
    fn faults_are_events_or_codes_of_their_own() {
        let error = |par| read(par, ADDRESS).unwrap_err();
        let event = EventId::FTranslation;
        assert_eq!(error(0x101), AtosError::Refused { event, reason: Reason::First, address: 0 });
        let expected = AtosError::Refused { event, reason: Reason::Table, address: 0x4000_0000 };
        assert_eq!(error(0x4000_0105), expected);
        assert_eq!(
            format!("{expected}"),
            "stage 2 refuses 0x40000000 of a table of stage 1: F_TRANSLATION"
        );
        assert_eq!(error(0xff1), AtosError::InvalidRequest);
        assert_eq!(error(0xfe1), AtosError::InvalidStage);
        assert_eq!(error(0xfd1), AtosError::Internal);
        assert_eq!(error(0x7f1), AtosError::Unknown { par: 0x7f1 });
    }
}
