// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an SMMU was told, in few words: runs of commands are one.

use std::collections::BTreeMap;

use smmuv3_testbench::report::Told;

use super::text::{DOT, number, size};

/// Above this, commands are counted by name and not listed.
const MOST_LISTED: usize = 12;

/// What one instance was told, in order, as items of a list; counts by name where that is too long.
pub fn items<'a>(told: impl Iterator<Item = &'a Told>) -> Vec<String> {
    let mut runs: Vec<Run> = Vec::new();
    let mut names: BTreeMap<String, u64> = BTreeMap::new();
    for told in told {
        let next = Run::of(told);
        *names.entry(next.name.clone()).or_default() += next.times;
        match runs.last_mut() {
            Some(last) if last.continues_with(&next) => last.extend(next),
            _ => runs.push(next),
        }
    }
    let items = pairs(&runs.iter().map(Run::text).collect::<Vec<_>>());
    if items.len() <= MOST_LISTED { items } else { by_count(&names) }
}

/// Items, of which those that come in equal pairs are one: a command and its SYNC, again and again.
fn pairs(items: &[String]) -> Vec<String> {
    let mut left = items;
    let mut shown = Vec::new();
    while let [first, rest @ ..] = left {
        let pair = left.get(..2).unwrap_or_default();
        let times = left.chunks(2).take_while(|chunk| *chunk == pair).count();
        if times > 1 {
            shown.push(format!("({}) ×{times}", pair.join(DOT)));
            left = left.get(2 * times..).unwrap_or_default();
        } else {
            shown.push(first.clone());
            left = rest;
        }
    }
    shown
}

/// Commands and how many of each, the most frequent first.
pub fn by_count(names: &BTreeMap<String, u64>) -> Vec<String> {
    let mut counts: Vec<_> = names.iter().filter(|(_, times)| **times > 0).collect();
    counts.sort_by_key(|(_, times)| core::cmp::Reverse(**times));
    counts.iter().map(|(name, times)| format!("{} {}", number(**times), short(name))).collect()
}

/// The architecture's name without its prefix.
fn short(name: &str) -> &str {
    name.strip_prefix("CMD_").unwrap_or(name)
}

/// A command, or several in a row that differ in nothing but the next address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    name: String,
    /// Whose entries it is about.
    owners: Vec<String>,
    /// Other operands that are worth a word, without the address.
    operands: Vec<String>,
    covers: Covers,
    times: u64,
}

/// Which addresses a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Covers {
    /// It has no address.
    Nothing,
    /// All addresses.
    Everything,
    /// The entry that holds this address, of whatever size.
    One(u64),
    /// `bytes` from `at`.
    Range { at: u64, bytes: u64 },
    /// The entries at `at` and every `step` bytes up to `last`.
    Every { at: u64, step: u64, last: u64 },
}

impl Run {
    fn of(told: &Told) -> Self {
        let mut words = told.command.split_whitespace();
        let name = short(words.next().unwrap_or_default()).to_owned();
        let mut values: Vec<(&str, u64)> = Vec::new();
        let mut other = Vec::new();
        for word in words {
            match word.split_once('=').and_then(|(key, value)| Some((key, hex(value)?))) {
                Some(operand) => values.push(operand),
                None => other.push(word.to_owned()),
            }
        }
        let get = |key: &str| values.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
        let covers = match get("Addr") {
            None => Covers::Nothing,
            Some(at) => covers(&name, at, get),
        };
        let owner = |key: &&str| get(key).and_then(|value| operand(&name, key, value));
        let owners = OWNERS.iter().filter_map(owner).collect();
        let others = values.iter().filter(|(key, _)| !OWNERS.contains(key));
        let operands = others.filter_map(|(key, value)| operand(&name, key, *value));
        let operands = operands.chain(other).collect();
        Self { name, owners, operands, covers, times: told.times.max(1) }
    }

    fn continues_with(&self, next: &Self) -> bool {
        self.name == next.name
            && self.owners == next.owners
            && self.operands == next.operands
            && self.covers.joined(next.covers, self.times, next.times).is_some()
    }

    fn extend(&mut self, next: Self) {
        if let Some(covers) = self.covers.joined(next.covers, self.times, next.times) {
            self.covers = covers;
            self.times += next.times;
        }
    }

    fn text(&self) -> String {
        let mut words = vec![self.name.clone()];
        words.extend_from_slice(&self.owners);
        words.extend(self.covers.text());
        words.extend_from_slice(&self.operands);
        if self.times > 1 {
            words.push(format!("×{}", number(self.times)));
        }
        words.join(" ")
    }
}

