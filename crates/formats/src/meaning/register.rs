// SPDX-License-Identifier: MIT OR Apache-2.0
//! Register fields (§2).

use super::common::*;
use super::{Text, Whole};
use crate::EventId;
use crate::memory_type::{self, Attribute};
use crate::register::vatos_page;

/// What a field of a register is.
pub(super) fn field(register: &str, name: &str) -> Option<&'static str> {
    identification_field(name).or_else(|| control_field(register, name))
}

fn identification_field(name: &str) -> Option<&'static str> {
    Some(match name {
        "S2P" => "stage 2",
        "S1P" => "stage 1",
        "TTF" => "formats of translation tables",
        "COHACC" => "accesses to tables and queues can be coherent",
        "BTM" => "broadcast TLB maintenance",
        "HTTU" => "hardware updates of access and dirty flags",
        "DORMHINT" => "hint that the SMMU is dormant",
        "Hyp" => "hypervisor (EL2) streams",
        "ATS" => "address translation services for PCIe devices",
        "NS1ATS" => "split-stage ATS",
        "ASID16" => "width of ASIDs",
        "MSI" => "message-signalled interrupts",
        "SEV" => "events to waiting processors",
        "ATOS" => "address translation by registers",
        "PRI" => "page requests of PCIe devices",
        "VMW" => "VMID wildcards",
        "VMID16" => "width of VMIDs",
        "CD2L" => "2-level tables of contexts",
        "VATOS" => "address translation by registers, for a virtual machine",
        "TTENDIAN" => "endianness of translation tables",
        "ATSRECERR" => "errors of ATS requests can be recorded",
        "STALL_MODEL" => "whether faults can stall",
        "TERM_MODEL" => "how faults can terminate",
        "ST_LEVEL" => "shapes of the stream table",
        "RME_IMPL" => "realm management extension",
        "SIDSIZE" => "width of StreamIDs",
        "SSIDSIZE" => "width of SubstreamIDs",
        "PRIQS" => "largest PRI queue",
        "EVENTQS" => "largest event queue",
        "CMDQS" => "largest command queue",
        "ATTR_PERMS_OVR" => "privilege and instruction can be overridden",
        "ATTR_TYPES_OVR" => "memory type and shareability can be overridden",
        "REL" => "preset bases are relative to the registers",
        "QUEUES_PRESET" => "queue bases are fixed",
        "TABLES_PRESET" => "stream table base is fixed",
        "ECMDQ" => "enhanced command queues",
        "BA_VATOS" => "where the VATOS page is",
        "HAD" => "hierarchical permissions can be switched off",
        "PBHA" => "page-based hardware attributes",
        "XNX" => "stage-2 execution by privilege",
        "PPS" => "automatic page request responses carry the PASID",
        "MPAM" => "memory system partitioning",
        "FWB" => "stage 2 can force memory types",
        "STT" => "small translation tables",
        "RIL" => "invalidation by range and level",
        "BBML" => "how block sizes may be changed",
        "E0PD" => "unprivileged access can be denied by half",
        "PTWNNC" => "stage-1 walks to Device memory are treated as Normal non-cacheable",
        "DPT" => "device permission table",
        "PASIDTT" => "translated transactions with PASID",
        "EPAN" => "PAN covers execute-only memory",
        "S1PI" => "stage-1 indirect permissions",
        "S2PI" => "stage-2 indirect permissions",
        "S2PO" => "stage-2 permission overlays",
        "THE" => "translation hardening",
        "MTEPERM" => "memory tagging permission",
        "AIE" => "sixteen memory attributes",
        "IMPDEF" => "implementation defined",
        "OAS" => "size of output addresses",
        "GRAN4K" => "granule of 4 KiB",
        "GRAN16K" => "granule of 16 KiB",
        "GRAN64K" => "granule of 64 KiB",
        "DS" => "52-bit addresses with small granules (LPA2)",
        "D128" => "128-bit descriptors",
        "VAX" => "size of virtual addresses",
        "STALL_MAX" => "most stalled transactions",
        "CMDQ_CONTROL_PAGE_LOG2NUMQ" => "queues a control page",
        "CMDQ_CONTROL_PAGE_LOG2NUMP" => "control pages",
        "Implementer" => "who made it",
        "Revision" => "minor revision",
        "Variant" => "major revision",
        "ProductID" => "what it is",
        "ArchMinorRev" => "architecture version, after the point",
        "ArchMajorRev" => "architecture version, before the point",
        _ => return None,
    })
}

