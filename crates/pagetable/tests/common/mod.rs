// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory for tables as a machine with non-coherent walks has it: the CPU's view, and the walker's, which
//! learns of a store only when it is published. New frames hold valid-looking rubbish in the walker's.

#![allow(dead_code, reason = "each test binary uses a part")]

pub mod oracle;
pub mod run;
pub mod space;

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use smmuv3_pagetable::{FULL, Frames, Gather, Iova, PhysAddr, SYNCED, Table, UnmapError};

const BYTES: usize = 64 << 20;
const ALIGN: usize = 1 << 16;

/// Allocates upwards from a fixed address; frames that were freed are used again, newest first.
pub struct Arena {
    base: u64,
    layout: Layout,
    starts: [NonNull<u8>; 2],
    cpu: NonNull<u8>,
    walker: NonNull<u8>,
    state: Mutex<State>,
    hook: Mutex<Option<Hook>>,
}

/// Called with the address and the bytes of a `publish`, before it has an effect.
type Hook = Arc<dyn Fn(u64, usize) + Send + Sync>;

#[derive(Default)]
struct State {
    used: usize,
    live: BTreeMap<u64, usize>,
    freed: Vec<(u64, usize)>,
    /// Allocations until the next one fails.
    budget: Option<usize>,
    allocations: usize,
    publishes: usize,
    /// What was published, in order.
    log: Vec<(u64, usize)>,
    /// Those of them whose first or last word the walker had seen already.
    wasted: Vec<(u64, usize)>,
}

