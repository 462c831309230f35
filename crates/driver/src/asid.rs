// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which ASID a domain gets on an instance, and of which VMID: the policies, and the numbers they hand out.

use alloc::vec::Vec;
use core::fmt;

use crate::error::InstanceId;
use crate::features::Features;
use crate::ids::{Ids, Order};
use crate::invalidate::{Regime, Tag};
use crate::room::Room;
use crate::shared::NoMemory;
use crate::statistics;

/// How ASIDs are chosen for domains that are used behind several instances, whose ASIDs may have different widths.
///
/// Wide instances hand out their highest numbers first, whatever the policy, unless it keeps to 8 bits: so those that
/// a narrow instance can use stay free for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AsidPolicy {
    /// A domain has an ASID of its own on each instance, limited by that instance's width only: nothing is refused
    /// because of width.
    #[default]
    PerInstance,
    /// A domain has one ASID for all instances, always of 8 bits: 255 domains at most.
    Shared8,
    /// A domain has one ASID for all instances, as wide as the first instance allows; of 8 bits only when it has to be
    /// changed. A domain whose ASID is too wide cannot be attached on a narrow instance.
    Shared8OnMove,
    /// A domain has one ASID for all instances, as wide as all those allow on which it is attached. A domain whose ASID
    /// is too wide cannot be attached on a narrow instance.
    SharedMinRefuse,
    /// As [`AsidPolicy::SharedMinRefuse`], but the ASID of the live domain is changed to one that fits.
    SharedMinMove,
    /// As [`AsidPolicy::PerInstance`], and once again for each of several VMIDs (*banks*), where an instance has
    /// stage 2: it tags translations of streams with a VMID even if they use stage 1 alone (§8.4). A bank belongs to a
    /// master; the next is opened when all others are full. So 8-bit ASIDs and 8-bit VMIDs are enough for
    /// 65,025 domains.
    Banked,
}

impl AsidPolicy {
    /// All policies.
    pub const ALL: [Self; 6] = [
        Self::PerInstance,
        Self::Shared8,
        Self::Shared8OnMove,
        Self::SharedMinRefuse,
        Self::SharedMinMove,
        Self::Banked,
    ];

    /// The policy's name in lower case, with hyphens.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PerInstance => "per-instance",
            Self::Shared8 => "shared-8",
            Self::Shared8OnMove => "shared-8-on-move",
            Self::SharedMinRefuse => "shared-min-refuse",
            Self::SharedMinMove => "shared-min-move",
            Self::Banked => "banked",
        }
    }

    /// Whether it is among what was compiled.
    pub(crate) const fn is_there(self) -> bool {
        cfg!(feature = "policies") || matches!(self, Self::PerInstance)
    }

    /// Whether a domain has the same ASID on all instances.
    pub(crate) const fn is_common(self) -> bool {
        !matches!(self, Self::PerInstance | Self::Banked)
    }

    /// Bits of a new ASID on an instance with `bits` bits.
    const fn bits_of_new(self, bits: u32) -> u32 {
        match self {
            Self::Shared8 if bits > NARROW => NARROW,
            _ => bits,
        }
    }

    /// Bits of the ASID that a live one is changed to, where the narrowest instance has `bits` bits.
    pub(crate) const fn bits_of_moved(self, bits: u32) -> u32 {
        match self {
            Self::Shared8 | Self::Shared8OnMove if bits > NARROW => NARROW,
            _ => bits,
        }
    }
}

impl fmt::Display for AsidPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Bits of an ASID without IDR0.ASID16.
const NARROW: u32 = 8;

/// VMIDs from `first` to `last`, which are included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vmids {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl Vmids {
    /// No VMID.
    pub const NONE: Self = Self { first: 1, last: 0 };

    /// Whether `vmid` is one of them.
    pub const fn contains(self, vmid: u16) -> bool {
        self.first <= vmid && vmid <= self.last
    }
}

/// Who may use which VMIDs.
#[derive(Clone, Copy)]
pub(crate) struct Partition {
    /// Banks, before anybody else.
    pub(crate) banks: Vmids,
    /// Domains of stage 2 that are given one, after everybody else.
    pub(crate) stage_2: Vmids,
    /// Domains of stage 2 that have the hypervisor's.
    pub(crate) hypervisor: Vmids,
}

/// What the CPUs are like whose address spaces devices share (§8.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Bits of their ASIDs: 8 or 16.
    pub asid_bits: u32,
    /// Processes run under a kernel in EL2 (E2H): their translations are of another regime than those of streams.
    pub el2_host: bool,
    /// The VMID that their broadcasts carry: 0 unless a hypervisor says otherwise.
    pub vmid: u16,
}

