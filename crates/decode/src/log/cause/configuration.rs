// SPDX-License-Identifier: MIT OR Apache-2.0
//! Causes of events about streams, contexts and ATS.

use smmuv3_formats::EventId;

use super::fault::not_accessible;
use super::{Cause, View};

const FIRMWARE_MAP: &str = "Compare the StreamID with firmware's map: iommu-map or iommus \
    (device tree), ID mappings of the root complex or device (IORT).";

/// Dispatches by event.
pub fn of(view: &View, id: Option<EventId>, causes: &mut Vec<Cause>) {
    let sid = view.sid.map_or("the stream".to_owned(), |sid| format!("stream {sid:#x}"));
    let place = view.fetch.map_or(String::new(), |fetch| format!(" at {fetch:#x}"));
    let corrupt = |what: &str| {
        Cause::possible(
            "table-corrupt",
            format!(
                "{what} was overwritten, or caches hold an old one (a CMD_CFGI or a cache clean \
                 is missing)"
            ),
            "Dump it and check it against the architecture's rules: smmuv3 decode ste, smmuv3 \
             decode cd.",
        )
    };
    let no_ats = match view.history.instance(&view.record.instance).has("ATS") {
        Some(false) => "; the log says that this SMMU has no ATS",
        _ => "",
    };
    match id {
        Some(EventId::CBadStreamId) => stream(view, &sid, causes),
        Some(EventId::CBadSte) => {
            causes.push(Cause::likely(
                "bad-entry",
                format!(
                    "the stream table entry of {sid} is not valid (V = 0), or has a value that this SMMU does \
                    not take, or the SMMU read it before it was in memory"
                ),
                "Dump the entry and check it: smmuv3 decode ste WORDS --idr REGISTERS; check that the driver \
                 sends CMD_CFGI_STE and CMD_SYNC, and that firmware tells the truth about coherent walks.",
            ));
            causes.push(Cause::possible(
                "wrong-stream-mapping",
                "or nobody configured the stream: firmware gives the device another StreamID than it uses, or \
                 its driver is not loaded. (Linux writes valid entries also for streams that nobody uses)",
                FIRMWARE_MAP,
            ));
            causes.push(Cause::possible(
                "firmware-left-running",
                "or a device that firmware started does DMA before its driver takes over",
                "Look which device has this StreamID, and whether firmware uses it (display, \
                 USB, network).",
            ));
            causes.push(corrupt("or the entry"));
        }
        Some(EventId::FSteFetch) => not_accessible(view, "a stream table entry", &place, causes),
        Some(EventId::FCdFetch) => {
            not_accessible(view, "a context descriptor", &place, causes);
            causes.push(corrupt("S1ContextPtr or a level-1 descriptor"));
        }
        Some(EventId::FVmsFetch) => not_accessible(view, "a VM structure", &place, causes),
        Some(EventId::CBadSubstreamId) => substream(view, &sid, causes),
        Some(EventId::CBadCd) => {
            let pasid = view.ssid.map_or(String::new(), |ssid| format!(" of PASID {ssid:#x}"));
            if view.ssid.is_some_and(|ssid| ssid != 0) {
                causes.push(Cause::likely(
                    "pasid-torn-down",
                    format!(
                        "the context{pasid} is invalid: its process was unbound while the \
                        device still used the PASID"
                    ),
                    "Stop the device's work of that PASID before unbinding it.",
                ));
            }
            causes.push(corrupt("the context descriptor is invalid or illegal: it"));
        }
        Some(EventId::FStreamDisabled) => causes.push(Cause::certain(
            "stream-disabled",
            format!(
                "{sid} may be used with PASIDs only, or not with PASID 0 (STE.S1DSS), and \
                this access was the other kind"
            ),
            "Check S1DSS in the STE, and whether the device should use a PASID here.",
        )),
        Some(EventId::FBadAtsTreq) => causes.push(Cause::certain(
            "ats-not-enabled",
            format!(
                "{sid} asked for a translation (ATS), but its STE does not allow ATS (EATS), \
                or the SMMU is off{no_ats}"
            ),
            "Disable ATS in the device, or enable it in the order STE first, device second; look \
             whether firmware or a reset left ATS on.",
        )),
        Some(EventId::FTranslForbidden) => causes.push(Cause::certain(
            "ats-forbidden",
            format!(
                "{sid} sent an access as already translated (ATS), which its STE does not \
                allow (EATS), or the SMMU is off: ATS is on in the device but not here, or a \
                device marks ordinary DMA as translated"
            ),
            "Check the ATS bit of the device (lspci -vv: ATSCtl) and whether firmware's map \
             gives it ATS; a root port that marks all traffic as translated needs its erratum's \
             workaround.",
        )),
        Some(EventId::FUut) => causes.push(Cause::possible(
            "unsupported-transaction",
            format!(
                "{}: a kind of transaction that this SMMU does not take (an atomic, a secure \
                access, or what its implementation says)",
                view.access()
            ),
            "Look up Reason in the manual of the SMMU, and what the device sends.",
        )),
        Some(EventId::FCfgConflict) => causes.push(Cause::likely(
            "configuration-conflict",
            "two cached configurations match: CONT of the STE is wrong, or an entry was changed \
             without CMD_CFGI",
            "Check STE.CONT, and that every change of an entry is followed by CMD_CFGI and \
             CMD_SYNC.",
        )),
        Some(EventId::EPageRequest) => causes.push(Cause::certain(
            "page-request-hint",
            format!("{sid} tells that it will soon use pages: a hint, not an error"),
            "Nothing.",
        )),
        _ => causes.push(Cause::possible(
            "unknown-event",
            "the code is not one of the architecture: an implementation's own event, a newer \
             architecture, or a record that was overwritten",
            "Look it up in the manual of the SMMU.",
        )),
    }
}

