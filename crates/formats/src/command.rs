// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands that software gives an SMMU (§4): one layout a shape, one [`Opcode`] a command.

use core::fmt;

use crate::field::{Field, Layout, layout};
use crate::structure::{Class, Structure, listed};

/// A command of any kind: two words of which the first byte is the [`Opcode`].
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Command(pub [u64; 2]);

macro_rules! commands {
    ($($(#[$doc:meta])* $code:literal $variant:ident = $title:literal {
        $($w:literal $kind:ident ($hi:literal : $lo:literal) $get:ident $with:ident $field:literal)*
    })*) => {
        /// Which command (§4.1). Codes that are not listed are reserved or implementation defined.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum Opcode {
            $($(#[$doc])* $variant = $code,)*
        }

        impl Opcode {
            /// Every command that the architecture defines, by code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The command with this code.
            pub const fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The architecture's name, with its prefix.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!("CMD_", $title),)*
                }
            }

            /// The fields of the command, by word and bit; all other bits are reserved.
            pub const fn fields(self) -> &'static [Field] {
                match self {
                    $(Self::$variant => $variant::FIELDS,)*
                }
            }

            /// The bits that its fields have, word by word; all other bits are reserved.
            const fn defined(self) -> [u64; 2] {
                match self {
                    $(Self::$variant => const { defined($variant::FIELDS) },)*
                }
            }

            /// Its row of [`ALL`](crate::structure::ALL).
            pub(crate) const fn structure(self) -> &'static Structure {
                match self {
                    $(Self::$variant => {
                        const { &command::<$variant>(Self::$variant) }
                    })*
                }
            }
        }

        $(
            listed!($variant);
            layout! {
                $(#[$doc])*
                pub struct $variant([u64; 2]) = $title, "4.1" {
                    0 bits (7:0) opcode with_opcode "Opcode"
                    $($w $kind ($hi : $lo) $get $with $field)*
                }
            }

            impl $variant {
                /// The command with every operand zero.
                #[allow(clippy::new_without_default, reason = "the default has no opcode")]
                pub const fn new() -> Self {
                    Self([$code, 0])
                }
            }

            impl From<$variant> for Command {
                fn from(command: $variant) -> Self {
                    Self(command.0)
                }
            }
        )*
    };
}

