// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest's commands: judged as its SMMU would (§4.1), and turned into commands for the host's queue that concern the
//! guest's VMID and streams alone.
//!
//! | command | what becomes of it |
//! |---|---|
//! | TLBI_NH_ALL, NH_ASID, NH_VA, NH_VAA | the same, of the nest's VMID whatever it names |
//! | TLBI_NSNH_ALL | TLBI_NH_ALL of the nest's VMID |
//! | CFGI_CD, CFGI_CD_ALL | the same, of the host's stream |
//! | CFGI_STE, CFGI_STE_RANGE, CFGI_ALL | CFGI_STE of each stream it means, for the contexts kept through it; the caller reads the guest's entries anew ([`Stop::Entries`]) |
//! | ATC_INV | the same, of the host's stream, and not less than the smallest page that devices there know; nothing where the device has no ATS, nor, by `Nest::forward`, where its entry allows none. A global one (G) stays global |
//! | PREFETCH_CONFIG, PREFETCH_ADDR | nothing: they are hints |
//! | SYNC | [`Stop::Sync`] |
//! | RESUME, STALL_TERM, PRI_RESP, where the guest is shown stalls or page requests | [`Stop::Answer`] |
//! | all others, reserved bits, fields of what the guest is not shown | [`Stop::Refused`] |
//!
//! A stream that the guest has not been given, or a substream wider than it is shown, is nothing that an SMMU would know
//! of: such a command has no effect (§4.1).

use smmuv3_formats::command::{
    ALL_STREAMS, AtcInv, CfgiCd, CfgiCdAll, CfgiSte, CfgiSteRange, PriResp, Resume, StallTerm,
    Sync, TlbiNhAll, TlbiNhAsid, TlbiNhVa,
};
use smmuv3_formats::granule::Granule;
use smmuv3_formats::{Command, Opcode, StreamId, legality};

use crate::nest::{Assignment, Guest, Illegal, Streams, none_of};

/// Commands of a guest that one call looks at, at most: also those of which nothing comes cost the host time.
pub const LARGEST_LOOK: usize = 256;

/// Carries a guest's commands over, piece by piece. It remembers where it stopped within a command that stands for many
/// streams; there is one for each command queue of a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarder {
    /// The guest's stream from which on the first command is still to be carried over.
    next: Option<StreamId>,
}

/// How far [`Forwarder::forward`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the guest's commands are not complete before the host's are"]
pub struct Forwarded {
    /// How many commands of the guest are consumed: its CONS goes on by as many.
    pub consumed: usize,
    /// How many commands for the host's queue there are.
    pub produced: usize,
    /// Why it stopped, and so what the caller does next.
    pub stop: Stop,
}

/// Why [`Forwarder::forward`] stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stop {
    /// There are no more commands.
    Empty,
    /// There is no more room, or [`LARGEST_LOOK`] commands were looked at. The first command that is not consumed may have
    /// been carried over in part.
    Full,
    /// The last command consumed is this CMD_SYNC: it is complete when the host's commands are that were made so far. Then
    /// the guest is to be told as it asks for. It may not be told before.
    Sync(Sync),
    /// The last command consumed says that the guest has changed its entries of streams `first` to `last`, both
    /// included, where it has been given them. The caller reads them before it goes on, and sees to it that
    /// the host's say the same.
    Entries {
        /// The guest's first.
        first: StreamId,
        /// The guest's last.
        last: StreamId,
    },
    /// The last command consumed is a RESUME, STALL_TERM or PRI_RESP; it names the host's stream here. Not for the host's
    /// queue as it is: whoever handed the fault to the guest knows whether it is still to be answered. `Nest::forward` has
    /// seen to it.
    Answer(Command),
    /// The guest's SMMU does not accept the command at `index` of those given, which is not consumed: the guest is told so
    /// (CERROR_ILL), and nothing behind it is looked at.
    Refused {
        /// The command's index; it equals `consumed`.
        index: usize,
        /// Why: `Opcode` when the command is not available.
        illegal: Illegal,
    },
}

/// How a legal command of the guest is carried out.
enum Meaning {
    Nothing,
    One(Command),
    /// The guest has changed its entries of the streams from the first to the last.
    Entries(StreamId, StreamId),
    Sync(Sync),
    Answer(Command),
}

impl Forwarder {
    /// A forwarder that has carried nothing over yet.
    pub const fn new() -> Self {
        Self { next: None }
    }

