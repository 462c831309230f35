// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands that make one SMMU forget translations of one tag (§4.2).

use smmuv3_formats::command::{TlbiEl2All, TlbiNhAsid, TlbiNhVa, TlbiNsnhAll};
use smmuv3_formats::{Command, Opcode};

use crate::features::Features;

/// Whose translations, and so what tells them apart (§1, §8.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Regime {
    /// Stage 1 of Non-secure EL1: VMID and ASID.
    #[default]
    El1,
    /// EL2 with E2H: the ASID alone.
    El2,
    /// Stage 2: the VMID alone.
    Stage2,
    /// Guests' stage 1 over a stage 2, whatever their ASIDs: the VMID alone.
    Guests,
}

impl Regime {
    /// The commands for addresses, or for the whole tag. Their operands are at the same places in every regime.
    #[inline]
    const fn opcode(self, whole: bool) -> u64 {
        // Two bytes for each regime, in order: the command for addresses, and the one for the whole tag. Guests'
        // translations cannot be named by addresses of stage 2, so there both are for all.
        const OPCODES: u64 = Opcode::TlbiNhVa as u64
            | (Opcode::TlbiNhAsid as u64) << 8
            | (Opcode::TlbiEl2Va as u64) << 16
            | (Opcode::TlbiEl2Asid as u64) << 24
            | (Opcode::TlbiS2Ipa as u64) << 32
            | (Opcode::TlbiS12Vmall as u64) << 40
            | (Opcode::TlbiNhAll as u64) << 48
            | (Opcode::TlbiNhAll as u64) << 56;
        OPCODES >> (16 * self as u32 + 8 * whole as u32) & 0xff
    }

    /// The command for everything of the world that the regime belongs to.
    const fn all(self) -> Command {
        match self {
            Self::El1 | Self::Stage2 | Self::Guests => Command(TlbiNsnhAll::new().0),
            Self::El2 => Command(TlbiEl2All::new().0),
        }
    }
}

/// What the TLB of an instance keys translations of an address space by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag {
    /// Whose translations.
    pub regime: Regime,
    /// VMID; 0 where stage 2 does not exist, and in EL2.
    pub vmid: u16,
    /// ASID; 0 for tables of stage 2.
    pub asid: u16,
}

impl Tag {
    /// That of tables of stage 1 in EL1.
    pub const fn el1(vmid: u16, asid: u16) -> Self {
        Self { regime: Regime::El1, vmid, asid }
    }

    /// That of tables of stage 1 in EL2.
    pub const fn el2(asid: u16) -> Self {
        Self { regime: Regime::El2, vmid: 0, asid }
    }

    /// That of tables of stage 2.
    pub const fn stage_2(vmid: u16) -> Self {
        Self { regime: Regime::Stage2, vmid, asid: 0 }
    }

    /// That of all stage 1 over the tables of stage 2 that this is the tag of.
    #[cfg(feature = "alloc")]
    pub(crate) const fn guests(self) -> Self {
        Self { regime: Regime::Guests, asid: 0, ..self }
    }
}

/// Which translations of a tag are to be forgotten (§4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of the tag.
    All,
    /// Those of a range of input addresses.
    Range(Range),
}

/// A range of input addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First address, a multiple of the granule.
    pub start: u64,
    /// Bytes, a multiple of the granule, at least one granule.
    pub bytes: u64,
    /// log2 of the granule: 12, 14 or 16.
    pub granule_shift: u32,
    /// log2 of the size of all leaves in it, if they had one size.
    pub leaf_shift: Option<u32>,
    /// No table was unlinked: entries for tables may stay.
    pub leaf_only: bool,
}

impl Range {
    const fn pages(&self) -> u64 {
        self.bytes >> self.granule_shift
    }

    /// The level of leaves of 2^`leaf_shift` bytes.
    const fn level(&self, leaf_shift: u32) -> u64 {
        (4 - (leaf_shift - 3) / (self.granule_shift - 3)) as u64
    }

