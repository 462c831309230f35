// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interrupts by message (MSI): where an SMMU writes what, instead of raising a wire (§2.4).

use smmuv3_formats::PhysAddr;
use smmuv3_formats::command::Sync;
use smmuv3_formats::register::{
    EventqIrqCfg0, EventqIrqCfg1, EventqIrqCfg2, GerrorIrqCfg0, GerrorIrqCfg1, GerrorIrqCfg2,
    PriqIrqCfg0, PriqIrqCfg1, PriqIrqCfg2,
};

use crate::features::{Features, Unsupported};
use crate::platform::Mmio;

/// The message of one interrupt: 32 bits that the SMMU writes, to an interrupt controller as a rule.
///
/// It can be made by `unsafe` code alone, since nothing translates what the SMMU writes; who has one may use it anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    address: PhysAddr,
    data: u32,
    to: Destination,
}

/// What is at the address of a [`Message`] (MemAttr and SH, §2.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Destination {
    /// A register: Device-nGnRE.
    #[default]
    Device,
    /// Memory that CPUs look at: write-back, inner shareable. For SMMUs that are coherent.
    Memory,
}

impl Message {
    /// The message with this `data` to a register, such as GITS_TRANSLATER, at `address`: a multiple of 4, not 0, that the SMMU
    /// can output.
    ///
    /// # Safety
    /// The four bytes at `address` (eight, for HiSilicon's Hi161x, which writes zeros behind the data) are a register that takes such messages, or memory for them alone. They stay so as long as an
    /// SMMU or a group of monitors that was given the message may send it.
    ///
    /// ```compile_fail,E0133
    /// let message = smmuv3::Message::new(smmuv3::PhysAddr(0x4000_0000), 1);
    /// ```
    pub const unsafe fn new(address: PhysAddr, data: u32) -> Self {
        Self { address, data, to: Destination::Device }
    }

    /// The same message, to what is at the address.
    #[must_use]
    pub const fn to(mut self, destination: Destination) -> Self {
        self.to = destination;
        self
    }

    /// Where to.
    pub const fn address(&self) -> PhysAddr {
        self.address
    }

    /// What is written there.
    pub const fn data(&self) -> u32 {
        self.data
    }

    /// What is at the address.
    pub const fn destination(&self) -> Destination {
        self.to
    }

    /// MemAttr and SH.
    pub(crate) const fn attributes(self) -> (u64, u64) {
        match self.to {
            Destination::Device => (0x1, 0),
            Destination::Memory => (0xf, 3),
        }
    }

    /// A CMD_SYNC that sends it.
    pub(crate) fn on(self, sync: Sync) -> Sync {
        let (mem_attr, sh) = self.attributes();
        let sync = sync.with_msi_addr(self.address.0).with_msi_data(u64::from(self.data));
        sync.with_msi_attr(mem_attr).with_msh(sh)
    }
}

/// Which interrupts are messages; those without one are wired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    /// The event queue's.
    pub events: Option<Message>,
    /// The error interrupt.
    pub errors: Option<Message>,
    /// The page request queue's, where there is one (IDR0.PRI).
    pub page_requests: Option<Message>,
    /// The one that tells of completed commands, with [`Completion::Interrupt`](crate::Completion::Interrupt).
    pub sync: Option<Message>,
}

impl Messages {
    /// Whether an SMMU with `features` can send them.
    ///
    /// # Errors
    /// [`Unsupported::NoMessages`], [`Unsupported::Message`].
    pub(crate) fn check(&self, features: &Features) -> Result<(), Unsupported> {
        let Self { events, errors, page_requests, sync } = self;
        for message in [events, errors, page_requests, sync].into_iter().flatten() {
            if !features.messages {
                return Err(Unsupported::NoMessages { idr0: features.registers.idr0.0 });
            }
            let address = message.address.0;
            let outside = address >> features.output_bits != 0;
            let incoherent = message.to == Destination::Memory && !features.has_memory_messages();
            if address == 0 || address & 3 != 0 || outside || incoherent {
                return Err(Unsupported::Message { address: message.address });
            }
        }
        Ok(())
    }

    /// Tells an SMMU that can send messages where to; what is wired has no address. The interrupts are off: IRQ_CTRLACK
    /// shows 0.
    pub(crate) fn write(&self, features: &Features, mmio: &impl Mmio) {
        let registers = [
            (&self.errors, [GerrorIrqCfg0::OFFSET, GerrorIrqCfg1::OFFSET, GerrorIrqCfg2::OFFSET]),
            (&self.events, [EventqIrqCfg0::OFFSET, EventqIrqCfg1::OFFSET, EventqIrqCfg2::OFFSET]),
            (&self.page_requests, [PriqIrqCfg0::OFFSET, PriqIrqCfg1::OFFSET, PriqIrqCfg2::OFFSET]),
        ];
        let count = if features.pri { 3 } else { 2 };
        for (message, [address, data, attributes]) in registers.into_iter().take(count) {
            // Written as 0, since the registers are unknown after reset.
            let Some(message) = message else {
                mmio.write64(address, 0);
                continue;
            };
            let (mem_attr, sh) = message.attributes();
            mmio.write64(address, GerrorIrqCfg0::default().with_addr(message.address.0).0);
            mmio.write32(data, message.data);
            let value = GerrorIrqCfg2::default().with_mem_attr(mem_attr).with_sh(sh);
            mmio.write32(attributes, value.0);
        }
    }
}