fn control_field(register: &str, name: &str) -> Option<&'static str> {
    Some(match (register, name) {
        (_, "SMMUEN") => "translate",
        (_, "PRIQEN") => "take page requests",
        (_, "EVENTQEN") => "write events",
        (_, "CMDQEN") => "take commands",
        (_, "ATSCHK") => "check translated traffic",
        (_, "DPT_WALK_EN") => "read the device permission table",
        (_, "QUEUE_IC") => "inner cacheability of queues",
        (_, "QUEUE_OC") => "outer cacheability of queues",
        (_, "QUEUE_SH") => "shareability of queues",
        (_, "TABLE_IC") => "inner cacheability of the stream table",
        (_, "TABLE_OC") => "outer cacheability of the stream table",
        (_, "TABLE_SH") => "shareability of the stream table",
        (_, "E2H") => "hypervisor streams have two halves and ASIDs",
        (_, "RECINVSID") => "record streams outside the table",
        (_, "PTM") => "private TLB maintenance: ignore broadcasts",
        (_, "REC_CFG_ATS") => "record configuration errors of ATS requests",
        (_, "DORMANT") => "the SMMU is dormant",
        ("GBPA", "MemAttr") => "memory type that replaces the incoming one",
        (_, "MemAttr") => "memory type of the message",
        (_, "MTCFG") => "whether MemAttr is used",
        (_, "ALLOCCFG") => "cache allocation hints",
        (_, "SHCFG") => "shareability",
        (_, "PRIVCFG") => "privilege",
        (_, "INSTCFG") => "instruction or data",
        (_, "ABORT") => "abort while not enabled",
        (_, "Update") => "the write is taken; 1 until it is in effect",
        (_, "GERROR_IRQEN") => "interrupt of global errors",
        (_, "PRIQ_IRQEN") => "interrupt of the PRI queue",
        (_, "EVENTQ_IRQEN") => "interrupt of the event queue",
        (_, "CMDQ_ERR") => "a command was refused: see CMDQ_CONS.ERR",
        (_, "EVENTQ_ABT_ERR") => "access to the event queue aborted",
        (_, "PRIQ_ABT_ERR") => "access to the PRI queue aborted",
        (_, "MSI_CMDQ_ABT_ERR") => "message of a CMD_SYNC aborted",
        (_, "MSI_EVENTQ_ABT_ERR") => "message of the event queue aborted",
        (_, "MSI_PRIQ_ABT_ERR") => "message of the PRI queue aborted",
        (_, "MSI_GERROR_ABT_ERR") => "message of a global error aborted",
        (_, "SFM_ERR") => "the SMMU has entered service failure mode",
        (_, "CMDQP_ERR") => "an enhanced command queue has an error",
        (_, "DPT_ERR") => "the device permission table could not be used",
        ("STRTAB_BASE", "ADDR") => "address of the stream table",
        ("STRTAB_BASE_CFG", "LOG2SIZE") => "streams of the table",
        (_, "SPLIT") => "streams of a second-level table",
        (_, "FMT") => "shape of the stream table",
        ("CMDQ_BASE" | "EVENTQ_BASE" | "PRIQ_BASE" | "ECMDQ_BASE", "ADDR") => {
            "address of the queue"
        }
        (_, "LOG2SIZE") => "entries of the queue",
        ("CMDQ_CONTROL_PAGE_BASE0", "ADDR") => "offset of the control page from page 0",
        (_, "CMDQGS") => "size of the control page",
        (_, "CMDQ_CONTROL_PAGE_PRESET") => "queues are preset in hardware",
        ("PMCG_EVTYPER0", "EVENT") => "event that is counted",
        ("PMCG_EVTYPER0", "FILTER_SID_SPAN") => "the stream filter is a mask",
        ("PMCG_CFGR", "NCTR") => "counters, less one",
        ("PMCG_CFGR", "SIZE") => "bits of a counter, less one",
        ("PMCG_CFGR", "RELOC_CTRS") => "counters are in page 1",
        ("PMCG_CFGR", "CAPTURE") => "counters can be captured",
        ("PMCG_CFGR", "SID_FILTER_TYPE") => "one stream filter for all counters",
        ("PMCG_CR", "E") => "counting is enabled",
        ("PMCG_IRQ_CTRL" | "PMCG_IRQ_CTRLACK", "IRQEN") => "overflows interrupt",
        ("GATOS_ADDR" | "VATOS_ADDR", "ADDR") => "address to be translated",
        ("GATOS_PAR" | "VATOS_PAR", "ADDR") => "output address",
        (_, "ADDR") => "address of the message",
        (_, "DATA") => "payload of the message",
        ("GATOS_PAR" | "VATOS_PAR", "SH") => "shareability",
        (_, "SH") => "shareability of the message",
        (_, "LO") => "when page requests interrupt",
        (_, "RA") => "read-allocate",
        (_, "WA") => "write-allocate",
        (_, "WR") => "producer: index and wrap bit",
        (_, "RD") => "consumer: index and wrap bit",
        ("CMDQ_CONS", "ERR") => "why a command was refused, while GERROR.CMDQ_ERR is active",
        ("ECMDQ_CONS", "ERR") => "error of this queue, toggled; active unless ERRACK is equal",
        (_, "ERR_REASON") => "why a command was refused, while ERR is active",
        (_, "ERRACK") => "acknowledges ERR",
        (_, "OVFLG") => "overflow, toggled; active unless OVACKFLG is equal",
        (_, "OVACKFLG") => "acknowledges OVFLG",
        (_, "EN") => "enable",
        (_, "ENACK") => "enable is in effect",
        (_, "RUN") => "start; 1 until done",
        (_, "STREAMID") => "stream",
        (_, "SUBSTREAMID") => "substream (PASID)",
        (_, "SSID_VALID") => "with substream",
        (_, "HTTUI") => "no hardware updates of flags",
        (_, "InD") => "instruction or data",
        (_, "RnW") => "read or write",
        (_, "PnU") => "privilege",
        (_, "TYPE") => "which stages",
        (_, "FAULT") => "the translation faulted",
        (_, "Size") => "size of the page",
        (_, "ATTR") => "memory type",
        (_, "REASON") => "where it faulted",
        (_, "FAULTCODE") => "which event it would be",
        (_, "FADDR") => "intermediate address that faulted",
        (_, "VMID") => "virtual machine",
        _ => return None,
    })
}

