// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records that an SMMU writes about transactions it refused (§10).

use core::fmt;

use crate::field::{Field, Layout, layout};
use crate::structure::{Class, Structure, listed};

layout! {
    /// An event of any kind: the union of all events' fields (§10.1). Which of them a kind has is in
    /// [`EventId::fields`].
    pub struct EventRecord([u64; 4]) = "event record", "10.1" {
        0 bits (7:0)   id       with_id       "EventID"
        0 bit  (11:11) ssv      with_ssv      "SSV"
        0 bits (31:12) ssid     with_ssid     "SubstreamID"
        0 bits (63:32) sid      with_sid      "StreamID"
        1 bits (15:0)  stag     with_stag     "STAG"
        1 bit  (16:16) gpcf     with_gpcf     "GPCF"
        1 bit  (31:31) stall    with_stall    "Stall"
        1 bit  (33:33) pnu      with_pnu      "PnU"
        1 bit  (34:34) ind      with_ind      "InD"
        1 bit  (35:35) rnw      with_rnw      "RnW"
        1 bit  (38:38) nsipa    with_nsipa    "NSIPA"
        1 bit  (39:39) s2       with_s2       "S2"
        1 bits (41:40) class    with_class    "CLASS"
        1 bit  (44:44) ttrnw    with_ttrnw    "TTRnW"
        2 bits (63:0)  input_addr with_input_addr "InputAddr"
        3 addr (55:3)  fetch_addr with_fetch_addr "FetchAddr"
    }
}

/// `CLASS` of an event: what was being accessed (§10.1).
pub mod class {
    /// A context descriptor.
    pub const CD: u64 = 0;
    /// A stage-1 translation table.
    pub const TABLE: u64 = 1;
    /// The address that the device gave.
    pub const INPUT: u64 = 2;
}

