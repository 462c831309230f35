// SPDX-License-Identifier: MIT OR Apache-2.0
//! A topology as it is shown: the same for text, JSON and drawing.

use serde::Serialize;
use smmuv3::Memory;
use smmuv3_discovery::{
    DoorbellKind, Instance, Line, Mapping, Model, Region, Severity, Space, Target, Topology,
    Trigger, Watched,
};

use crate::firmware::Firmware;
use crate::hex::Hex;

/// All of a machine.
#[derive(Debug, Serialize)]
pub struct View {
    /// The file.
    pub file: String,
    /// What kind of table it is.
    pub about: String,
    /// SMMUs.
    pub smmus: Vec<Smmu>,
    /// PCI root complexes.
    pub roots: Vec<Root>,
    /// Devices with a node of their own.
    pub devices: Vec<Named>,
    /// Memory that devices are using already: RMRs.
    pub kept: Vec<Kept>,
    /// Where interrupt messages go.
    pub doorbells: Vec<Doorbell>,
    /// Groups of performance monitors.
    pub monitors: Vec<Monitor>,
    /// What is odd.
    pub findings: Vec<Finding>,
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Range {
    /// The first.
    pub base: Hex,
    /// Bytes.
    pub bytes: Hex,
}

/// An SMMU.
#[derive(Debug, Serialize)]
pub struct Smmu {
    /// Its place, which mappings refer to.
    pub index: usize,
    /// Its node.
    pub name: String,
    /// Its registers.
    pub registers: Range,
    /// Coherent with CPUs' caches.
    pub coherent: bool,
    /// What it does differently.
    pub model: String,
    /// IDR0.HTTU, as firmware has it instead.
    pub httu: Option<u8>,
    /// Base of its VATOS page.
    pub vatos: Option<Hex>,
    /// NUMA domain.
    pub proximity: Option<u32>,
    /// Its wired interrupts.
    pub interrupts: Interrupts,
    /// Where its own messages go.
    pub msi: Option<Message>,
}

/// Wired interrupts.
#[derive(Debug, Serialize)]
pub struct Interrupts {
    /// Of the event queue.
    pub event: Option<Interrupt>,
    /// Of the PRI queue.
    pub pri: Option<Interrupt>,
    /// Of CMD_SYNC.
    pub sync: Option<Interrupt>,
    /// Of global errors.
    pub gerror: Option<Interrupt>,
}

/// A line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Interrupt {
    /// INTID.
    pub intid: u32,
    /// By an edge, not by a level.
    pub edge: bool,
}

/// Where messages go.
#[derive(Debug, Serialize)]
pub struct Message {
    /// What takes them.
    pub doorbell: String,
    /// Where they are written to, if that is known.
    pub address: Option<Hex>,
    /// What the device is known by there.
    pub device_id: Hex,
}

/// A PCI root complex.
#[derive(Debug, Serialize)]
pub struct Root {
    /// Its node.
    pub name: String,
    /// Its segment.
    pub segment: u32,
    /// First and last bus.
    pub buses: [u8; 2],
    /// It takes part in ATS.
    pub ats: bool,
    /// Devices behind it are coherent.
    pub coherent: bool,
    /// Bits of addresses.
    pub address_bits: Option<u8>,
    /// Bits of a requester ID that count.
    pub mask: Hex,
    /// Configuration space.
    pub ecam: Option<Range>,
    /// Windows of memory.
    pub windows: Vec<Range>,
    /// Other addresses that are not to be handed out.
    pub reserved: Vec<Range>,
    /// Requester IDs to StreamIDs.
    pub mappings: Vec<Map>,
}

/// A device with a node of its own.
#[derive(Debug, Serialize)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// It is coherent.
    pub coherent: bool,
    /// Its transactions may be stalled.
    pub can_stall: bool,
    /// Bits of PASIDs.
    pub pasid_bits: u8,
    /// Bits of addresses.
    pub address_bits: Option<u8>,
    /// Addresses that are not to be handed out.
    pub reserved: Vec<Range>,
    /// The streams that it issues itself.
    pub streams: Vec<Map>,
    /// IDs on its bus to StreamIDs.
    pub mappings: Vec<Map>,
}

