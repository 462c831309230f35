// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices that go on while another kernel takes over: what they reached before they must reach at every moment.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use smmuv3_model::Access;

use crate::machine::Dma;
use crate::platform::{Observer, Point, World};

/// Moments at which all that is probed is accessed. Of whoever has thousands of queues to look at, one page is accessed at each of the others.
const CLOSE_MOMENTS: usize = 1 << 12;

/// What a device is to read; what is refused reads as 0.
const SIGN: u64 = 0x5a17_90d5_c3e1_7b29;

/// An access that must reach the same at every moment.
pub(in crate::bench) struct Probe {
    pub(in crate::bench) master: usize,
    pub(in crate::bench) instance: usize,
    pub(in crate::bench) access: Access,
    pub(in crate::bench) pa: u64,
}

/// Devices that go on while the new kernel is at work.
pub(in crate::bench) struct Devices {
    world: Arc<World>,
    probes: Vec<Probe>,
    /// The first of each instance that failed.
    failed: Mutex<Vec<(usize, String)>>,
    /// Instances that are not taken over.
    stopped: Mutex<Vec<usize>>,
    /// Moments so far.
    moments: AtomicUsize,
}

impl Devices {
    pub(in crate::bench) fn new(world: &Arc<World>, probes: Vec<Probe>) -> Arc<Self> {
        let (failed, stopped) = (Mutex::default(), Mutex::default());
        let moments = AtomicUsize::new(0);
        Arc::new(Self { world: world.clone(), probes, failed, stopped, moments })
    }

    /// What failed first of each instance.
    pub(in crate::bench) fn failed(&self) -> Vec<(usize, String)> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nobody accesses anything through `instance` any more: it starts anew, with no stream known.
    pub(super) fn stop(&self, instance: usize) {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner).push(instance);
    }

    fn is_stopped(&self, instance: usize) -> bool {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner).contains(&instance)
    }

    /// Whether a device of a machine that does not tell reads what is at `pa`. A device that cannot read does nothing.
    fn reads(&self, probe: &Probe) -> bool {
        let machine = self.world.machine();
        let Some(before) = machine.ram().read64(probe.pa) else { return false };
        // What could be read can be written.
        let _ = machine.ram().write64(probe.pa, SIGN);
        let mut read = [0; 8];
        let to = Dma::Read(&mut read);
        let done = machine.dma(probe.master, probe.access.substream, probe.access.address, to);
        let _ = machine.ram().write64(probe.pa, before);
        done.is_err() || read == SIGN.to_le_bytes()
    }
}

impl Observer for Devices {
    fn at(&self, _: Point, _: bool) {
        self.world.machine().act();
        let moment = self.moments.fetch_add(1, Ordering::Relaxed);
        for (number, probe) in self.probes.iter().enumerate() {
            let turn = moment % self.probes.len() == number;
            if self.is_stopped(probe.instance) || moment >= CLOSE_MOMENTS && !turn {
                continue;
            }
            let model = self.world.machine().model(probe.instance);
            let came = if let Some(mut model) = model {
                match model.translate(probe.access).map(|to| to.pa) {
                    Ok(to) if to == probe.pa => continue,
                    Ok(to) => format!("reached {to:#x}"),
                    Err(_) => "was refused".to_owned(),
                }
            } else if turn && !self.reads(probe) {
                "was refused, or went elsewhere".to_owned()
            } else {
                // A device's read takes long: one at a time.
                continue;
            };
            let Probe { instance, access, pa, .. } = probe;
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            if !failed.iter().any(|(of, _)| of == instance) {
                let Access { stream, substream, address, .. } = access;
                failed.push((
                    *instance,
                    format!(
                        "while it was taken over, an access of stream {stream:#x}, substream {substream:?} at \
                         {address:#x} {came}; it is mapped to {pa:#x}"
                    ),
                ));
            }
        }
    }
}
