// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands for a range, as the driver makes them, and what they amount to.

use serde::Serialize;
use smmuv3::Features;
use smmuv3::features::IdRegisters;
use smmuv3::invalidate::{self, MOST_SINGLE, Range, Scope, Tag};
use smmuv3_formats::command::{Sync, TlbiNhVa};
use smmuv3_formats::register::{Aidr, Idr0, Idr1, Idr3, Idr5};
use smmuv3_formats::{Command, Opcode};

use super::atc;
use super::notes::{Note, notes};
use crate::args::Tlbi;
use crate::command::Shown;
use crate::hex::Hex;

/// What is invalidated, and how.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// As it was asked.
    pub asked: String,
    /// The first address, rounded down to a page.
    pub first: Hex,
    /// The last one, rounded up.
    pub last: Hex,
    /// Bytes of a page.
    pub granule: u64,
    /// How many.
    pub pages: u64,
    /// With ranges (IDR3.RIL = 1).
    pub with_ril: Way,
    /// Without.
    pub without_ril: Way,
    /// The whole address space at once.
    pub whole: Named,
    /// The CMD_SYNC behind each batch.
    pub sync: Shown,
    /// Caches of devices, where ATS is in use.
    pub atc: Atc,
    /// What to know.
    pub notes: Vec<Note>,
}

/// One of two ways.
#[derive(Debug, Serialize)]
pub struct Way {
    /// Commands that name the range itself.
    pub exact: u64,
    /// Whether they are too many, so that the driver names the whole address space.
    pub falls_back: bool,
    /// What the driver says.
    pub commands: Vec<Named>,
    /// Pages that are named beyond the range.
    pub more_pages: u64,
}

/// A command with what it names.
#[derive(Clone, Debug, Serialize)]
pub struct Named {
    /// The command.
    #[serde(flatten)]
    pub command: Shown,
    /// First address that it names; `None` where it names no address.
    pub first: Option<Hex>,
    /// Last address that it names, where that is known: one address stands for the leaf that it is in.
    pub last: Option<Hex>,
    /// Pages of the range that it names.
    pub pages: Option<u64>,
}

/// Spans for an ATC.
#[derive(Debug, Serialize)]
pub struct Atc {
    /// The command.
    pub command: Named,
    /// log2 of its 4 KiB pages.
    pub size: u32,
    /// Its first address.
    pub first: Hex,
    /// Its last.
    pub last: Hex,
    /// How many commands would name nothing but the range.
    pub exact: u32,
}

/// What a plan is for.
#[derive(Clone, Copy, Debug)]
pub struct Goal<'a> {
    /// What was said on the command line.
    pub tlbi: &'a Tlbi,
    /// Whole pages.
    pub range: Range,
}

impl Plan {
    /// The plan for the range `asked`.
    ///
    /// # Errors
    /// Why there can be none.
    pub fn new(asked: &str, tlbi: &Tlbi) -> Result<Self, String> {
        let shift = tlbi.tg.shift();
        let (first, bytes) = super::range::read(asked, shift)?;
        let page = 1u128 << shift;
        let start = u128::from(first) & !(page - 1);
        let end = (u128::from(first) + bytes).next_multiple_of(page);
        let rounded = start != u128::from(first) || end != u128::from(first) + bytes;
        let bytes = end - start;
        // 2^64 bytes or less.
        let (start, last, pages) = (start as u64, (end - 1) as u64, (bytes >> shift) as u64);
        check(asked, tlbi, start, last)?;
        let leaf_shift = tlbi.ttl.map(|level| shift + (3 - u32::from(level)) * (shift - 3));
        if let Some((leaf, level)) = leaf_shift.zip(tlbi.ttl)
            && ((start | last.wrapping_add(1)) & ((1 << leaf) - 1)) != 0
        {
            let size = crate::report::text::size(1 << leaf);
            return Err(format!(
                "{asked}: a leaf at level {level} has {size} bytes with this granule, so a range of them \
                 begins and ends at multiples of that (else what is invalidated is UNPREDICTABLE); leave \
                 --ttl out where sizes are mixed"
            ));
        }
        if bytes > 1 << 63 {
            return Err(format!("{asked}: no half of the addresses has as many"));
        }
        let range = Range {
            start,
            bytes: bytes as u64,
            granule_shift: shift,
            leaf_shift,
            leaf_only: tlbi.leaf,
        };
        let goal = Goal { tlbi, range };
        let with_ril = goal.way(true)?;
        let without_ril = goal.way(false)?;
        let (span, size) = atc::covering(start, last);
        let span_last = span | if size >= atc::ALL { u64::MAX } else { (0x1000 << size) - 1 };
        let command = atc::command((span, size), tlbi.sid.unwrap_or(0), tlbi.ssid).into();
        let atc = Atc {
            command: Named { first: Some(Hex(span)), last: Some(Hex(span_last)), ..named(command) },
            size,
            first: Hex(span),
            last: Hex(span_last),
            exact: atc::exact(start, last),
        };
        let whole = goal.whole()?;
        let mut plan = Self {
            asked: asked.to_owned(),
            first: Hex(start),
            last: Hex(last),
            granule: 1 << shift,
            pages,
            with_ril,
            without_ril,
            whole,
            sync: Command::from(Sync::new()).into(),
            atc,
            notes: Vec::new(),
        };
        plan.notes = notes(&plan, &goal, rounded);
        Ok(plan)
    }
}

