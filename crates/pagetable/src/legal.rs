// SPDX-License-Identifier: MIT OR Apache-2.0
//! Descriptors are judged before they are stored, in builds with debug assertions: by the rules of
//! [`legality::descriptor`] (§15, §16), for what the table was made for. In others nothing of this is left.
//!
//! Judged is whatever a map or a split stores. What was refused before it has an error; what fails here is a mistake of the
//! crate's, or [`Frames`](crate::Frames) that do not keep their promise. Not judged anew are leaves that lose their hint, or
//! get and lose flags that hardware sets as well, nor the marks of software in a descriptor: a legal one stays so.

use smmuv3_formats::descriptor::{Form, Stage};
use smmuv3_formats::legality::{self, Place};

use crate::Table;
use crate::geometry::Geometry;

impl<const SHIFT: u32, const STAGE: u8, const WIDE: bool> Table<SHIFT, STAGE, WIDE> {
    /// A descriptor that is to be stored in the entry, of `1 << shift` bytes, that holds the offset `at`.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn judge(&self, descriptor: u64, at: u64, shift: u32) {
        if cfg!(debug_assertions) {
            self.judge_one(descriptor, at, shift);
        }
    }

    /// `count` leaves of `1 << shift` bytes that are to be stored from the offset `at` on, each so much further than the one
    /// before.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn judge_run(&self, first: u64, count: usize, at: u64, shift: u32) {
        if cfg!(debug_assertions) {
            for done in (0..count as u64).map(|nth| nth << shift) {
                self.judge_one(first.wrapping_add(done), at + done, shift);
            }
        }
    }

    #[inline(never)]
    #[track_caller]
    fn judge_one(&self, descriptor: u64, at: u64, shift: u32) {
        let form = Form {
            stage: if STAGE == 1 { Stage::One } else { Stage::Two },
            granule: Geometry::<SHIFT, WIDE>::GRANULE,
            level: Geometry::<SHIFT, WIDE>::level(shift),
            ds: Geometry::<SHIFT, WIDE>::LPA2,
            // Wide tables need an instance with 52-bit output.
            output_bits: if WIDE { 52 } else { 48 },
            pie: false,
            fwb: STAGE == 2 && self.encoding.fwb,
        };
        let place = Place {
            form,
            input: self.at(at >> shift << shift).0,
            output_bits: self.output_bits(),
            one_privilege: STAGE == 1 && self.encoding.one_privilege,
            xnx: self.encoding.xnx,
            haft: false,
            // nT is set in blocks at BBML 1 alone.
            bbml: u64::from(self.marks_blocks),
        };
        if let Err(rule) = legality::descriptor(descriptor, &place) {
            let level = form.level;
            debug_assert!(
                false,
                "an illegal descriptor of level {level}, {descriptor:#018x}: {rule}"
            );
        }
    }
}

#[cfg(all(test, debug_assertions, not(loom)))]
mod tests {
    //! Tables are spoiled by hand, so that what is stored next is illegal: every way to a store must tell.

    use core::ptr::NonNull;
    use core::sync::atomic::Ordering;
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::string::String;

    use smmuv3_formats::{Iova, PhysAddr};

    use crate::table::entry;
    use crate::{Attributes, Bbml, Frames, Gather, Prot, Stage1Table4K, Table, TableConfig};

    /// The host's memory, at its own addresses. Frames begin so many bytes later than they should.
    struct Host(u64);

    impl Host {
        fn layout(size: usize, align: usize) -> Layout {
            Layout::from_size_align(2 * size, align).expect("sizes are small powers of two")
        }
    }

    // SAFETY: the memory is the host's, of which more is taken than asked for; `Host(0)` aligns it, others do not, and then
    // nothing is read there but by atomics of eight bytes. Published memory is seen as it is.
    unsafe impl Frames for Host {
        fn allocate(&self, size: usize, align: usize) -> Option<PhysAddr> {
            // SAFETY: the layout's size is not zero.
            let start = NonNull::new(unsafe { alloc_zeroed(Self::layout(size, align)) })?;
            Some(PhysAddr(start.as_ptr().expose_provenance() as u64 + self.0))
        }

        unsafe fn free(&self, frame: PhysAddr, size: usize, align: usize) {
            // SAFETY: the caller says that it came from `allocate`, with these values.
            unsafe {
                dealloc(
                    self.pointer(frame).sub(self.0 as usize).as_ptr(),
                    Self::layout(size, align),
                )
            }
        }

        fn pointer(&self, pa: PhysAddr) -> NonNull<u8> {
            let pointer = core::ptr::with_exposed_provenance_mut(pa.0 as usize);
            NonNull::new(pointer).expect("a live allocation is not at zero")
        }

        fn publish(&self, _: PhysAddr, _: usize) {}
    }

    /// What is said when that is done.
    fn said(what: impl FnOnce()) -> String {
        let panic =
            catch_unwind(AssertUnwindSafe(what)).expect_err("an illegal descriptor was stored");
        panic.downcast_ref::<String>().expect("a text").clone()
    }

    const HOST: Host = Host(0);
    const RW: Attributes = Attributes::normal(Prot::READ.union(Prot::WRITE));
    const AT: u64 = 0x4000_0000;