impl Covers {
    /// Both, if `next` begins where `self` ends.
    fn joined(self, next: Self, times: u64, next_times: u64) -> Option<Self> {
        // What was told several times at one place is not part of a row of places.
        let single = times == 1 && next_times == 1;
        match (self, next) {
            (a, b) if a == b => Some(a),
            (Self::Range { at, bytes }, Self::Range { at: next, bytes: more })
                if at.checked_add(bytes) == Some(next) =>
            {
                Some(Self::Range { at, bytes: bytes.checked_add(more)? })
            }
            (Self::One(at), Self::One(next)) if single && next > at => {
                Some(Self::Every { at, step: next - at, last: next })
            }
            (Self::Every { at, step, last }, Self::One(next))
                if next_times == 1 && last.checked_add(step) == Some(next) =>
            {
                Some(Self::Every { at, step, last: next })
            }
            _ => None,
        }
    }

    fn text(self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Everything => Some("everything".to_owned()),
            Self::One(at) => Some(format!("{at:#x}")),
            Self::Range { at, bytes } => Some(format!("{at:#x}+{}", size(bytes))),
            Self::Every { at, step, last } if last - at == step => {
                Some(format!("{at:#x} and {last:#x}"))
            }
            Self::Every { at, step, last } => {
                Some(format!("{at:#x} to {last:#x} every {}", size(step)))
            }
        }
    }
}

/// What a command with an address is about. TLBI with TG ≠ 0 covers (NUM + 1) << SCALE granules.
fn covers(name: &str, at: u64, get: impl Fn(&str) -> Option<u64>) -> Covers {
    let (granule, scale) = (get("TG").unwrap_or(0), get("SCALE").unwrap_or(0));
    let units = get("NUM").unwrap_or(0).saturating_add(1);
    let range = match name {
        "ATC_INV" => {
            let log2 = get("Size").unwrap_or(0);
            if log2 >= 52 {
                return Covers::Everything;
            }
            Some(0x1000 << log2)
        }
        _ if name.starts_with("TLBI") && (1..=3).contains(&granule) && scale < 44 => {
            units.checked_mul(1 << scale).and_then(|n| n.checked_mul(1 << (10 + 2 * granule)))
        }
        _ => None,
    };
    range.map_or(Covers::One(at), |bytes| Covers::Range { at, bytes })
}

/// An operand in words; nothing for those that say no more than the name or the range does.
fn operand(name: &str, key: &str, value: u64) -> Option<String> {
    // How a SYNC tells that it is through is of no interest to its reader.
    if name == "SYNC" {
        return None;
    }
    match key {
        "Addr" => None,
        "NUM" | "SCALE" | "TG" if name.starts_with("TLBI") => None,
        "Size" if name == "ATC_INV" => None,
        "Range" if name == "CFGI_ALL" => None,
        "SID" if name == "CFGI_ALL" => None,
        "Range" => Some(format!("and {} more", (2_u64 << value.min(31)) - 1)),
        "SSV" => None,
        "Leaf" => Some("leaf".to_owned()),
        "TTL" => Some(format!("ttl {value}")),
        "SID" | "ASID" | "VMID" | "SSID" | "STAG" => {
            Some(format!("{} {value:#x}", key.to_lowercase()))
        }
        _ => Some(format!("{key} {value:#x}")),
    }
}

