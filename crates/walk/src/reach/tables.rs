// SPDX-License-Identifier: MIT OR Apache-2.0
//! Translation tables, all of them (§15).

use std::collections::HashMap;

use smmuv3_formats::descriptor::{Form, Meaning, Stage, Stage1Page, Stage2Page};
use smmuv3_formats::event::class;
use smmuv3_formats::permission::{Limits, Permissions, Rights};

use super::Surveyor;
use super::contexts::Second;
use super::finding::{Holds, Kind, Owner};
use super::range::{Range, Ranges};
use crate::attributes::{self, Attributes, MemoryType, Shareability};
use crate::memory::Memory;
use crate::permissions;
use crate::smmu::beyond;
use crate::tables::{Stage1, Stage2, Tables};

/// How often one table is followed in one space.
pub(super) const MOST_VISITS: u32 = 16;
const NOTHING: Permissions = Permissions {
    privileged: Rights { read: false, write: false, execute: false },
    unprivileged: Rights { read: false, write: false, execute: false },
};

/// A table that is followed.
#[derive(Clone, Copy)]
struct Table {
    /// As its stage knows it.
    address: u64,
    level: i8,
    /// First input address.
    input: u64,
    limits: Limits,
}

/// One set of tables, with what is made of its leaves.
struct Descent<'a> {
    owner: Owner,
    tables: &'a Tables,
    had: bool,
    second: Option<&'a Second>,
    leaf: &'a mut dyn FnMut(u64, Limits, Range) -> bool,
    /// Tables that lead to the present one.
    path: Vec<u64>,
    visits: HashMap<(u64, i8), u32>,
}

