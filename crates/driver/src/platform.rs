// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the operating system, hypervisor or firmware provides.

use core::time::Duration;

use smmuv3_formats::{PhysAddr, StreamId};
pub use smmuv3_pagetable::Frames;

use crate::error::InstanceId;
use crate::trace::Trace;

/// The registers of one SMMU: two 64 KiB pages, and more if [`Mmio::bytes`] says so, accessed at byte offsets from the
/// first (§2.1).
///
/// Implementations order accesses as device drivers expect, as if a write were a store-release and a read a
/// load-acquire that the SMMU takes part in:
/// * what this CPU loaded and stored before a write, and what other CPUs had stored that it had seen, comes before
///   the SMMU sees the write; a store-release after the write comes after it;
/// * a load or store after a read comes after it, and finds what the SMMU, and whoever told it, had stored
///   before it answered that read.
///
/// The driver has no barriers of its own around registers.
pub trait Mmio: Send + Sync {
    /// Reads the 32-bit register at `offset`.
    fn read32(&self, offset: u32) -> u32;
    /// Writes the 32-bit register at `offset`.
    fn write32(&self, offset: u32, value: u32);

    /// Bytes from the first page on that offsets may lie in: the two pages that each SMMU has, unless overridden. The
    /// registers of enhanced command queues lie beyond (§2.6); the driver uses only what is covered. With less than two pages an SMMU
    /// is not taken into use ([`Unsupported::Pages`](crate::features::Unsupported::Pages)), unless firmware says that it has one alone
    /// ([`Firmware::page_0_only`](crate::Firmware::page_0_only)).
    fn bytes(&self) -> u64 {
        0x2_0000
    }

    /// Writes the 64-bit register at `offset`; as two halves, low half first, unless overridden.
    fn write64(&self, offset: u32, value: u64) {
        self.write32(offset, value as u32);
        self.write32(offset + 4, (value >> 32) as u32);
    }
}

/// A mutual exclusion lock of the operating system's. It may put the caller to sleep.
///
/// # Safety
/// Between `lock` and `unlock` no other caller returns from `lock`, and what was written before an
/// `unlock` is seen after the next `lock`.
pub unsafe trait RawMutex: Send + Sync {
    /// An unlocked lock.
    fn new() -> Self;
    /// Waits until the lock is free, then takes it.
    fn lock(&self);
    /// Gives the lock back.
    ///
    /// # Safety
    /// The caller holds it.
    unsafe fn unlock(&self);
}

/// Everything that the driver needs from its surroundings. One value serves all SMMUs of a system.
///
/// `publish`, the registers and `relax` are the only calls during which the driver expects the world to
/// change under it.
///
/// # Safety
/// Besides the contract of [`Frames`]: `allocate_coherent` returns memory that is not in use, zeroed,
/// aligned, and that every SMMU served reads and writes coherently with the CPU pointer that
/// [`Frames::pointer`] gives for it; `mask_irqs` runs its argument exactly once.
pub unsafe trait Platform: Frames + Send + Sync {
    /// The registers of an SMMU.
    type Mmio: Mmio;
    /// The operating system's lock.
    type Mutex: RawMutex;

    /// Memory for queues, stream tables and contexts: zeroed, `align`-aligned (a power of two), coherent
    /// with SMMUs that do not snoop caches. `None` when there is none.
    ///
    /// It may be memory that is not cached: the driver accesses it by loads and stores alone, never by exclusive accesses
    /// or atomic read-modify-writes, which need not work there.
    ///
    /// Called where the driver may sleep, with the configuration mutex held or not; never in interrupt context, and
    /// never with interrupts masked by the driver.
    fn allocate_coherent(&self, size: usize, align: usize) -> Option<PhysAddr>;

    /// Gives back what [`Platform::allocate_coherent`] returned. Called where that is, and when the last handle of an
    /// [`Iommu`](crate::Iommu) is dropped, wherever that is.
    ///
    /// # Safety
    /// `memory` came from `allocate_coherent` with this `size` and `align`, and neither a CPU nor an SMMU can
    /// reach it any more.
    unsafe fn free_coherent(&self, memory: PhysAddr, size: usize, align: usize);

    /// Runs `critical` with interrupts of this CPU masked, so that an interrupt handler cannot find a lock
    /// taken by the code that it interrupted. Nothing that may sleep is called inside. In interrupt context they are masked
    /// already, and stay so afterwards.
    ///
    /// Each time is a few instructions and register accesses, but in three cases: [`Iommu::handle_interrupt`], for as many records as
    /// its budget; [`Iommu::quarantined`], for all that it lists of memory and tables; and [`Iommu::reset`], for the commands of
    /// a queue that its SMMU had not come to.
    ///
    /// [`Iommu::handle_interrupt`]: crate::Iommu::handle_interrupt
    /// [`Iommu::quarantined`]: crate::Iommu::quarantined
    /// [`Iommu::reset`]: crate::Iommu::reset
    fn mask_irqs<R>(&self, critical: impl FnOnce() -> R) -> R;

    /// Keeps the ASID that the process known as `process` has on the CPUs from being given to another, and returns it.
    /// `None` where that cannot be done, or is not to be: devices then use the process by an ASID of their SMMU's.
    ///
    /// Called with the configuration mutex held, as is [`Platform::unpin_asid`]: neither comes back to the driver.
    fn pin_asid(&self, process: u64) -> Option<u16> {
        let _ = process;
        None
    }