/// A range of IDs and what becomes of them.
#[derive(Debug, Serialize)]
pub struct Map {
    /// First and last ID; `None` for a device's own streams.
    pub ids: Option<[Hex; 2]>,
    /// First and last StreamID, or DeviceID where there is no SMMU.
    pub to: [Hex; 2],
    /// The SMMU.
    pub smmu: Option<usize>,
    /// Where they go: `smmu`, `its` at once, or `other` IOMMUs.
    pub target: &'static str,
}

/// Memory that devices are using already.
#[derive(Debug, Serialize)]
pub struct Kept {
    /// Its node.
    pub name: String,
    /// Who uses it.
    pub streams: Vec<Map>,
    /// The memory.
    pub regions: Vec<Range>,
    /// It may be moved.
    pub may_move: bool,
    /// Accesses are privileged.
    pub privileged: bool,
    /// Its type.
    pub memory: &'static str,
}

/// What takes interrupt messages.
#[derive(Debug, Serialize)]
pub struct Doorbell {
    /// Its node.
    pub name: String,
    /// `its` or `gicv2m`.
    pub kind: &'static str,
    /// The register that is written to.
    pub address: Option<Hex>,
}

/// A group of performance monitors.
#[derive(Debug, Serialize)]
pub struct Monitor {
    /// Its node.
    pub name: String,
    /// What Linux calls it.
    pub linux_name: String,
    /// Its pages.
    pub registers: Vec<Range>,
    /// Its wired interrupt.
    pub interrupt: Option<Interrupt>,
    /// Where its messages go.
    pub msi: Option<Message>,
    /// The SMMU that it watches.
    pub smmu: Option<usize>,
    /// Or another node.
    pub node: Option<String>,
}

/// Something odd.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// `note`, `warning` or `error`.
    pub severity: String,
    /// The node.
    pub place: String,
    /// What it is.
    pub text: String,
}

impl View {
    /// What `firmware` says.
    pub fn of(firmware: &Firmware) -> Self {
        let topology = &firmware.topology;
        let mut findings = Vec::new();
        if let Some(sum) = firmware.checksum {
            findings.push(Finding {
                severity: Severity::Error.to_string(),
                place: "table".to_owned(),
                text: format!(
                    "its bytes add up to {sum:#04x} instead of 0: it is damaged, or was edited"
                ),
            });
        }
        findings.extend(topology.check().iter().map(|finding| Finding {
            severity: finding.severity().to_string(),
            place: finding.place.clone(),
            text: finding.what.to_string(),
        }));
        Self {
            file: firmware.file.clone(),
            about: firmware.about.clone(),
            smmus: topology.instances().iter().enumerate().map(|it| smmu(topology, it)).collect(),
            roots: topology.roots().iter().map(root).collect(),
            devices: topology.devices().iter().map(named).collect(),
            kept: topology.kept().iter().map(kept).collect(),
            doorbells: topology.doorbells().iter().map(doorbell).collect(),
            monitors: topology.monitors().iter().map(|it| monitor(topology, it)).collect(),
            findings,
        }
    }

    /// Whether something does not fit.
    pub fn is_wrong(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity != Severity::Note.to_string())
    }
}

fn smmu(topology: &Topology, (index, instance): (usize, &Instance)) -> Smmu {
    let interrupts = &instance.interrupts;
    Smmu {
        index,
        name: instance.name.clone(),
        registers: range(&instance.registers),
        coherent: instance.coherent,
        model: match instance.model {
            Model::Generic => "generic".to_owned(),
            Model::Hi161x => "HiSilicon Hi161x: no CMD_PREFETCH_*".to_owned(),
            Model::Tegra264 => "NVIDIA Tegra264: invalidations are repeated".to_owned(),
            Model::Cn99xx => "Cavium CN99xx: page 1 in page 0".to_owned(),
            other => format!("{other:?}"),
        },
        httu: instance.httu,
        vatos: instance.vatos.map(Hex),
        proximity: instance.proximity,
        interrupts: Interrupts {
            event: line(&interrupts.event),
            pri: line(&interrupts.pri),
            sync: line(&interrupts.sync),
            gerror: line(&interrupts.gerror),
        },
        msi: instance.msi.map(|msi| message(topology, msi)),
    }
}

fn line(line: &Option<Line>) -> Option<Interrupt> {
    line.map(|line| Interrupt { intid: line.intid, edge: line.trigger == Trigger::Edge })
}

