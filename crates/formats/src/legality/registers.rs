// SPDX-License-Identifier: MIT OR Apache-2.0
//! ID registers that contradict each other (§2.3).
//!
//! Reserved bits are not judged: later versions of the architecture fill them.

use super::{Implementation, Rule, rule};
use crate::register::{Aidr, Idr0, Idr1, Idr2, Idr3, Idr5, Idr6};

/// The ID registers of an instance, as far as they are known. A rule is judged when all the registers that it
/// speaks of are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdRegisters {
    /// IDR0.
    pub idr0: Option<Idr0>,
    /// IDR1.
    pub idr1: Option<Idr1>,
    /// IDR2.
    pub idr2: Option<Idr2>,
    /// IDR3.
    pub idr3: Option<Idr3>,
    /// IDR5.
    pub idr5: Option<Idr5>,
    /// IDR6.
    pub idr6: Option<Idr6>,
    /// AIDR.
    pub aidr: Option<Aidr>,
}

/// Those that legality depends on.
impl From<&Implementation> for IdRegisters {
    fn from(implementation: &Implementation) -> Self {
        let Implementation { idr0, idr1, idr3, idr5, aidr, .. } = *implementation;
        Self {
            idr0: Some(idr0),
            idr1: Some(idr1),
            idr3: Some(idr3),
            idr5: Some(idr5),
            aidr: Some(aidr),
            ..Self::default()
        }
    }
}

/// Collects broken rules.
struct Judge<'a>(&'a mut dyn FnMut(Rule));

impl Judge<'_> {
    fn check(&mut self, broken: bool, field: &'static str, text: &'static str) {
        if broken {
            (self.0)(rule("2.3", field, text));
        }
    }
}

/// Tells `found` all that a set of ID registers breaks (§2.3): reserved values, features without what they
/// need, and features that a version of the architecture demands or does not have.
pub fn registers(set: &IdRegisters, found: &mut dyn FnMut(Rule)) {
    let mut judge = Judge(found);
    if let Some(idr0) = &set.idr0 {
        features(idr0, &mut judge);
    }
    if let Some(idr1) = &set.idr1 {
        sizes(idr1, set.idr0.as_ref(), &mut judge);
    }
    if let Some(idr3) = &set.idr3 {
        more_features(idr3, set, &mut judge);
    }
    if let Some(idr5) = &set.idr5 {
        addresses(idr5, set, &mut judge);
    }
    if let (Some(idr0), Some(idr2)) = (&set.idr0, &set.idr2) {
        judge.check(!idr0.vatos() && idr2.ba_vatos() != 0, "IDR2.BA_VATOS", "needs VATOS");
    }
    if let (Some(idr1), Some(idr6)) = (&set.idr1, &set.idr6) {
        let any = idr6.log2_num_p() != 0 || idr6.log2_num_q() != 0;
        judge.check(!idr1.ecmdq() && any, "IDR6", "needs ECMDQ");
    }
    if let Some(aidr) = &set.aidr {
        judge.check(aidr.major() != 0, "AIDR.ArchMajorRev", "must be 0: SMMUv3");
        if aidr.major() == 0 {
            version(aidr.minor(), set, &mut judge);
        }
    }
}

/// IDR0 alone.
fn features(idr0: &Idr0, judge: &mut Judge) {
    let both = idr0.s1p() && idr0.s2p();
    judge.check(idr0.ttf() == 0, "IDR0.TTF", "0 is reserved");
    judge.check(idr0.ttendian() == 1, "IDR0.TTENDIAN", "1 is reserved");
    judge.check(idr0.stall_model() == 3, "IDR0.STALL_MODEL", "3 is reserved");
    judge.check(idr0.st_level() > 1, "IDR0.ST_LEVEL", "2 and 3 are reserved");
    judge.check(idr0.hyp() && !both, "IDR0.Hyp", "needs both stages");
    judge.check(idr0.vmw() && !idr0.s2p(), "IDR0.VMW", "needs stage 2");
    judge.check(idr0.pri() && !idr0.ats(), "IDR0.PRI", "needs ATS");
    judge.check(idr0.atsrecerr() && !idr0.ats(), "IDR0.ATSRECERR", "needs ATS");
    judge.check(idr0.ns1ats() && !(idr0.ats() && both), "IDR0.NS1ATS", "needs ATS and both stages");
    judge.check(idr0.vatos() && !idr0.atos(), "IDR0.VATOS", "needs ATOS");
    judge.check(idr0.vatos() && !both, "IDR0.VATOS", "needs both stages");
}