fn stream(view: &View, sid: &str, causes: &mut Vec<Cause>) {
    let big = view.sid.is_some_and(|sid| sid >= 0x1_0000);
    let all_zero = view.sid == Some(0);
    causes.push(Cause::likely(
        "sid-beyond-table",
        format!(
            "{sid} is outside the stream table, or its level-2 table does not exist{}",
            if big {
                ": it needs more than 16 bits, so a segment or an offset is in it"
            } else {
                ""
            }
        ),
        "Compare the StreamID with the table's size (StreamID bits in the boot log, \
         STRTAB_BASE_CFG.LOG2SIZE and the level-1 descriptor's Span).",
    ));
    causes.push(Cause::likely(
        "wrong-stream-mapping",
        format!(
            "{sid} was never configured: firmware gives the device another StreamID than the one \
             it uses{}",
            if all_zero { " (0 is also what a bus without StreamIDs gives)" } else { "" }
        ),
        FIRMWARE_MAP,
    ));
    let instance = view.history.instance(&view.record.instance);
    let first = if instance.events == 0 { "this is the first event of the SMMU: " } else { "" };
    causes.push(Cause::possible(
        "firmware-left-running",
        format!("{first}a device that firmware started may do DMA before its driver takes over"),
        "Look which device has this StreamID, and whether firmware uses it (display, USB, \
         network).",
    ));
}

fn substream(view: &View, sid: &str, causes: &mut Vec<Cause>) {
    let ssid = view.ssid.unwrap_or(0);
    if ssid == 0 {
        causes.push(Cause::likely(
            "pasid-without-support",
            format!(
                "{sid} sent PASID 0, but its STE has no table of contexts (S1CDMax = 0), or \
                stage 1 is off for it"
            ),
            "Turn PASIDs off in the device, or attach a domain that supports them.",
        ));
    } else {
        causes.push(Cause::likely(
            "pasid-without-support",
            format!(
                "{sid} sent PASID {ssid:#x}, which is outside its table of contexts \
                (S1CDMax), or the stream has none"
            ),
            "Compare the PASID with the STE's S1CDMax; turn PASIDs off in the device if nobody \
             bound one.",
        ));
        causes.push(Cause::possible(
            "pasid-torn-down",
            format!("or PASID {ssid:#x} was bound once and its level-2 table of contexts is gone"),
            "Stop the device's work of that PASID before unbinding it.",
        ));
    }
}
