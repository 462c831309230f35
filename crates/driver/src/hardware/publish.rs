// SPDX-License-Identifier: MIT OR Apache-2.0
//! How an SMMU gets to see what a CPU stored: the two ways to implement
//! [`Frames::publish`](crate::Frames::publish) on AArch64.

/// All of [`Frames::publish`](crate::Frames::publish) where every SMMU is coherent with the CPUs' caches: orders the
/// stores before it in front of those after it, for the SMMU, too.
///
/// `dmb oshst` on AArch64. Stores only, since all that it has to keep apart is a table from the descriptor that links it,
/// and an entry's words from each other. *Outer* shareable: an SMMU is an observer in that domain, and need not be in the
/// inner one, so that a fence of the language (`dmb ish`) would not do. Elsewhere it is such a fence, and is there
/// for tests.
#[inline(always)]
pub fn order_stores() {
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a barrier.
    unsafe {
        core::arch::asm!("dmb oshst", options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "aarch64"))]
    core::sync::atomic::fence(core::sync::atomic::Ordering::Release);
}

/// All of [`Frames::publish`](crate::Frames::publish) where an SMMU does not snoop: writes the lines of `bytes` bytes at
/// `start` back to memory, and waits until they are there.
///
/// * *By line*: `dc cvac` cleans the one that an address is in, to the point of coherency, from where all observers see
///   the same. The step is CTR_EL0.DminLine, the smallest line of all data and unified caches that the CPU controls, so
///   no cache is left out.
/// * *Nothing before it*: the stores that are to be cleaned come first by themselves. Maintenance of a line by address
///   is executed in program order with this CPU's accesses of that line, as long as that is Normal memory.
/// * *Whose stores*: all. The line is cleaned wherever it is dirty within its shareability domain, so that two CPUs
///   which store to one line and clean it one after the other both find their stores in memory.
/// * *`dsb sy` behind it*: maintenance is complete only after a DSB by the CPU that executed it, and one that waits for
///   loads and stores alike. What this CPU stores afterwards, such as the descriptor that links the table, comes
///   later for every observer of the system.
///
/// Reads CTR_EL0: EL1 or above, or EL0 where SCTLR_EL1.UCT lets it. CPUs with different lines are fine unless the caller
/// moves from one to another meanwhile. The first Cortex-A53 (r0p0 to r0p2: errata 819472, 824069, 826319, 827319) need
/// `dc civac` instead.
///
/// # Safety
/// The bytes are mapped as Normal memory.
#[cfg(target_arch = "aarch64")]
pub unsafe fn clean_to_poc(start: core::ptr::NonNull<u8>, bytes: usize) {
    let ctr: usize;
    // SAFETY: reads a register that says what caches are like, and has no effect.
    unsafe {
        core::arch::asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags));
    }
    // log2 of words of four bytes.
    let line = 4usize << (ctr >> 16 & 0xf);
    let first = start.addr().get() & !(line - 1);
    let end = start.addr().get().saturating_add(bytes);
    for at in (first..end).step_by(line) {
        // SAFETY: in a line with one of the bytes, which are mapped; it changes no value that a CPU can see. (It
        // counts as an access of memory, so that the compiler leaves stores before it where they are.)
        unsafe { core::arch::asm!("dc cvac, {}", in(reg) at, options(nostack, preserves_flags)) };
    }
    // SAFETY: a barrier.
    unsafe { core::arch::asm!("dsb sy", options(nostack, preserves_flags)) };
}
