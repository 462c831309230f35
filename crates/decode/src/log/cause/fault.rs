// SPDX-License-Identifier: MIT OR Apache-2.0
//! Causes of faults of translation.

use smmuv3_formats::EventId;

use super::address::{bits, is_doorbell, is_like_ram, is_top_of_32_bits, pointer};
use super::{Cause, View};

/// Dispatches by stage and event.
pub fn of(view: &View, id: Option<EventId>, causes: &mut Vec<Cause>) {
    match id {
        Some(EventId::FWalkEabt) => walk(view, causes),
        Some(EventId::FTlbConflict) => conflict(view, causes),
        _ if view.s2 => stage_2(view, id, causes),
        Some(EventId::FAddrSize) => size(view, causes),
        Some(EventId::FAccess) => access_flag(view, causes),
        Some(EventId::FPermission) => permission(view, causes),
        _ => translation(view, causes),
    }
}

/// F_TRANSLATION of stage 1, and the one of a log that does not say the stage.
fn translation(view: &View, causes: &mut Vec<Cause>) {
    let Some(address) = view.address else {
        causes.push(Cause::possible(
            "never-mapped",
            "nothing is mapped at the address, which this log does not show",
            "Get the whole event: all four words.",
        ));
        return;
    };
    if let Some(ssid) = view.ssid {
        causes.push(Cause::likely(
            "pasid-torn-down",
            format!(
                "the access carries PASID {ssid:#x}: its process unmapped the address or \
                ended while the device was still working for it"
            ),
            "Stop the device's work of that PASID before the process goes; check the order of \
             unbind and the last submission.",
        ));
    }
    let write = view.read == Some(false);
    let roams = view.history.stream(view.record).roams(address >> 12);
    if write && is_doorbell(address) && !roams {
        let why = format!(
            "a write to offset 0x040 of a page ({address:#x}), where an interrupt controller \
             takes MSIs (GITS_TRANSLATER, or MSI_SETSPI_NS of GICv2m)"
        );
        let next = "Check that the doorbell is mapped for this device: msi-parent or msi-map \
            (device tree), IORT's ITS group, and the domain's MSI cookie or reserved region.";
        causes.push(if is_top_of_32_bits(address) || address & 0xffff == 0x0040 {
            let top = if is_top_of_32_bits(address) {
                ", near the top of 32 bits, where IOVAs are handed out first"
            } else {
                ""
            };
            Cause::likely("msi-doorbell", format!("{why}{top}"), next)
        } else {
            Cause::possible("msi-doorbell", why, next)
        });
    }
    if address < 0x1000 {
        causes.push(Cause::likely(
            "iova-zero",
            format!(
                "{} is in the first page: an address of zero, or an offset from one",
                view.access()
            ),
            "The device did DMA before its driver programmed it, or after a reset lost the \
             address: check the order of reset, programming and bus mastering. Some PCI host \
             bridges send such accesses by themselves.",
        ));
    }
    match (pointer(address), view.ssid) {
        (Some(whose), None) => causes.push(Cause::likely(
            "cpu-pointer",
            format!("{address:#x} looks like {whose}, and the access has no PASID"),
            "Look where the driver takes the address from: it must be what dma_map_* or \
             dma_alloc_* returned, not a pointer.",
        )),
        (Some(whose), Some(ssid)) => causes.push(Cause::possible(
            "sva-unmapped",
            format!(
                "{address:#x} looks like {whose}, which is as it should be with PASID \
                {ssid:#x} (shared virtual addressing), but nothing is mapped there"
            ),
            "Check that the buffer is still mapped in the process, and that page faults of the \
             device are handled.",
        )),
        (None, _) => physical(view, address, causes),
    }
    sequential(view, causes);
    causes.push(Cause::possible(
        "use-after-unmap",
        format!(
            "{} finds no mapping: the buffer may have been unmapped while the device still \
            used it",
            view.access()
        ),
        "Log dma_map and dma_unmap of the device (trace events iommu:map, iommu:unmap), and look \
         whether the address was ever mapped.",
    ));
    causes.push(Cause::possible(
        "never-mapped",
        "or it was never mapped: a wrong length, a wrong descriptor, or a device under another \
         StreamID than its driver's",
        "Compare the address with the iommu:map trace: only its start, its end or nothing at all \
         may be mapped.",
    ));
}

