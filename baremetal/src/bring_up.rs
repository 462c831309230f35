// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the device tree to the first DMA: what a kernel writes to use the driver, and all of it.
//!
//! The rest of this image stands for the kernel: the platform, the interrupt controller, the PCI bus.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::error::Error;
use core::ptr::NonNull;

use arm_gic::{IntId, Trigger};
use smmuv3::hardware::Registers;
use smmuv3::{Config, InstanceConfig, Interrupt, Iommu, Master, MasterConfig, Smmu, StreamId};

use crate::faults::Faults;
use crate::interrupts;
use crate::pci::{self, Device};
use crate::platform::Kernel;

// ---- To be replaced by discovery from the device tree: the machine `virt` with `iommu=smmuv3`.
/// The SMMU's registers.
const SMMU: usize = 0x0905_0000;
/// Its interrupts: events, completion of commands, errors.
const INTERRUPTS: [IntId; 3] = [IntId::spi(74), IntId::spi(76), IntId::spi(77)];
// ----

/// All SMMUs of the machine, in use.
pub struct System {
    /// All of them as one.
    pub iommu: Iommu<Kernel>,
    /// Each.
    pub smmus: Vec<Arc<Smmu<Kernel>>>,
    /// What their interrupts reported.
    pub faults: Arc<Faults>,
}

impl System {
    /// Takes every SMMU into use. From then on devices reach nothing.
    ///
    /// # Errors
    /// The driver's.
    pub fn bring_up(kernel: Kernel, config: Config) -> Result<Self, Box<dyn Error>> {
        let iommu = Iommu::new(kernel, config).map_err(|_| "no memory")?;
        let faults = Arc::new(Faults::new());
        let pages = NonNull::new(SMMU as *mut u8).ok_or("an SMMU at 0")?;
        // SAFETY: the machine has its two pages of registers there; they are mapped as Device memory and used by
        // nobody else.
        let mmio = unsafe { Registers::new(pages) };
        let probed = iommu.probe(mmio, InstanceConfig::named("smmu0"))?;
        let smmu = Arc::new(probed.enable().map_err(|(_, error)| error)?);
        let system = Self { iommu, smmus: alloc::vec![smmu], faults };
        for smmu in &system.smmus {
            system.attach_interrupts(smmu);
        }
        Ok(system)
    }

    /// Has events and errors of `smmu` read when it interrupts.
    fn attach_interrupts(&self, smmu: &Arc<Smmu<Kernel>>) {
        let [events, sync, errors] = INTERRUPTS;
        let which =
            [(events, Interrupt::Events), (sync, Interrupt::Any), (errors, Interrupt::Error)];
        for (id, which) in which {
            let (iommu, smmu, faults) = (self.iommu.clone(), smmu.clone(), self.faults.clone());
            let handler = move || {
                faults.interrupted();
                while iommu.handle_interrupt(&smmu, which, 64, &mut |report| faults.keep(report)) {}
            };
            interrupts::attach(id, Trigger::Edge, Box::new(handler));
        }
    }

    /// The master that `device` is.
    ///
    /// # Errors
    /// The driver's.
    pub fn master(&self, device: &Device) -> Result<Master<Kernel>, Box<dyn Error>> {
        let stream = StreamId(pci::requester(device.function).into());
        let smmu = self.smmus.first().ok_or("no SMMU")?;
        Ok(self.iommu.add_master(smmu, &[stream], MasterConfig::default())?)
    }
}