// SAFETY: the memory is owned, its bookkeeping is behind a mutex, and its content is used atomically.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    /// An arena whose first frame is at `base`, a multiple of 64 KiB. Host memory is taken as used.
    pub fn new(base: u64) -> Self {
        assert_eq!(base % 0x1_0000, 0);
        // Asking for alignment would make the host write zeros to all of it: take more and cut.
        let layout = Layout::from_size_align(BYTES + ALIGN, 16).expect("a valid layout");
        let view = || {
            // SAFETY: the layout's size is not zero.
            let start = NonNull::new(unsafe { alloc_zeroed(layout) }).expect("host memory");
            // SAFETY: less than `ALIGN` bytes on, which were allocated on top.
            (start, unsafe { start.add(start.align_offset(ALIGN)) })
        };
        let ((cpu_start, cpu), (walker_start, walker)) = (view(), view());
        let starts = [cpu_start, walker_start];
        let (state, hook) = (Mutex::default(), Mutex::default());
        Self { base, layout, starts, cpu, walker, state, hook }
    }

    /// Frames that are allocated and not freed.
    pub fn live(&self) -> usize {
        self.state.lock().expect("no test panicked").live.len()
    }

    /// Allocations made so far.
    pub fn allocations(&self) -> usize {
        self.state.lock().expect("no test panicked").allocations
    }

    /// Calls of `publish` so far.
    pub fn publishes(&self) -> usize {
        self.state.lock().expect("no test panicked").publishes
    }

    /// What was published since the last call, in order: addresses and bytes.
    pub fn take_log(&self) -> Vec<(u64, usize)> {
        std::mem::take(&mut self.state.lock().expect("no test panicked").log)
    }

    /// Those of all that were published whose first or last word the walker had seen already.
    pub fn wasted(&self) -> Vec<(u64, usize)> {
        self.state.lock().expect("no test panicked").wasted.clone()
    }

    /// Words of live frames that the walker sees other than the CPU does. The marks that a table descriptor was
    /// published, and that its table is full, mean nothing to it.
    pub fn unpublished(&self) -> Vec<u64> {
        let live = self.state.lock().expect("no test panicked").live.clone();
        let words = live.iter().flat_map(|(&pa, &size)| (pa..pa + size as u64).step_by(8));
        words.filter(|&pa| self.differs(pa)).collect()
    }

    fn differs(&self, pa: u64) -> bool {
        let walker = self.cell(self.walker, pa).load(Ordering::Relaxed);
        (self.read(pa) ^ walker) & !(SYNCED | FULL) != 0
    }

    /// Lets `hook` act as another CPU whenever something is about to be published.
    pub fn on_publish(&self, hook: impl Fn(u64, usize) + Send + Sync + 'static) {
        *self.hook.lock().expect("no test panicked") = Some(Arc::new(hook));
    }

    /// Lets the next `count` allocations succeed and later ones fail; `None` lifts it.
    pub fn limit(&self, count: Option<usize>) {
        self.state.lock().expect("no test panicked").budget = count;
    }

    fn offset(&self, pa: u64, bytes: usize) -> usize {
        let offset = usize::try_from(pa.checked_sub(self.base).expect("pa in the arena")).unwrap();
        assert!(offset + bytes <= BYTES, "pa in the arena");
        offset
    }

    fn cell(&self, view: NonNull<u8>, pa: u64) -> &AtomicU64 {
        assert_eq!(pa % 8, 0);
        // SAFETY: inside the view, as `offset` asserts, aligned, and used atomically only.
        unsafe { view.add(self.offset(pa, 8)).cast::<AtomicU64>().as_ref() }
    }

    /// The descriptor at `pa` as the CPU sees it.
    pub fn read(&self, pa: u64) -> u64 {
        self.cell(self.cpu, pa).load(Ordering::Relaxed)
    }

    /// Where the leaf for `iova` is. For tables of 4 KiB pages that begin at level 0.
    pub fn descriptor<const STAGE: u8>(&self, table: &Table<12, STAGE>, iova: u64) -> u64 {
        let mut pa = table.root().0 + (iova >> 39) * 8;
        for shift in [30, 21, 12] {
            let value = self.read(pa);
            if value & 0b11 != 0b11 {
                break;
            }
            pa = (value & 0xFFFF_FFFF_F000) + (iova >> shift & 0x1FF) * 8;
        }
        pa
    }

    /// Exchanges the descriptor at `pa`, if it is `old`, as hardware whose walks are coherent does.
    pub fn exchange(&self, pa: u64, old: u64, new: u64) -> bool {
        let cell = self.cell(self.cpu, pa);
        let done = cell.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if done {
            self.cell(self.walker, pa).store(new, Ordering::Relaxed);
        }
        done
    }

    /// The descriptor at `pa` as the walker sees it; `None` where no frame is.
    pub fn walker_sees(&self, pa: u64) -> Option<u64> {
        let state = self.state.lock().expect("no test panicked");
        let (&frame, &size) = state.live.range(..=pa).next_back()?;
        (pa < frame + size as u64).then(|| self.cell(self.walker, pa).load(Ordering::Relaxed))
    }

    /// Every live descriptor that is not zero, with its address.
    pub fn image(&self) -> BTreeMap<u64, u64> {
        let live = self.state.lock().expect("no test panicked").live.clone();
        live.iter()
            .flat_map(|(&pa, &size)| (pa..pa + size as u64).step_by(8))
            .map(|pa| (pa, self.read(pa)))
            .filter(|&(_, value)| value != 0)
            .collect()
    }

    /// Walks for `iova` as hardware does, from bits alone, in the walker's view. Gives the output address
    /// and the leaf with its size. For addresses of 48 bits; [`oracle`] knows all.
    pub fn walk<const SHIFT: u32, const STAGE: u8, const WIDE: bool>(
        &self,
        table: &Table<SHIFT, STAGE, WIDE>,
        iova: u64,
    ) -> Option<(u64, u64, u64)> {
        if iova >> table.input_bits() != 0 {
            return None;
        }
        let bits = SHIFT - 3;
        assert!(!WIDE);
        let mut level = u32::try_from(table.start_level()).unwrap();
        let mut base = table.root().0;
        let mut mask = u64::MAX;
        loop {
            let shift = SHIFT + (3 - level) * bits;
            let pa = base + 8 * (iova >> shift & mask);
            {
                let state = self.state.lock().expect("no test panicked");
                let (&frame, &size) = state.live.range(..=pa).next_back().expect("a live frame");
                assert!(pa < frame + size as u64, "the walker read {pa:#x}, which is not a table");
            }
            let value = self.cell(self.walker, pa).load(Ordering::Relaxed);
            let size = 1 << shift;
            let address = value & 0x0000_FFFF_FFFF_F000;
            match (value & 3, level) {
                (1, 1 | 2) | (3, 3) => {
                    // Of a block, bit 16 is nT.
                    let address = address & if level == 3 { !0 } else { !(1 << 16) };
                    assert_eq!(address & (size - 1), 0, "a leaf's address is aligned to its size");
                    return Some((address | iova & (size - 1), size, value));
                }
                (3, _) => {
                    base = address;
                    level += 1;
                    mask = (1 << bits) - 1;
                }
                _ => {
                    assert_eq!(value, 0, "neither a descriptor nor empty");
                    return None;
                }
            }
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for start in self.starts {
            // SAFETY: allocated in `new` with this layout.
            unsafe { dealloc(start.as_ptr(), self.layout) };
        }
    }
}