/// An address that looks like RAM's.
fn physical(view: &View, address: u64, causes: &mut Vec<Cause>) {
    let next = "Check whether the device should be in bypass or have an identity mapping: \
        iommu.passthrough=1 for a try, RMR or iommu-addresses for firmware's buffers.";
    if let Some(line) = view.history.ram(address) {
        causes.push(Cause::likely(
            "physical-address",
            format!(
                "{address:#x} is in RAM that the log lists (line {line}): a physical address \
                was used where an IOVA is needed, by a driver without the DMA API or by firmware"
            ),
            next,
        ));
    } else if is_like_ram(address) {
        causes.push(Cause::possible(
            "physical-address",
            format!(
                "{address:#x} may be an address of RAM: a device that was set up for bypass, \
                or by firmware"
            ),
            next,
        ));
    }
}

/// One page after the other.
fn sequential(view: &View, causes: &mut Vec<Cause>) {
    let stream = view.history.stream(view.record);
    let next = match (stream.page, view.address) {
        (Some(last), Some(address)) => last.wrapping_add(1) == address >> 12,
        _ => false,
    };
    let run = stream.run + u64::from(next);
    if next && run >= 2 {
        causes.push(Cause::likely(
            "use-after-unmap",
            format!(
                "{run} events in a row were each on the page after the one before: the \
                device works through a buffer that is no longer mapped, or longer than what was \
                mapped"
            ),
            "Check that the driver stops the transfer before it unmaps, and the length that it \
             gives the device.",
        ));
    }
}

fn size(view: &View, causes: &mut Vec<Cause>) {
    let instance = view.history.instance(&view.record.instance);
    let Some(address) = view.address else { return };
    let needs = bits(address);
    let limit = instance.oas.map_or(String::new(), |oas| format!(" (this SMMU: {oas} bits)"));
    causes.push(Cause::likely(
        "width",
        format!(
            "{address:#x} needs {needs} bits: more than the stage takes, or the walk led to \
            an output address beyond IPS or OAS{limit}"
        ),
        "Compare with the SMMU's input and output sizes, the device's DMA mask (32, 40, 48 bits) \
         and dma-ranges; a stream in bypass takes OAS bits at most.",
    ));
    if let Some(whose) = pointer(address) {
        causes.push(Cause::likely(
            "cpu-pointer",
            format!("{address:#x} looks like {whose}"),
            "Look where the driver takes the address from: it must be what dma_map_* or \
             dma_alloc_* returned, not a pointer.",
        ));
    }
    causes.push(Cause::possible(
        "table-corrupt",
        "a descriptor on the way has an output address with bits that do not exist: its table \
         was overwritten or freed",
        "Dump the tables of the stream (STE, CD, descriptors) and walk the address.",
    ));
}

fn access_flag(view: &View, causes: &mut Vec<Cause>) {
    causes.push(Cause::certain(
        "access-flag",
        format!(
            "the descriptor for {} is valid but its access flag (AF) is 0, and the SMMU does \
            not set it (no HTTU, or CD.HA = 0)",
            view.access()
        ),
        "If the table is a process's (SVA), let the page fault handler set AF; else the code \
         that writes descriptors forgets AF.",
    ));
}

fn permission(view: &View, causes: &mut Vec<Cause>) {
    if view.instruction {
        causes.push(Cause::likely(
            "execute-denied",
            format!(
                "{}: the page may not be executed (XN), or a device marks its accesses as \
                instruction fetches",
                view.access()
            ),
            "A device rarely means to execute: set STE.INSTCFG to data, or correct the device's \
             attributes.",
        ));
    } else if view.read == Some(false) {
        causes.push(Cause::likely(
            "read-only-buffer-written",
            format!(
                "{}, which is mapped without write permission: the buffer was mapped for \
                reading by the device only (DMA_TO_DEVICE), or it is read-only memory",
                view.access()
            ),
            "Check the direction that the driver gives dma_map_*: what the device writes needs \
             DMA_FROM_DEVICE or DMA_BIDIRECTIONAL.",
        ));
        causes.push(Cause::possible(
            "dirty-tracking",
            "or the page is writable-clean and dirty state is not managed by hardware (CD.HD = 0)",
            "Check HD in the CD, if dirty tracking is in use.",
        ));
    } else if view.read == Some(true) {
        causes.push(Cause::likely(
            "direction",
            format!(
                "{}, which is mapped without read permission: mapped for writing only",
                view.access()
            ),
            "Check the direction that the driver gives dma_map_*: what the device reads needs \
             DMA_TO_DEVICE or DMA_BIDIRECTIONAL.",
        ));
    } else {
        causes.push(Cause::possible(
            "direction",
            "the mapping does not allow this access",
            "Check the direction that the driver gives dma_map_*.",
        ));
    }
    if !view.privileged && view.ssid.is_none() {
        causes.push(Cause::possible(
            "privilege",
            "the access is unprivileged: the page may be for privileged accesses only",
            "Check AP[1] of the descriptor, and PRIVCFG of the STE.",
        ));
    }
}