fn monitor(topology: &Topology, monitor: &smmuv3_discovery::Monitor) -> Monitor {
    let (smmu, node) = match &monitor.watches {
        Watched::Smmu(index) => (Some(index.0), None),
        Watched::Root(index) => (None, topology.roots().get(*index).map(|root| root.name.clone())),
        Watched::Device(index) => {
            (None, topology.devices().get(*index).map(|device| device.name.clone()))
        }
        Watched::Node(name) => (None, Some(name.clone())),
        _ => (None, None),
    };
    Monitor {
        name: monitor.name.clone(),
        linux_name: format!("smmuv3_pmcg_{:x}", monitor.page_number()),
        registers: [Some(monitor.page_0), monitor.page_1].iter().flatten().map(range).collect(),
        interrupt: line(&monitor.interrupt),
        msi: monitor.msi.map(|msi| message(topology, msi)),
        smmu,
        node,
    }
}

/// Where a message goes.
pub fn message(topology: &Topology, msi: smmuv3_discovery::Msi) -> Message {
    let doorbell = topology.doorbells().get(msi.doorbell.0);
    Message {
        doorbell: doorbell.map_or_else(String::new, |doorbell| doorbell.name.clone()),
        address: doorbell.and_then(|doorbell| doorbell.register()).map(Hex),
        device_id: Hex(msi.device_id.into()),
    }
}

fn root(root: &smmuv3_discovery::Root) -> Root {
    let windows = root.windows.iter().filter(|window| window.space != Space::Io);
    Root {
        name: root.name.clone(),
        segment: root.segment,
        buses: [root.buses.0, root.buses.1],
        ats: root.ats,
        coherent: root.coherent,
        address_bits: root.address_bits,
        mask: Hex(root.mask.into()),
        ecam: root.ecam.as_ref().map(range),
        windows: windows.map(|window| range(&window.on_pci())).collect(),
        reserved: root.reserved.iter().map(range).collect(),
        mappings: root.mappings.iter().map(|mapping| map(mapping, true)).collect(),
    }
}

fn named(named: &smmuv3_discovery::Named) -> Named {
    Named {
        name: named.name.clone(),
        coherent: named.coherent,
        can_stall: named.can_stall,
        pasid_bits: named.pasid_bits,
        address_bits: named.address_bits,
        reserved: named.reserved.iter().map(range).collect(),
        streams: named.own.iter().map(|mapping| map(mapping, false)).collect(),
        mappings: named.mappings.iter().map(|mapping| map(mapping, true)).collect(),
    }
}

fn map(mapping: &Mapping, ids: bool) -> Map {
    let pair = |first: u32, last: u32| [Hex(first.into()), Hex(last.into())];
    let (smmu, target) = match mapping.target {
        Target::Smmu(index) => (Some(index.0), "smmu"),
        Target::Direct => (None, "its"),
        _ => (None, "other"),
    };
    Map {
        ids: ids.then(|| pair(mapping.first, mapping.last)),
        to: pair(mapping.output, mapping.last_output()),
        smmu,
        target,
    }
}

fn kept(kept: &smmuv3_discovery::Kept) -> Kept {
    let streams = kept.streams.iter().map(|(index, first, last)| Map {
        ids: None,
        to: [Hex(first.0.into()), Hex(last.0.into())],
        smmu: Some(index.0),
        target: "smmu",
    });
    Kept {
        name: kept.name.clone(),
        streams: streams.collect(),
        regions: kept.regions.iter().map(range).collect(),
        may_move: kept.may_move,
        privileged: kept.privileged,
        memory: match kept.memory {
            Memory::NormalCacheable => "write-back",
            Memory::NormalNonCacheable => "non-cacheable",
            // What firmware says, which knows no other.
            _ => "device",
        },
    }
}

fn doorbell(doorbell: &smmuv3_discovery::Doorbell) -> Doorbell {
    let kind = match doorbell.kind {
        DoorbellKind::GicV2m => "gicv2m",
        _ => "its",
    };
    Doorbell { name: doorbell.name.clone(), kind, address: doorbell.register().map(Hex) }
}

/// A region, as it is shown.
pub fn range(region: &Region) -> Range {
    Range { base: Hex(region.base), bytes: Hex(region.len) }
}