    /// log2 of the bytes from one single-address command to the next, where ranges are not supported: one
    /// command for each leaf, and for each last-level table that may have been unlinked.
    const fn step_shift(&self) -> u32 {
        // The span of a last-level table: a cached entry for the table is hit by any address in it.
        let table = 2 * self.granule_shift - 3;
        match self.leaf_shift {
            Some(shift) if self.leaf_only || shift < table => shift,
            Some(_) => table,
            None => self.granule_shift,
        }
    }

    /// Whether there are tables of this granule, with leaves of this size.
    const fn is_of_tables(&self) -> bool {
        let granule = self.granule_shift;
        let leaf = match self.leaf_shift {
            None => granule,
            Some(leaf) => leaf,
        };
        matches!(granule, 12 | 14 | 16) && granule <= leaf && leaf <= LARGEST_LEAF
    }

    /// How many commands name it one address at a time, as an SMMU without ranges needs them: beyond
    /// [`MOST_SINGLE`], [`commands`] names the whole tag instead. [`u64::MAX`] of a range that is of no tables that there are.
    #[must_use]
    pub const fn singles(&self) -> u64 {
        if !self.is_of_tables() {
            return u64::MAX;
        }
        self.bytes.div_ceil(1 << self.step_shift())
    }
}

/// log2 of the largest size that a leaf can have (§15): 4 TiB, with the granule of 64 KiB.
const LARGEST_LEAF: u32 = 42;

/// Beyond this many single-address commands the whole tag is invalidated instead.
pub const MOST_SINGLE: u64 = 64;
/// Largest SCALE (§4.2): without 52-bit addresses of the smaller granules, and with them.
const LARGEST_SCALE: [u32; 2] = [31, 39];

/// The commands for `scope` of each of `tags` on an SMMU with `features`: at most `most`, which is at least 1. What
/// would take more is covered by one command for each whole tag, or by one for everything of the world that the tags
/// are of: EL1 and its stage 2, or EL2. Tags of both do not come together, nor do
/// [`Regime::Guests`] and others: of those all is invalidated, whatever the scope, and so it is of a range that is of no tables
/// that there are.
#[inline]
pub fn commands<T>(features: &Features, tags: T, scope: Scope, most: usize) -> Commands<T>
where
    T: Iterator<Item = Tag> + Clone,
{
    let scope = match scope {
        Scope::Range(range) if !range.is_of_tables() => Scope::All,
        scope => scope,
    };
    let regime = tags.clone().next().map_or(Regime::El1, |tag| tag.regime);
    // Whether there are more than `most` is all that counts then.
    let count = tags.clone().take(most.saturating_add(1)).count();
    Commands { tags, rest: Rest::new(features, regime, scope, count, most) }
}

/// One command for a scope, on one SMMU after the other: what it says besides a tag is found out once for all that are alike.
#[cfg(feature = "alloc")]
pub(crate) struct Single {
    scope: Scope,
    /// The [`kind`] of SMMUs that `command` is for: [`NO_KIND`] at first.
    of: u8,
    /// The command for SMMUs of that kind, without a tag.
    command: Command,
    whole: bool,
}

/// The features of an SMMU that the command depends on, as a number.
#[cfg(feature = "alloc")]
#[inline(always)]
const fn kind(features: &Features) -> u8 {
    features.range_invalidation as u8 | (features.lpa2 as u8) << 1
}

/// No SMMU's [`kind`].
#[cfg(feature = "alloc")]
const NO_KIND: u8 = u8::MAX;

#[cfg(feature = "alloc")]
impl Single {
    pub(crate) const fn new(scope: Scope) -> Self {
        Self { scope, of: NO_KIND, command: Command([0; 2]), whole: false }
    }

    /// As [`Single::new`], for `scope`, which is that of the arguments of [`pages`]. What that found for an SMMU with
    /// `features` is known.
    #[inline(always)]
    pub(crate) const fn known(scope: Scope, features: &Features, command: Option<Command>) -> Self {
        match command {
            Some(command) => Self { scope, of: kind(features), command, whole: false },
            None => Self::new(scope),
        }
    }

    /// What the commands are for.
    pub(crate) const fn scope(&self) -> Scope {
        self.scope
    }