/// The numbers of all instances.
pub(crate) struct Asids {
    policy: AsidPolicy,
    vmids: Partition,
    cpu: Cpu,
    /// The numbers, where a policy has one number for all instances.
    common: Option<Ids>,
    instances: Vec<Numbers>,
}

/// The numbers of one instance.
struct Numbers {
    bits: u32,
    /// Banks before this one are full.
    open: usize,
    /// The first bank has the CPU's VMID; the others have those of [`Partition::banks`], in order.
    banks: Vec<Bank>,
    /// How many banks there can be.
    most: usize,
    /// Whether a process can have the CPU's ASID, in the first bank.
    shares: bool,
    /// The regime of its translations.
    regime: Regime,
    /// Bits of a VMID; 0 without stage 2.
    vmid_bits: u32,
    /// The VMIDs of domains of stage 2, once one was asked for: all others are taken.
    vmids: Option<Ids>,
    /// How many VMIDs domains of stage 2 can have, free or not.
    most_vmids: usize,
    removed: bool,
}

struct Bank {
    vmid: u16,
    /// `None` where all instances have common numbers.
    ids: Option<Ids>,
}

impl Asids {
    pub(crate) fn new(policy: AsidPolicy, vmids: Partition, cpu: Cpu) -> Result<Self, NoMemory> {
        let common = if policy.is_common() { Some(Ids::new(16)?) } else { None };
        Ok(Self { policy, vmids, cpu, common, instances: Vec::new() })
    }

    /// The policy; where there is no other, that is known when the driver is compiled.
    pub(crate) fn policy(&self) -> AsidPolicy {
        if cfg!(feature = "policies") { self.policy } else { AsidPolicy::PerInstance }
    }

    /// Adds `instance`: its number is the next, or that of one that was removed.
    pub(crate) fn add(
        &mut self,
        instance: InstanceId,
        features: &Features,
    ) -> Result<(), NoMemory> {
        self.instances.room(1)?;
        let bits = features.asid_bits;
        let cpu = self.cpu;
        let in_el1 = features.in_el1();
        let known = features.has_vmids() && u64::from(cpu.vmid) >> features.vmid_bits == 0;
        let vmid = if known { cpu.vmid } else { 0 };
        let mut banks = Vec::new();
        banks.room_exact(1)?;
        banks.put(self.bank(vmid, bits)?);
        let most = if self.policy() == AsidPolicy::Banked && features.has_vmids() {
            1 + self.vmids(vmid, features.vmid_bits).count()
        } else {
            1
        };
        let shares = cfg!(feature = "sva")
            && features.broadcast
            && cpu.el2_host == features.el2_host
            && bits >= cpu.asid_bits
            && (!in_el1 || vmid == cpu.vmid);
        let regime = if in_el1 { Regime::El1 } else { Regime::El2 };
        let vmid_bits = features.tag_vmid_bits();
        let numbers = Numbers {
            bits,
            open: 0,
            banks,
            most,
            shares,
            regime,
            vmid_bits,
            vmids: None,
            most_vmids: 0,
            removed: false,
        };
        match self.instances.get_mut(instance.index()) {
            Some(former) => *former = numbers,
            None => self.instances.put(numbers),
        }
        Ok(())
    }

    /// Undoes [`Asids::add`]: nobody has one of its numbers.
    pub(crate) fn take_back(&mut self, instance: InstanceId) {
        self.remove(instance);
    }

    pub(crate) fn remove(&mut self, instance: InstanceId) {
        if let Some(numbers) = self.instances.get_mut(instance.index()) {
            numbers.removed = true;
            // What a predecessor's banks made of them is not wanted any more.
            numbers.banks = Vec::new();
        }
    }

    /// Instances that were removed, a bit each.
    pub(crate) fn removed(&self) -> u64 {
        if !cfg!(feature = "removal") {
            return 0;
        }
        let removed = self.instances.iter().enumerate().filter(|(_, numbers)| numbers.removed);
        removed.map(|(index, _)| 1u64 << index).sum()
    }

    /// Bits of an ASID of `instance`.
    pub(crate) fn bits(&self, instance: InstanceId) -> u32 {
        self.instances.get(instance.index()).map_or(0, |numbers| numbers.bits)
    }

    /// The VMID of masters that are in no bank of their own.
    pub(crate) fn home(&self, instance: InstanceId) -> u16 {
        let numbers = self.instances.get(instance.index());
        numbers.and_then(|numbers| numbers.banks.first()).map_or(0, |bank| bank.vmid)
    }

