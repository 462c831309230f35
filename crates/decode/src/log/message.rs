// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one line says, by itself.

use memchr::memmem;

use super::kernel::{Said, Tail};
use super::number::{self, Run, decimal, leading};
use super::probe::Probe;
use super::queue;

/// Everything that is recognised.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// An event begins: its code or its name, and words on the same line.
    Event(Option<u8>, Option<String>, Vec<u8>),
    /// Bytes of an event or a command.
    Run(Run),
    /// A number that is damaged.
    Broken,
    /// The kernel kept back so many messages of a function.
    Suppressed(u64, String),
    /// A 32-bit word of an event by its index, as FreeBSD prints them.
    Part(usize, u32),
    /// FreeBSD's stream and address; the words that follow say the same.
    Stream,
    /// Linux's own decoding of an event, first line.
    Said(Said),
    /// Its second line.
    Tail(Tail),
    /// A global error: the bits of GERROR that are active.
    Gerror(u32),
    /// One global error in words.
    GerrorBit(u32),
    /// The command queue stopped: CMDQ_CONS.
    CommandError(Option<u32>),
    /// The words of the command that is passed over follow.
    Skipping,
    /// A CMD_SYNC that did not complete: where it is, PROD and CONS where they are said.
    SyncTimeout(Option<[u32; 3]>),
    /// The command queue stayed full.
    QueueTimeout,
    /// An output queue was full.
    Overflow(&'static str),
    /// A page request; its fields follow.
    PageRequest,
    /// The fields of a page request.
    Request(queue::Request),
    /// What the SMMU can do: input and output bits where they are said, and Linux's feature bits.
    Features(Option<u64>, Option<u64>, u32),
    /// Linux's options.
    Options(u32),
    /// The size of a queue.
    Allocated(u64, &'static str),
    /// QEMU tells of an event of its guest: the input address and the event's name.
    Guest(u64, String, Option<String>),
    /// Something that a driver says while it starts.
    Probe(&'static Probe),
    /// A range of RAM that the kernel lists at boot: first and last address.
    Ram(u64, u64),
}

/// What follows `needle` in `text`.
fn after<'a>(text: &'a [u8], needle: &[u8]) -> Option<&'a [u8]> {
    text.get(memmem::find(text, needle)? + needle.len()..)
}

/// What a line says. `tagged`: an SMMU's driver says it.
pub fn read(text: &[u8], tagged: bool) -> Option<Message> {
    event(text)
        .or_else(|| Said::read(text).map(Message::Said))
        .or_else(|| Tail::read(text).map(Message::Tail))
        .or_else(|| part(text, tagged))
        .or_else(|| errors(text))
        .or_else(|| boot(text, tagged))
        .or_else(|| guest(text))
        .or_else(|| suppressed(text))
        .or_else(|| number::run(text).map(Message::Run))
        .or_else(|| (tagged && text.starts_with(b"0x")).then_some(Message::Broken))
        .or_else(|| ram(text))
}

/// `event 0x10 received:`, and FreeBSD's `Event F_TRANSLATION (...) received.`.
fn event(text: &[u8]) -> Option<Message> {
    if let Some(rest) = after(text, b"event 0x").or_else(|| after(text, b"Event 0x")) {
        let (code, rest) = leading(rest)?;
        let said = after(rest, b"received");
        let words = said.unwrap_or(rest).trim_ascii_start().trim_ascii_start_matches(b":.");
        let words = several(words);
        // Somebody who pastes it may leave words out, but not the numbers.
        if said.is_none() && words.is_empty() {
            return None;
        }
        return Some(Message::Event(u8::try_from(code).ok(), None, words));
    }
    let rest = after(text, b"Event ").filter(|rest| memmem::find(rest, b" received").is_some())?;
    let name = rest.split(|byte| byte.is_ascii_whitespace()).next()?;
    let known = name.starts_with(b"F_") || name.starts_with(b"C_") || name.starts_with(b"E_");
    known
        .then(|| Message::Event(None, Some(String::from_utf8_lossy(name).into_owned()), Vec::new()))
}

/// The bytes of all 64-bit numbers in a text that may have other things in it: lines that a chat program joined.
fn several(text: &[u8]) -> Vec<u8> {
    if let Some(run) = number::run(text) {
        return run.bytes;
    }
    let tokens = text.split(|byte| byte.is_ascii_whitespace() || *byte == b',');
    let words = tokens.filter(|token| token.len() == 18).filter_map(number::prefixed);
    words.take(4).flat_map(u64::to_le_bytes).collect()
}

/// FreeBSD's `evt[3] 208` and `SID 200, Input Address: 0`.
fn part(text: &[u8], tagged: bool) -> Option<Message> {
    if let Some(rest) = after(text, b"evt[") {
        let (index @ 0..=7, rest) = decimal(rest)? else { return None };
        let (value, _) = leading(rest.strip_prefix(b"]")?.trim_ascii_start())?;
        return Some(Message::Part(usize::try_from(index).ok()?, u32::try_from(value).ok()?));
    }
    (tagged && memmem::find(text, b", Input Address: ").is_some()).then_some(Message::Stream)
}