    /// Carries over what is in `commands`, the guest's from its CONS on, into the front of `out`. Each call looks at
    /// no command twice, at [`LARGEST_LOOK`] at most, and does no more than `commands` and `out` have room for. After
    /// [`Stop::Full`] the next call begins with the first command that was not consumed; `out` needs room for one command at least.
    ///
    /// What is in `out` is submitted, and waited for, before the guest sees a CMD_SYNC complete.
    pub fn forward<S: Streams + ?Sized>(
        &mut self,
        guest: &Guest,
        streams: &S,
        commands: &[Command],
        out: &mut [Command],
    ) -> Forwarded {
        let mut produced = 0;
        for (index, command) in commands.iter().enumerate() {
            if index == LARGEST_LOOK {
                return Forwarded { consumed: index, produced, stop: Stop::Full };
            }
            let meaning = match meaning(command, guest, streams) {
                Ok(meaning) => meaning,
                Err(illegal) => {
                    self.next = None;
                    let stop = Stop::Refused { index, illegal };
                    return Forwarded { consumed: index, produced, stop };
                }
            };
            let mut room = out.iter_mut().skip(produced);
            let stop = match meaning {
                Meaning::Nothing => None,
                Meaning::One(command) => {
                    let Some(slot) = room.next() else {
                        return Forwarded { consumed: index, produced, stop: Stop::Full };
                    };
                    *slot = command;
                    produced += 1;
                    None
                }
                Meaning::Entries(first, last) => {
                    let mut at = self.next.take().filter(|at| *at >= first).or(Some(first));
                    while let Some(from) = at
                        && let Some(found) = streams.next(from)
                        && (from..=last).contains(&found.guest)
                    {
                        let Some(slot) = room.next() else {
                            self.next = at;
                            return Forwarded { consumed: index, produced, stop: Stop::Full };
                        };
                        // Leaf: only the entry has changed. The guest's level-1 descriptors are not those that the
                        // host's SMMU reads.
                        let host = u64::from(found.host.0);
                        *slot = CfgiSte::new().with_sid(host).with_leaf(true).into();
                        produced += 1;
                        at = found.guest.0.checked_add(1).map(StreamId);
                    }
                    Some(Stop::Entries { first, last })
                }
                Meaning::Sync(sync) => Some(Stop::Sync(sync)),
                Meaning::Answer(answer) => Some(Stop::Answer(answer)),
            };
            self.next = None;
            if let Some(stop) = stop {
                return Forwarded { consumed: index + 1, produced, stop };
            }
        }
        Forwarded { consumed: commands.len(), produced, stop: Stop::Empty }
    }
}

/// What `command` means, if it is legal.
fn meaning<S: Streams + ?Sized>(
    command: &Command,
    guest: &Guest,
    streams: &S,
) -> Result<Meaning, Illegal> {
    use Opcode as Op;
    let opcode = judge(command, guest)?;
    // SID is at the same place in all commands that have one. In others the value is not used.
    let named = StreamId(AtcInv(command.0).sid() as u32);
    let host = |of: fn(Command, u64) -> Command| {
        let Some(host) = streams.host(named) else { return Meaning::Nothing };
        Meaning::One(of(*command, u64::from(host.0)))
    };
    let answer = |of: fn(Command, u64) -> Command| match host(of) {
        Meaning::One(command) => Meaning::Answer(command),
        other => other,
    };
    let vmid = u64::from(guest.parent().vmid());
    let wide = |ssid: u64| ssid >> guest.shown().idr1.ssidsize() != 0;
    Ok(match opcode {
        Op::PrefetchConfig | Op::PrefetchAddr => Meaning::Nothing,
        Op::CfgiSte => Meaning::Entries(named, named),
        Op::CfgiSteRange => {
            let range = CfgiSteRange(command.0).range() as u32;
            // 2^(Range+1) streams, from the first of those that share the upper bits; all of them with 31.
            let below = if u64::from(range) >= ALL_STREAMS { u32::MAX } else { (2 << range) - 1 };
            Meaning::Entries(StreamId(named.0 & !below), StreamId(named.0 | below))
        }
        Op::CfgiCd if wide(CfgiCd(command.0).ssid()) => Meaning::Nothing,
        // The guest's tables of contexts are what the SMMU reads: Leaf means what the guest means by it.
        Op::CfgiCd => host(|command, sid| CfgiCd(command.0).with_sid(sid).into()),
        Op::CfgiCdAll => host(|command, sid| CfgiCdAll(command.0).with_sid(sid).into()),
        Op::TlbiNhAll | Op::TlbiNsnhAll => Meaning::One(TlbiNhAll::new().with_vmid(vmid).into()),
        Op::TlbiNhAsid => Meaning::One(TlbiNhAsid(command.0).with_vmid(vmid).into()),
        Op::TlbiNhVa | Op::TlbiNhVaa => {
            let named = TlbiNhVa(command.0).with_vmid(vmid);
            let unused = guest.shown().idr5.ds() || named.tg() != 2 || named.ttl() != 1;
            // Level 1 of 16 KiB has no leaves unless DS: as 0, whatever the host's SMMU has (§4.2).
            Meaning::One(if unused { named } else { named.with_ttl(0) }.into())
        }
        Op::AtcInv => {
            let inv = AtcInv(command.0);
            if inv.ssv() && wide(inv.ssid()) {
                return Ok(Meaning::Nothing);
            }
            // Nothing is forwarded for a device without ATS, which need not answer.
            let found = streams.next(named).filter(|found| found.guest == named && found.ats);
            let Some(Assignment { host, .. }) = found else { return Ok(Meaning::Nothing) };
            // Smaller invalidations than the smallest translation unit are no good to devices (§4.2, §12.1).
            let unit = guest.host().unit_shift().saturating_sub(12);
            let inv = inv.with_sid(host.0.into()).with_size(inv.size().max(unit.into()));
            // Without SSV, SSID and Global are ignored, and not passed on.
            let plain = inv.with_global(false).with_ssid(0);
            Meaning::One(if inv.ssv() { inv } else { plain }.into())
        }
        Op::PriResp if PriResp(command.0).ssv() && wide(PriResp(command.0).ssid()) => {
            Meaning::Nothing
        }
        Op::PriResp => answer(|command, sid| PriResp(command.0).with_sid(sid).into()),
        Op::Resume => answer(|command, sid| Resume(command.0).with_sid(sid).into()),
        Op::StallTerm => answer(|command, sid| StallTerm(command.0).with_sid(sid).into()),
        Op::Sync => Meaning::Sync(Sync(command.0)),
        // Commands that the guest is not shown were refused above.
        _ => return Err(unavailable(command)),
    })
}