    /// The tag of a number on an instance, in the bank of `vmid`.
    pub(crate) fn tag(&self, instance: InstanceId, vmid: u16, asid: u16) -> Tag {
        let numbers = self.instances.get(instance.index());
        Tag { regime: numbers.map_or(Regime::El1, |numbers| numbers.regime), vmid, asid }
    }

    /// Bits of a VMID of `instance`.
    pub(crate) fn vmid_bits(&self, instance: InstanceId) -> u32 {
        self.instances.get(instance.index()).map_or(0, |numbers| numbers.vmid_bits)
    }

    /// A VMID for a domain of stage 2 that has none yet on `instance`.
    pub(crate) fn allocate_vmid(&mut self, instance: InstanceId) -> Result<Option<u16>, NoMemory> {
        let Some(ids) = self.stage_2_vmids(instance)? else { return Ok(None) };
        // At most 16 bits.
        Ok(ids.allocate(16, Order::Ascending).map(|vmid| vmid as u16))
    }

    /// Takes `vmid` out of those that domains of stage 2 are given on `instance`; false if it is none of them, or
    /// taken. It is given back as a tag of stage 2.
    pub(crate) fn keep_vmid(&mut self, instance: InstanceId, vmid: u16) -> Result<bool, NoMemory> {
        let ids = self.stage_2_vmids(instance)?;
        Ok(ids.is_some_and(|ids| ids.take(u32::from(vmid))))
    }

    /// Whether `vmid` is one of the hypervisor's, which only [`DomainConfig::vmid`](crate::DomainConfig::vmid) can
    /// name.
    pub(crate) fn is_hypervisors(&self, vmid: u16) -> bool {
        self.vmids.hypervisor.contains(vmid)
    }

    /// The VMIDs of domains of stage 2 on `instance`.
    fn stage_2_vmids(&mut self, instance: InstanceId) -> Result<Option<&mut Ids>, NoMemory> {
        let home = self.home(instance);
        let (policy, partition) = (self.policy(), self.vmids);
        let Some(numbers) = self.instances.get_mut(instance.index()) else { return Ok(None) };
        if numbers.vmids.is_none() && numbers.vmid_bits != 0 {
            let mut ids = Ids::new(numbers.vmid_bits)?;
            for vmid in 1..=u16::MAX >> (16 - numbers.vmid_bits) {
                let bank = policy == AsidPolicy::Banked && partition.banks.contains(vmid);
                if bank
                    || vmid == home
                    || partition.hypervisor.contains(vmid)
                    || !partition.stage_2.contains(vmid)
                {
                    ids.take(u32::from(vmid));
                }
            }
            numbers.most_vmids = ids.free();
            numbers.vmids = Some(ids);
        }
        Ok(numbers.vmids.as_mut())
    }

    /// Whether masters of `instance` may come to be in the bank of `vmid`.
    pub(crate) fn may_be_bank(&self, instance: InstanceId, vmid: u16) -> bool {
        let banked = self.policy() == AsidPolicy::Banked;
        vmid == self.home(instance) || banked && self.vmids.banks.contains(vmid)
    }

    /// Whether processes can have the CPU's ASID on `instance`.
    pub(crate) fn shares(&self, instance: InstanceId) -> bool {
        self.instances.get(instance.index()).is_some_and(|numbers| numbers.shares)
    }

    /// How many ASIDs are free on `instance`, in banks that are open and those that can be.
    pub(crate) fn free(&self, instance: InstanceId) -> usize {
        let Some(numbers) = self.instances.get(instance.index()) else { return 0 };
        match &self.common {
            Some(ids) => ids.free_within(self.bits_of_new(instance)),
            None => {
                let each = (1 << numbers.bits) - 1;
                let open: usize =
                    numbers.banks.iter().filter_map(|bank| Some(bank.ids.as_ref()?.free())).sum();
                open + (numbers.most - numbers.banks.len()) * each
            }
        }
    }

    /// How many ASIDs are taken on `instance`, of those that [`Asids::free`] counts, and how many VMIDs.
    pub(crate) fn counts(
        &self,
        instance: InstanceId,
    ) -> (statistics::Numbers, statistics::Numbers) {
        let none = statistics::Numbers::default();
        let Some(numbers) = self.instances.get(instance.index()) else { return (none, none) };
        let free = self.free(instance);
        let all = match &self.common {
            Some(_) => (1 << self.bits_of_new(instance)) - 1,
            None => numbers.most * ((1 << numbers.bits) - 1),
        };
        let asids = statistics::Numbers { used: all - free, free };
        let vmids = numbers.vmids.as_ref().map_or(none, |ids| {
            let free = ids.free();
            statistics::Numbers { used: numbers.most_vmids - free, free }
        });
        (asids, vmids)
    }

