// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the nodes of an IORT to a topology.

use alloc::vec::Vec;

use smmuv3::{MOST_INSTANCES, Memory, NoMemory};

use super::{Body, IdMapping, Iort, IortError, NamedComponent, Node, NodeKind, Rmr, RootComplex};
use crate::What;
use crate::device::InstanceIndex;
use crate::instance::{Instance, Interrupts, Line, Model, Region, Trigger};
use crate::kept::Kept;
use crate::mapping::{Mapping, Target};
use crate::memory::{format, push, text};
use crate::monitor::{MONITOR_PAGE, Monitor, Watched};
use crate::msi::{Doorbell, DoorbellIndex, DoorbellKind, Msi, MsiMapping};
use crate::root::{Named, Root};
use crate::topology::{ReadError, Topology};

/// A range of memory is made of such pages.
const RMR_PAGE: u64 = 0x1_0000;

/// Fills `topology` from an IORT.
pub(crate) fn read(topology: &mut Topology, iort: &Iort<'_>) -> Result<(), ReadError> {
    let mut nodes = Vec::new();
    for node in iort.nodes() {
        push(&mut nodes, Known { node: node?, as_what: Role::None })?;
    }
    let count = nodes.len();
    let mut reader = Reader { topology, nodes, whole_counts: counts_whole(iort) };
    reader.identifiers()?;
    reader.doorbells()?;
    for index in 0..count {
        reader.smmu(index)?;
    }
    for index in 0..count {
        reader.master(index)?;
    }
    for index in 0..count {
        reader.monitor(index)?;
    }
    Ok(())
}

/// Whether the number of IDs of a mapping is that number, and not one less: firmware of HiSilicon's first machines.
fn counts_whole(iort: &Iort<'_>) -> bool {
    let (id, table, revision) = iort.oem();
    id == *b"HISI  " && matches!(&table, b"HIP07   " | b"HIP08   ") && revision == 0
}

struct Reader<'t, 'a> {
    topology: &'t mut Topology,
    /// In order of their offsets.
    nodes: Vec<Known<'a>>,
    whole_counts: bool,
}

/// A node and what was made of it.
#[derive(Clone, Copy)]
struct Known<'a> {
    node: Node<'a>,
    as_what: Role,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Nothing that others refer to, or not used.
    None,
    Smmu(InstanceIndex),
    /// An ITS group; the doorbell of its first ITS.
    Its(DoorbellIndex),
    /// A root complex, the one at this index of the topology's roots.
    Root(usize),
    /// A named component, the one at this index of the topology's devices.
    Device(usize),
}

/// Where a mapping goes to.
enum Destination {
    Smmu(InstanceIndex),
    Foreign,
    Its(Option<DoorbellIndex>),
}

