// SPDX-License-Identifier: MIT OR Apache-2.0
//! With which memory type and shareability an access leaves the SMMU: what came in, what GBPA or an STE puts in its
//! place, and what leaves of both stages say (§2.4, §5.2, §16.3, §16.4). Allocation hints and permissions are those of what
//! nothing translates alone.

use smmuv3_formats::memory_type::Attribute;

use crate::context::Route;
use crate::memory::Memory;
use crate::model::Model;
use crate::tlb::TlbEntry;
use crate::transaction::Access;
use crate::translate::substream;

/// How far caches may go, from the strictest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cacheability {
    /// Non-cacheable.
    None,
    /// Write-through.
    Through,
    /// Write-back.
    Back,
}

/// A memory type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemoryType {
    /// Device, from the strictest: nGnRnE 0, nGnRE 1, nGRE 2, GRE 3.
    Device(u8),
    /// Normal.
    Normal {
        /// Outer caches.
        outer: Cacheability,
        /// Inner caches.
        inner: Cacheability,
    },
}

/// Who sees the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shareability {
    /// NSH: nobody else.
    Non,
    /// OSH: the outer domain.
    Outer,
    /// ISH: the inner domain.
    Inner,
}

/// The attributes of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// Its type.
    pub memory: MemoryType,
    /// Its shareability; OSH for Device and non-cacheable memory, whatever anything says.
    pub shareability: Shareability,
}

/// What else an access says that nothing translates, as it leaves (§16.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hints {
    /// Caches are to keep what is read, to keep what is written, and not for long: RA, WA, transient.
    pub allocation: (bool, bool, bool),
    /// It is privileged.
    pub privileged: bool,
    /// It reads instructions.
    pub instruction: bool,
}

impl MemoryType {
    /// Write-back, inner and outer.
    pub const WRITE_BACK: Self =
        Self::Normal { outer: Cacheability::Back, inner: Cacheability::Back };
    const NON_CACHEABLE: Self =
        Self::Normal { outer: Cacheability::None, inner: Cacheability::None };

    /// By a byte of a MAIR (§6).
    fn of_mair(byte: u8) -> Self {
        let attribute = Attribute(byte);
        if attribute.is_device() {
            return Self::Device(byte >> 2 & 0b11);
        }
        let cache = |nibble: u8| match nibble {
            0b0100 => Cacheability::None,
            0b0000..=0b0011 | 0b1000..=0b1011 => Cacheability::Through,
            _ => Cacheability::Back,
        };
        // 0xf0 is Tagged, which is write-back without tags.
        if byte == 0xf0 {
            return Self::WRITE_BACK;
        }
        Self::Normal { outer: cache(byte >> 4), inner: cache(byte & 0xf) }
    }

    /// By a MemAttr as stage 2 has it without FWB; reserved codes are Device-nGnRnE (§5.2).
    fn of_mem_attr(code: u64) -> Self {
        let cache = |code| match code & 0b11 {
            0b01 => Some(Cacheability::None),
            0b10 => Some(Cacheability::Through),
            0b11 => Some(Cacheability::Back),
            _ => None,
        };
        match (cache(code >> 2), cache(code)) {
            (None, _) => Self::Device((code & 0b11) as u8),
            (Some(outer), Some(inner)) => Self::Normal { outer, inner },
            (Some(_), None) => Self::Device(0),
        }
    }

    /// The stricter one of two stages.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Device(a), Self::Device(b)) => Self::Device(a.min(b)),
            (device @ Self::Device(_), _) | (_, device @ Self::Device(_)) => device,
            (
                Self::Normal { outer, inner },
                Self::Normal { outer: other_outer, inner: other_inner },
            ) => Self::Normal { outer: outer.min(other_outer), inner: inner.min(other_inner) },
        }
    }

    /// What a leaf of stage 2 makes of it.
    fn below(self, mem_attr: u8, fwb: bool) -> Self {
        match (fwb, mem_attr & 0b111) {
            (false, _) => self.and(Self::of_mem_attr(mem_attr.into())),
            (true, code @ 0b000..=0b011) => self.and(Self::Device(code)),
            (true, 0b101) => self.and(Self::NON_CACHEABLE),
            (true, 0b110) => Self::WRITE_BACK,
            (true, 0b111) => self,
            // Reserved.
            (true, _) => Self::Device(0),
        }
    }
}

impl Shareability {
    /// By an SH field; the reserved code is taken for the widest.
    const fn of_sh(code: u64) -> Self {
        match code {
            0 => Self::Non,
            3 => Self::Inner,
            _ => Self::Outer,
        }
    }

    /// By SHCFG, whose 1 means what came in.
    fn of_sh_cfg(code: u64, incoming: Self) -> Self {
        if code == 1 { incoming } else { Self::of_sh(code) }
    }

    /// The wider one.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Outer, _) | (_, Self::Outer) => Self::Outer,
            (Self::Inner, _) | (_, Self::Inner) => Self::Inner,
            (Self::Non, Self::Non) => Self::Non,
        }
    }
}

/// Where a device gives none: write-back, not shared (§16.4).
impl Default for Attributes {
    fn default() -> Self {
        Self { memory: MemoryType::WRITE_BACK, shareability: Shareability::Non }
    }
}

