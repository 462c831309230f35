// SPDX-License-Identifier: MIT OR Apache-2.0
//! What descriptors of translation tables break (§15.1 to §15.3, §16.3, §8.2).

use super::sizes::beyond;
use super::{Rule, check, rule};
use crate::descriptor::{Form, Meaning, Stage, Stage1Page, Stage1Table, Stage2Page};

/// Where a descriptor stands, and what its tables are used with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// How it is read.
    pub form: Form,
    /// The first input address that its entry is for.
    pub input: u64,
    /// Bits of the largest address that may come out: [`granule::output_bits`](crate::granule::output_bits) of
    /// CD.IPS or STE.S2PS.
    pub output_bits: u32,
    /// Stage 1: the tables are for StreamWorld EL2, which knows one privilege (§16.1).
    pub one_privilege: bool,
    /// Stage 2: IDR3.XNX, execution may depend on privilege (§16.2).
    pub xnx: bool,
    /// Hardware marks tables as accessed: CD.HAFT or STE.S2HAFT where IDR0.HTTU is 3 (§14).
    pub haft: bool,
    /// IDR3.BBML: nT means something from 1 on (§8.2).
    pub bbml: u64,
}

/// Whether `descriptor` is one that software may store at `place`. Hardware takes some that are not, and faults, or ignores
/// bits. One that is not valid breaks nothing.
///
/// Not asked is what no place alone can tell: whether members of a contiguous group are alike, and whether the types
/// that AttrIndx chooses from, in CD.MAIR, are reserved ones, which hardware reads as others (§6).
///
/// # Errors
/// The first rule that is broken.
pub fn descriptor(descriptor: u64, place: &Place) -> Result<(), Rule> {
    let (form, stage_2) = (&place.form, place.form.stage == Stage::Two);
    match form.read(descriptor) {
        Meaning::Invalid => Ok(()),
        Meaning::Reserved => Err(rule("15.1", "Type", "no block or page can be here")),
        Meaning::Table { next, .. } => {
            check!(
                form.reserved(descriptor) != 0,
                "15.2",
                "word 0",
                "has reserved bits that are set"
            );
            check!(
                beyond(next, place.output_bits),
                "15.3",
                "NextTable",
                "is beyond the output size"
            );
            let table = Stage1Table([descriptor]);
            check!(table.af() && !place.haft, "15.2", "AF", "must be 0 without HAFT");
            check!(!stage_2 && table.ns_table(), "15.2", "NSTable", "is for Secure tables");
            Ok(())
        }
        Meaning::Leaf { address, group_log2, .. } => {
            let hint = Stage1Page([descriptor]).contiguous();
            check!(hint && group_log2.is_none(), "15.1", "Contiguous", "no group can be here");
            check!(
                form.reserved(descriptor) != 0,
                "15.3",
                "word 0",
                "has reserved bits that are set"
            );
            check!(beyond(address, place.output_bits), "15.3", "OA", "is beyond the output size");
            let group = group_log2.map_or(0, |log2| (1u64 << log2) - 1);
            check!(
                (address ^ place.input) & group != 0,
                "8.2",
                "Contiguous",
                "a group lies at multiples of its size"
            );
            // Of a page it is an address bit.
            let nt = form.level < 3 && descriptor & 1 << 16 != 0;
            check!(nt && place.bbml == 0, "15.3", "nT", "must be 0 without BBML");
            // With LPA2, address bits are in its place.
            let sh = if form.lpa2() { 0 } else { Stage1Page([descriptor]).sh() };
            check!(sh == 1, "15.3", "SH", "1 is reserved");
            if stage_2 { stage_2_leaf(descriptor, place) } else { stage_1_leaf(descriptor, place) }
        }
    }
}

fn stage_1_leaf(descriptor: u64, place: &Place) -> Result<(), Rule> {
    let leaf = Stage1Page([descriptor]);
    check!(leaf.ns(), "15.3", "NS", "is for Secure tables");
    if place.one_privilege {
        check!(leaf.ng(), "15.3", "nG", "must be 0: there are no ASIDs under EL2");
        if !place.form.pie {
            check!(leaf.ap() & 1 == 0, "15.3", "AP", "bit 1 must be 1 with one privilege");
            check!(leaf.pxn(), "15.3", "PXN", "must be 0 with one privilege");
        }
    }
    Ok(())
}

fn stage_2_leaf(descriptor: u64, place: &Place) -> Result<(), Rule> {
    let leaf = Stage2Page([descriptor]);
    let reserved = if place.form.fwb {
        // The highest bit is looked at among the reserved ones.
        leaf.mem_attr() & 0b111 == 0b100
    } else {
        leaf.mem_attr() & 0b11 == 0 && leaf.mem_attr() != 0
    };
    check!(reserved, "16.3", "MemAttr", "is a reserved type");
    check!(
        !place.form.pie && !place.xnx && leaf.xn() & 1 != 0,
        "15.3",
        "XN",
        "its lower bit must be 0 without XNX"
    );
    Ok(())
}