/// Whether an SMMU has such addresses in one piece (§4.2).
fn check(asked: &str, tlbi: &Tlbi, first: u64, last: u64) -> Result<(), String> {
    if tlbi.stage == 2 {
        if tlbi.asid.is_some() || tlbi.any_asid || tlbi.el2 {
            return Err("stage 2 has no ASIDs and no EL2: leave --asid, --any-asid and --el2 out"
                .to_owned());
        }
        if last >> 56 != 0 {
            return Err(format!("{asked}: an IPA has at most 56 bits"));
        }
        return Ok(());
    }
    if first >> 63 != last >> 63 {
        return Err(format!(
            "{asked}: it is in both halves of the addresses, whose tables are two, and a command does not reach \
             from one into the other; ask for each half"
        ));
    }
    let sign = |address: u64| (address as i64) >> 52;
    if !matches!((sign(first), sign(last)), (0, 0) | (-1, -1)) {
        return Err(format!(
            "{asked}: no stage 1 has such addresses: bits [63:52] are all 0 in the lower half, all 1 in the \
             upper one, and what is between may be ignored"
        ));
    }
    Ok(())
}

impl Goal<'_> {
    /// What the driver says to an SMMU with ranges, or without.
    fn way(&self, ril: bool) -> Result<Way, String> {
        let range = &self.range;
        let commands: Vec<Command> = self.say(ril, Scope::Range(*range))?;
        let falls_back = commands.first().and_then(Command::opcode) != Some(Opcode::TlbiNhVa);
        let mut list = Vec::with_capacity(commands.len());
        let mut named_pages = 0u64;
        for command in &commands {
            let mut command_named = named(self.translated(*command));
            if !falls_back {
                let va = TlbiNhVa(command.0);
                command_named.first = Some(Hex(va.addr()));
                if ril {
                    let pages = (va.num() + 1) << va.scale();
                    named_pages += pages;
                    command_named.pages = Some(pages);
                    let bytes = pages << range.granule_shift;
                    command_named.last = Some(Hex(va.addr().wrapping_add(bytes - 1)));
                }
            }
            list.push(command_named);
        }
        let pages = range.bytes >> range.granule_shift;
        let exact = if ril { list.len() as u64 } else { range.singles() };
        let more_pages = if ril && !falls_back { named_pages.saturating_sub(pages) } else { 0 };
        Ok(Way { exact, falls_back, commands: list, more_pages })
    }

    /// The whole address space.
    fn whole(&self) -> Result<Named, String> {
        let commands = self.say(false, Scope::All)?;
        let command = commands.first().copied().unwrap_or_default();
        Ok(named(self.translated(command)))
    }

    /// The driver's commands for the tag.
    fn say(&self, ril: bool, scope: Scope) -> Result<Vec<Command>, String> {
        let features = features(ril)?;
        let tag = Tag::el1(self.tlbi.vmid.unwrap_or(0), self.tlbi.asid.unwrap_or(0));
        Ok(invalidate::commands(&features, std::iter::once(tag), scope, usize::MAX).collect())
    }

    /// The same for what is tagged otherwise: operands that two commands share are in the same places (§4.1), and those
    /// that one lacks are reserved in it.
    fn translated(&self, command: Command) -> Command {
        let Tlbi { stage, any_asid, el2, .. } = *self.tlbi;
        let by_address = command.opcode() == Some(Opcode::TlbiNhVa);
        let opcode = match (by_address, stage, el2, any_asid) {
            (true, 2, ..) => Opcode::TlbiS2Ipa,
            (false, 2, ..) => Opcode::TlbiS12Vmall,
            (true, _, true, true) => Opcode::TlbiEl2Vaa,
            (true, _, true, false) => Opcode::TlbiEl2Va,
            (false, _, true, true) => Opcode::TlbiEl2All,
            (false, _, true, false) => Opcode::TlbiEl2Asid,
            (true, _, false, true) => Opcode::TlbiNhVaa,
            (true, _, false, false) => Opcode::TlbiNhVa,
            (false, _, false, true) => Opcode::TlbiNhAll,
            (false, _, false, false) => Opcode::TlbiNhAsid,
        };
        let mut kept = [0xff, 0];
        for field in opcode.fields() {
            kept[field.word & 1] |= field.mask();
        }
        let [first, second] = command.0;
        // The code is the low byte.
        Command([first & kept[0] & !0xff | opcode as u64, second & kept[1]])
    }
}

/// An SMMU that has what the commands are about.
fn features(ril: bool) -> Result<Features, String> {
    let idr0 = Idr0(0).with_s1p(true).with_s2p(true).with_ttf(2).with_ttendian(2);
    let idr0 = idr0.with_asid16(true).with_vmid16(true).with_ats(true);
    Features::decode(IdRegisters {
        idr0,
        idr1: Idr1(0).with_sidsize(32).with_ssidsize(20).with_cmdqs(19).with_eventqs(19),
        idr3: Idr3(0).with_ril(ril),
        idr5: Idr5(0x70).with_oas(5),
        aidr: Aidr(1),
        ..IdRegisters::default()
    })
    .map_err(|error| error.to_string())
}

/// A command that names no address yet.
fn named(command: Command) -> Named {
    Named { command: command.into(), first: None, last: None, pages: None }
}

/// Why the driver gives up naming addresses.
pub const FALL_BACK: u64 = MOST_SINGLE;
