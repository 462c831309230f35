// SPDX-License-Identifier: MIT OR Apache-2.0
//! Features and operations that never come together, in random steps or otherwise, since they cannot: there is no such
//! thing, or the driver refuses it.

/// Features, operations that are never done with them, and why.
#[derive(Clone, Copy, Debug)]
pub struct Exception {
    /// Any of these.
    pub features: &'static [&'static str],
    /// Any of these.
    pub operations: &'static [&'static str],
    /// Why.
    pub reason: &'static str,
}

impl Exception {
    /// That of a feature and an operation, by their names, if they are one.
    pub fn of(feature: &str, operation: &str) -> Option<&'static Self> {
        EXCEPTIONS
            .iter()
            .find(|it| it.features.contains(&feature) && it.operations.contains(&operation))
    }
}

const fn cannot(
    features: &'static [&'static str],
    operations: &'static [&'static str],
    reason: &'static str,
) -> Exception {
    Exception { features, operations, reason }
}

/// All of them.
pub const EXCEPTIONS: &[Exception] = &[
    cannot(&["process"], &["attach"], "a process is bound"),
    cannot(&["process"], &["attach PASID", "detach PASID"], "a process brings its own"),
    cannot(
        OF_STAGE_2,
        &["attach PASID", "detach PASID", "stop"],
        "PASIDs have contexts, and these have none",
    ),
    cannot(
        &["stage 2 alone"],
        &["attach PASID", "detach PASID", "bind", "unbind", "release", "replace", "stop"],
        "PASIDs have contexts, which take stage 1",
    ),
    cannot(
        &["process"],
        &["cut", "dirty", "accessed", "defer", "flush", "reclaim"],
        "its tables are the operating system's",
    ),
    cannot(&["process"], &["detach"], "it is unbound"),
    cannot(&["process"], &["identity"], "it has a PASID, which identity has not"),
    cannot(OF_DOMAINS, &["bind", "unbind"], "a domain is attached"),
    cannot(OF_DOMAINS, &["release", "replace"], "a domain does not end under its masters"),
    cannot(
        &["not coherent"],
        &["bind", "unbind", "release", "replace"],
        "nobody publishes the tables of a process",
    ),
    cannot(
        OF_MAPPINGS,
        &[
            "attach",
            "detach",
            "identity",
            "attach PASID",
            "detach PASID",
            "bind",
            "unbind",
            "release",
            "replace",
            "flush",
            "reclaim",
            "answer",
            "grant",
            "stop",
            "mute",
            "too late",
            "readmit",
            "suspend",
            "resume",
            "reset",
            "replug",
            "hand-over",
            "claim",
            "command error",
            "misbehave",
        ],
        "a mapping takes part in what has its addresses",
    ),
    cannot(
        &["not coherent"],
        &["dirty", "accessed"],
        "hardware marks nothing where it does not snoop",
    ),
    cannot(
        OF_GUESTS,
        &["cut", "dirty", "accessed", "defer", "flush", "reclaim"],
        "its tables are the guest's",
    ),
    cannot(
        &["ATS", "ATS always on", "split-stage ATS", "page requests", "PASIDs in responses"],
        &["answer"],
        "what keeps translations does not stall",
    ),
    cannot(
        OF_HOSTS,
        &["misbehave"],
        "it is a guest that does, which has domains of its own over one of the host's",
    ),
    cannot(
        &["stage 1 alone", "stage 2 alone", "MMU-600", "early MMU-700"],
        &["misbehave"],
        "without nesting there are no guests",
    ),
    cannot(
        &["stalls", "forced stalls"],
        &["ask", "grant", "stop", "mute", "too late", "readmit"],
        "what stalls has no ATS, and asks for nothing",
    ),
    cannot(
        OF_SPACES,
        &["claim"],
        "until it is claimed, and just afterwards, a master uses a space that the driver made for it",
    ),
    cannot(
        &["split-stage ATS"],
        &["fetch"],
        "what has been translated once is taken for data from there on",
    ),
    cannot(
        &["left working"],
        &["ask", "grant", "stop", "mute", "too late", "readmit"],
        NOBODY_TOLD,
    ),
    cannot(
        &["ATS", "ATS always on", "split-stage ATS", "page requests", "PASIDs in responses"],
        &["claim"],
        NOBODY_TOLD,
    ),
];

const NOBODY_TOLD: &str =
    "what firmware left working has no ATS: nobody could be told to switch it on";

/// What a domain or a process can be.
const OF_SPACES: &[&str] = &[
    "domain",
    "stage 2",
    "hypervisor's VMID",
    "16 KiB",
    "64 KiB",
    "contiguous",
    "splitting",
    "dirty state",
    "under guests",
    "guest's stage 1",
    "guest's stalls",
    "guest's page requests",
    "guest's PASIDs",
    "PASIDs or nothing",
    "PASIDs beside bypass",
    "52-bit inputs",
    "upper half",
    "access flags",
    "all attributes",
    "forced types",
    "output size",
    "first tables side by side",
    "process",
    "an ASID each",
    "8-bit ASIDs for all",
    "8-bit ASIDs on move",
    "narrowest ASIDs or none",
    "narrowest ASIDs on move",
    "banked ASIDs",
];

/// What only a domain can be, not a process.
const OF_DOMAINS: &[&str] = &[
    "domain",
    "stage 2",
    "hypervisor's VMID",
    "16 KiB",
    "64 KiB",
    "contiguous",
    "splitting",
    "dirty state",
    "under guests",
    "guest's stage 1",
    "guest's stalls",
    "guest's page requests",
    "guest's PASIDs",
    "PASIDs or nothing",
    "PASIDs beside bypass",
    "52-bit inputs",
    "upper half",
    "access flags",
    "all attributes",
    "forced types",
    "output size",
    "first tables side by side",
];

/// What a space can be that is no guest's.
const OF_HOSTS: &[&str] = &[
    "stage 2",
    "hypervisor's VMID",
    "16 KiB",
    "64 KiB",
    "contiguous",
    "splitting",
    "dirty state",
    "under guests",
    "52-bit inputs",
    "upper half",
    "access flags",
    "all attributes",
    "forced types",
    "output size",
    "first tables side by side",
    "process",
    "an ASID each",
    "8-bit ASIDs for all",
    "8-bit ASIDs on move",
    "narrowest ASIDs or none",
    "narrowest ASIDs on move",
    "banked ASIDs",
];

/// What is said of a mapping.
const OF_MAPPINGS: &[&str] = &[
    "uncached",
    "device memory",
    "write-through",
    "type of stage 1",
    "executable",
    "executable by some",
    "for privileged only",
];

/// What only a domain of stage 2 can be.
const OF_STAGE_2: &[&str] =
    &["stage 2", "hypervisor's VMID", "under guests", "forced types", "first tables side by side"];

/// What only a guest's space can be.
const OF_GUESTS: &[&str] = &[
    "guest's stage 1",
    "guest's stalls",
    "guest's page requests",
    "guest's PASIDs",
    "PASIDs or nothing",
    "PASIDs beside bypass",
];
