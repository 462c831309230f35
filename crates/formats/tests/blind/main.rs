// SPDX-License-Identifier: MIT OR Apache-2.0
//! A second table of what is legal (§4.1, §5, §6, §7), written from the architecture reference by somebody
//! who had not seen the functions that judge it.
//!
//! A row has an image in raw words that is legal where everything is there, at most one change of it, what
//! an SMMU says of itself otherwise, and the verdict. The rule must be named, too. A row that is illegal has
//! one cause: without its change, or with everything there, it is legal, and the runner looks.
//!
//! What the reference leaves open is in no row:
//! * §4.1, 02: Stride and NS of PREFETCH_ADDR are uncertain (`[?]`), and in v3.0 Stride may be illegal;
//! * §4.1, 07: VMID's place in CFGI_VMS_PIDM is uncertain, so no row gives one; no register says `no VMS`;
//! * §4.1, 20 to 23: with Hyp = 1 and S1P = 0. There is no such SMMU;
//! * §4.1, 5A and 73: the places of S_S2_IPA.NS and of DPTI_PA's operands are uncertain;
//! * §4.1, 80 to 8F: left to the implementation;
//! * §4.1: reserved bits that are set, illegal or ignored as the implementation likes. SSec is one of them where the
//!   command does not list it;
//! * §4.2: upper bytes of ASID and VMID where 8 bits are (uncertain), VMID without stage 2 (unpredictable), TG, NUM,
//!   SCALE and TTL without RIL (reserved bits), ATC_INV with Size > 52 (illegal, or an unknown span);
//! * §7.1(4): EATS = 2 or 3 with ATSCHK = 0 acts as 0, and it isn't said which of both the rule is for. EATS = 1 and
//!   S2S = 1 with Config = 101 is constrained unpredictable in v3.0;
//! * §7.1(6d): S1ContextPtr beyond IAS of a nested stream is C_BAD_STE, or a fault of stage 2;
//! * §7.1(7f): S2TTB beyond 40 bits of an LPAE table, or with S2DS = 1 without IDR5.DS (a reserved bit; so is CD.DS
//!   but for TxSZ, of which §7.2(9) speaks);
//! * §7.1(7g, 7h), §7.2(9): T0SZ, SL0 and TxSZ of LPAE, whose encoding is not given. So AA64 = 0 under EL2 is in no row:
//!   its EPD is ignored. Sizes out of range in v3.0 are illegal or clamped;
//! * §7.1(7h): SL0_2 with 16 or 64 KiB, or without S2DS, is not in the table of §15.4. What OAS alone forbids there is
//!   uncertain;
//! * §7.2(9): TTB1, T1SZ and TG1 under EL2 are uncertain. §7.2(10): so it is with PIIU there, where nobody is
//!   unprivileged.

mod cd;
mod command;
mod l1;
mod ste;

use smmuv3_formats::legality::{Implementation, Rule};
use smmuv3_formats::register::{Aidr, Idr0, Idr1, Idr3, Idr5};

/// Every feature of v3.4 but those that forbid something: IDR0, IDR1, IDR3, IDR5, AIDR, and CR2.E2H.
///
/// Stages 1 and 2, both formats, both endiannesses, HTTU with table descriptors, Hyp, ATS with split stage,
/// 16-bit ASIDs and VMIDs, PRI, two-level tables, stalls and termination; 16-bit StreamIDs, 20-bit
/// SubstreamIDs; small tables, RIL, FWB, DPT, permission indirection and overlays; 52 bits of output and of
/// virtual address, all granules, DS.
const FULL: [u64; 6] = [0x089F_F6FF, 0x8E73_9D10, 0x00BF_F7BC, 0x0020_04F6, 0x04, 0];

/// Bits `hi:lo` of a word, and what they become.
#[derive(Clone, Copy, Debug)]
struct Set {
    word: usize,
    hi: u32,
    lo: u32,
    value: u64,
}

const fn set(word: usize, hi: u32, lo: u32, value: u64) -> Set {
    Set { word, hi, lo, value }
}