/// What a value of a register's field means.
pub(super) fn value(register: &str, name: &str, value: u64, whole: &Whole<'_>) -> Option<Text> {
    match register {
        "IDR0" => features(name, value),
        "IDR1" => sizes(name, value),
        "IDR2" => Some(Text::at(vatos_page(value))),
        "IDR3" if name == "BBML" => choice(
            value,
            &[
                "level 0: break before make",
                "level 1: with the nT bit",
                "level 2: directly",
                "reserved",
            ],
        ),
        "IDR3" => implemented(value),
        "IDR5" => addresses(name, value),
        "IDR6" if name == "CMDQ_CONTROL_PAGE_LOG2NUMQ" => {
            Some(Text::power(value, "queue", "queues"))
        }
        "IDR6" => Some(Text::power(value, "page", "pages")),
        "IIDR" => product(name, value, whole),
        "AIDR" if name == "ArchMinorRev" && value <= 4 && !whole.is("ArchMajorRev") => {
            Some(Text::version(value))
        }
        "AIDR" if name == "ArchMajorRev" && value == 0 => plain("SMMUv3"),
        _ => control(register, name, value, whole),
    }
}

fn implemented(value: u64) -> Option<Text> {
    either(value, "no", "yes")
}

/// IDR0.
fn features(name: &str, value: u64) -> Option<Text> {
    match name {
        "TTF" => {
            choice(value, &["reserved", "AArch32 (LPAE)", "AArch64", "AArch32 (LPAE) and AArch64"])
        }
        "HTTU" => choice(
            value,
            &[
                "none",
                "access flag",
                "access and dirty flag",
                "access and dirty flag, access flag of tables",
            ],
        ),
        "NS1ATS" => either(value, "supported", "not supported"),
        "ASID16" | "VMID16" => either(value, "8 bits", "16 bits"),
        "TTENDIAN" => choice(value, &["both", "reserved", "little-endian", "big-endian"]),
        "STALL_MODEL" => choice(
            value,
            &["stall or terminate, by configuration", "terminate only", "stall always", "reserved"],
        ),
        "TERM_MODEL" => either(value, "abort, or read zero and ignore writes", "abort only"),
        "ST_LEVEL" => choice(value, &["linear", "linear and 2-level", "reserved"]),
        _ => implemented(value),
    }
}

