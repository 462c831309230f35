// SPDX-License-Identifier: MIT OR Apache-2.0
//! From what firmware says to the first DMA: what a kernel writes to use the driver, and all of it.
//!
//! The rest of this image stands for the kernel: its memory, its interrupt controller, its PCI bus.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::error::Error;
use core::ptr::{NonNull, with_exposed_provenance_mut};

use smmuv3::hardware::Registers;
use smmuv3::{Completion, Config, InstanceConfig, Iommu, Master};
use smmuv3_discovery::iort::Iort;
use smmuv3_discovery::{Device, Instance, ReadError, Region, System, Topology};
use smmuv3_dma::{Direction, DmaConfig, DmaSpace};

use crate::edu::Edu;
use crate::faults::Faults;
use crate::interrupts;
use crate::platform::Kernel;
use crate::println;

/// Rounds of 64 events that an interrupt handler reads at most.
const ROUNDS: u32 = 256;

/// All SMMUs of the machine, in use.
pub type Smmus = System<Kernel>;

/// Which SMMUs there are: from the device tree, or, where that names none, from the ACPI table.
pub fn discover(
    blob: &[u8],
    iort: impl FnOnce() -> Option<Vec<u8>>,
) -> Result<Topology, ReadError> {
    let topology = Topology::from_device_tree(blob)?;
    match iort().filter(|_| topology.instances().is_empty()) {
        Some(table) => Topology::from_iort(&Iort::unsummed(&table)?),
        None => Ok(topology),
    }
}

/// Takes every SMMU of the machine into use. From then on devices reach nothing.
pub fn bring_up(
    kernel: Kernel,
    config: Config,
    topology: Topology,
    completion: Completion,
) -> Result<Arc<Smmus>, Box<dyn Error>> {
    for finding in topology.check() {
        println!("firmware: {finding}");
    }
    let iommu = Iommu::new(kernel, config)?;
    let configure = |_: &Instance, config: &mut InstanceConfig| config.completion = completion;
    let smmus = topology.bring_up(&iommu, registers, configure)?;
    if let Some((_, instance, error)) = smmus.failures().next() {
        return Err(format!("{}: {error}", instance.name).into());
    }
    Ok(Arc::new(smmus))
}

/// The registers of an SMMU.
fn registers(instance: &Instance) -> Option<Registers> {
    let Region { base, len } = instance.registers;
    let pages = NonNull::new(with_exposed_provenance_mut(base as usize))?;
    // SAFETY: firmware says that they are there; they are mapped as Device memory, and nobody else uses them.
    Some(unsafe { Registers::new(pages, len as usize) })
}

/// Has events and errors of the SMMUs read when they interrupt, and those woken who wait for commands.
pub fn attach_interrupts(smmus: &Smmus, faults: &Arc<Faults>) {
    for (line, smmu, which) in smmus.lines() {
        let (iommu, smmu, faults) = (smmus.iommu().clone(), smmu.clone(), faults.clone());
        let handler = move || {
            faults.interrupted(which);
            // Bounded: a device that goes wild may report faster than anybody reads. The line is raised only when the
            // queue was empty, so a kernel goes on in a thread; this one has none.
            let keep = &mut |report| faults.keep(report);
            let more = (0..ROUNDS).all(|_| iommu.handle_interrupt(&smmu, which, 64, keep));
            assert!(!more, "events come faster than they are read");
        };
        interrupts::attach(line, Box::new(handler));
    }
}

/// Makes `device` a master, with a space of its own for its buffers.
pub fn connect(
    smmus: &Smmus,
    device: Device,
    config: DmaConfig,
) -> Result<(Master<Kernel>, DmaSpace<Kernel>), Box<dyn Error>> {
    let (bits, coherent) = smmus.topology().dma_of(device)?;
    let bits = bits.map_or(config.limit_bits, |bits| config.limit_bits.min(bits.into()));
    let config = config.with_limit_bits(bits).with_coherent(config.coherent && coherent);
    let space = DmaSpace::new(smmus.iommu(), config)?;
    space.reserve_all(smmus.topology().reserved_for(device)?.iter().map(Region::range))?;
    let master = smmus.master(device)?;
    if let Err(error) = space.attach(&master) {
        // Or it could not be tried again.
        master.close()?;
        return Err(error.into());
    }
    Ok((master, space))
}

/// The other way round.
pub fn disconnect(master: Master<Kernel>, space: DmaSpace<Kernel>) -> Result<(), Box<dyn Error>> {
    space.detach(&master)?;
    master.close()?;
    space.close()?;
    Ok(())
}

/// Sends `data` through the buffer of a device: what comes back.
pub fn copy(
    space: &DmaSpace<Kernel>,
    edu: &Edu,
    data: Box<[u8]>,
) -> Result<Box<[u8]>, Box<dyn Error>> {
    let lent = space.lend(data, Direction::ToDevice)?;
    edu.read(lent.iova().0, lent.len() as u64)?;
    let mut data = space.take_back(lent)?;
    data.fill(0);
    let lent = space.lend(data, Direction::FromDevice)?;
    edu.write(lent.iova().0, lent.len() as u64)?;
    Ok(space.take_back(lent)?)
}