commands! {
    /// Hint: fetch the configuration of a stream.
    0x01 PrefetchConfig = "PREFETCH_CONFIG" {
        0 bit  (10:10) ssec with_ssec "SSec"
        0 bit  (11:11) ssv  with_ssv  "SSV"
        0 bits (31:12) ssid with_ssid "SSID"
        0 bits (63:32) sid  with_sid  "SID"
    }
    /// Hint: translate an address of a stream.
    0x02 PrefetchAddr = "PREFETCH_ADDR" {
        0 bit  (10:10) ssec with_ssec "SSec"
        0 bit  (11:11) ssv  with_ssv  "SSV"
        0 bits (31:12) ssid with_ssid "SSID"
        0 bits (63:32) sid  with_sid  "SID"
        1 bits (4:0)   size with_size "Size"
        1 bits (9:5)   stride with_stride "Stride"
        1 addr (63:12) addr with_addr "Addr"
    }
    /// Forget an STE, and all CDs cached through it.
    0x03 CfgiSte = "CFGI_STE" {
        0 bit  (10:10) ssec with_ssec "SSec"
        0 bits (63:32) sid  with_sid  "SID"
        1 bit  (0:0)   leaf with_leaf "Leaf"
    }
    /// Forget 2^(Range+1) STEs; all of them with Range = 31 (CFGI_ALL).
    0x04 CfgiSteRange = "CFGI_STE_RANGE" {
        0 bit  (10:10) ssec  with_ssec  "SSec"
        0 bits (63:32) sid   with_sid   "SID"
        1 bits (4:0)   range with_range "Range"
    }
    /// Forget one CD of a stream.
    0x05 CfgiCd = "CFGI_CD" {
        0 bit  (10:10) ssec with_ssec "SSec"
        0 bits (31:12) ssid with_ssid "SSID"
        0 bits (63:32) sid  with_sid  "SID"
        1 bit  (0:0)   leaf with_leaf "Leaf"
    }
    /// Forget all CDs of a stream.
    0x06 CfgiCdAll = "CFGI_CD_ALL" {
        0 bit  (10:10) ssec with_ssec "SSec"
        0 bits (63:32) sid  with_sid  "SID"
    }
    /// Forget the PARTID map of a VMID.
    0x07 CfgiVmsPidm = "CFGI_VMS_PIDM" {
        0 bit  (10:10) ssec with_ssec "SSec"
        0 bits (47:32) vmid with_vmid "VMID"
    }
    /// Forget all stage-1 EL1 translations of a VMID.
    0x10 TlbiNhAll = "TLBI_NH_ALL" {
        0 bits (47:32) vmid with_vmid "VMID"
    }
    /// Forget the non-global EL1 translations of an ASID.
    0x11 TlbiNhAsid = "TLBI_NH_ASID" {
        0 bits (47:32) vmid with_vmid "VMID"
        0 bits (63:48) asid with_asid "ASID"
    }
    /// Forget EL1 translations of an address or range in an ASID.
    0x12 TlbiNhVa = "TLBI_NH_VA" {
        0 bits (16:12) num    with_num    "NUM"
        0 bits (25:20) scale  with_scale  "SCALE"
        0 bits (47:32) vmid   with_vmid   "VMID"
        0 bits (63:48) asid   with_asid   "ASID"
        1 bit  (0:0)   leaf   with_leaf   "Leaf"
        1 bit  (7:7)   ttl128 with_ttl128 "TTL128"
        1 bits (9:8)   ttl    with_ttl    "TTL"
        1 bits (11:10) tg     with_tg     "TG"
        1 addr (63:12) addr   with_addr   "Addr"
    }
    /// Forget EL1 translations of an address or range in every ASID.
    0x13 TlbiNhVaa = "TLBI_NH_VAA" {
        0 bits (16:12) num    with_num    "NUM"
        0 bits (25:20) scale  with_scale  "SCALE"
        0 bits (47:32) vmid   with_vmid   "VMID"
        1 bit  (0:0)   leaf   with_leaf   "Leaf"
        1 bit  (7:7)   ttl128 with_ttl128 "TTL128"
        1 bits (9:8)   ttl    with_ttl    "TTL"
        1 bits (11:10) tg     with_tg     "TG"
        1 addr (63:12) addr   with_addr   "Addr"
    }
    /// Forget all EL3 translations.
    0x18 TlbiEl3All = "TLBI_EL3_ALL" {}
    /// Forget EL3 translations of an address or range.
    0x1a TlbiEl3Va = "TLBI_EL3_VA" {
        0 bits (16:12) num    with_num    "NUM"
        0 bits (25:20) scale  with_scale  "SCALE"
        1 bit  (0:0)   leaf   with_leaf   "Leaf"
        1 bit  (7:7)   ttl128 with_ttl128 "TTL128"
        1 bits (9:8)   ttl    with_ttl    "TTL"
        1 bits (11:10) tg     with_tg     "TG"
        1 addr (63:12) addr   with_addr   "Addr"
    }
    /// Forget all EL2 and EL2-E2H translations.
    0x20 TlbiEl2All = "TLBI_EL2_ALL" {}
    /// Forget the non-global EL2-E2H translations of an ASID.
    0x21 TlbiEl2Asid = "TLBI_EL2_ASID" {
        0 bits (63:48) asid with_asid "ASID"
    }
    /// Forget EL2 translations of an address or range.
    0x22 TlbiEl2Va = "TLBI_EL2_VA" {
        0 bits (16:12) num    with_num    "NUM"
        0 bits (25:20) scale  with_scale  "SCALE"
        0 bits (63:48) asid   with_asid   "ASID"
        1 bit  (0:0)   leaf   with_leaf   "Leaf"
        1 bit  (7:7)   ttl128 with_ttl128 "TTL128"
        1 bits (9:8)   ttl    with_ttl    "TTL"
        1 bits (11:10) tg     with_tg     "TG"
        1 addr (63:12) addr   with_addr   "Addr"
    }
    /// Forget EL2 translations of an address or range in every ASID.
    0x23 TlbiEl2Vaa = "TLBI_EL2_VAA" {
        0 bits (16:12) num    with_num    "NUM"
        0 bits (25:20) scale  with_scale  "SCALE"
        1 bit  (0:0)   leaf   with_leaf   "Leaf"
        1 bit  (7:7)   ttl128 with_ttl128 "TTL128"
        1 bits (9:8)   ttl    with_ttl    "TTL"
        1 bits (11:10) tg     with_tg     "TG"
        1 addr (63:12) addr   with_addr   "Addr"
    }
    /// Forget everything of a VMID, both stages.
    0x28 TlbiS12Vmall = "TLBI_S12_VMALL" {
        0 bits (47:32) vmid with_vmid "VMID"
    }
    /// Forget stage-2 translations of an address or range.
    0x2a TlbiS2Ipa = "TLBI_S2_IPA" {
        0 bits (16:12) num    with_num    "NUM"
        0 bits (25:20) scale  with_scale  "SCALE"
        0 bits (47:32) vmid   with_vmid   "VMID"
        1 bit  (0:0)   leaf   with_leaf   "Leaf"
        1 bit  (7:7)   ttl128 with_ttl128 "TTL128"
        1 bits (9:8)   ttl    with_ttl    "TTL"
        1 bits (11:10) tg     with_tg     "TG"
        1 addr (55:12) addr   with_addr   "Addr"
    }
    /// Forget every Non-secure translation except EL2's.
    0x30 TlbiNsnhAll = "TLBI_NSNH_ALL" {}
    /// Forget translations that a device has cached.
    0x40 AtcInv = "ATC_INV" {
        0 bit  (9:9)   global with_global "G"
        0 bit  (11:11) ssv  with_ssv  "SSV"
        0 bits (31:12) ssid with_ssid "SSID"
        0 bits (63:32) sid  with_sid  "SID"
        1 bits (5:0)   size with_size "Size"
        1 addr (63:12) addr with_addr "Addr"
    }
    /// Answer a group of page requests.
    0x41 PriResp = "PRI_RESP" {
        0 bit  (11:11) ssv  with_ssv  "SSV"
        0 bits (31:12) ssid with_ssid "SSID"
        0 bits (63:32) sid  with_sid  "SID"
        1 bits (8:0)   prg_index with_prg_index "PRGIndex"
        1 bits (13:12) resp with_resp "Resp"
    }
    /// Retry or terminate a stalled transaction.
    0x44 Resume = "RESUME" {
        0 bit  (10:10) ssec with_ssec "SSec"
        0 bit  (12:12) ac   with_ac   "Ac"
        0 bit  (13:13) ab   with_ab   "Ab"
        0 bits (63:32) sid  with_sid  "SID"
        1 bits (15:0)  stag with_stag "STAG"
    }
    /// Terminate all stalled transactions of a stream.
    0x45 StallTerm = "STALL_TERM" {
        0 bit  (10:10) ssec with_ssec "SSec"
        0 bits (63:32) sid  with_sid  "SID"
    }
    /// Complete everything before this, then tell.
    0x46 Sync = "SYNC" {
        0 bits (13:12) cs       with_cs       "CS"
        0 bits (23:22) msh      with_msh      "MSH"
        0 bits (27:24) msi_attr with_msi_attr "MSIAttr"
        0 bits (63:32) msi_data with_msi_data "MSIData"
        1 addr (55:2)  msi_addr with_msi_addr "MSIAddr"
    }
    /// Forget all Secure EL2 translations.
    0x50 TlbiSEl2All = "TLBI_S_EL2_ALL" {}
    /// Forget the Secure EL2-E2H translations of an ASID.
    0x51 TlbiSEl2Asid = "TLBI_S_EL2_ASID" {
        0 bits (63:48) asid with_asid "ASID"
    }
    /// Forget Secure EL2 translations of an address or range.
    0x52 TlbiSEl2Va = "TLBI_S_EL2_VA" {
        0 bits (16:12) num    with_num    "NUM"
        0 bits (25:20) scale  with_scale  "SCALE"
        0 bits (63:48) asid   with_asid   "ASID"
        1 bit  (0:0)   leaf   with_leaf   "Leaf"
        1 bit  (7:7)   ttl128 with_ttl128 "TTL128"
        1 bits (9:8)   ttl    with_ttl    "TTL"
        1 bits (11:10) tg     with_tg     "TG"
        1 addr (63:12) addr   with_addr   "Addr"
    }
    /// Forget Secure EL2 translations of an address or range in every ASID.
    0x53 TlbiSEl2Vaa = "TLBI_S_EL2_VAA" {
        0 bits (16:12) num    with_num    "NUM"
        0 bits (25:20) scale  with_scale  "SCALE"
        1 bit  (0:0)   leaf   with_leaf   "Leaf"
        1 bit  (7:7)   ttl128 with_ttl128 "TTL128"
        1 bits (9:8)   ttl    with_ttl    "TTL"
        1 bits (11:10) tg     with_tg     "TG"
        1 addr (63:12) addr   with_addr   "Addr"
    }
    /// Forget everything of a Secure VMID, both stages.
    0x58 TlbiSS12Vmall = "TLBI_S_S12_VMALL" {
        0 bits (47:32) vmid with_vmid "VMID"
    }
    /// Forget Secure stage-2 translations of an address or range.
    0x5a TlbiSS2Ipa = "TLBI_S_S2_IPA" {
        0 bits (16:12) num    with_num    "NUM"
        0 bits (25:20) scale  with_scale  "SCALE"
        0 bits (47:32) vmid   with_vmid   "VMID"
        1 bit  (0:0)   leaf   with_leaf   "Leaf"
        1 bit  (7:7)   ttl128 with_ttl128 "TTL128"
        1 bits (9:8)   ttl    with_ttl    "TTL"
        1 bits (11:10) tg     with_tg     "TG"
        1 addr (55:12) addr   with_addr   "Addr"
    }
    /// Forget every Secure EL1 translation.
    0x60 TlbiSnhAll = "TLBI_SNH_ALL" {}
    /// Forget the whole device permission table.
    0x70 DptiAll = "DPTI_ALL" {}
    /// Forget the device permissions of a range of physical addresses. The reference names its operands
    /// (SIZE, Leaf, address) but not their bits, so none is listed.
    0x73 DptiPa = "DPTI_PA" {}
}

