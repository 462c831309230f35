// SPDX-License-Identifier: MIT OR Apache-2.0
//! What hardware marks in leaves (§14): that a device has accessed what is mapped, or written it.
//!
//! `DBM` says that hardware may mark; whether it has is the bit that otherwise permits writes. Hardware exchanges a leaf
//! for the marked one in one atomic step, and only if it is still what was read: a leaf that is cleared stays so, and what
//! clears it with an exchange knows whether it was marked. So everything that such a leaf may lose by, here and elsewhere
//! in the crate, is an exchange or an atomic operation on one bit.

use core::sync::atomic::{AtomicU64, Ordering};

/// `DBM` of a leaf (§15.3).
pub(crate) const DBM: u64 = 1 << 51;

/// `AF` of a leaf.
const AF: u64 = 1 << 10;

/// AP\[2\] at stage 1, which forbids writes; S2AP\[1\] at stage 2, which permits them.
const WRITE: u64 = 1 << 7;

/// A leaf, or an empty entry, as it is when it was written: dirty, if hardware may mark it, and accessed.
#[inline]
pub(crate) const fn written<const STAGE: u8>(leaf: u64) -> u64 {
    match (leaf & DBM, STAGE) {
        _ if leaf == 0 => 0,
        (0, _) => leaf | AF,
        (_, 1) => leaf & !WRITE | AF,
        _ => leaf | WRITE | AF,
    }
}

/// A leaf that hardware may mark at any time. A trait only so that the protocol can be run on a checker's atomics.
pub(crate) trait Marked {
    fn read(&self) -> u64;
    /// Takes what is there, and leaves nothing.
    fn empty(&self) -> u64;
    /// Sets bits; gives what was there.
    fn or(&self, bits: u64) -> u64;
    /// Clears all but `bits`; gives what was there.
    fn and(&self, bits: u64) -> u64;
}

// Release and acquire: whoever is told of a mark sees what was written before it was made.
impl Marked for AtomicU64 {
    fn read(&self) -> u64 {
        self.load(Ordering::Acquire)
    }

    fn empty(&self) -> u64 {
        self.swap(0, Ordering::AcqRel)
    }

    fn or(&self, bits: u64) -> u64 {
        self.fetch_or(bits, Ordering::AcqRel)
    }

    fn and(&self, bits: u64) -> u64 {
        self.fetch_and(bits, Ordering::AcqRel)
    }
}

/// What is done to leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sweep {
    /// Nothing.
    Read(Flag),
    /// Leaves lose the flag.
    Clear(Flag),
    /// Leaves are unmapped, and it is told whether they were dirty.
    Take,
}

/// What was done to some leaves: how many bytes were unmapped, and whether one had the flag.
#[derive(Clone, Copy, Default)]
pub(crate) struct Swept {
    pub(crate) bytes: u64,
    pub(crate) set: bool,
}

impl Sweep {
    /// Whether a leaf that is there was stored to, if that is what was found.
    #[inline]
    pub(crate) const fn stores(self, set: bool) -> bool {
        match self {
            Self::Read(_) => false,
            Self::Clear(_) => set,
            Self::Take => true,
        }
    }

    /// Does to one leaf, of `size` bytes, what is to be done.
    #[inline]
    pub(crate) fn leaf<M: Marked, const STAGE: u8>(self, cell: &M, size: u64) -> Swept {
        let value = cell.read();
        let is_set = |flag: Flag| flag.is_set::<STAGE>(value);
        match self {
            Self::Read(flag) => Swept { bytes: 0, set: is_set(flag) },
            Self::Clear(flag) => {
                Swept { bytes: 0, set: is_set(flag) && flag.take::<_, STAGE>(cell) }
            }
            Self::Take if value == 0 => Swept::default(),
            // The exchange is the last moment at which hardware can have marked the leaf.
            Self::Take => Swept { bytes: size, set: Flag::Dirty.is_set::<STAGE>(cell.empty()) },
        }
    }
}

/// What is asked about a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    /// Whether it was written.
    Dirty,
    /// Whether it was accessed.
    Accessed,
}

impl Flag {
    /// Whether `leaf` has it. An empty entry has none.
    #[inline]
    pub(crate) const fn is_set<const STAGE: u8>(self, leaf: u64) -> bool {
        match self {
            Self::Accessed => leaf & AF != 0,
            Self::Dirty => leaf & DBM != 0 && (leaf & WRITE == 0) == (STAGE == 1),
        }
    }