impl<'a> Reader<'_, 'a> {
    fn find(&mut self, node: Node<'a>, what: What) -> Result<(), NoMemory> {
        self.topology.find(node, what)
    }

    fn node(&self, index: usize) -> Option<Node<'a>> {
        self.nodes.get(index).map(|known| known.node)
    }

    /// What is in a node; what cannot be read is noted.
    fn body(&mut self, node: Node<'a>) -> Result<Option<Body<'a>>, NoMemory> {
        match node.body() {
            Ok(body) => Ok(Some(body)),
            Err(error) => self.find(node, What::Iort(error)).map(|()| None),
        }
    }

    fn set_role(&mut self, index: usize, role: Role) {
        if let Some(known) = self.nodes.get_mut(index) {
            known.as_what = role;
        }
    }

    /// Looks for identifiers that are not what they are for.
    fn identifiers(&mut self) -> Result<(), NoMemory> {
        let mut all = Vec::new();
        for known in &self.nodes {
            push(&mut all, (known.node.identifier(), known.node.offset(), known.node))?;
        }
        all.sort_unstable_by_key(|(identifier, offset, _)| (*identifier, *offset));
        // Before revision 1 of the table, all of them are 0.
        if all.iter().all(|(identifier, ..)| *identifier == 0) {
            return Ok(());
        }
        let pairs = all.iter().zip(all.iter().skip(1));
        for (_, (identifier, _, node)) in pairs.filter(|(one, other)| one.0 == other.0) {
            self.find(*node, What::IdentifierTwice { identifier: *identifier })?;
        }
        Ok(())
    }

    /// Adds all ITSs, in order of their numbers.
    fn doorbells(&mut self) -> Result<(), NoMemory> {
        let mut ids = Vec::new();
        let mut groups = Vec::new();
        for index in 0..self.nodes.len() {
            let Some(node) = self.node(index) else { continue };
            if node.kind() != NodeKind::ItsGroup {
                continue;
            }
            let Some(Body::ItsGroup(group)) = self.body(node)? else { continue };
            for id in group.ids() {
                push(&mut ids, id)?;
            }
            if let Some(first) = group.ids().next() {
                push(&mut groups, (index, first))?;
            }
        }
        ids.sort_unstable();
        ids.dedup();
        for id in &ids {
            let name = format(format_args!("ITS {id}"))?;
            let doorbell = Doorbell { name, kind: DoorbellKind::Its { id: *id }, page: None };
            push(&mut self.topology.doorbells, doorbell)?;
        }
        for (index, first) in groups {
            if let Ok(at) = ids.binary_search(&first) {
                self.set_role(index, Role::Its(DoorbellIndex(at)));
            }
        }
        Ok(())
    }

    /// Adds a node, if it is an SMMUv3.
    fn smmu(&mut self, index: usize) -> Result<(), NoMemory> {
        let Some(node) = self.node(index) else { return Ok(()) };
        if node.kind() != NodeKind::SmmuV3 {
            return Ok(());
        }
        let Some(Body::SmmuV3(smmu)) = self.body(node)? else { return Ok(()) };
        if self.topology.instances.len() == MOST_INSTANCES {
            return self.find(node, What::TooManySmmus { limit: MOST_INSTANCES });
        }
        let model = match smmu.model {
            0 => Model::Generic,
            1 => Model::Hi161x,
            2 => Model::Cn99xx,
            other => Model::Other(other),
        };
        // The architecture asks for edges.
        let line = |gsiv| (gsiv != 0).then_some(Line { intid: gsiv, trigger: Trigger::Edge });
        let len = if model == Model::Cn99xx { 0x1_0000 } else { 0x2_0000 };
        if smmu.base.checked_add(len - 1).is_none() {
            return self.find(node, What::Registers { base: smmu.base, len });
        }
        let instance = Instance {
            name: format(format_args!("{node}"))?,
            registers: Region { base: smmu.base, len },
            coherent: smmu.coherent(),
            httu: Some(smmu.httu()),
            interrupts: Interrupts {
                event: line(smmu.event),
                pri: line(smmu.pri),
                sync: line(smmu.sync),
                gerror: line(smmu.gerror),
            },
            model,
            vatos: (smmu.vatos != 0).then_some(smmu.vatos),
            proximity: smmu.proximity,
            msi: None,
        };
        let at = InstanceIndex(self.topology.instances.len());
        push(&mut self.topology.instances, instance)?;
        self.set_role(index, Role::Smmu(at));
        self.messages(node, at, smmu.own_mapping)
    }

    /// Reads what StreamIDs become at ITSs, and where the SMMU's own messages go.
    fn messages(
        &mut self,
        node: Node<'a>,
        instance: InstanceIndex,
        own: Option<u32>,
    ) -> Result<(), NoMemory> {
        let mappings = self.mappings(node)?;
        // Where there is none, its number means nothing before revision 5, which has a flag for that.
        let mut own = own.filter(|_| mappings.len() != 0 || node.revision() >= 5);
        for (number, mapping) in (0..).zip(mappings) {
            // One that is not single can only be one for streams, whatever its number.
            let is_own = own == Some(number) && mapping.single();
            if mapping.single() && !is_own {
                self.find(node, What::Single)?;
                continue;
            }
            let doorbell = match self.destination(node, &mapping)? {
                Some(Destination::Its(doorbell)) => doorbell,
                Some(Destination::Smmu(_) | Destination::Foreign) => {
                    self.find(node, What::NotAnSmmu { reference: mapping.reference })?;
                    None
                }
                None => None,
            };
            if is_own {
                own = None;
            }
            let Some(doorbell) = doorbell else { continue };
            if is_own {
                let msi = Msi { doorbell, device_id: mapping.output };
                if let Some(instance) = self.topology.instances.get_mut(instance.0) {
                    instance.msi = Some(msi);
                }
            } else if let Some((first, last)) = self.span(node, &mapping)? {
                let mapping = MsiMapping { first, last, output: mapping.output, doorbell };
                push(&mut self.topology.stream_msi, (instance, mapping))?;
            }
        }
        match own {
            // None of them, or not for a single ID.
            Some(index) => {
                let error = IortError::OwnMapping { offset: node.offset(), index };
                self.find(node, What::Iort(error))
            }
            None => Ok(()),
        }
    }

    /// Adds a node, if it is one that issues streams.
    fn master(&mut self, index: usize) -> Result<(), NoMemory> {
        let Some(node) = self.node(index) else { return Ok(()) };
        match node.kind() {
            NodeKind::NamedComponent => match self.body(node)? {
                Some(Body::NamedComponent(component)) => {
                    self.set_role(index, Role::Device(self.topology.devices.len()));
                    self.component(node, &component)
                }
                _ => Ok(()),
            },
            NodeKind::RootComplex => match self.body(node)? {
                Some(Body::RootComplex(root)) => {
                    self.set_role(index, Role::Root(self.topology.roots.len()));
                    self.root(node, &root)
                }
                _ => Ok(()),
            },
            // Revisions 0, of the table's revisions 1 and 2, and 2, of its revision 4, were withdrawn.
            NodeKind::Rmr if matches!(node.revision(), 0 | 2) => {
                self.find(node, What::Revision { revision: node.revision() })
            }
            NodeKind::Rmr => match self.body(node)? {
                Some(Body::Rmr(rmr)) => self.rmr(node, &rmr),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn root(&mut self, node: Node<'a>, root: &RootComplex) -> Result<(), NoMemory> {
        let (mut mappings, mut msi) = (Vec::new(), Vec::new());
        for mapping in self.mappings(node)? {
            self.mapped(node, &mapping, &mut mappings, &mut msi)?;
        }
        let root = Root {
            name: format(format_args!("{node}"))?,
            segment: root.segment,
            buses: (0, 255),
            ecam: None,
            windows: Vec::new(),
            mask: u32::MAX,
            mappings,
            msi,
            msi_mask: u32::MAX,
            coherent: root.coherent(),
            ats: root.ats & 1 != 0,
            address_bits: root.address_bits.filter(|bits| *bits != 0),
            reserved: Vec::new(),
        };
        push(&mut self.topology.roots, root)
    }

    fn component(&mut self, node: Node<'a>, named: &NamedComponent<'a>) -> Result<(), NoMemory> {
        let (mut own, mut mappings, mut msi) = (Vec::new(), Vec::new(), Vec::new());
        for mapping in self.mappings(node)? {
            let list = if mapping.single() { &mut own } else { &mut mappings };
            self.mapped(node, &mapping, list, &mut msi)?;
        }
        let named = Named {
            name: text(named.name)?,
            own,
            mask: u32::MAX,
            mappings,
            coherent: named.coherent(),
            can_stall: named.can_stall(),
            pasid_bits: named.pasid_bits().min(20),
            address_bits: (named.address_bits != 0).then_some(named.address_bits),
            reserved: Vec::new(),
            msi,
            msi_mask: u32::MAX,
        };
        push(&mut self.topology.devices, named)
    }

    /// Adds what a mapping of a device or root says.
    fn mapped(
        &mut self,
        node: Node<'a>,
        mapping: &IdMapping,
        mappings: &mut Vec<Mapping>,
        msi: &mut Vec<MsiMapping>,
    ) -> Result<(), NoMemory> {
        let Some(destination) = self.destination(node, mapping)? else { return Ok(()) };
        let (output, single) = (mapping.output, mapping.single());
        let span = if single { Some((0, u32::MAX)) } else { self.span(node, mapping)? };
        let Some((first, last)) = span else { return Ok(()) };
        let target = match destination {
            Destination::Smmu(instance) => Target::Smmu(instance),
            Destination::Foreign => Target::Foreign,
            Destination::Its(doorbell) => {
                if let Some(doorbell) = doorbell {
                    let last = if single { first } else { last };
                    push(msi, MsiMapping { first, last, output, doorbell })?;
                }
                Target::Direct
            }
        };
        push(mappings, Mapping { first, last, output, target, single })
    }

    fn rmr(&mut self, node: Node<'a>, rmr: &Rmr<'a>) -> Result<(), NoMemory> {
        let mut kept = Kept {
            name: format(format_args!("{node}"))?,
            streams: Vec::new(),
            regions: Vec::new(),
            may_move: rmr.may_move(),
            privileged: rmr.privileged(),
            claimed: false,
            memory: match rmr.attributes() {
                0..=3 => Memory::Device,
                5 => Memory::NormalCacheable,
                _ => Memory::NormalNonCacheable,
            },
        };
        for mapping in self.mappings(node)? {
            let instance = match self.destination(node, &mapping)? {
                Some(Destination::Smmu(instance)) => instance,
                Some(Destination::Its(_)) => {
                    self.find(node, What::NotAnSmmu { reference: mapping.reference })?;
                    continue;
                }
                Some(Destination::Foreign) | None => continue,
            };
            let count = if mapping.single() { 1 } else { self.count(&mapping) };
            let first = mapping.output;
            // One that has more than 32 bits is too many as well.
            let more = count.checked_sub(1).and_then(|more| u32::try_from(more).ok());
            let last = more.and_then(|more| first.checked_add(more));
            let keep = |last| self.topology.keep(&mut kept, instance, first, last);
            if !last.map_or(Ok(false), keep)? {
                self.find(node, What::KeptStreams { first, count })?;
            }
        }
        for range in rmr.ranges() {
            let (base, len) = (range.base, range.len);
            let region = Region { base, len };
            let whole = (len != 0).then(|| crate::kept::whole_pages(region)).flatten();
            let Some(pages) = whole else {
                self.find(node, What::KeptRange { base, len })?;
                continue;
            };
            if !base.is_multiple_of(RMR_PAGE) || !len.is_multiple_of(RMR_PAGE) {
                self.find(node, What::KeptUnaligned { base, len })?;
            }
            push(&mut kept.regions, pages)?;
        }
        push(&mut self.topology.kept, kept)
    }

    /// Adds a node, if it is a group of performance monitors.
    fn monitor(&mut self, index: usize) -> Result<(), NoMemory> {
        let Some(node) = self.node(index).filter(|node| node.kind() == NodeKind::Pmcg) else {
            return Ok(());
        };
        let Some(Body::Pmcg(pmcg)) = self.body(node)? else { return Ok(()) };
        let Some(page_0) = self.page(node, pmcg.page0)? else { return Ok(()) };
        // Where there is one page, there is nothing, or the same.
        let page_1 = pmcg.page1.filter(|base| *base != 0 && *base != pmcg.page0);
        let page_1 = page_1.map(|base| self.page(node, base)).transpose()?.flatten();
        let line = Line { intid: pmcg.overflow, trigger: Trigger::Edge };
        let mut msi = None;
        for mapping in self.mappings(node)?.filter(IdMapping::single) {
            if let Some(Destination::Its(Some(doorbell))) = self.destination(node, &mapping)? {
                msi = Some(Msi { doorbell, device_id: mapping.output });
            }
        }
        let monitor = Monitor {
            name: format(format_args!("{node}"))?,
            page_0,
            page_1,
            interrupt: (pmcg.overflow != 0).then_some(line),
            msi,
            watches: self.watched(node, pmcg.reference)?,
        };
        push(&mut self.topology.monitors, monitor)
    }

    /// A page of such a group.
    fn page(&mut self, node: Node<'a>, base: u64) -> Result<Option<Region>, NoMemory> {
        let region = Region { base, len: MONITOR_PAGE };
        // One that is aligned does not pass the last address.
        if base == 0 || !base.is_multiple_of(MONITOR_PAGE) {
            self.find(node, What::Registers { base, len: region.len })?;
            return Ok(None);
        }
        Ok(Some(region))
    }

    /// What such a group watches: the node at `reference`.
    fn watched(&mut self, node: Node<'a>, reference: u32) -> Result<Watched, NoMemory> {
        let at = self.nodes.binary_search_by_key(&reference, |known| known.node.offset());
        let Some(known) = at.ok().and_then(|at| self.nodes.get(at)).copied() else {
            self.find(node, What::Nowhere { reference })?;
            return Ok(Watched::Unknown);
        };
        // By their indices: a copy of a name for each group that refers to it would be much more than the group's node.
        match known.as_what {
            Role::Smmu(instance) => Ok(Watched::Smmu(instance)),
            Role::Root(index) => Ok(Watched::Root(index)),
            Role::Device(index) => Ok(Watched::Device(index)),
            Role::Its(_) | Role::None => format(format_args!("{}", known.node)).map(Watched::Node),
        }
    }

    /// The mappings of a node; what cannot be read is noted.
    fn mappings(&mut self, node: Node<'a>) -> Result<super::IdMappings<'a>, NoMemory> {
        match node.mappings() {
            Ok(mappings) => Ok(mappings),
            Err(error) => {
                self.find(node, What::Iort(error))?;
                Ok(super::IdMappings::none())
            }
        }
    }

    /// How many IDs a mapping has.
    fn count(&self, mapping: &IdMapping) -> u64 {
        u64::from(mapping.count) + u64::from(!self.whole_counts)
    }

    /// First and last ID of a mapping, unless it passes 32 bits.
    fn span(
        &mut self,
        node: Node<'a>,
        mapping: &IdMapping,
    ) -> Result<Option<(u32, u32)>, NoMemory> {
        let (first, output, count) = (mapping.input, mapping.output, self.count(mapping));
        let more = count.checked_sub(1).and_then(|more| u32::try_from(more).ok());
        let last = more.filter(|more| output.checked_add(*more).is_some());
        match last.and_then(|more| first.checked_add(more)) {
            Some(last) => Ok(Some((first, last))),
            None => {
                self.find(node, What::IdsTooWide { first, count, output })?;
                Ok(None)
            }
        }
    }

    /// Where a mapping goes to; what is no place to go to is noted.
    fn destination(
        &mut self,
        node: Node<'a>,
        mapping: &IdMapping,
    ) -> Result<Option<Destination>, NoMemory> {
        let reference = mapping.reference;
        let at = self.nodes.binary_search_by_key(&reference, |known| known.node.offset());
        let Some(known) = at.ok().and_then(|at| self.nodes.get(at)).copied() else {
            self.find(node, What::Nowhere { reference })?;
            return Ok(None);
        };
        match (known.node.kind(), known.as_what) {
            (_, Role::Smmu(instance)) => Ok(Some(Destination::Smmu(instance))),
            (_, Role::Its(doorbell)) => Ok(Some(Destination::Its(Some(doorbell)))),
            (NodeKind::ItsGroup, Role::None) => Ok(Some(Destination::Its(None))),
            (NodeKind::SmmuV3 | NodeKind::SmmuV1V2, Role::None) => {
                let other = || format(format_args!("{}", known.node));
                self.topology.find_with(node, || Ok(What::NotDriven { other: other()? }))?;
                Ok(Some(Destination::Foreign))
            }
            _ => {
                self.find(node, What::NotAnSmmu { reference })?;
                Ok(None)
            }
        }
    }
}
