// SPDX-License-Identifier: MIT OR Apache-2.0
//! Processes: the testbench is their operating system. It owns their page tables, tells CPUs and the driver when
//! they change, and frees what nobody can reach any more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smmuv3::{AttachError, Attributes, DetachError, Frames, Iova, Master, PhysAddr, Target};
use smmuv3_pagetable::{Gather, Stage1Table4K};

use super::calls::{self, Bond, Process};
use super::{Bench, BenchError, Done};
use crate::platform::{Point, TestPlatform, World};
use crate::scenario::Scenario;

/// Bits of a physical address of the CPUs at most.
const CPU_OUTPUT_BITS: u32 = 48;

/// The place of one process of the scenario: one runs there after the other.
#[derive(Default)]
pub(crate) struct Slot(Mutex<Option<Arc<Running>>>);

/// A process that runs.
struct Running {
    process: Process,
    table: Stage1Table4K,
    /// The CPU's ASID, if it can be pinned.
    asid: Option<u16>,
    /// Masters that it is bound to, once for each bind.
    bonds: Mutex<Vec<(usize, Bond)>>,
}

impl Running {
    fn bonds(&self) -> MutexGuard<'_, Vec<(usize, Bond)>> {
        self.bonds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Running>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is locked while the driver works: an unmap of the process may interrupt it.
    fn running(&self) -> Option<Arc<Running>> {
        self.lock().clone()
    }

    pub(super) fn is_running(&self) -> bool {
        self.lock().is_some()
    }

    pub(super) fn targets(&self) -> Vec<Target> {
        self.running()
            .map(|running| running.process.targets().unwrap_or_default())
            .unwrap_or_default()
    }

    pub(super) fn bind(
        &self,
        master: usize,
        handle: &Master<TestPlatform>,
    ) -> Result<(), AttachError> {
        let Some(running) = self.running() else { return Ok(()) };
        let bond = running.process.bind(handle)?;
        running.bonds().push((master, bond));
        Ok(())
    }

    pub(super) fn unbind(&self, master: usize) -> Option<Result<(), AttachError>> {
        let running = self.running()?;
        let bond = {
            let mut bonds = running.bonds();
            let at = bonds.iter().rposition(|(to, _)| *to == master)?;
            bonds.remove(at).1
        };
        Some(bond.unbind().map_err(|refused| {
            running.bonds().push((master, refused.value));
            refused.error.into()
        }))
    }

    pub(super) fn release(&self) -> Result<(), DetachError> {
        self.running().map_or(Ok(()), |running| running.process.release())
    }

    /// Ends the process that runs here, which is bound to nothing, and frees its tables.
    pub(super) fn close(&self, world: &Arc<World>) -> Result<(), String> {
        let Some(running) = self.lock().take() else { return Ok(()) };
        let running = Arc::try_unwrap(running).map_err(|_| "it is in use".to_owned())?;
        let Running { process, table, .. } = running;
        process.close().map_err(|refused| refused.to_string())?;
        // SAFETY: the driver says that nobody is bound to it; a context that led to the tables is gone, and their
        // tag was flushed. The frames are those that the table was made with.
        unsafe { table.destroy(&CpuFrames(world)) };
        Ok(())
    }
}

impl Bench {
    pub(super) fn add_processes(&mut self, scenario: &Scenario) -> Result<(), BenchError> {
        for index in 0..scenario.processes.len() {
            let running = self.start(index)?;
            let (root, pasid) = (running.table.root().0, running.process.pasid().0);
            self.watch().oracle.add_process(root, pasid);
            self.processes.push(Slot(Mutex::new(Some(Arc::new(running)))));
        }
        Ok(())
    }

    /// The same for a kernel that comes after another, whose processes are gone: those of the same names begin anew, on CPUs
    /// that give out their ASIDs from the first on.
    pub(super) fn new_processes(&mut self, scenario: &Scenario) -> Result<(), BenchError> {
        self.world.cpu().restart(scenario.cpu_asid_bits);
        for index in 0..scenario.processes.len() {
            let running = self.start(index)?;
            let (root, pasid) = (running.table.root().0, running.process.pasid().0);
            self.watch().oracle.replace_process(index, root, pasid);
            self.processes.push(Slot(Mutex::new(Some(Arc::new(running)))));
        }
        Ok(())
    }