    /// Undoes one [`Platform::pin_asid`], which returned `asid`.
    fn unpin_asid(&self, process: u64, asid: u16) {
        let _ = (process, asid);
    }

    /// Switches ATS on in the device behind `stream` (the Enable bit of its ATS capability, after PASID's where it has
    /// that; its smallest translation unit is [`Features::unit_shift`](crate::Features::unit_shift)). Only for streams of
    /// masters with [`MasterConfig::ats`](crate::MasterConfig::ats). A device for which that fails just keeps none;
    /// one that sends nothing untranslated ([`AtsMode::Always`](crate::AtsMode::Always)) reaches nothing then.
    ///
    /// Called with the configuration mutex held, as is [`Platform::disable_ats`]: neither comes back to the driver.
    fn enable_ats(&self, instance: InstanceId, stream: StreamId) {
        let _ = (instance, stream);
    }

    /// Switches ATS off in the device behind `stream`. When it has returned, the device asks for no translations, and
    /// sends nothing with one that it keeps. (One that is gone does neither.)
    fn disable_ats(&self, instance: InstanceId, stream: StreamId) {
        let _ = (instance, stream);
    }

    /// Lets the device behind `stream` ask for pages, with at most `credits` requests under way (the Enable bit of its Page
    /// Request capability, and Outstanding Page Request Allocation), after ATS was switched on in it. Only for streams of
    /// masters with [`MasterConfig::page_requests`](crate::MasterConfig::page_requests).
    ///
    /// Called with the configuration mutex held, as is [`Platform::disable_page_requests`]: neither comes back to the
    /// driver.
    fn enable_page_requests(&self, instance: InstanceId, stream: StreamId, credits: u32) {
        let _ = (instance, stream, credits);
    }

    /// Lets the device behind `stream` ask for no more pages, before ATS is switched off in it. When it has returned, what
    /// it asked for before has arrived at the SMMU: as after a read from the device. Groups that are complete are
    /// answered after that, which it may wait for only then. (One that is gone does not.)
    fn disable_page_requests(&self, instance: InstanceId, stream: StreamId) {
        let _ = (instance, stream);
    }

    /// A hint: the number of the CPU that runs this. Any value is correct; a true one is fastest.
    fn cpu(&self) -> usize {
        0
    }

    /// How many CPUs there are, at most.
    fn max_cpus(&self) -> usize {
        1
    }

    /// Called in every loop that waits: for hardware (completed commands, room in a queue, a register that is to be
    /// acknowledged), or for other CPUs' unmaps. A spin hint, or a yield where the caller may be preempting the one that
    /// it waits for. The driver never calls it with interrupts masked by itself; in interrupt context it must not sleep.
    ///
    /// It returns in bounded time, whatever happens or does not: far below [`InstanceConfig::deadline`], since not all
    /// that is waited for is told of, and nobody tells of an SMMU that stopped. Where instances tell of completed commands
    /// ([`InstanceConfig::completion`]), it may wait for that, between two looks of the driver at the register:
    /// * `wfe`, with the generic timer's event stream on as the bound (CNTKCTL_EL1.EVNTEN; some 100 us), is what fits.
    ///   Nothing is lost between the look and the `wfe`: an event that comes there, and the return from an
    ///   interrupt that is taken there, are kept in the CPU's event register, and `wfe` returns at once.
    ///   With [`Completion::Event`] every CPU gets the event, also with interrupts masked.
    ///   With [`Completion::Interrupt`] one CPU takes the interrupt; its handler does `sev`, for those who wait on
    ///   others. A CPU on which the caller has masked interrupts, or is in a handler, does not take it, and it does
    ///   not end its `wfe`: if the interrupt is routed there, the event stream does.
    /// * `wfi` ends with a pending interrupt, masked or not, but one that was taken between the look and the `wfi` is
    ///   lost, and other CPUs are told nothing. So only with a periodic tick on each CPU that waits, which is then how
    ///   long a wait can take.
    /// * A thread may be put to sleep until the handler wakes it, outside of interrupt context and with a timeout. So
    ///   that nothing is lost, the handler counts, and a thread sleeps only if the count is what it was when
    ///   `relax` last returned to it.
    ///
    /// The driver looks once before the first call, so that a wait that is over costs none.
    ///
    /// [`InstanceConfig::deadline`]: crate::InstanceConfig::deadline
    /// [`InstanceConfig::completion`]: crate::InstanceConfig::completion
    /// [`Completion::Event`]: crate::Completion::Event
    /// [`Completion::Interrupt`]: crate::Completion::Interrupt
    fn relax(&self);

    /// Follows what the driver does: a hook for tracepoints. Nothing unless overridden, and then nothing of it is left in
    /// what is compiled.
    ///
    /// It is called in the middle of things ([`trace`](crate::trace) says where), so an implementation only writes down
    /// what it is given.
    #[inline(always)]
    fn trace(&self, event: &Trace<'_>) {
        let _ = event;
    }

    /// The clock: nanoseconds since some fixed moment; never goes back. Deadlines, which are [`Duration`]s where somebody
    /// writes or reads one, are measured with it.
    fn now(&self) -> u64;
}

/// `duration` in what [`Platform::now`] counts. One that is too long for that is as good as for ever.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