    /// That for an SMMU with `features`, if one is enough: for most it is. `named` is told whether it is for a whole tag, and
    /// gives the [`named`] of the tag.
    #[inline(always)]
    pub(crate) fn command(
        &mut self,
        features: &Features,
        named: impl FnOnce(bool) -> u64,
    ) -> Option<Command> {
        if self.of != kind(features) && !self.look(features) {
            return None;
        }
        let Command([first, second]) = self.command;
        Some(Command([first | named(self.whole), second]))
    }

    #[inline(never)]
    fn look(&mut self, features: &Features) -> bool {
        let said = Said::exact(features, self.scope);
        let (num, scale) = said.next(said.units);
        if num == 0 || num << scale != said.units {
            return false;
        }
        self.of = kind(features);
        self.command = said.command(num, scale, 0, said.address());
        self.whole = said.whole;
        true
    }
}

/// As [`Single::command`], for pages of 2^`shift` bytes, whose table stays: most are of those. Without a tag.
#[cfg(feature = "alloc")]
#[inline(always)]
pub(crate) fn pages(features: &Features, start: u64, bytes: u64, shift: u32) -> Option<Command> {
    let units = bytes >> shift;
    let command = TlbiNhVa([0; 2]).with_leaf(true).with_addr(start & !0xfff);
    if features.range_invalidation {
        let scale = units.trailing_zeros();
        let num = units >> scale;
        // SCALE is limited to what every SMMU with ranges has.
        if !matches!(num, 1..=31) || scale > LARGEST_SCALE[0] {
            return None;
        }
        let command = command.with_tg(u64::from(shift / 2 - 5)).with_ttl(3);
        Some(Command(command.with_num(num - 1).with_scale(scale.into()).0))
    } else {
        (units == 1).then_some(Command(command.0))
    }
}

/// VMID, ASID and opcode of what is said of `tag`, of all of it or not.
#[inline]
pub(crate) const fn named(Tag { regime, vmid, asid }: Tag, whole: bool) -> u64 {
    // VMID and ASID are at the same places in all commands that name a tag.
    let tag = TlbiNhAsid([0; 2]).with_vmid(vmid as u64).with_asid(asid as u64);
    tag.0[0] | regime.opcode(whole)
}

/// The command for all of `tag`.
#[cfg(feature = "alloc")]
pub(crate) const fn whole(tag: Tag) -> Command {
    Command([named(tag, true), 0])
}

/// See [`commands`].
#[derive(Clone, Debug)]
pub struct Commands<T> {
    /// Tags that come later.
    tags: T,
    rest: Rest,
}

/// Commands, but for the tags that come later.
#[derive(Clone, Debug)]
struct Rest {
    /// The commands for each tag, without the tag.
    said: Said,
    /// Of `tag`, how many units are still to be named, and the second word of a command from which on.
    units: u64,
    address: u64,
    /// VMID, ASID and opcode, in the first word of a command.
    tag: u64,
    /// Commands to come.
    left: usize,
}

impl<T: Iterator<Item = Tag>> Iterator for Commands<T> {
    type Item = Command;

    #[inline]
    fn next(&mut self) -> Option<Command> {
        let Self { tags, rest } = self;
        rest.left = rest.left.checked_sub(1)?;
        if rest.units == 0 {
            rest.tag = rest.said.named(tags.next()?);
            (rest.units, rest.address) = (rest.said.units, rest.said.address());
        }
        let (num, scale) = rest.said.next(rest.units);
        let command = rest.said.command(num, scale, rest.tag, rest.address);
        rest.units -= num << scale;
        // It may wrap after the last command, which is then not used.
        rest.address = rest.address.wrapping_add(num << scale << rest.said.shift);
        Some(command)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.rest.left, Some(self.rest.left))
    }
}

impl<T: Iterator<Item = Tag>> ExactSizeIterator for Commands<T> {}