/// IDR1.
fn sizes(name: &str, value: u64) -> Option<Text> {
    match name {
        "SSIDSIZE" if value == 0 => plain("no substreams"),
        "SIDSIZE" | "SSIDSIZE" => Some(Text::bits(value)),
        "PRIQS" | "EVENTQS" | "CMDQS" => Some(Text::power(value, "entry", "entries")),
        _ => implemented(value),
    }
}

/// IDR5.
fn addresses(name: &str, value: u64) -> Option<Text> {
    match name {
        "OAS" => address_size(value),
        "VAX" => choice(value, &["48 bits", "52 bits", "56 bits", "reserved"]),
        "STALL_MAX" => Some(Text::count(value, "transaction", "transactions")),
        _ => implemented(value),
    }
}

/// IIDR, as far as names are known (§2.3).
fn product(name: &str, value: u64, whole: &Whole<'_>) -> Option<Text> {
    const ARM: u64 = 0x43b;
    match (name, value) {
        ("Implementer", ARM) => plain("Arm"),
        ("ProductID", _) if whole.get("Implementer") != ARM => None,
        ("ProductID", 0x483) => plain("MMU-600"),
        ("ProductID", 0x487) => plain("MMU-700"),
        ("ProductID", 0x48a) => plain("MMU-L1"),
        ("ProductID", 0x498) => plain("MMU-S3"),
        _ => None,
    }
}