/// IDR1.
fn sizes(idr1: &Idr1, idr0: Option<&Idr0>, judge: &mut Judge) {
    judge.check(idr1.sidsize() > 32, "IDR1.SIDSIZE", "must not exceed 32");
    judge.check(idr1.ssidsize() > 20, "IDR1.SSIDSIZE", "must not exceed 20");
    judge.check(idr1.cmdqs() > 19, "IDR1.CMDQS", "must not exceed 19");
    judge.check(idr1.eventqs() > 19, "IDR1.EVENTQS", "must not exceed 19");
    let preset = idr1.tables_preset() || idr1.queues_preset();
    judge.check(idr1.rel() && !preset, "IDR1.REL", "needs preset tables or queues");
    judge.check(idr1.ecmdq() && idr1.queues_preset(), "IDR1.ECMDQ", "excludes QUEUES_PRESET");
    let Some(idr0) = idr0 else {
        return;
    };
    // Any value without PRI.
    judge.check(idr0.pri() && idr1.priqs() > 19, "IDR1.PRIQS", "must not exceed 19");
    judge.check(
        idr1.sidsize() > 6 && idr0.st_level() == 0,
        "IDR0.ST_LEVEL",
        "must not be 0 with more than 64 streams (SIDSIZE > 6)",
    );
    judge.check(idr1.ecmdq() && !idr0.cohacc(), "IDR1.ECMDQ", "needs COHACC");
    judge.check(idr1.ecmdq() && !idr0.msi(), "IDR1.ECMDQ", "needs MSI");
}

/// IDR3, whatever the version.
fn more_features(idr3: &Idr3, set: &IdRegisters, judge: &mut Judge) {
    judge.check(idr3.bbml() == 3, "IDR3.BBML", "3 is reserved");
    judge.check(idr3.pbha() && !idr3.had(), "IDR3.PBHA", "needs HAD");
    judge.check(idr3.s2po() && !idr3.s2pi(), "IDR3.S2PO", "needs S2PI");
    if let Some(idr0) = &set.idr0 {
        let (s1p, s2p) = (idr0.s1p(), idr0.s2p());
        judge.check(idr3.had() && !s1p, "IDR3.HAD", "needs stage 1");
        judge.check(idr3.s1pi() && !s1p, "IDR3.S1PI", "needs stage 1");
        judge.check(idr3.aie() && !s1p, "IDR3.AIE", "needs stage 1");
        judge.check(idr3.the() && !s1p, "IDR3.THE", "needs stage 1");
        judge.check(idr3.the() && s2p && !idr3.s2pi(), "IDR3.THE", "needs S2PI");
        judge.check(idr3.s2pi() && !s2p, "IDR3.S2PI", "needs stage 2");
        judge.check(idr3.mteperm() && !s2p, "IDR3.MTEPERM", "needs stage 2");
        judge.check(idr3.ptwnnc() && !s2p, "IDR3.PTWNNC", "needs stage 2");
        judge.check(idr3.dpt() && !idr0.ats(), "IDR3.DPT", "needs ATS");
        judge.check(
            idr3.dpt() && idr0.ttf() & 0b01 != 0,
            "IDR3.DPT",
            "excludes the AArch32 format",
        );
        judge.check(idr3.pasidtt() && !idr0.ats(), "IDR3.PASIDTT", "needs ATS");
        judge.check(idr3.pps() && !idr0.pri(), "IDR3.PPS", "needs PRI");
    }
    if let Some(idr1) = &set.idr1 {
        let none = idr1.ssidsize() == 0;
        judge.check(idr3.pasidtt() && none, "IDR3.PASIDTT", "needs substreams");
        judge.check(idr3.pps() && none, "IDR3.PPS", "needs substreams");
    }
}