const fn defined(fields: &[Field]) -> [u64; 2] {
    let (mut bits, mut at) = ([0; 2], 0);
    while at < fields.len() {
        bits[fields[at].word] |= fields[at].mask();
        at += 1;
    }
    bits
}

/// The row of a command. A VMID's place in CFGI_VMS_PIDM, the NS bit of TLBI_S_S2_IPA and all operands of
/// DPTI_PA are uncertain.
const fn command<T: Layout>(opcode: Opcode) -> Structure {
    let row = Structure::coded::<T>(Class::Command, opcode.name(), opcode as u8);
    match opcode {
        Opcode::CfgiVmsPidm => row.with_uncertain(&[u64::MAX, u64::MAX]),
        Opcode::TlbiSS2Ipa => row.with_uncertain(&[0, u64::MAX]),
        Opcode::DptiPa => row.with_uncertain(&[u64::MAX, u64::MAX]),
        _ => row,
    }
}

/// `SYNC.CS`: how completion is told (§4.1).
pub mod completion {
    /// By the consumer index alone.
    pub const NONE: u64 = 0;
    /// By an interrupt, or a write to an address.
    pub const IRQ: u64 = 1;
    /// By waking processors that wait for an event.
    pub const SEV: u64 = 2;
}

/// `CFGI_STE_RANGE.Range` that stands for every stream: CFGI_ALL (§4.1).
pub const ALL_STREAMS: u64 = 31;