impl<M: Memory> Surveyor<'_, M> {
    /// Follows tables of stage 2.
    pub(super) fn second_tables(
        &mut self,
        owner: Owner,
        stage: &Stage2,
        incoming: Attributes,
        ranges: &mut Ranges,
    ) {
        let mut leaf = |word: u64, _: Limits, range: Range| {
            let page = Stage2Page([word]);
            let permissions = permissions::stage_2(word, stage);
            let sh = if stage.tables.sh_elsewhere() {
                stage.sh
            } else {
                Shareability::from_code(page.sh())
            };
            let attributes =
                attributes::stage_2(incoming, page.mem_attr(), sh, stage.tables.form.fwb).output();
            let faults = !page.af() && stage.tables.access_flag_faults && !stage.tables.access;
            if !faults && permissions != NOTHING {
                // Codes have four bits.
                let second = Some((page.mem_attr() as u8, sh));
                ranges.push(Range { permissions, attributes, second, ..range });
            }
            faults
        };
        self.follow(owner, &stage.tables, 0, true, None, &mut leaf);
    }

    /// Follows tables of stage 1, whose addresses begin at `base`, and stage 2 behind them.
    pub(super) fn first_tables(
        &mut self,
        owner: Owner,
        stage: &Stage1,
        base: u64,
        second: Option<&Second>,
        ranges: &mut Ranges,
    ) {
        let mut pieces = self.pieces;
        let (most, mut cut_short) = (self.limits.pieces, false);
        let mut leaf = |word: u64, limits: Limits, range: Range| {
            let page = Stage1Page([word]);
            let permissions = permissions::stage_1(word, limits, stage);
            let shareability = if stage.tables.sh_elsewhere() {
                stage.sh
            } else {
                Shareability::from_code(page.sh())
            };
            let memory = if stage.aie && word >> 59 & 1 == 1 {
                MemoryType::Unknown
            } else {
                // An index of three bits selects one of eight bytes.
                attributes::mair((stage.mair >> (8 * page.attr_index())) as u8)
            };
            let attributes = Attributes { memory, shareability };
            let faults = !page.af() && stage.tables.access_flag_faults && !stage.tables.access;
            if faults || permissions == NOTHING {
                return faults;
            }
            match second {
                None => {
                    ranges.push(Range { permissions, attributes: attributes.output(), ..range });
                }
                Some(second) => {
                    for piece in second.ranges.within(range.output, range.bytes) {
                        if pieces >= most {
                            cut_short = true;
                            break;
                        }
                        pieces += 1;
                        let permissions = permissions.and(piece.permissions);
                        if permissions == NOTHING {
                            continue;
                        }
                        ranges.push(Range {
                            input: range.input + (piece.input - range.output),
                            bytes: piece.bytes,
                            output: piece.output,
                            permissions,
                            attributes: both(attributes, &piece, second.stage.tables.form.fwb),
                            second: None,
                        });
                    }
                }
            }
            false
        };
        self.follow(owner, &stage.tables, base, stage.had, second, &mut leaf);
        self.pieces = pieces;
        self.survey.cut_short |= cut_short;
    }

    fn follow(
        &mut self,
        owner: Owner,
        tables: &Tables,
        base: u64,
        had: bool,
        second: Option<&Second>,
        leaf: &mut dyn FnMut(u64, Limits, Range) -> bool,
    ) {
        let (path, visits) = (Vec::new(), HashMap::new());
        let mut descent = Descent { owner, tables, had, second, leaf, path, visits };
        let (address, level) = (tables.root, tables.start);
        self.table(&mut descent, Table { address, level, input: base, limits: Limits::NONE });
    }

    /// Follows one table.
    fn table(&mut self, descent: &mut Descent<'_>, table: Table) {
        let Table { address, level, input, limits } = table;
        let (tables, owner) = (descent.tables, descent.owner);
        let visits = descent.visits.entry((address, level)).or_insert(0);
        *visits += 1;
        if *visits > 1 {
            self.findings.add(Kind::Shared, owner, Some(address), Some(input), || {
                format!(
                    "the table of {}, level {level}, at {address:#x} is reached again, for {input:#x}",
                    tables.stage()
                )
            });
        }
        if *visits > MOST_VISITS {
            self.survey.ranges_left_out += 1;
            return;
        }
        let Some(words) = self.read_table(descent, table) else { return };
        let form = tables.form(level);
        descent.path.push(address);
        let mut clear = 0u64;
        for (index, word) in (0u64..).zip(&words) {
            if word & 1 == 0 {
                continue;
            }
            let at = address + 8 * index;
            // The first table may begin anywhere in the input, but not beyond its end.
            let input = input + (index << tables.span(level));
            self.reserved(owner, &form, *word, at, input);
            match form.read(*word) {
                Meaning::Invalid => {}
                Meaning::Reserved => {
                    self.findings.add(Kind::ReservedEncoding, owner, Some(at), Some(input), || {
                        format!(
                            "{word:#018x} has a reserved encoding at level {level}, for {input:#x}"
                        )
                    });
                }
                Meaning::Table { next, .. } | Meaning::Leaf { address: next, .. }
                    if beyond(next, tables.output_bits) =>
                {
                    self.findings.add(Kind::BeyondSize, owner, Some(at), Some(input), || {
                        format!(
                            "{next:#x} is beyond the output size of {} bits",
                            tables.output_bits
                        )
                    });
                }
                Meaning::Table { next, limits: more } => {
                    if descent.path.contains(&next) {
                        self.findings.add(Kind::Loop, owner, Some(at), Some(input), || {
                            format!("the descriptor leads back to the table at {next:#x}")
                        });
                        // Hardware goes on, as levels come to an end: so does this, and finds what can be
                        // reached that way.
                    }
                    let limits = if descent.had { limits } else { limits.with(more) };
                    self.table(descent, Table { address: next, level: level + 1, input, limits });
                }
                Meaning::Leaf { address: output, bytes_log2, .. } => {
                    let bytes = 1u64.checked_shl(bytes_log2).unwrap_or(u64::MAX);
                    let range = Range {
                        input,
                        bytes,
                        output,
                        permissions: NOTHING,
                        attributes: Attributes::INCOMING,
                        second: None,
                    };
                    clear += u64::from((descent.leaf)(*word, limits, range));
                }
            }
        }
        descent.path.pop();
        if clear != 0 {
            self.findings.add(Kind::AccessFlag, owner, Some(address), Some(input), || {
                format!("{clear} mappings in the table at {address:#x} fault: their access flag is clear")
            });
        }
        self.groups(owner, &form, address, &words);
    }

    /// The words of a table; `None` where it cannot be read, or nothing more is to be.
    fn read_table(&mut self, descent: &Descent<'_>, table: Table) -> Option<Vec<u64>> {
        /// Words that are in one place whatever stage 2 does.
        const CHUNK: usize = 512;
        let Table { address, level, .. } = table;
        let (tables, owner) = (descent.tables, descent.owner);
        let entries = tables.entries(level);
        if self.done.descriptors + entries > self.limits.descriptors {
            self.survey.cut_short = true;
            return None;
        }
        let before = self.done.descriptors >> 16;
        self.done.descriptors += entries;
        if self.done.descriptors >> 16 != before {
            (self.progress)(self.done);
        }
        // At most 2^20 entries, so it fits.
        let mut words = vec![0; entries as usize];
        let (mut any, mut at) = (false, address);
        for chunk in words.chunks_mut(CHUNK) {
            if let Some(physical) = self.physical(owner, descent.second, at, class::TABLE) {
                let bytes = 8 * chunk.len() as u64;
                self.structures.add(physical, bytes, Holds::Table(tables.stage(), level));
                if self.words(owner, physical, chunk) {
                    if !any {
                        let depth = 3 + descent.path.len();
                        let label = if tables.stage() == Stage::One { "S1" } else { "S2" };
                        let label = format!("{label} L{level}");
                        let valid = chunk.iter().filter(|word| *word & 1 == 1).count();
                        let meaning = format!("for {:#x}, {valid} valid", table.input);
                        self.node(depth, label, physical, &meaning);
                    }
                    any = true;
                } else {
                    chunk.fill(0);
                }
            }
            at += 8 * chunk.len() as u64;
        }
        for word in &mut words {
            *word = tables.word(*word);
        }
        any.then_some(words)
    }

    /// Tells bits that are set and have no meaning.
    fn reserved(&mut self, owner: Owner, form: &Form, word: u64, at: u64, input: u64) {
        let bits = form.reserved(word);
        if bits == 0 {
            return;
        }
        let address = bits & 0x0000_ffff_ffff_f000;
        if address != 0 {
            self.findings.add(Kind::Misaligned, owner, Some(at), Some(input), || {
                format!(
                    "{word:#018x} has address bits {address:#x}, which hardware drops at this level"
                )
            });
        }
        if bits != address {
            self.findings.add(Kind::ReservedBits, owner, Some(at), Some(input), || {
                format!("{word:#018x} has reserved bits set: {:#x}", bits & !address)
            });
        }
    }

    /// Tells contiguous groups whose members disagree (§8.2).
    fn groups(&mut self, owner: Owner, form: &Form, table: u64, words: &[u64]) {
        const CONTIGUOUS: u64 = 1 << 52;
        // Hardware may have marked one member and not another. DBM is a part of an index with PIE.
        let may_differ = 1 << 10 | 1 << 7 | u64::from(!form.pie) << 51;
        let Some(log2) = form.granule.contiguous(form.level) else { return };
        for (number, group) in (0u64..).zip(words.chunks(1 << log2)) {
            let leaf = |word: u64| match form.read(word) {
                Meaning::Leaf { address, bytes_log2, .. } => Some((address, bytes_log2)),
                _ => None,
            };
            let hinted = |word: &&u64| *word & CONTIGUOUS != 0 && leaf(**word).is_some();
            let Some((first, word)) = (0u64..).zip(group).find(|(_, word)| hinted(word)) else {
                continue;
            };
            let Some((address, bytes_log2)) = leaf(*word) else { continue };
            let begin = address.wrapping_sub(first << bytes_log2);
            // What is no address: the low bits of the word that the address leaves, and the high ones.
            let others = |word: u64, address: u64| (word & !address) & !may_differ;
            let fits = |(index, other): (u64, &u64)| {
                if other & 1 == 0 {
                    return true;
                }
                let expected = begin.wrapping_add(index << bytes_log2);
                leaf(*other).is_some_and(|(there, _)| there == expected)
                    && others(*other, expected & 0x0000_ffff_ffff_f000)
                        == others(*word, address & 0x0000_ffff_ffff_f000)
            };
            let aligned = begin & ((1u64 << (bytes_log2 + log2)) - 1) == 0;
            if !aligned || !(0u64..).zip(group).all(fits) {
                let at = table + ((number << log2) * 8);
                self.findings.add(Kind::Contiguous, owner, Some(at), None, || {
                    format!(
                        "the contiguous group of {} descriptors at {at:#x} disagrees in address or \
                         attributes",
                        1u32 << log2
                    )
                });
            }
        }
    }
}

/// What stage 2 makes of what stage 1 says.
fn both(first: Attributes, piece: &Range, fwb: bool) -> Attributes {
    let (code, shareability) = piece.second.unwrap_or((0b1111, Shareability::Non));
    attributes::stage_2(first, code.into(), shareability, fwb).output()
}