    fn map<const SHIFT: u32>(table: &Table<SHIFT, 1>, frames: &Host, iova: u64, pa: u64, len: u64) {
        // SAFETY: nobody else knows the table, and no device uses it.
        unsafe { table.map(frames, Iova(iova), PhysAddr(pa), len, RW).expect("it is free") }
    }

    /// A table with one page, so that those below the first exist there.
    fn begun(config: &TableConfig) -> Stage1Table4K {
        let table = Stage1Table4K::with(&HOST, config).expect("the host has memory");
        map(&table, &HOST, AT, AT, 0x1000);
        table
    }

    #[test]
    fn every_way_of_a_map_is_judged() {
        // It is the short way of attributes that is spoilt.
        if !crate::FAST {
            return;
        }
        let plain = TableConfig::new(48, 48);
        let groups = plain.with_contiguous(Bbml::Two);
        for (what, config, at, pa, len) in [
            ("a page", plain, 0x1000, 0x1000, 0x1000),
            ("a few pages of a table", plain, 0x1000, 0x1000, 0x3000),
            ("many pages of a table", plain, 0x1_0000, 0x1_0000, 0x2_0000),
            ("a block", plain, 0x20_0000, 0x20_0000, 0x20_0000),
            ("blocks", plain, 0x20_0000, 0x20_0000, 0x60_0000),
            ("pages of two tables", plain, 0x1F_E000, 0x1F_E000, 0x4000),
            ("a large block", plain, AT, AT, AT),
            ("a group", groups, 0x1_0000, 0x1_0000, 0x1_0000),
            ("as many pages, whose outputs are no group", groups, 0x1_0000, 0x1000, 0x1_0000),
            ("less than a group", groups, 0x1000, 0x1000, 0x3000),
        ] {
            let mut table = begun(&config);
            table.encoding = table.encoding.spoilt();
            let said = said(|| map(&table, &HOST, AT + at, pa, len));
            assert!(said.contains("NS: is for Secure tables (§15.3)"), "{what}: {said}");
        }
    }

    /// Frames that are not aligned as they promise: then a descriptor can't hold their address.
    #[test]
    fn a_new_table_is_judged() {
        let table = Table::<14, 1>::new(&HOST, 47, 48).expect("the host has memory");
        let said = said(|| map(&table, &Host(0x1000), AT, AT, 0x4000));
        assert!(said.contains("word 0: has reserved bits that are set (§15.2)"), "{said}");
    }

    #[test]
    fn a_table_in_the_place_of_a_block_is_judged() {
        // Else no block is ever split.
        if !cfg!(feature = "resizing") {
            return;
        }
        let config = TableConfig::new(47, 48).with_splitting(Bbml::Two);
        let table = Table::<14, 1>::with(&HOST, &config).expect("the host has memory");
        map(&table, &HOST, AT, AT, 0x200_0000);
        let late = Host(0x1000);
        // SAFETY: as in `map`.
        let mut split = unsafe { table.split(&late, Iova(AT), 0x4000) }.expect("a range");
        let said = said(|| {
            let _ = split.next(&mut Gather::new());
        });
        assert!(said.contains("word 0: has reserved bits that are set (§15.2)"), "{said}");
    }

    /// A block that is spoilt after it was mapped, and then split: by its mark, and by the leaves in its place.
    #[test]
    fn splits_are_judged() {
        // Else no block is ever split.
        if !cfg!(feature = "resizing") {
            return;
        }
        for (bbml, level) in [(Bbml::One, 2), (Bbml::Two, 3)] {
            let table = begun(&TableConfig::new(48, 48).with_splitting(bbml));
            let block = AT + 0x20_0000;
            map(&table, &HOST, block, block, 0x20_0000);
            // SAFETY: the tables of level 0 to 2 are live, and full ones, and nobody else knows them.
            unsafe {
                let mut frame = table.root();
                for shift in [39, 30] {
                    frame = PhysAddr(table.load(&HOST, frame, block, shift) & 0xFFFF_FFFF_F000);
                }
                let cell = entry(&HOST, frame, table.index(block, 21));
                cell.as_ref().fetch_or(1 << 5, Ordering::Relaxed);
            }
            // SAFETY: as in `map`.
            let mut split = unsafe { table.split(&HOST, Iova(block), 0x1000) }.expect("a range");
            let said = said(|| {
                let _ = split.next(&mut Gather::new());
            });
            assert!(said.contains("NS: is for Secure tables"), "{said}");
            assert!(said.contains(std::format!("of level {level}").as_str()), "{said}");
        }
    }

    #[test]
    fn what_is_judged_is_what_the_table_was_made_for() {
        let mut table = Stage1Table4K::new(&HOST, 48, 48).expect("the host has memory");
        table.output_end = 1 << 44;
        let page = 0x0060_0000_9000_0F43;
        table.judge(page, AT, 12);
        table.judge(0, AT, 12);
        let beyond = said(|| table.judge(page | 1 << 44, AT, 12));
        assert!(
            beyond
                .contains("of level 3, 0x0060100090000f43: OA: is beyond the output size (§15.3)")
        );
        // Of level 0 there are no blocks.
        assert!(
            said(|| table.judge(0x0060_0000_0000_0F41, 0, 39)).contains("Type: no block or page")
        );
        let group = page | 1 << 52;
        table.judge_run(group, 16, AT, 12);
        assert!(said(|| table.judge_run(group, 16, AT + 0x1000, 12)).contains("(§8.2)"));
    }
}