    /// A new process in the place of `index`.
    fn start(&self, index: usize) -> Result<Running, BenchError> {
        let Some(described) = self.scenario.processes.get(index) else {
            return Err(BenchError::NoMemory("a process".to_owned()));
        };
        let failed = |error| BenchError::Driver { doing: format!("add {}", described.name), error };
        let output = self.scenario.instances.iter().map(|instance| instance.oas).min();
        // Its tables are not of 52 bits.
        let output = output.unwrap_or(CPU_OUTPUT_BITS).min(CPU_OUTPUT_BITS);
        let frames = CpuFrames(&self.world);
        let table = Stage1Table4K::new(&frames, described.input_bits, output)
            .map_err(|error| failed(error.to_string()))?;
        let (cookie, asid) = self.world.cpu().start(described.asid);
        let process = calls::add_process(&self.iommu, &table, cookie).map_err(failed)?;
        Ok(Running { process, table, asid, bonds: Mutex::default() })
    }

    /// Ends a process for good, wherever it is bound, and starts another one in its place.
    pub(super) fn replace(&self, process: usize) -> Result<Done, BenchError> {
        let Some(slot) = self.processes.get(process) else { return Ok(Done::default()) };
        for master in 0..self.masters.len() {
            while self.oracle(|oracle| oracle.bonds(master, process)) > 0 {
                self.unbind(process, master);
            }
        }
        self.look(|watch| {
            let space = watch.oracle.process_space(process);
            // Nobody unmaps anything of it any more.
            watch.busy = Some((space, 0..u64::MAX));
        });
        let closed = slot.close(&self.world);
        if let Err(error) = closed {
            self.look(|watch| watch.refuse(format_args!("close was refused: {error}")));
            return Ok(Done { outcome: error, ..Done::default() });
        }
        let running = self.start(process)?;
        let (root, pasid) = (running.table.root().0, running.process.pasid().0);
        *slot.lock() = Some(Arc::new(running));
        self.look(|watch| {
            watch.collect(&self.world);
            watch.oracle.replace_process(process, root, pasid);
            watch.busy = None;
        });
        Ok(Done { outcome: "done".to_owned(), acted: true, ..Done::default() })
    }

    /// The operating system maps memory in a process.
    pub(super) fn map_process(
        &self,
        slot: &Slot,
        iova: u64,
        pa: u64,
        bytes: u64,
        attributes: Attributes,
    ) -> Result<(), String> {
        let Some(running) = slot.running() else { return Ok(()) };
        let frames = CpuFrames(&self.world);
        // SAFETY: nobody else uses the range: interruptions avoid the busy one. The frames are those that the
        // table was made with.
        let result =
            unsafe { running.table.map(&frames, Iova(iova), PhysAddr(pa), bytes, attributes) };
        match result {
            Ok(()) => Ok(()),
            Err(error) => {
                if error.mapped > 0 {
                    self.unmap_process(slot, iova, error.mapped)?;
                }
                Err(format!("{:?}", error.kind))
            }
        }
    }

    /// The operating system unmaps a range of a process: clears descriptors, tells the CPUs, tells the driver, and
    /// only then frees the tables that are not linked any more.
    pub(super) fn unmap_process(&self, slot: &Slot, iova: u64, bytes: u64) -> Result<u64, String> {
        let Some(running) = slot.running() else { return Ok(0) };
        let frames = CpuFrames(&self.world);
        let mut gather: Gather = Gather::new();
        // SAFETY: nobody else uses the range: interruptions avoid the busy one. The frames are those that the
        // table was made with.
        let mut cursor = unsafe { running.table.unmap(&frames, Iova(iova), bytes) }
            .map_err(|error| error.to_string())?;
        while cursor.next(&mut gather) {
            let range = gather.range();
            if let Some(asid) = running.asid {
                calls::broadcast(&self.world, self.scenario.el2_host, asid, &range);
                self.world.at(Point::Idle);
            }
            let (first, bytes) = (Iova(range.start), range.end - range.start);
            running.process.invalidate(first, bytes).map_err(|error| error.to_string())?;
            // SAFETY: CPUs' and SMMUs' TLBs have forgotten the range, with what led to the tables.
            unsafe { gather.free_tables(&frames) };
            gather.clear();
        }
        Ok(cursor.unmapped())
    }
}

/// Memory of page tables of CPUs. Nothing is published: whoever walks them is coherent.
struct CpuFrames<'a>(&'a Arc<World>);

// SAFETY: as for `TestPlatform`, whose allocator it is.
unsafe impl Frames for CpuFrames<'_> {
    fn allocate(&self, size: usize, align: usize) -> Option<PhysAddr> {
        self.0.allocate(size, align)
    }

    unsafe fn free(&self, frame: PhysAddr, size: usize, _align: usize) {
        self.0.free(frame, size);
    }

    fn pointer(&self, pa: PhysAddr) -> std::ptr::NonNull<u8> {
        TestPlatform(self.0.clone()).pointer(pa)
    }

    fn publish(&self, _pa: PhysAddr, _bytes: usize) {
        // Hardware may walk at any moment, and interrupts come.
        self.0.at(Point::Idle);
    }
}