// Features that are absent, or otherwise than in `FULL`: word, bits and value as §2.3 has them.
const NO_S2P: Set = set(0, 0, 0, 0);
const NO_S1P: Set = set(0, 1, 1, 0);
const ONLY_LPAE: Set = set(0, 3, 2, 1);
const NO_LPAE: Set = set(0, 3, 2, 2);
const HTTU_NONE: Set = set(0, 7, 6, 0);
const HTTU_AF: Set = set(0, 7, 6, 1);
const HTTU_DIRTY: Set = set(0, 7, 6, 2);
const NO_HYP: Set = set(0, 9, 9, 0);
const NO_ATS: Set = set(0, 10, 10, 0);
const NO_SPLIT: Set = set(0, 11, 11, 1);
const ASID8: Set = set(0, 12, 12, 0);
const NO_SEV: Set = set(0, 14, 14, 0);
const NO_MSI: Set = set(0, 13, 13, 0);
const NO_PRI: Set = set(0, 16, 16, 0);
const VMID8: Set = set(0, 18, 18, 0);
const NO_CD2L: Set = set(0, 19, 19, 0);
const LITTLE: Set = set(0, 22, 21, 2);
const BIG: Set = set(0, 22, 21, 3);
const TERMINATE: Set = set(0, 25, 24, 1);
const FORCED: Set = set(0, 25, 24, 2);
const ABORT_ONLY: Set = set(0, 26, 26, 1);
const SSID0: Set = set(1, 10, 6, 0);
const SSID7: Set = set(1, 10, 6, 7);
const SSID8: Set = set(1, 10, 6, 8);
const NO_PBHA: Set = set(2, 3, 3, 0);
const NO_MPAM: Set = set(2, 7, 7, 0);
const NO_FWB: Set = set(2, 8, 8, 0);
const NO_STT: Set = set(2, 9, 9, 0);
const NO_DPT: Set = set(2, 15, 15, 0);
const NO_S1PI: Set = set(2, 18, 18, 0);
const NO_S2PI: Set = set(2, 19, 19, 0);
const NO_S2PO: Set = set(2, 20, 20, 0);
const OAS36: Set = set(3, 2, 0, 1);
const OAS40: Set = set(3, 2, 0, 2);
const OAS44: Set = set(3, 2, 0, 4);
const OAS48: Set = set(3, 2, 0, 5);
const NO_4K: Set = set(3, 4, 4, 0);
const NO_16K: Set = set(3, 5, 5, 0);
const NO_64K: Set = set(3, 6, 6, 0);
const NO_DS: Set = set(3, 7, 7, 0);
const VA48: Set = set(3, 11, 10, 0);
const E2H: Set = set(5, 0, 0, 1);

/// `words` with every change made.
///
/// # Panics
/// When a value does not fit into its bits: the row is wrong.
fn changed<const N: usize>(mut words: [u64; N], changes: &[Set]) -> [u64; N] {
    for set in changes {
        let ones = u64::MAX >> (63 - set.hi + set.lo);
        assert_eq!(set.value & !ones, 0, "{set:?} does not fit");
        words[set.word] = words[set.word] & !(ones << set.lo) | set.value << set.lo;
    }
    words
}

/// [`FULL`] with every change made.
fn implementation(ids: &[Set]) -> Implementation {
    let [idr0, idr1, idr3, idr5, aidr, e2h] = changed(FULL, ids);
    Implementation {
        idr0: Idr0(idr0 as u32),
        idr1: Idr1(idr1 as u32),
        idr3: Idr3(idr3 as u32),
        idr5: Idr5(idr5 as u32),
        aidr: Aidr(aidr as u32),
        e2h: e2h == 1,
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Legal,
    Illegal,
}

/// One row of a table.
struct Row<const N: usize> {
    /// The rule that is tried: §-number and, in 7, the rule's own.
    section: &'static str,
    what: &'static str,
    base: [u64; N],
    /// None, or one.
    change: &'static [Set],
    ids: &'static [Set],
    verdict: Verdict,
}

/// Rows as `illegal "7.1(6b)" "what": BASE { word[hi:lo] = value } [IDS];`.
macro_rules! rows {
    ($($verdict:ident $section:literal $what:literal: $base:ident
       {$($word:literal[$hi:literal:$lo:literal] = $value:literal)?} [$($id:ident),*];)*) => {
        &[$(crate::Row {
            section: $section,
            what: $what,
            base: $base,
            change: &[$(crate::set($word, $hi, $lo, $value))?],
            ids: &[$(crate::$id),*],
            verdict: crate::rows!(@ $verdict),
        }),*]
    };
    (@ legal) => { crate::Verdict::Legal };
    (@ illegal) => { crate::Verdict::Illegal };
}
pub(crate) use rows;

/// Judges every row by `judge`, and tells all that disagree at once.
///
/// # Panics
/// When a row's verdict is another, or an illegal one has no single cause.
fn run<const N: usize>(
    rows: &[Row<N>],
    judge: impl Fn(&[u64; N], &Implementation) -> Result<(), Rule>,
) {
    let mut wrong = Vec::new();
    for row in rows {
        let mut say = |why: String| {
            wrong.push(format!(
                "{} {}: {why} {:x?} {:x?}",
                row.section, row.what, row.change, row.ids
            ));
        };
        let image = changed(row.base, row.change);
        let said = judge(&image, &implementation(row.ids));
        match (row.verdict, said) {
            (Verdict::Legal, Ok(())) => {}
            (Verdict::Legal, Err(rule)) => say(format!("rejected, {rule}")),
            (Verdict::Illegal, Ok(())) => say("accepted".into()),
            (Verdict::Illegal, Err(rule)) => {
                if rule.section != row.section {
                    say(format!("rejected by another rule, {rule}"));
                }
                let unchanged = judge(&row.base, &implementation(row.ids));
                let complete = judge(&image, &implementation(&[]));
                // A row with neither is of what is never legal.
                let cause = !row.change.is_empty() || !row.ids.is_empty();
                if cause && unchanged.is_err() && complete.is_err() {
                    say("has more than one cause".into());
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}