fn errors(text: &[u8]) -> Option<Message> {
    if let Some(rest) = after(text, b"global error reported (") {
        return Some(Message::Gerror(u32::try_from(leading(rest)?.0).ok()?));
    }
    if let Some(rest) = after(text, b"CMDQ error (cons ") {
        return Some(Message::CommandError(u32::try_from(leading(rest)?.0).ok()));
    }
    if memmem::find(text, b"skipping command in error state").is_some() {
        return Some(Message::Skipping);
    }
    if let Some(rest) = after(text, b"CMD_SYNC timeout") {
        return Some(Message::SyncTimeout(indices(rest)));
    }
    if after(text, b"CMDQ timeout").is_some() {
        return Some(Message::QueueTimeout);
    }
    for name in ["EVTQ", "PRIQ"] {
        if after(text, name.as_bytes()).is_some_and(|rest| rest.starts_with(b" overflow detected"))
        {
            return Some(Message::Overflow(name));
        }
    }
    if memmem::find(text, b"unexpected PRI request received").is_some() {
        return Some(Message::PageRequest);
    }
    queue::Request::read(text)
        .map(Message::Request)
        .or_else(|| queue::gerror_bit(text).map(Message::GerrorBit))
}

/// ` at 0x00000146 [hwprod 0x00000146, hwcons 0x00000000]`; the brackets may be on the next line.
fn indices(rest: &[u8]) -> Option<[u32; 3]> {
    let (at, _) = leading(after(rest, b" at ")?)?;
    let (prod, _) = leading(after(rest, b"hwprod ")?)?;
    let (cons, _) = leading(after(rest, b"hwcons ")?)?;
    Some([u32::try_from(at).ok()?, u32::try_from(prod).ok()?, u32::try_from(cons).ok()?])
}

fn boot(text: &[u8], tagged: bool) -> Option<Message> {
    if let Some(rest) = after(text, b"(features ") {
        let bits = |name| decimal(after(text, name)?).map(|(bits, _)| bits);
        let value = u32::try_from(leading(rest)?.0).ok()?;
        return Some(Message::Features(bits(b"ias "), bits(b"oas "), value));
    }
    if !tagged {
        return None;
    }
    if let Some(rest) = after(text, b"option mask ") {
        return Some(Message::Options(u32::try_from(leading(rest)?.0).ok()?));
    }
    if let Some(rest) = after(text, b"allocated ") {
        let (entries, rest) = decimal(rest)?;
        let queue = after(rest, b"entries for ")?;
        let names = ["cmdq", "evtq", "priq"];
        let name = names.into_iter().find(|name| queue.starts_with(name.as_bytes()))?;
        return Some(Message::Allocated(entries, name));
    }
    Probe::find(text).map(Message::Probe)
}

/// `smmuv3-iommu-memory-region-8-1 translation failed for iova=0x0 (SMMU_EVT_F_TRANSLATION)`.
fn guest(text: &[u8]) -> Option<Message> {
    let place = memmem::find(text, b" translation failed for iova=")?;
    let region = text.get(..place)?.rsplit(|byte| byte.is_ascii_whitespace()).next()?;
    let (iova, _) = leading(after(text, b" translation failed for iova=")?)?;
    let name = after(text, b"(SMMU_EVT_")?;
    let length = name.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
    let name = String::from_utf8_lossy(name.get(..length)?).into_owned();
    let region = (!region.is_empty()).then(|| String::from_utf8_lossy(region).into_owned());
    Some(Message::Guest(iova, name, region))
}

/// `arm_smmu_evtq_thread: 120 callbacks suppressed`.
fn suppressed(text: &[u8]) -> Option<Message> {
    let start = memmem::find(text, b"arm_smmu_")?;
    let rest = text.get(start..)?;
    let length = memchr::memchr(b':', rest)?;
    let (name, rest) = rest.split_at_checked(length)?;
    let (count, rest) = decimal(rest.strip_prefix(b": ")?)?;
    let plain = name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    (plain && rest.starts_with(b" callbacks suppressed"))
        .then(|| Message::Suppressed(count, String::from_utf8_lossy(name).into_owned()))
}

/// `  node   0: [mem 0x0000000080000000-0x00000000fadfffff]`.
fn ram(text: &[u8]) -> Option<Message> {
    let rest = after(text, b"node ")?.trim_ascii_start();
    let (_, rest) = decimal(rest)?;
    let (first, rest) = leading(rest.strip_prefix(b": [mem ")?)?;
    let (last, _) = leading(rest.strip_prefix(b"-")?)?;
    (first < last).then_some(Message::Ram(first, last))
}

/// Trims any of some bytes.
trait TrimStart {
    fn trim_ascii_start_matches(&self, any: &[u8]) -> &Self;
}

impl TrimStart for [u8] {
    fn trim_ascii_start_matches(&self, any: &[u8]) -> &Self {
        let mut rest = self;
        while let Some((byte, behind)) = rest.split_first() {
            if !any.contains(byte) {
                break;
            }
            rest = behind;
        }
        rest.trim_ascii_start()
    }
}