fn stage_2(view: &View, id: Option<EventId>, causes: &mut Vec<Cause>) {
    let ipa = view
        .ipa
        .map_or("an address that the log does not show".to_owned(), |ipa| format!("IPA {ipa:#x}"));
    let what = match view.class {
        Some("CD") => "the guest's context descriptor is there",
        Some("TT") => "a stage-1 descriptor of the guest is there",
        _ => "the guest mapped the device's address to it",
    };
    let how = match id {
        Some(EventId::FPermission) => "stage 2 does not allow the access",
        Some(EventId::FAddrSize) => "stage 2 has an output address that is too large",
        Some(EventId::FAccess) => "the access flag of stage 2 is 0",
        _ => "stage 2 maps nothing",
    };
    causes.push(Cause::likely(
        "stage-2-mapping",
        format!("{how} at {ipa}, and {what}"),
        "Compare the IPA with the VM's memory map: it must be RAM (or an MSI doorbell) that the \
         hypervisor mapped for the device too.",
    ));
    if view.read == Some(false)
        && view.class != Some("CD")
        && view.class != Some("TT")
        && view.ipa.is_some_and(|ipa| ipa & 0xffff == 0)
        && view.address.is_some_and(is_doorbell)
    {
        causes.push(Cause::likely(
            "msi-doorbell",
            format!(
                "{} goes to offset 0x040 of a page, where an interrupt controller takes \
                MSIs: the guest's doorbell is not mapped in stage 2",
                view.access()
            ),
            "Map the doorbell in stage 2, or give the guest the address that the host reserved \
             for it.",
        ));
    }
    if matches!(view.class, Some("CD" | "TT")) {
        causes.push(Cause::possible(
            "table-corrupt",
            "the guest's own tables point outside of its memory: corrupted, or written for \
             another machine",
            "Walk the guest's stage-1 tables for this address.",
        ));
    } else {
        causes.push(Cause::possible(
            "never-mapped",
            "or the device uses guest-physical addresses that the VM does not have",
            "Check what the guest programmed into the device.",
        ));
    }
}

fn walk(view: &View, causes: &mut Vec<Cause>) {
    let place = view.fetch.map_or(String::new(), |fetch| format!(" at {fetch:#x}"));
    not_accessible(view, "a translation table", &place, causes);
    causes.push(Cause::possible(
        "table-corrupt",
        format!(
            "a descriptor points to a table{place} where there is no memory: it was \
            overwritten, or its table freed"
        ),
        "Dump the tables of the stream and walk the address; compare the fetch address with the \
         machine's memory map.",
    ));
}

/// The bus refused what the SMMU read.
pub fn not_accessible(view: &View, what: &str, place: &str, causes: &mut Vec<Cause>) {
    if view.gpcf {
        causes.push(Cause::certain(
            "granule-protection",
            format!("GPCF is 1: the fetch of {what}{place} failed the granule protection check"),
            "The memory belongs to another world (Realm, Secure, Root): check who owns it.",
        ));
        return;
    }
    let ram = match (view.fetch, view.fetch.and_then(|fetch| view.history.ram(fetch))) {
        (Some(_), Some(line)) => format!(
            "; the log lists RAM there (line {line}), so protection is more likely than a wrong \
             address"
        ),
        _ => String::new(),
    };
    causes.push(Cause::likely(
        "memory-not-accessible",
        format!(
            "the bus aborted the SMMU's read of {what}{place}: no memory there, or memory \
            that the SMMU may not access (TrustZone, firewalls, ECC){ram}"
        ),
        "Check the address against the memory map, and that protection units (TZC, MPUs) let the \
         SMMU's own master through.",
    ));
}

fn conflict(view: &View, causes: &mut Vec<Cause>) {
    causes.push(Cause::likely(
        "tlb-conflict",
        format!("two cached translations match {}: a mapping was changed without break-before-make, or contiguous bits or block sizes contradict each other", view.access()),
        "Check that a valid descriptor is cleared and invalidated before another size is \
         written, and that ASIDs are not shared by two tables.",
    ));
}