    /// The tag for a domain that has none yet on `instance`, with a number in the bank of `vmid`.
    pub(crate) fn allocate(&mut self, instance: InstanceId, vmid: u16) -> Option<Tag> {
        let asid = self.allocate_within(instance, vmid, self.bits_of_new(instance))?;
        Some(self.tag(instance, vmid, asid))
    }

    /// Bits of the number of what [`Asids::allocate`] returns.
    pub(crate) fn bits_of_new(&self, instance: InstanceId) -> u32 {
        self.policy().bits_of_new(self.bits(instance))
    }

    /// A number of at most `bits` bits.
    pub(crate) fn allocate_within(
        &mut self,
        instance: InstanceId,
        vmid: u16,
        bits: u32,
    ) -> Option<u16> {
        // Wide instances leave low numbers to those that can use no others: other instances, or processes.
        let leaves = cfg!(any(feature = "policies", feature = "sva")) && bits > NARROW;
        let order = if leaves { Order::Descending } else { Order::Ascending };
        // At most 16 bits.
        Some(self.ids(instance, vmid)?.allocate(bits, order)? as u16)
    }

    /// Whether there is a free number in the bank of `vmid`.
    pub(crate) fn has_room(&mut self, instance: InstanceId, vmid: u16) -> bool {
        self.ids(instance, vmid).is_some_and(|ids| ids.free() > 0)
    }

    /// Whether nobody has the number of `tag` on `instance`.
    pub(crate) fn is_free(&mut self, instance: InstanceId, tag: Tag) -> bool {
        self.ids(instance, tag.vmid).is_some_and(|ids| ids.is_free(u32::from(tag.asid)))
    }

    /// Takes the number of `tag` on `instance`; false when somebody has it.
    pub(crate) fn take(&mut self, instance: InstanceId, tag: Tag) -> bool {
        let fits = u64::from(tag.asid) >> self.bits(instance) == 0;
        fits && self.ids(instance, tag.vmid).is_some_and(|ids| ids.take(u32::from(tag.asid)))
    }

    /// Gives the number of `tag` on `instance` back. Nothing there may carry it any more, and nothing anywhere
    /// where numbers are common.
    pub(crate) fn release(&mut self, instance: InstanceId, tag: Tag) {
        // A predecessor's streams may be of stage 2 where no domain is.
        let has_stage_2 = cfg!(any(feature = "stage-2", feature = "hand-over"));
        if has_stage_2 && tag.regime == Regime::Stage2 {
            let vmids = self.instances.get_mut(instance.index()).and_then(|it| it.vmids.as_mut());
            // The hypervisor's VMIDs are not given out, so they are not given back either.
            if let Some(ids) = vmids.filter(|_| !self.vmids.hypervisor.contains(tag.vmid)) {
                ids.release(u32::from(tag.vmid));
            }
            return;
        }
        let index = self.bank_index(instance, tag.vmid);
        if let Some(ids) = self.ids(instance, tag.vmid) {
            ids.release(u32::from(tag.asid));
        }
        if let Some(numbers) = self.instances.get_mut(instance.index()) {
            numbers.open = numbers.open.min(index);
        }
    }

    /// The VMID of the first bank of `instance` with a free number, which is opened if need be. `None` when all
    /// are full.
    pub(crate) fn bank_with_room(&mut self, instance: InstanceId) -> Result<Option<u16>, NoMemory> {
        let Some(numbers) = self.instances.get_mut(instance.index()) else { return Ok(None) };
        while let Some(bank) = numbers.banks.get(numbers.open) {
            if bank.ids.as_ref().is_none_or(|ids| ids.free() > 0) {
                return Ok(Some(bank.vmid));
            }
            numbers.open += 1;
        }
        self.open_bank(instance)
    }

    /// The VMID of a bank of `instance` that was never used. `None` when there is none left.
    pub(crate) fn open_bank(&mut self, instance: InstanceId) -> Result<Option<u16>, NoMemory> {
        if self.policy() != AsidPolicy::Banked {
            return Ok(None);
        }
        let Some(numbers) = self.instances.get(instance.index()) else { return Ok(None) };
        if numbers.banks.len() >= numbers.most {
            return Ok(None);
        }
        // Banks are opened in the order of the VMIDs, leaving `home` out. `most` accounts for the width of VMIDs.
        let Vmids { first, last } = self.vmids.banks;
        let (home, index) = (u32::from(self.home(instance)), numbers.banks.len() as u32 - 1);
        let next = u32::from(first) + index;
        let next = next + u32::from((u32::from(first)..=next).contains(&home));
        let vmid = u16::try_from(next).ok().filter(|vmid| *vmid <= last);
        let Some(vmid) = vmid else { return Ok(None) };
        let bank = self.bank(vmid, numbers.bits)?;
        let Some(numbers) = self.instances.get_mut(instance.index()) else { return Ok(None) };
        numbers.banks.room(1)?;
        numbers.banks.put(bank);
        Ok(Some(vmid))
    }