// SAFETY: frames are disjoint parts of one zeroed allocation, zeroed again when they are reused, which
// stays in place until the arena is dropped; `base` and the allocation are equally aligned.
unsafe impl Frames for Arena {
    fn allocate(&self, size: usize, align: usize) -> Option<PhysAddr> {
        let mut state = self.state.lock().expect("no test panicked");
        if let Some(budget) = &mut state.budget {
            *budget = budget.checked_sub(1)?;
        }
        state.allocations += 1;
        let again = state.freed.iter().rposition(|&(pa, s)| s == size && pa % align as u64 == 0);
        let pa = match again {
            Some(index) => state.freed.remove(index).0,
            None => {
                let at = state.used.next_multiple_of(align);
                assert!(at + size <= BYTES, "the arena is too small for this test");
                state.used = at + size;
                self.base + at as u64
            }
        };
        state.live.insert(pa, size);
        for at in (pa..pa + size as u64).step_by(8) {
            self.cell(self.cpu, at).store(0, Ordering::Relaxed);
            self.cell(self.walker, at).store(0xFFFF_0000_0000_0703, Ordering::Relaxed);
        }
        Some(PhysAddr(pa))
    }

    unsafe fn free(&self, frame: PhysAddr, size: usize, _align: usize) {
        let mut state = self.state.lock().expect("no test panicked");
        assert_eq!(state.live.remove(&frame.0), Some(size), "freed what was not allocated");
        state.freed.push((frame.0, size));
    }

    fn pointer(&self, pa: PhysAddr) -> NonNull<u8> {
        // SAFETY: inside the view, as `offset` asserts.
        unsafe { self.cpu.add(self.offset(pa.0, 8)) }
    }

    fn publish(&self, pa: PhysAddr, bytes: usize) {
        assert!(bytes > 0 && bytes.is_multiple_of(8), "published {bytes} bytes");
        {
            let news = self.differs(pa.0) && self.differs(pa.0 + bytes as u64 - 8);
            let mut state = self.state.lock().expect("no test panicked");
            state.log.push((pa.0, bytes));
            if !news {
                state.wasted.push((pa.0, bytes));
            }
        }
        let hook = self.hook.lock().expect("no test panicked").clone();
        if let Some(hook) = hook {
            hook(pa.0, bytes);
        }
        for at in (pa.0..pa.0 + bytes as u64).step_by(8) {
            let value = self.cell(self.cpu, at).load(Ordering::Relaxed);
            self.cell(self.walker, at).store(value, Ordering::Relaxed);
        }
        self.state.lock().expect("no test panicked").publishes += 1;
    }
}

/// What one round of an unmap gathered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    pub range: core::ops::Range<u64>,
    pub leaf_size: Option<u64>,
    /// {frame, level} of the unlinked tables.
    pub tables: Vec<(u64, u32)>,
}

pub fn round<const N: usize>(gather: &Gather<N>) -> Round {
    let tables = gather.tables().iter().map(|table| (table.frame().0, table.level())).collect();
    Round { range: gather.range(), leaf_size: gather.leaf_size(), tables }
}

/// Unmaps to the end with a gather for `N` tables; gives the bytes and what each round gathered.
pub fn unmap<const N: usize, const SHIFT: u32, const STAGE: u8, const WIDE: bool>(
    table: &Table<SHIFT, STAGE, WIDE>,
    arena: &Arena,
    iova: u64,
    len: u64,
) -> Result<(u64, Vec<Round>), UnmapError> {
    let mut gather = Gather::<N>::sized();
    let mut rounds = Vec::new();
    // SAFETY: the tests give each range to one thread at a time.
    let mut cursor = unsafe { table.unmap(arena, Iova(iova), len)? };
    while cursor.next(&mut gather) {
        let range = gather.range();
        assert!(!range.is_empty());
        assert!(table.has_contiguous() || iova <= range.start && range.end <= iova + len);
        rounds.push(round(&gather));
        // SAFETY: there is no hardware that could hold on to the tables.
        unsafe { gather.free_tables(arena) };
        gather.clear();
    }
    assert!(cursor.is_done());
    Ok((cursor.unmapped(), rounds))
}