/// IDR5, whatever the version.
fn addresses(idr5: &Idr5, set: &IdRegisters, judge: &mut Judge) {
    let small = idr5.gran4k() || idr5.gran16k();
    judge.check(idr5.vax() == 3, "IDR5.VAX", "3 is reserved");
    judge.check(idr5.vax() == 2 && !idr5.d128(), "IDR5.VAX", "56 bits need D128");
    judge.check(
        idr5.vax() >= 1 && !idr5.gran64k() && !(idr5.ds() && small),
        "IDR5.VAX",
        "needs the 64 KiB granule, or DS",
    );
    judge.check(idr5.ds() && !small, "IDR5.DS", "needs the 4 or 16 KiB granule");
    judge.check(
        idr5.ds() && idr5.vax() == 0,
        "IDR5.DS",
        "needs virtual addresses of 52 bits (VAX)",
    );
    judge.check(
        idr5.oas() == 6 && !(idr5.gran64k() || idr5.ds() || idr5.d128()),
        "IDR5.OAS",
        "52 bits need the 64 KiB granule, DS or D128",
    );
    judge.check(idr5.oas() == 7 && !idr5.d128(), "IDR5.OAS", "56 bits need D128");
    if let Some(idr0) = &set.idr0 {
        let lpae = idr0.ttf() & 0b01 != 0;
        judge.check(lpae && !idr5.gran4k(), "IDR5.GRAN4K", "must be 1 with the AArch32 format");
        judge.check(idr5.d128() && lpae, "IDR5.D128", "excludes the AArch32 format");
        judge.check(idr5.d128() && idr0.ttf() & 0b10 == 0, "IDR5.D128", "needs the AArch64 format");
    }
}

/// What versions have and have not.
fn version(minor: u64, set: &IdRegisters, judge: &mut Judge) {
    let s1p = set.idr0.as_ref().map(Idr0::s1p);
    let s2p = set.idr0.as_ref().map(Idr0::s2p);
    let both = s1p == Some(true) && s2p == Some(true);
    if let Some(idr0) = &set.idr0 {
        judge.check(
            minor >= 2 && both && !idr0.hyp(),
            "IDR0.Hyp",
            "must be 1 with both stages from SMMUv3.2 on",
        );
    }
    if let Some(idr3) = &set.idr3 {
        let (s1p, s2p) = (s1p == Some(true), s2p == Some(true));
        let rows = [
            (minor == 0 && idr3.xnx(), "IDR3.XNX", "is reserved in SMMUv3.0"),
            (minor == 0 && idr3.pbha(), "IDR3.PBHA", "is reserved in SMMUv3.0"),
            (
                minor >= 1 && s1p && !idr3.had(),
                "IDR3.HAD",
                "must be 1 with stage 1 from SMMUv3.1 on",
            ),
            (
                minor >= 1 && s2p && !idr3.xnx(),
                "IDR3.XNX",
                "must be 1 with stage 2 from SMMUv3.1 on",
            ),
            (minor >= 2 && !idr3.fwb(), "IDR3.FWB", "must be 1 from SMMUv3.2 on"),
            (minor >= 2 && !idr3.ril(), "IDR3.RIL", "must be 1 from SMMUv3.2 on"),
            (minor >= 2 && idr3.bbml() == 0, "IDR3.BBML", "must be 1 or 2 from SMMUv3.2 on"),
            (minor >= 3 && !idr3.e0pd(), "IDR3.E0PD", "must be 1 from SMMUv3.3 on"),
            (
                minor >= 3 && s2p && !idr3.ptwnnc(),
                "IDR3.PTWNNC",
                "must be 1 with stage 2 from SMMUv3.3 on",
            ),
            (minor >= 4 && !idr3.epan(), "IDR3.EPAN", "must be 1 from SMMUv3.4 on"),
        ];
        for (broken, field, text) in rows {
            judge.check(broken, field, text);
        }
    }
    if let Some(idr5) = &set.idr5 {
        judge.check(minor == 0 && idr5.oas() == 6, "IDR5.OAS", "52 bits are reserved in SMMUv3.0");
        judge.check(minor == 0 && idr5.vax() != 0, "IDR5.VAX", "is reserved in SMMUv3.0");
        judge.check(
            minor < 4 && idr5.oas() == 7,
            "IDR5.OAS",
            "56 bits are reserved before SMMUv3.4",
        );
    }
}