    /// Takes it from a leaf that has it; gives whether it still had.
    ///
    /// The leaf is the caller's, so nobody else clears it meanwhile, but for a call of the caller's own that unmaps it.
    #[inline]
    pub(crate) fn take<M: Marked, const STAGE: u8>(self, cell: &M) -> bool {
        let before = match self {
            Self::Accessed => cell.and(!AF),
            Self::Dirty if STAGE == 1 => cell.or(WRITE),
            Self::Dirty => cell.and(!WRITE),
        };
        self.is_set::<STAGE>(before)
    }
}

#[cfg(all(test, loom))]
mod tests {
    //! A device writes through a TLB while its leaf is read and cleared, or unmapped: after the invalidation every write
    //! has been reported, or has a mark that is found next time.

    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicU64, Ordering, fence};
    use loom::thread;

    use super::{AF, DBM, Flag, Marked, Sweep, WRITE};

    impl Marked for AtomicU64 {
        fn read(&self) -> u64 {
            self.load(Ordering::Acquire)
        }

        fn empty(&self) -> u64 {
            self.swap(0, Ordering::AcqRel)
        }

        fn or(&self, bits: u64) -> u64 {
            self.fetch_or(bits, Ordering::AcqRel)
        }

        fn and(&self, bits: u64) -> u64 {
            self.fetch_and(bits, Ordering::AcqRel)
        }
    }

    /// A stage-1 leaf that is clean.
    const CLEAN: u64 = DBM | AF | WRITE | 3;

    struct Machine {
        leaf: AtomicU64,
        /// Whether the TLB holds the leaf: 1, and as dirty: 2.
        tlb: AtomicU64,
        /// Writes that arrived.
        memory: AtomicU64,
    }

    impl Machine {
        /// The device writes once: where the TLB holds the leaf as dirty, without a mark.
        fn write(&self) {
            if self.tlb.load(Ordering::Acquire) != 2 {
                let found = self.leaf.load(Ordering::Acquire);
                let marked = found & !WRITE;
                let swap = Ordering::AcqRel;
                if found == 0
                    || self.leaf.compare_exchange(found, marked, swap, Ordering::Acquire).is_err()
                {
                    // A fault, or hardware looks again: here it gives up.
                    return;
                }
                self.tlb.store(2, Ordering::Release);
            }
            // From here on a CMD_SYNC waits for it.
            self.memory.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Two writes of the device, and one sweep that is told of them.
    fn race(dirty: bool, gone: bool, sweep: fn(&AtomicU64) -> bool) {
        loom::model(move || {
            let machine = Arc::new(Machine {
                leaf: AtomicU64::new(if dirty { CLEAN & !WRITE } else { CLEAN }),
                tlb: AtomicU64::new(if dirty { 2 } else { 0 }),
                memory: AtomicU64::new(0),
            });
            let device = {
                let machine = machine.clone();
                thread::spawn(move || {
                    machine.write();
                    machine.write();
                })
            };
            let told = sweep(&machine.leaf);
            fence(Ordering::SeqCst);
            // The invalidation waits for what goes through the TLB: for all that the device does.
            device.join().expect("a device does not panic");
            let written = machine.memory.load(Ordering::Acquire) != 0;
            let left = machine.leaf.load(Ordering::Acquire);
            let marked = Flag::Dirty.is_set::<1>(left);
            assert!(!written || told || marked, "a write is lost");
            assert!(!gone || left == 0, "it is still mapped");
        });
    }

    fn clear(leaf: &AtomicU64) -> bool {
        Sweep::Clear(Flag::Dirty).leaf::<_, 1>(leaf, 1).set
    }

    fn take(leaf: &AtomicU64) -> bool {
        Sweep::Take.leaf::<_, 1>(leaf, 1).set
    }

    #[test]
    fn loom_a_write_is_told_or_leaves_a_mark() {
        race(false, false, clear);
        race(true, false, clear);
    }

    #[test]
    fn loom_a_write_to_what_is_unmapped_is_told() {
        race(false, true, take);
        race(true, true, take);
    }

    #[test]
    #[should_panic(expected = "a write is lost")]
    fn loom_what_is_read_and_then_unmapped_may_be_written_between() {
        race(false, false, |leaf| {
            let value = leaf.load(Ordering::Acquire);
            leaf.store(0, Ordering::Release);
            Flag::Dirty.is_set::<1>(value)
        });
    }

    #[test]
    #[should_panic(expected = "a write is lost")]
    fn loom_a_mark_that_is_stored_over_is_lost() {
        race(false, false, |leaf| {
            let value = leaf.load(Ordering::Acquire);
            leaf.store(value | WRITE, Ordering::Release);
            Flag::Dirty.is_set::<1>(value)
        });
    }
}