/// Whether the SMMU that the guest is shown accepts `command` (§4.1, §4.2).
fn judge(command: &Command, guest: &Guest) -> Result<Opcode, Illegal> {
    let shown = guest.implementation();
    let Some(opcode) = command.opcode() else {
        let rule = legality::command(command, &shown).err();
        let code = command.0[0] & 0xff;
        return Err(rule.map_or(unavailable(command), |rule| Illegal { rule, value: code }));
    };
    legality::command(command, &shown)
        .map_err(|rule| Illegal::of(rule, opcode.fields(), &command.0))?;
    for (bits, word) in command.reserved_bits().into_iter().zip(["word 0", "word 1"]) {
        if bits != 0 {
            return Err(Illegal::new("4.1", word, "has reserved bits that are set", bits));
        }
    }
    let value = |name| command.field(name).unwrap_or(0);
    let unless = |has: bool, name| (if has { 0 } else { value(name) }, name);
    let (substreams, ranges) = (shown.idr1.ssidsize() != 0, shown.idr3.ril());
    // TTL128 is of 128-bit tables, which no guest has.
    none_of(
        "4.2",
        "must be 0: the guest's SMMU does not have it",
        &[
            unless(substreams, "SSV"),
            unless(substreams, "SSID"),
            unless(ranges, "NUM"),
            unless(ranges, "SCALE"),
            unless(ranges, "TTL"),
            unless(ranges, "TG"),
            unless(false, "TTL128"),
        ],
    )?;
    if !shown.idr0.asid16() && value("ASID") > 0xff {
        let text = "must fit in 8 bits (ASID16 = 0)";
        return Err(Illegal::new("4.2", "ASID", text, value("ASID")));
    }
    if opcode == Opcode::AtcInv && value("Size") > 52 {
        return Err(Illegal::new("4.2", "Size", "must not exceed 52", value("Size")));
    }
    if let Some(tg) = command.field("TG") {
        range(tg, value("TTL"), value("NUM"), value("SCALE"), value("Addr"), guest)?;
    }
    Ok(opcode)
}

/// The rules about ranges, where the guest is shown them (§4.2).
fn range(
    tg: u64,
    ttl: u64,
    num: u64,
    scale: u64,
    address: u64,
    guest: &Guest,
) -> Result<(), Illegal> {
    let ds = guest.shown().idr5.ds();
    let Some(granule) = Granule::from_tlbi(tg) else {
        let fields = [(num, "NUM"), (scale, "SCALE"), (ttl, "TTL")];
        return none_of("4.2", "must be 0 without a granule (TG = 0)", &fields);
    };
    if scale > 31 && !ds {
        return Err(Illegal::new("4.2", "SCALE", "must fit in 5 bits (DS = 0)", scale));
    }
    // The address has to be aligned to leaves of that level; otherwise the range is UNPREDICTABLE.
    let shift = match (granule, ttl) {
        (Granule::K16, 1) if !ds => granule.shift(),
        (_, 1) => granule.span(1),
        (_, 2) => granule.span(2),
        _ => granule.shift(),
    };
    if address & ((1 << shift) - 1) != 0 {
        let text = "must be aligned to the granule, and to the leaves of TTL";
        return Err(Illegal::new("4.2", "Addr", text, address));
    }
    Ok(())
}

/// The SMMU that the guest is shown does not have this command.
const fn unavailable(command: &Command) -> Illegal {
    let text = "the command is not available on this queue";
    Illegal::new("4.1", "Opcode", text, command.0[0] & 0xff)
}