impl Rest {
    /// The commands for `scope` of `count` tags of `regime`: at most `most`.
    #[cfg_attr(feature = "fast-paths", inline)]
    #[cfg_attr(not(feature = "fast-paths"), inline(never))]
    fn new(features: &Features, regime: Regime, scope: Scope, count: usize, most: usize) -> Self {
        let scope = if regime == Regime::Guests { Scope::All } else { scope };
        let exact = Said::exact(features, scope);
        let left = exact.commands().saturating_mul(count);
        let (said, units, left) = if left <= most {
            (exact, 0, left)
        } else if count <= most {
            (Said::whole(), 0, count)
        } else {
            // No tag is named with it.
            (Said::once(regime.all()), 1, 1)
        };
        Self { said, units, address: 0, tag: 0, left }
    }
}

/// The commands for a tag, but for the tag: one command, for one address after the other.
#[derive(Clone, Copy, Debug)]
struct Said {
    /// The first one, without opcode and tag if it has a tag, and without its number of units.
    command: TlbiNhVa,
    /// How many units, from its address on, are to be named.
    units: u64,
    /// log2 of the bytes of a unit.
    shift: u32,
    /// How many units a command names at the largest SCALE: with ranges 31; else one, and there is no other SCALE.
    most: u64,
    largest: u32,
    /// Whether the command is for the whole tag, and names no address.
    whole: bool,
}

impl Said {
    /// All of the tag.
    const fn whole() -> Self {
        Self::once(Command([0; 2]))
    }

    /// A command that names no address.
    const fn once(command: Command) -> Self {
        let command = TlbiNhVa(command.0);
        Self { command, units: 1, shift: 0, most: 1, largest: 0, whole: true }
    }

    /// The commands for `scope` of `regime` on an SMMU with `features`, without a tag.
    #[inline(always)]
    fn exact(features: &Features, scope: Scope) -> Self {
        let Scope::Range(range) = scope else { return Self::whole() };
        // The opcode is added with the tag.
        let command = TlbiNhVa([0; 2]).with_leaf(range.leaf_only).with_addr(range.start & !0xfff);
        if !features.range_invalidation {
            let shift = range.step_shift();
            // More than [`MOST_SINGLE`] steps.
            if range.bytes > MOST_SINGLE << shift {
                return Self::whole();
            }
            let units = range.singles();
            return Self { command, units, shift, most: 1, largest: 0, whole: false };
        }
        // With TTL = 0 a range of one page is reserved, so one page more is covered (§4.2).
        let (ttl, extra) = match range.leaf_shift {
            Some(shift) if range.leaf_only => (range.level(shift), 0),
            _ => (0, u64::from(range.pages() % 32 == 1)),
        };
        let command = command.with_tg(u64::from(range.granule_shift / 2 - 5)).with_ttl(ttl);
        let (units, shift) = (range.pages() + extra, range.granule_shift);
        let largest = LARGEST_SCALE[usize::from(features.lpa2)];
        Self { command, units, shift, most: 31, largest, whole: false }
    }

    /// VMID, ASID and opcode of what is said of `tag`.
    #[inline]
    const fn named(&self, tag: Tag) -> u64 {
        named(tag, self.whole)
    }

    /// The second word of the first command.
    #[inline]
    const fn address(&self) -> u64 {
        self.command.0[1]
    }

    /// The command for `num` times 2^`scale` units, of what [`Said::named`] gave.
    #[inline]
    const fn command(&self, num: u64, scale: u32, named: u64, address: u64) -> Command {
        let TlbiNhVa([first, _]) = self.command.with_num(num - 1).with_scale(scale as u64);
        Command([first | named, address])
    }

    /// How many commands it stands for.
    #[inline]
    fn commands(&self) -> usize {
        if self.largest == 0 {
            // `MOST_SINGLE` at most.
            return self.units as usize;
        }
        let (mut left, mut commands) = (self.units, 0);
        while left != 0 {
            let (num, scale) = self.next(left);
            left -= num << scale;
            commands += 1;
        }
        commands
    }

    /// How many times how many units (as a power of two) the next command names, of so many that are `left`: not 0.
    #[inline]
    const fn next(&self, left: u64) -> (u64, u32) {
        let zeros = left.trailing_zeros();
        if zeros < self.largest {
            // Bit 0 of the shifted count is set.
            return (left >> zeros & 31, zeros);
        }
        let units = left >> self.largest;
        (if units < self.most { units } else { self.most }, self.largest)
    }
}

#[cfg(test)]
mod tests;