    /// Opens the bank of `vmid`, which [may be one](Asids::may_be_bank), and those before it; false when `instance` has no
    /// such bank.
    pub(crate) fn open_bank_of(
        &mut self,
        instance: InstanceId,
        vmid: u16,
    ) -> Result<bool, NoMemory> {
        let index = self.bank_index(instance, vmid);
        loop {
            let Some(numbers) = self.instances.get(instance.index()) else { return Ok(false) };
            if index < numbers.banks.len() {
                return Ok(true);
            }
            if self.open_bank(instance)?.is_none() {
                return Ok(false);
            }
        }
    }

    /// The first bank of `instance` other than that of `vmid` in which all of `asids` are free, and one number
    /// more.
    pub(crate) fn bank_for(
        &mut self,
        instance: InstanceId,
        vmid: u16,
        asids: impl Iterator<Item = u16> + Clone,
    ) -> Result<Option<u16>, NoMemory> {
        let Some(numbers) = self.instances.get(instance.index()) else { return Ok(None) };
        let wanted = asids.clone().count();
        if wanted + 1 >= 1 << numbers.bits {
            // Not even an empty bank has so many numbers.
            return Ok(None);
        }
        let fits = |bank: &&Bank| {
            let Some(ids) = bank.ids.as_ref().filter(|_| bank.vmid != vmid) else { return false };
            ids.free() > wanted && asids.clone().all(|asid| ids.is_free(u32::from(asid)))
        };
        match numbers.banks.iter().find(fits) {
            Some(bank) => Ok(Some(bank.vmid)),
            None => self.open_bank(instance),
        }
    }

    fn bank(&self, vmid: u16, bits: u32) -> Result<Bank, NoMemory> {
        let ids = if self.policy().is_common() { None } else { Some(Ids::new(bits)?) };
        Ok(Bank { vmid, ids })
    }

    /// The VMIDs of `bits` bits that are for banks.
    fn vmids(&self, home: u16, bits: u32) -> impl Iterator<Item = u16> + use<> {
        let Vmids { first, last } = self.vmids.banks;
        (first..=last).filter(move |vmid| *vmid != home && u64::from(*vmid) >> bits == 0)
    }

    fn ids(&mut self, instance: InstanceId, vmid: u16) -> Option<&mut Ids> {
        let index = self.bank_index(instance, vmid);
        if self.policy().is_common() {
            return self.common.as_mut();
        }
        self.instances.get_mut(instance.index())?.banks.get_mut(index)?.ids.as_mut()
    }

    /// Index of the bank of `vmid`: banks are opened in the order of [`Asids::vmids`].
    fn bank_index(&self, instance: InstanceId, vmid: u16) -> usize {
        // Nobody has a VMID that is not from here where there is one bank, and no predecessor.
        if !cfg!(any(feature = "policies", feature = "hand-over")) {
            return 0;
        }
        let (home, first) = (self.home(instance), self.vmids.banks.first);
        if vmid == home {
            return 0;
        }
        let before = usize::from(vmid.saturating_sub(first));
        1 + before - usize::from((first..vmid).contains(&home))
    }
}

#[cfg(all(test, feature = "hand-over", feature = "policies", not(any(loom, shuttle))))]
mod tests {
    use super::*;

    /// A predecessor's streams have a VMID of stage 2, and no ASID: that is given back without stage 2 as well, where no domain
    /// is of it.
    #[test]
    fn a_predecessors_vmid_that_is_given_back_is_no_asid() {
        let vmids = Partition { banks: Vmids::NONE, stage_2: Vmids::NONE, hypervisor: Vmids::NONE };
        let cpu = Cpu { asid_bits: 16, el2_host: false, vmid: 0 };
        let mut asids = Asids::new(AsidPolicy::SharedMinRefuse, vmids, cpu).unwrap();
        let free = |asids: &Asids| asids.common.as_ref().map(Ids::free);
        let before = free(&asids);
        let instance = InstanceId::first(0);
        asids.release(instance, Tag { regime: Regime::Stage2, vmid: 7, asid: 0 });
        assert_eq!(free(&asids), before, "ASID 0 was given away");
    }
}