fn control(register: &str, name: &str, value: u64, whole: &Whole<'_>) -> Option<Text> {
    match name {
        "SMMUEN" => either(value, "off: GBPA decides", "on"),
        "PRIQEN" | "EVENTQEN" | "CMDQEN" | "ATSCHK" | "DPT_WALK_EN" => either(value, "off", "on"),
        "GERROR_IRQEN" | "PRIQ_IRQEN" | "EVENTQ_IRQEN" => either(value, "off", "on"),
        "VMW" => match value {
            0 => plain("VMIDs match exactly"),
            1..=4 => {
                Some(Text::count(value, "low bit of VMIDs ignored", "low bits of VMIDs ignored"))
            }
            _ => plain("reserved"),
        },
        "QUEUE_IC" | "QUEUE_OC" | "TABLE_IC" | "TABLE_OC" => choice(
            value,
            &["non-cacheable", "write-back", "write-through", "reserved: non-cacheable"],
        ),
        "QUEUE_SH" if !whole.is("QUEUE_IC") && !whole.is("QUEUE_OC") => {
            plain("outer shareable (non-cacheable)")
        }
        "TABLE_SH" if !whole.is("TABLE_IC") && !whole.is("TABLE_OC") => {
            plain("outer shareable (non-cacheable)")
        }
        "QUEUE_SH" | "TABLE_SH" => choice(
            value,
            &["non-shareable", "reserved: non-shareable", "outer shareable", "inner shareable"],
        ),
        "E2H" => either(value, "EL2: one half, no ASIDs", "EL2-E2H: two halves, ASIDs"),
        "RECINVSID" | "REC_CFG_ATS" => either(value, "not recorded", "recorded"),
        "PTM" => either(value, "takes part in broadcasts", "may ignore broadcasts"),
        "MemAttr" if register == "GBPA" => type_override(value, whole.is("MTCFG")),
        "MemAttr" => plain(memory_type::overriding(value)),
        "MTCFG" => either(value, "as it comes in", "MemAttr"),
        "ALLOCCFG" => allocation(value),
        "SHCFG" => share_override(value),
        "PRIVCFG" => privilege_override(value),
        "INSTCFG" => instruction_override(value),
        "ABORT" => either(value, "bypass", "abort"),
        "Update" => either(value, "in effect", "pending"),
        "LOG2SIZE" if register == "STRTAB_BASE_CFG" => {
            Some(Text::power(value, "stream", "streams"))
        }
        "LOG2SIZE" => Some(Text::power(value, "entry", "entries")),
        "SPLIT" if whole.get("FMT") != 1 => plain("unused (linear)"),
        "SPLIT" => match value {
            6 | 8 | 10 => Some(Text::power(value, "stream", "streams")),
            _ => plain("reserved: 64 streams"),
        },
        "FMT" => choice(value, &["linear", "2-level", "reserved: linear"]),
        "CMDQGS" => choice(value, &["reserved", "64 KiB", "reserved"]),
        "ADDR" if register.ends_with("_IRQ_CFG0") && value == 0 => plain("no message"),
        "SH" => shareability(value),
        "LO" => either(value, "when the queue is no longer empty", "on the last of a group"),
        "RA" | "WA" => either(value, "no", "yes"),
        "ERR" if register == "CMDQ_CONS" => command_error(value),
        "ERR_REASON" => command_error(value),
        "RUN" => either(value, "done", "running"),
        "SSID_VALID" => either(value, "no substream", "with substream"),
        "EN" | "ENACK" => either(value, "off", "on"),
        "HTTUI" => either(value, "flags may be updated", "flags are left alone"),
        "InD" => either(value, "data", "instruction"),
        "RnW" => either(value, "write", "read"),
        "PnU" => either(value, "unprivileged", "privileged"),
        "TYPE" => choice(
            value,
            &[
                "reserved",
                "stage 1: virtual to intermediate",
                "stage 2: intermediate to physical",
                "both stages: virtual to physical",
            ],
        ),
        "FAULT" => either(value, "translated", "faulted"),
        "Size" => either(value, "4 KiB", "by the lowest bit set in ADDR"),
        "ATTR" => Some(Text::attribute(Attribute(value as u8))),
        "REASON" => choice(
            value,
            &[
                "stage 1, or none",
                "stage 2, on a context descriptor",
                "stage 2, on a stage-1 table",
                "stage 2, on its input",
            ],
        ),
        "FAULTCODE" => fault_code(value),
        _ => None,
    }
}

/// FAULTCODE: an event's number, or one of three of its own (§2.5).
fn fault_code(value: u64) -> Option<Text> {
    match u8::try_from(value).ok()? {
        0xff => plain("INV_REQ: the request was not valid"),
        0xfe => plain("INV_STAGE: the stage does not exist"),
        0xfd => plain("INTERNAL_ERR"),
        code => EventId::from_code(code).map(|id| Text::plain(id.name())),
    }
}