/// Operands that say whose entries a command is about, in the order in which they are shown.
const OWNERS: [&str; 4] = ["VMID", "ASID", "SID", "SSID"];

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use smmuv3_formats::Command;
    use smmuv3_formats::command::{
        AtcInv, CfgiCd, CfgiSte, CfgiSteRange, Sync, TlbiNhAsid, TlbiNhVa,
    };

    use super::*;

    fn list(commands: &[Command]) -> Vec<String> {
        let told: Vec<Told> = commands
            .iter()
            .map(|command| Told {
                instance: "smmu0".to_owned(),
                command: command.to_string(),
                times: 1,
            })
            .collect();
        items(told.iter())
    }

    fn va(address: u64) -> TlbiNhVa {
        TlbiNhVa::new().with_asid(1).with_addr(address)
    }

    #[test]
    fn a_range_is_one_address_and_a_size() {
        let range = va(0x1_0000).with_num(0).with_scale(3).with_tg(1).with_leaf(true).with_ttl(3);
        let sync = Sync::new().with_cs(1).with_msi_addr(0x1000);
        assert_eq!(
            list(&[range.into(), sync.into()]),
            ["TLBI_NH_VA asid 0x1 0x10000+32K leaf ttl 3", "SYNC"]
        );
    }

    #[test]
    fn ranges_that_touch_are_one() {
        let first = va(0x1_0000).with_num(0).with_tg(1);
        let second = va(0x1_1000).with_num(15).with_scale(1).with_tg(1);
        assert_eq!(list(&[first.into(), second.into()]), ["TLBI_NH_VA asid 0x1 0x10000+132K ×2"]);
        let apart = va(0x1_2000).with_num(0).with_tg(1);
        assert_eq!(list(&[first.into(), apart.into()]).len(), 2);
    }

    #[test]
    fn single_addresses_in_a_row_are_one_run_at_their_distance() {
        let pages: Vec<Command> = (0..16).map(|n| va(0x1_0000 + n * 0x1000).into()).collect();
        assert_eq!(list(&pages), ["TLBI_NH_VA asid 0x1 0x10000 to 0x1f000 every 4K ×16"]);
        assert_eq!(list(&pages[..2]), ["TLBI_NH_VA asid 0x1 0x10000 and 0x11000 ×2"]);
        assert_eq!(list(&pages[..1]), ["TLBI_NH_VA asid 0x1 0x10000"]);
        let other = va(0x2_0000).with_asid(2).into();
        assert_eq!(list(&[pages[0], other]).len(), 2, "another ASID is another run");
    }

    #[test]
    fn the_same_command_again_is_counted() {
        let asid: Command = TlbiNhAsid::new().with_asid(0xffff).with_vmid(3).into();
        assert_eq!(list(&[asid, asid, asid]), ["TLBI_NH_ASID vmid 0x3 asid 0xffff ×3"]);
        let same = va(0x1000).into();
        assert_eq!(
            list(&[same, same, va(0x2000).into()]),
            ["TLBI_NH_VA asid 0x1 0x1000 ×2", "TLBI_NH_VA asid 0x1 0x2000"]
        );
    }

    #[test]
    fn a_command_and_its_sync_again_and_again_are_one_item() {
        let (cd, sync) = (CfgiCd::new().with_sid(1).into(), Sync::new().into());
        let asid: Command = TlbiNhAsid::new().with_asid(2).into();
        assert_eq!(
            list(&[cd, sync, cd, sync, cd, sync, asid, sync]),
            ["(CFGI_CD sid 0x1 · SYNC) ×3", "TLBI_NH_ASID asid 0x2", "SYNC"]
        );
        assert_eq!(list(&[cd, sync]), ["CFGI_CD sid 0x1", "SYNC"]);
        assert_eq!(list(&[cd, sync, cd]), ["CFGI_CD sid 0x1", "SYNC", "CFGI_CD sid 0x1"]);
        assert!(list(&[]).is_empty());
    }

    #[test]
    fn configuration_commands_name_their_stream() {
        let ste = CfgiSte::new().with_sid(0x900).with_leaf(true).into();
        let cd = CfgiCd::new().with_sid(0x900).with_ssid(2).into();
        let range = CfgiSteRange::new().with_sid(0x100).with_range(7).into();
        assert_eq!(
            list(&[ste, cd, range, Command::cfgi_all()]),
            [
                "CFGI_STE sid 0x900 leaf",
                "CFGI_CD sid 0x900 ssid 0x2",
                "CFGI_STE_RANGE sid 0x100 and 255 more",
                "CFGI_ALL"
            ]
        );
    }

    #[test]
    fn a_device_cache_is_told_a_power_of_two() {
        let inv = AtcInv::new().with_sid(0x10).with_addr(0x4000).with_size(2);
        assert_eq!(list(&[inv.into()]), ["ATC_INV sid 0x10 0x4000+16K"]);
        let all = AtcInv::new().with_sid(0x10).with_size(52);
        assert_eq!(list(&[all.into()]), ["ATC_INV sid 0x10 everything"]);
    }

    #[test]
    fn many_different_commands_are_counted_by_name() {
        let many: Vec<Command> = (0..20)
            .flat_map(|n| [CfgiSte::new().with_sid(n).into(), Sync::new().into()])
            .chain([TlbiNhAsid::new().into()])
            .collect();
        assert_eq!(list(&many), ["20 CFGI_STE", "20 SYNC", "1 TLBI_NH_ASID"]);
    }

    #[test]
    fn every_command_of_the_architecture_keeps_its_name() {
        for opcode in smmuv3_formats::command::Opcode::ALL {
            for high in [0, u64::MAX] {
                let command = Command([*opcode as u64 | (high & !0xff), high]);
                let list = list(&[command]);
                let name = command.name().trim_start_matches("CMD_");
                assert!(list[0].starts_with(name), "{list:?}");
            }
        }
        assert_eq!(list(&[Command([0xff, 0])]), ["reserved 0x00000000000000ff 0x0000000000000000"]);
    }
}