/// The layout of one event, in order of word and bit. What names the culprit comes first: `stream` is
/// the StreamID alone; `substream` adds the SubstreamID, valid with SSV; `always_substream` the SubstreamID
/// without SSV.
macro_rules! record_layout {
    (stream $(#[$doc:meta])* $name:ident $title:literal { $($row:tt)* }) => {
        layout! {
            $(#[$doc])*
            pub struct $name([u64; 4]) = $title, "10.2" {
                0 bits (7:0)   id   with_id   "EventID"
                0 bits (63:32) sid  with_sid  "StreamID"
                $($row)*
            }
        }
    };
    (substream $(#[$doc:meta])* $name:ident $title:literal { $($row:tt)* }) => {
        layout! {
            $(#[$doc])*
            pub struct $name([u64; 4]) = $title, "10.2" {
                0 bits (7:0)   id   with_id   "EventID"
                0 bit  (11:11) ssv  with_ssv  "SSV"
                0 bits (31:12) ssid with_ssid "SubstreamID"
                0 bits (63:32) sid  with_sid  "StreamID"
                $($row)*
            }
        }
    };
    (always_substream $(#[$doc:meta])* $name:ident $title:literal { $($row:tt)* }) => {
        layout! {
            $(#[$doc])*
            pub struct $name([u64; 4]) = $title, "10.2" {
                0 bits (7:0)   id   with_id   "EventID"
                0 bits (31:12) ssid with_ssid "SubstreamID"
                0 bits (63:32) sid  with_sid  "StreamID"
                $($row)*
            }
        }
    };
}

macro_rules! events {
    ($($(#[$doc:meta])* $code:literal $variant:ident = $title:literal, $meaning:literal, $names:ident {
        $($row:tt)*
    })*) => {
        /// Which event (§10.2). Codes that are not listed are reserved or implementation defined.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum EventId {
            $($(#[$doc])* $variant = $code,)*
        }

        impl EventId {
            /// Every event that the architecture defines, by code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The event with this code.
            pub const fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The architecture's name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $title,)*
                }
            }

            /// What happened, in a few words.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $meaning,)*
                }
            }

            /// The fields of the record, by word and bit; all other bits are reserved.
            pub const fn fields(self) -> &'static [Field] {
                match self {
                    $(Self::$variant => record::$variant::FIELDS,)*
                }
            }

            /// Its row of [`ALL`](crate::structure::ALL).
            pub(crate) const fn structure(self) -> &'static Structure {
                match self {
                    $(Self::$variant => {
                        const { &event::<record::$variant>(Self::$variant) }
                    })*
                }
            }
        }

        /// One layout an event (§10.2).
        pub mod record {
            use super::{layout, listed};

            $(listed!($variant);)*
            $(record_layout! { $names $(#[$doc])* $variant $title { $($row)* } })*
        }
    };
}

events! {
    /// An upstream transaction of a type that is not supported.
    0x01 FUut = "F_UUT", "unsupported kind of transaction", substream {
        1 bits (15:0)  reason with_reason "Reason"
        1 bit  (33:33) pnu  with_pnu  "PnU"
        1 bit  (34:34) ind  with_ind  "InD"
        1 bit  (35:35) rnw  with_rnw  "RnW"
        2 bits (63:0)  input_addr with_input_addr "InputAddr"
    }
    /// The StreamID is outside the stream table.
    0x02 CBadStreamId = "C_BAD_STREAMID", "the stream is outside the stream table", substream {}
    /// The fetch of an STE was aborted.
    0x03 FSteFetch = "F_STE_FETCH", "the stream table entry could not be read", substream {
        1 bits (15:0)  reason with_reason "Reason"
        1 bit  (16:16) gpcf with_gpcf "GPCF"
        3 addr (55:3)  fetch_addr with_fetch_addr "FetchAddr"
    }
    /// The STE is invalid or illegal.
    0x04 CBadSte = "C_BAD_STE", "the stream table entry is invalid or illegal", substream {}
    /// An ATS request of a stream without ATS.
    0x05 FBadAtsTreq = "F_BAD_ATS_TREQ", "ATS request although ATS is off", substream {
        2 bits (63:0)  input_addr with_input_addr "InputAddr"
    }
    /// A transaction without substream on a stream that needs one, or the reverse.
    0x06 FStreamDisabled = "F_STREAM_DISABLED", "transactions of this kind are disabled (S1DSS)",
        stream {}
    /// Translated traffic that is not allowed.
    0x07 FTranslForbidden = "F_TRANSL_FORBIDDEN", "translated traffic is not allowed", stream {
        1 bit  (35:35) rnw  with_rnw  "RnW"
        2 bits (63:0)  input_addr with_input_addr "InputAddr"
    }
    /// The SubstreamID is outside the CD table.
    0x08 CBadSubstreamId = "C_BAD_SUBSTREAMID", "the substream is outside the table of contexts",
        always_substream {}
    /// The fetch of a CD was aborted.
    0x09 FCdFetch = "F_CD_FETCH", "the context descriptor could not be read", substream {
        1 bits (15:0)  reason with_reason "Reason"
        1 bit  (16:16) gpcf with_gpcf "GPCF"
        3 addr (55:3)  fetch_addr with_fetch_addr "FetchAddr"
    }
    /// The CD is invalid or illegal.
    0x0a CBadCd = "C_BAD_CD", "the context descriptor is invalid or illegal", substream {}
    /// The fetch of a translation table was aborted.
    0x0b FWalkEabt = "F_WALK_EABT", "a translation table could not be read", substream {
        1 bits (15:0)  reason with_reason "Reason"
        1 bit  (16:16) gpcf with_gpcf "GPCF"
        1 bit  (33:33) pnu  with_pnu  "PnU"
        1 bit  (34:34) ind  with_ind  "InD"
        1 bit  (35:35) rnw  with_rnw  "RnW"
        1 bit  (38:38) nsipa with_nsipa "NSIPA"
        1 bit  (39:39) s2   with_s2   "S2"
        1 bits (41:40) class with_class "CLASS"
        2 bits (63:0)  input_addr with_input_addr "InputAddr"
        3 addr (55:3)  fetch_addr with_fetch_addr "FetchAddr"
    }
    /// No translation for the address.
    0x10 FTranslation = "F_TRANSLATION", "nothing is mapped there", substream {
        1 bits (15:0)  stag with_stag "STAG"
        1 bit  (31:31) stall with_stall "Stall"
        1 bit  (33:33) pnu  with_pnu  "PnU"
        1 bit  (34:34) ind  with_ind  "InD"
        1 bit  (35:35) rnw  with_rnw  "RnW"
        1 bit  (38:38) nsipa with_nsipa "NSIPA"
        1 bit  (39:39) s2   with_s2   "S2"
        1 bits (41:40) class with_class "CLASS"
        2 bits (63:0)  input_addr with_input_addr "InputAddr"
        3 addr (55:12) ipa  with_ipa  "IPA"
    }
    /// An address is larger than the configured size.
    0x11 FAddrSize = "F_ADDR_SIZE", "an address is beyond the configured size", substream {
        1 bits (15:0)  stag with_stag "STAG"
        1 bit  (31:31) stall with_stall "Stall"
        1 bit  (33:33) pnu  with_pnu  "PnU"
        1 bit  (34:34) ind  with_ind  "InD"
        1 bit  (35:35) rnw  with_rnw  "RnW"
        1 bit  (38:38) nsipa with_nsipa "NSIPA"
        1 bit  (39:39) s2   with_s2   "S2"
        1 bits (41:40) class with_class "CLASS"
        2 bits (63:0)  input_addr with_input_addr "InputAddr"
        3 addr (55:12) ipa  with_ipa  "IPA"
    }
    /// The access flag of a descriptor is clear.
    0x12 FAccess = "F_ACCESS", "the access flag of the mapping is clear", substream {
        1 bits (15:0)  stag with_stag "STAG"
        1 bit  (31:31) stall with_stall "Stall"
        1 bit  (33:33) pnu  with_pnu  "PnU"
        1 bit  (34:34) ind  with_ind  "InD"
        1 bit  (35:35) rnw  with_rnw  "RnW"
        1 bit  (38:38) nsipa with_nsipa "NSIPA"
        1 bit  (39:39) s2   with_s2   "S2"
        1 bits (41:40) class with_class "CLASS"
        2 bits (63:0)  input_addr with_input_addr "InputAddr"
        3 addr (55:12) ipa  with_ipa  "IPA"
    }
    /// The mapping does not allow the access.
    0x13 FPermission = "F_PERMISSION", "the mapping does not allow this access", substream {
        1 bits (15:0)  stag with_stag "STAG"
        1 bit  (31:31) stall with_stall "Stall"
        1 bit  (33:33) pnu  with_pnu  "PnU"
        1 bit  (34:34) ind  with_ind  "InD"
        1 bit  (35:35) rnw  with_rnw  "RnW"
        1 bit  (38:38) nsipa with_nsipa "NSIPA"
        1 bit  (39:39) s2   with_s2   "S2"
        1 bits (41:40) class with_class "CLASS"
        1 bit  (44:44) ttrnw with_ttrnw "TTRnW"
        2 bits (63:0)  input_addr with_input_addr "InputAddr"
        3 addr (55:12) ipa  with_ipa  "IPA"
    }
    /// Two translations for one address.
    0x20 FTlbConflict = "F_TLB_CONFLICT", "two cached translations match one address", substream {
        1 bits (15:0)  reason with_reason "Reason"
        1 bit  (33:33) pnu  with_pnu  "PnU"
        1 bit  (34:34) ind  with_ind  "InD"
        1 bit  (35:35) rnw  with_rnw  "RnW"
        1 bit  (38:38) nsipa with_nsipa "NSIPA"
        1 bit  (39:39) s2   with_s2   "S2"
        2 bits (63:0)  input_addr with_input_addr "InputAddr"
        3 addr (55:12) ipa  with_ipa  "IPA"
    }
    /// Two cached configurations for one stream.
    0x21 FCfgConflict = "F_CFG_CONFLICT", "two cached configurations match one stream", substream {
        1 bits (15:0)  reason with_reason "Reason"
    }
    /// A hint that a device will soon use a page.
    0x24 EPageRequest = "E_PAGE_REQUEST", "hint that pages will be used", substream {
        1 bit  (33:33) u_x  with_u_x  "uX"
        1 bit  (34:34) u_w  with_u_w  "uW"
        1 bit  (35:35) u_r  with_u_r  "uR"
        1 bit  (37:37) p_x  with_p_x  "pX"
        1 bit  (38:38) p_w  with_p_w  "pW"
        1 bit  (39:39) p_r  with_p_r  "pR"
        1 bits (51:44) span with_span "Span"
        2 addr (63:12) input_addr with_input_addr "InputAddr"
    }
    /// The fetch of a VM structure was aborted.
    0x25 FVmsFetch = "F_VMS_FETCH", "a virtual machine structure could not be read", substream {
        1 bits (15:0)  reason with_reason "Reason"
        1 bit  (16:16) gpcf with_gpcf "GPCF"
        3 addr (55:3)  fetch_addr with_fetch_addr "FetchAddr"
    }
}

/// The row of an event. The request's flags in F_BAD_ATS_TREQ, three bits of F_PERMISSION, and the SubstreamID
/// of F_STREAM_DISABLED and F_TRANSL_FORBIDDEN are uncertain (§21.3).
const fn event<T: Layout>(id: EventId) -> Structure {
    let row = Structure::coded::<T>(Class::Event, id.name(), id as u8);
    match id {
        EventId::FBadAtsTreq | EventId::FPermission => row.with_uncertain(&[0, u64::MAX]),
        EventId::FStreamDisabled | EventId::FTranslForbidden => row.with_uncertain(&[0xffff_f800]),
        _ => row,
    }
}

impl EventId {
    /// Whether the event is about the translation of an address: F_TRANSLATION, F_ADDR_SIZE, F_ACCESS,
    /// F_PERMISSION (§5.4).
    pub const fn is_translation_fault(self) -> bool {
        matches!(self, Self::FTranslation | Self::FAddrSize | Self::FAccess | Self::FPermission)
    }
}

impl EventRecord {
    /// Which event it is; `None` for a reserved or implementation defined code.
    pub const fn event(&self) -> Option<EventId> {
        EventId::from_code(self.0[0] as u8)
    }
}

/// The name, the stream, and for faults the access and the address.
impl fmt::Display for EventRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(event) = self.event() else {
            return write!(f, "unknown event {:#x}: {:#x?}", self.0[0] as u8, self.0);
        };
        write!(f, "{} sid {:#x}", event.name(), self.sid())?;
        let has = |name| event.fields().iter().any(|field| field.name == name);
        // C_BAD_SUBSTREAMID has no SSV: its SubstreamID is always valid.
        if has("SubstreamID") && (self.ssv() || !has("SSV")) {
            write!(f, " ssid {:#x}", self.ssid())?;
        }
        if has("RnW") {
            f.write_str(if self.rnw() { " read" } else { " write" })?;
        }
        if has("InputAddr") {
            write!(f, " at {:#x}", self.input_addr())?;
        }
        if has("FetchAddr") {
            write!(f, " fetching {:#x}", self.fetch_addr())?;
        }
        Ok(())
    }
}
