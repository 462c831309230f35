// SPDX-License-Identifier: MIT OR Apache-2.0
//! The SMMU that a guest is shown, in its ID registers (§2.3): a part of the host's.

use smmuv3_formats::legality::{self, Implementation};
use smmuv3_formats::register::{
    Aidr, Idr0, Idr1, Idr2, Idr3, Idr5, Idr6, address_bits, address_size_code,
};

use crate::features::{Features, IdRegisters};
use crate::nest::{Illegal, Parent};

/// What a guest is shown of one instance, over which stage 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest {
    shown: IdRegisters,
    host: Features,
    parent: Parent,
}

impl Guest {
    /// The guest is shown `shown`, and uses an SMMU with `host` over `parent`.
    ///
    /// The guest's SMMU has stage 1 alone, without EL2, broadcasts, overrides of attributes, MPAM and 128-bit tables: what
    /// these would need is the host's. What hardware does for the guest (granules, widths, ATS, range
    /// invalidation ..) it must have; what the hypervisor does (queues, tables of streams, interrupts, ATOS) is
    /// free. `shown` must not contradict itself.
    ///
    /// # Errors
    /// The register's field that promises too much, as `IDR0.ASID16`, with its value.
    pub fn new(host: &Features, parent: Parent, shown: IdRegisters) -> Result<Self, Illegal> {
        let guest = Self { shown, host: *host, parent };
        guest.promises()?;
        let mut first = None;
        let set =
            legality::IdRegisters { idr2: Some(shown.idr2), ..(&guest.implementation()).into() };
        legality::registers(&set, &mut |rule| {
            first.get_or_insert(rule);
        });
        match first {
            // The field's value is among those that were looked at, or zero where it is missing.
            Some(rule) => Err(Illegal { rule, value: guest.value(rule.field) }),
            None => Ok(guest),
        }
    }

    /// The most that a guest can be shown without more work for the hypervisor: neither stalls nor page
    /// requests, which it has to bring to the guest.
    pub fn offer(host: &Features, parent: &Parent) -> IdRegisters {
        let registers = host.registers_in_effect();
        let IdRegisters { idr0, idr1, idr3, idr5, iidr, aidr, .. } = registers;
        let always_stalls = host.always_stalls();
        // AArch64 only.
        let shown_0 = Idr0::default()
            .with_s1p(true)
            .with_ttf(0b10)
            .with_cohacc(idr0.cohacc())
            .with_httu(idr0.httu())
            .with_ats(host.ats)
            .with_asid16(idr0.asid16())
            .with_msi(idr0.msi())
            .with_cd2l(idr0.cd2l())
            .with_ttendian(idr0.ttendian())
            .with_stall_model(if always_stalls { 2 } else { 1 })
            .with_term_model(idr0.term_model())
            .with_st_level(1);
        let shown_1 = Idr1::default()
            .with_sidsize(idr1.sidsize())
            .with_ssidsize(idr1.ssidsize())
            .with_eventqs(idr1.eventqs())
            .with_cmdqs(idr1.cmdqs());
        let shown_3 = Idr3::default()
            .with_had(idr3.had())
            .with_pbha(idr3.pbha())
            .with_fwb(idr3.fwb())
            .with_stt(idr3.stt())
            .with_ril(idr3.ril())
            .with_bbml(idr3.bbml())
            .with_e0pd(idr3.e0pd())
            .with_epan(idr3.epan())
            .with_s1pi(idr3.s1pi())
            .with_aie(idr3.aie());
        // A size between two codes is rounded down, so that the guest cannot name addresses that stage 2 does not
        // translate.
        let oas = address_size_code(parent.input_bits()).unwrap_or(0).min(idr5.oas());
        // DS and VAX are shown together or not at all (§2.3), even if the host's SMMU has only one of them.
        let ds = idr5.ds() && idr5.vax() != 0;
        let vax = if ds || idr5.gran64k() { idr5.vax().min(1) } else { 0 };
        let shown_5 = Idr5::default()
            .with_oas(oas)
            .with_gran4k(idr5.gran4k())
            .with_gran16k(idr5.gran16k())
            .with_gran64k(idr5.gran64k())
            .with_ds(ds)
            .with_vax(vax)
            .with_stall_max(if always_stalls { idr5.stall_max() } else { 0 });
        IdRegisters {
            idr0: shown_0,
            idr1: shown_1,
            idr2: Idr2::default(),
            idr3: shown_3,
            idr5: shown_5,
            // No enhanced queues.
            idr6: Idr6::default(),
            iidr,
            aidr,
        }
    }

    /// What it is shown.
    pub const fn shown(&self) -> &IdRegisters {
        &self.shown
    }

    /// What the host's SMMU can do.
    pub const fn host(&self) -> &Features {
        &self.host
    }

    /// The stage 2 under it.
    pub const fn parent(&self) -> &Parent {
        &self.parent
    }

    /// What [`legality`] checks the guest's entries and commands against.
    pub const fn implementation(&self) -> Implementation {
        let IdRegisters { idr0, idr1, idr3, idr5, aidr, .. } = self.shown;
        Implementation { idr0, idr1, idr3, idr5, aidr, e2h: false }
    }

    /// Bits of an address that the guest may take for physical.
    pub fn output_bits(&self) -> u32 {
        address_bits(self.shown.idr5.oas()).unwrap_or(32).min(self.parent.input_bits())
    }