impl Command {
    /// Which command it is; `None` for a reserved or implementation defined code.
    pub const fn opcode(&self) -> Option<Opcode> {
        Opcode::from_code(self.0[0] as u8)
    }

    /// Whether it has the code of `opcode`. Asked of one, this is less than [`Command::opcode`].
    pub const fn is(&self, opcode: Opcode) -> bool {
        self.0[0] as u8 == opcode as u8
    }

    /// Whether the code is left to the implementation: 0x80 to 0x8f (§4.1).
    pub const fn is_implementation_defined(&self) -> bool {
        matches!(self.0[0] as u8, 0x80..=0x8f)
    }

    /// `CMD_...`; for codes without a name `implementation defined` or `reserved`.
    pub const fn name(&self) -> &'static str {
        match self.opcode() {
            Some(Opcode::CfgiSteRange) if self.0[1] & 0x1f == ALL_STREAMS => "CMD_CFGI_ALL",
            Some(opcode) => opcode.name(),
            None if self.is_implementation_defined() => "implementation defined",
            None => "reserved",
        }
    }

    /// The value of the field called `name`, where the command has one.
    pub fn field(&self, name: &str) -> Option<u64> {
        let field = self.opcode()?.fields().iter().find(|field| field.name == name)?;
        Some(field.extract(*self.0.get(field.word)?))
    }

    /// The bits that are set although the command has no field there.
    pub fn reserved_bits(&self) -> [u64; 2] {
        let ([first, second], [low, high]) =
            (self.0, self.opcode().map_or([0; 2], Opcode::defined));
        [first & !low, second & !high]
    }

    /// CFGI_ALL: forget the configuration of every stream.
    pub const fn cfgi_all() -> Self {
        Self(CfgiSteRange::new().with_range(ALL_STREAMS).0)
    }
}

/// The name and the non-zero operands.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(opcode) = self.opcode() else {
            return write!(f, "{} {:#018x} {:#018x}", self.name(), self.0[0], self.0[1]);
        };
        f.write_str(self.name())?;
        for field in opcode.fields().iter().skip(1) {
            let value = field.extract(self.0[field.word & 1]);
            if value != 0 || matches!(field.name, "SID" | "ASID" | "Addr") {
                write!(f, " {}={:#x}", field.name, value)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