impl Attributes {
    /// As they leave.
    fn out(self) -> Self {
        let outer = matches!(self.memory, MemoryType::Device(_))
            || self.memory == MemoryType::NON_CACHEABLE;
        let shareability = if outer { Shareability::Outer } else { self.shareability };
        Self { shareability, ..self }
    }

    /// With another type, if there is one, and shareability.
    fn overridden(self, mem_attr: Option<u64>, sh_cfg: u64) -> Self {
        Self {
            memory: mem_attr.map_or(self.memory, MemoryType::of_mem_attr),
            shareability: Shareability::of_sh_cfg(sh_cfg, self.shareability),
        }
    }

    fn of_stage_1(entry: &TlbEntry) -> Self {
        Self {
            memory: MemoryType::of_mair(entry.attributes),
            shareability: Shareability::of_sh(entry.shareability.into()),
        }
    }

    fn below(self, mem_attr: u8, shareability: u8, fwb: bool) -> Self {
        Self {
            memory: self.memory.below(mem_attr, fwb),
            shareability: self.shareability.and(Shareability::of_sh(shareability.into())),
        }
    }
}

impl Hints {
    /// Of `access`, to which GBPA or an STE says so: ALLOCCFG, PRIVCFG, INSTCFG, where the SMMU overrides
    /// {allocation, permissions}.
    fn new(
        access: &Access,
        (alloc, privilege, inst): (u64, u64, u64),
        overrides: [bool; 2],
    ) -> Self {
        let [types, permissions] = overrides;
        let bit = |bit: u64| alloc >> bit & 1 != 0;
        let either = |code: u64, incoming: bool| match code {
            2 if permissions => false,
            3 if permissions => true,
            _ => incoming,
        };
        Self {
            allocation: if types && bit(3) {
                (bit(2), bit(1), bit(0))
            } else {
                (true, true, false)
            },
            privileged: either(privilege, access.privileged),
            instruction: !access.write && either(inst, access.instruction),
        }
    }
}

impl<M: Memory> Model<M> {
    /// What else `access` says, for which the device gives no hints, where nothing translates it: it passed before. `None` where
    /// something does, or aborts it.
    pub fn hints(&self, access: &Access) -> Option<Hints> {
        let overrides = [self.profile.idr1.attr_types_ovr(), self.profile.idr1.attr_perms_ovr()];
        if !self.registers.enabled() {
            let gbpa = self.registers.gbpa;
            let codes = (gbpa.alloc_cfg(), gbpa.priv_cfg(), gbpa.inst_cfg());
            return (!gbpa.abort()).then(|| Hints::new(access, codes, overrides));
        }
        let cached = self.config.stes.get(&access.stream)?;
        let passes = match &cached.route {
            Route::Bypass => true,
            Route::Stage1(contexts) => {
                cached.second.is_none() && substream(access, contexts) == Ok(None)
            }
            _ => false,
        };
        let ste = &cached.ste;
        let codes = (ste.alloc_cfg(), ste.priv_cfg(), ste.inst_cfg());
        passes.then(|| Hints::new(access, codes, overrides))
    }

    /// With which attributes `access`, which has `incoming` ones, reaches memory, by what is cached: it was
    /// translated before. `None` when nothing is cached that permits it.
    ///
    /// IDR1.ATTR_TYPES_OVR decides whether GBPA and STEs can replace what comes in.
    pub fn attributes(&self, access: &Access, incoming: Attributes) -> Option<Attributes> {
        let types = self.profile.idr1.attr_types_ovr();
        if !self.registers.enabled() {
            let gbpa = self.registers.gbpa;
            if gbpa.abort() {
                return None;
            }
            let replaced =
                incoming.overridden(gbpa.mt_cfg().then_some(gbpa.mem_attr()), gbpa.sh_cfg());
            return Some(if types { replaced } else { incoming }.out());
        }
        let cached = self.config.stes.get(&access.stream)?;
        let ste = &cached.ste;
        let fwb = cached.second.is_some_and(|second| second.tables.fwb);
        let replaced = incoming.overridden(ste.mt_cfg().then_some(ste.mem_attr()), ste.sh_cfg());
        let incoming = if types { replaced } else { incoming };
        let first = match &cached.route {
            Route::Bypass | Route::Stage2 => None,
            Route::Stage1(contexts) => substream(access, contexts).ok()?,
            Route::Illegal | Route::Abort | Route::Unsupported(_) => return None,
        };
        let found = match (first, &cached.second) {
            (None, None) => incoming,
            (None, Some(second)) => {
                let entry = self.ipa_tlb.lookup(second.tag, false, access.address)?;
                incoming.below(entry.attributes, entry.shareability, fwb)
            }
            (Some(index), _) => {
                let entry = self.cached_first(access, index)?;
                let first = Attributes::of_stage_1(entry);
                match &entry.second {
                    None => first,
                    Some(second) => first.below(second.attributes, second.shareability, fwb),
                }
            }
        };
        Some(found.out())
    }

    /// The cached translation of stage 1 that `access` hits through the CD of `index`.
    fn cached_first(&self, access: &Access, index: u32) -> Option<&TlbEntry> {
        let context = self.config.cds.get(&(access.stream, index))?.context.as_ref().ok()?;
        let half = &context.halves[(access.address >> 55 & 1) as usize];
        self.tlb.lookup(context.tag, context.aset, half.input(access.address)?)
    }
}