    /// Nothing is promised that the host's SMMU does not do.
    fn promises(&self) -> Result<(), Illegal> {
        let IdRegisters { idr0, idr1, idr3, idr5, aidr, .. } = &self.shown;
        let host = &self.host.registers_in_effect();
        let refuse = |field, text, value| Err(Illegal::new("2.3", field, text, value));
        if !idr0.s1p() {
            return refuse("IDR0.S1P", "a guest has stage 1", 0);
        }
        for (field, shown) in [
            ("IDR0.S2P", u64::from(idr0.s2p())),
            ("IDR0.BTM", idr0.btm().into()),
            ("IDR0.Hyp", idr0.hyp().into()),
            ("IDR0.RME_IMPL", idr0.rme_impl().into()),
            ("IDR1.ATTR_PERMS_OVR", idr1.attr_perms_ovr().into()),
            ("IDR1.ATTR_TYPES_OVR", idr1.attr_types_ovr().into()),
            ("IDR3.MPAM", idr3.mpam().into()),
            ("IDR3.DPT", idr3.dpt().into()),
            ("IDR5.D128", idr5.d128().into()),
        ] {
            if shown != 0 {
                return refuse(field, "must be 0: that is the host's", shown);
            }
        }
        for (field, shown, most) in [
            ("IDR0.COHACC", u64::from(idr0.cohacc()), u64::from(host.idr0.cohacc())),
            ("IDR0.HTTU", idr0.httu(), host.idr0.httu()),
            ("IDR0.ATS", idr0.ats().into(), host.idr0.ats().into()),
            ("IDR0.ASID16", idr0.asid16().into(), host.idr0.asid16().into()),
            ("IDR0.PRI", idr0.pri().into(), host.idr0.pri().into()),
            ("IDR0.CD2L", idr0.cd2l().into(), host.idr0.cd2l().into()),
            ("IDR1.SSIDSIZE", idr1.ssidsize(), host.idr1.ssidsize()),
            ("IDR3.HAD", idr3.had().into(), host.idr3.had().into()),
            ("IDR3.PBHA", idr3.pbha().into(), host.idr3.pbha().into()),
            ("IDR3.STT", idr3.stt().into(), host.idr3.stt().into()),
            ("IDR3.RIL", idr3.ril().into(), host.idr3.ril().into()),
            ("IDR3.BBML", idr3.bbml(), host.idr3.bbml()),
            ("IDR3.E0PD", idr3.e0pd().into(), host.idr3.e0pd().into()),
            ("IDR3.PASIDTT", idr3.pasidtt().into(), host.idr3.pasidtt().into()),
            ("IDR3.EPAN", idr3.epan().into(), host.idr3.epan().into()),
            ("IDR3.S1PI", idr3.s1pi().into(), host.idr3.s1pi().into()),
            ("IDR3.THE", idr3.the().into(), host.idr3.the().into()),
            ("IDR3.AIE", idr3.aie().into(), host.idr3.aie().into()),
            ("IDR5.OAS", idr5.oas(), host.idr5.oas()),
            ("IDR5.GRAN4K", idr5.gran4k().into(), host.idr5.gran4k().into()),
            ("IDR5.GRAN16K", idr5.gran16k().into(), host.idr5.gran16k().into()),
            ("IDR5.GRAN64K", idr5.gran64k().into(), host.idr5.gran64k().into()),
            ("IDR5.DS", idr5.ds().into(), host.idr5.ds().into()),
            ("IDR5.VAX", idr5.vax(), host.idr5.vax()),
            ("IDR5.STALL_MAX", idr5.stall_max(), host.idr5.stall_max()),
            ("AIDR", Aidr(aidr.0).minor(), host.aidr.minor()),
        ] {
            if shown > most {
                return refuse(field, "is more than the host's SMMU has", shown);
            }
        }
        let more_formats = idr0.ttf() & !host.idr0.ttf() != 0;
        if more_formats || idr0.ttf() & 0b10 == 0 {
            return refuse(
                "IDR0.TTF",
                "must have AArch64, and no more than the host's",
                idr0.ttf(),
            );
        }
        let (shown, has) = (idr0.ttendian(), host.idr0.ttendian());
        if shown != has && has != 0 {
            return refuse("IDR0.TTENDIAN", "is more than the host's SMMU has", shown);
        }
        // A host's SMMU that lets software choose can be kept from stalling (S1STALLD), but cannot be made to stall
        // always.
        let (shown, has) = (idr0.stall_model(), host.idr0.stall_model());
        if shown != has && (shown, has) != (1, 0) {
            return refuse("IDR0.STALL_MODEL", "is not what the host's SMMU does", shown);
        }
        // TERM_MODEL = 0 can be shown only where the host has it.
        if !idr0.term_model() && host.idr0.term_model() {
            return refuse("IDR0.TERM_MODEL", "must be 1 as the host's", 0);
        }
        Ok(())
    }

    /// The value of `field`, as `IDR0.TTF`.
    fn value(&self, field: &str) -> u64 {
        let registers = [
            ("IDR0", self.shown.idr0.0),
            ("IDR1", self.shown.idr1.0),
            ("IDR2", self.shown.idr2.0),
            ("IDR3", self.shown.idr3.0),
            ("IDR5", self.shown.idr5.0),
            ("AIDR", self.shown.aidr.0),
        ];
        let (register, name) = field.split_once('.').unwrap_or((field, ""));
        let found = registers.into_iter().find(|(known, _)| *known == register);
        let Some((_, word)) = found else { return 0 };
        let structure = smmuv3_formats::structure::find(register);
        let bits = structure.and_then(|structure| structure.field(name));
        bits.map_or(u64::from(word), |bits| bits.extract(u64::from(word)))
    }
}
